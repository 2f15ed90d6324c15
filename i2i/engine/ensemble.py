"""Self-ensemble: a window is translated in eight positions, and the mean of the results is kept.

Lim et al., Enhanced Deep Residual Networks for Single Image Super-Resolution (arXiv:1707.02921),
section 3.3. It costs eight times the work, and memory of two results more.
"""

from collections.abc import Callable
from itertools import product

import torch
from torch import Tensor

from i2i.errors import UsageError
from i2i.types import Fit


def ensembled(run: Callable[[Tensor], Tensor], batch: Tensor) -> Tensor:
    """Return the mean of what ``run`` makes of (N, C, H, W) mirrored and turned, each turned back.

    The eight are all symmetries of a square (section 3.3, T_1 to T_8); one is run at a time.
    ``run`` sees (N, C, W, H) in half of them, and may enlarge.
    """
    total: Tensor | None = None
    for mirrored, turns in product((False, True), range(4)):
        turned = torch.rot90(batch.flip(3) if mirrored else batch, turns, (2, 3))
        back = torch.rot90(run(turned.contiguous()), -turns, (2, 3))
        back = back.flip(3) if mirrored else back
        total = back if total is None else total.add_(back)
    assert total is not None
    return total.div_(8)


def check_ensemble(fit: Fit) -> None:
    """Raise UsageError for a family that cannot take a picture that lies on its side."""
    if fit.exact_size is not None and fit.exact_size[0] != fit.exact_size[1]:
        height, width = fit.exact_size
        raise UsageError(
            f"the family takes {width}x{height} pixels only, and none that lie on their side",
            where="--ensemble",
            expected="a family of square pictures, or of any size",
            remedy="leave it out",
        )
