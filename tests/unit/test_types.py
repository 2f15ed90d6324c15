"""What passes between a family and the engine."""

from dataclasses import replace

import pytest
import torch

from i2i import Batch, Inputs, Progress, Term, Update
from i2i.testing import make_batch
from i2i.types import derive_seed

INPUTS = Inputs(images=("a", "b"), paired=False, labels=("age",))
NOW = Progress(seed=3, stage="train", step=5, images=20)


@pytest.fixture
def batch() -> Batch:
    return make_batch(INPUTS, batch_size=5, shapes={"a": (3, 4, 4), "b": (1, 2, 2)})


@pytest.mark.parametrize("num_parts", [1, 2, 3, 5])
@pytest.mark.parametrize("kind", ["normal", "uniform"])
def test_draws_are_the_same_for_micro_batches_as_for_the_whole_batch(batch, kind, num_parts):
    whole = getattr(NOW, kind)(batch, "latent", 2, 3)
    parts = [getattr(NOW, kind)(part, "latent", 2, 3) for part in batch.split(num_parts)]
    assert whole.shape == (5, 2, 3)
    assert torch.equal(torch.cat(parts), whole)


def test_draws_follow_the_sample_and_not_its_place(batch):
    order = torch.tensor([4, 0, 3, 1, 2])
    shuffled = replace(batch, keys=batch.keys[order])
    assert torch.equal(NOW.normal(shuffled, "z", 4), NOW.normal(batch, "z", 4)[order])


@pytest.mark.parametrize(
    "change", [{"seed": 4}, {"stage": "other"}, {"step": 6}, {"name": "other"}, {"keys": 1}]
)
def test_draws_differ_by_seed_stage_step_sample_and_name(batch, change):
    name = change.pop("name", "z")
    other = replace(batch, keys=batch.keys + change.pop("keys", 0))
    drawn = replace(NOW, **change).normal(other, name, 4)
    assert (drawn != NOW.normal(batch, "z", 4)).all()


def test_draws_of_two_samples_differ(batch):
    assert len(NOW.uniform(batch, "z").unique()) == 5


def test_draws_depend_on_images_seen_in_no_way(batch):
    assert torch.equal(replace(NOW, images=21).normal(batch, "z"), NOW.normal(batch, "z"))


def test_draws_have_their_distributions():
    many = make_batch(INPUTS, batch_size=400, shapes={"a": (3, 1, 1), "b": (3, 1, 1)})
    normal, uniform = NOW.normal(many, "z", 50), NOW.uniform(many, "u", 50)
    assert normal.dtype == uniform.dtype == torch.float32
    assert normal.mean().item() == pytest.approx(0, abs=0.03)
    assert normal.std().item() == pytest.approx(1, abs=0.03)
    assert uniform.min() >= 0
    assert uniform.max() < 1
    assert uniform.mean().item() == pytest.approx(0.5, abs=0.01)
    assert uniform.var().item() == pytest.approx(1 / 12, abs=0.003)
    neighbours = torch.stack([normal[:-1].flatten(), normal[1:].flatten()])
    assert torch.corrcoef(neighbours)[0, 1].item() == pytest.approx(0, abs=0.03)


def test_draws_leave_the_global_generator_alone(batch):
    before = torch.get_rng_state()
    NOW.normal(batch, "z", 100)
    assert torch.equal(torch.get_rng_state(), before)


def test_every_counts_from_the_stages_first_step():
    assert [step for step in range(7) if replace(NOW, step=step).every(3)] == [0, 3, 6]


@pytest.mark.parametrize(
    ("num_parts", "lengths"), [(1, [5]), (2, [3, 2]), (3, [2, 2, 1]), (5, [1] * 5), (9, [1] * 5)]
)
def test_split_keeps_order_and_differs_by_one_at_most(batch, num_parts, lengths):
    parts = batch.split(num_parts)
    assert [len(part) for part in parts] == lengths
    assert torch.equal(torch.cat([part.keys for part in parts]), batch.keys)
    for role, images in batch.images.items():
        assert torch.equal(torch.cat([part.images[role] for part in parts]), images)
    assert torch.equal(torch.cat([part.labels["age"] for part in parts]), batch.labels["age"])


def test_batch_moves_to_a_device_but_its_keys_stay(batch):
    moved = batch.to(torch.device("meta"))
    assert {image.device.type for image in moved.images.values()} == {"meta"}
    assert moved.labels["age"].device.type == "meta"
    assert moved.keys.device.type == "cpu"


def test_derived_seeds_depend_on_every_part_their_order_and_their_borders():
    seeds = [
        derive_seed(1, "a", 2),
        derive_seed(2, "a", 2),
        derive_seed(1, "b", 2),
        derive_seed(1, "a", 3),
        derive_seed("a", 1, 2),
        derive_seed(1, "a2"),
        derive_seed(1, "a"),
        derive_seed(1, "", "a"),
        derive_seed("1a", 2),
    ]
    assert len(set(seeds)) == len(seeds)
    assert derive_seed(1, "a", 2) == seeds[0]


def test_derived_seeds_fit_generators_and_int64():
    seeds = [derive_seed(0, index) for index in range(1000)]
    assert len(set(seeds)) == 1000
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert max(seeds) > 2**62
    torch.Generator().manual_seed(max(seeds))


def test_derived_seeds_never_change_between_releases():
    """Checkpoints and shipped results rest on them."""
    assert derive_seed(0, "build") == 3_765_620_374_175_625_155


def test_update_takes_one_player_or_several():
    loss = torch.ones(())
    assert Update("g", Term("x", loss)).players == ("g",)
    assert Update(("g", "head"), Term("x", loss)).players == ("g", "head")


def test_update_detaches_what_is_measured_and_keeps_terms_attached():
    loss = torch.ones((), requires_grad=True) * 2
    update = Update("g", Term("x", loss, 0.5), sign=loss)
    assert update.terms[0].value.requires_grad
    assert update.terms[0].weight == 0.5
    assert not update.measured["sign"].requires_grad
    assert float(update.measured["sign"]) == 2
