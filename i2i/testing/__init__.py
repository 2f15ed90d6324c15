"""The conformance kit: what the author of a family runs before anybody trains with it.

::

    from i2i.testing import check_translator

    def test_my_family_keeps_the_contract():
        check_translator(MyFamily, {"width": 4})

A broken rule of ``i2i.translator`` raises PluginError and says what, where, and what to change.
"""

from i2i.testing.batches import make_batch
from i2i.testing.kit import check_accumulation, check_translator

__all__ = ["check_accumulation", "check_translator", "make_batch"]
