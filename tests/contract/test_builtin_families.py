"""Every installed family keeps the contract, checked with the kit that strangers use."""

import pytest

from i2i import load_plugins
from i2i.testing import check_accumulation, check_translator

SMALL = {
    "cyclegan": {
        "width": 4,
        "num_blocks": 1,
        "discriminator_width": 4,
        "identity_every": 2,
        "pool_size": 4,
    },
}
MEANS_OVER_SAMPLES = ["cyclegan"]


@pytest.fixture(scope="module")
def plugins():
    return load_plugins()


@pytest.mark.parametrize("name", sorted(load_plugins().families))
def test_family_keeps_the_contract(plugins, name):
    check_translator(plugins.family(name), SMALL.get(name))


@pytest.mark.parametrize("name", MEANS_OVER_SAMPLES)
def test_micro_batches_equal_the_whole_batch(plugins, name):
    check_accumulation(plugins.family(name), SMALL[name])


def test_small_options_are_those_of_installed_families(plugins):
    assert SMALL.keys() <= plugins.families.keys()
