"""What training remembers: translated pictures, and where a player has been."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from i2i import Batch, DataError, Inputs, Progress
from i2i.nn import HistoricalAverage, ImagePool
from i2i.testing import make_batch

INPUTS = Inputs(images=("a",), paired=False)
NOW = Progress(seed=0, stage="train", step=0, images=0)

# Pool


def oracle_pool(kept: list, images: np.ndarray, draws: list, size: int) -> np.ndarray:
    """The history of section 2.3 of arXiv:1612.07828, on a plain list."""
    shown = []
    for image, (coin, place) in zip(images, draws, strict=True):
        if len(kept) < size:
            kept.append(image)
            shown.append(image)
        elif coin < 0.5:
            chosen = int(place * size)
            shown.append(kept[chosen])
            kept[chosen] = image
        else:
            shown.append(image)
    return np.stack(shown)


@pytest.mark.parametrize("channels", [1, 6])
def test_pool_fills_then_exchanges_half_of_the_time(channels):
    size, kept, exchanged = 3, [], 0
    pool = ImagePool("pool", size, (channels, 2, 2))
    for step in range(40):
        batch = make_batch(INPUTS, batch_size=4, seed=step)
        images = torch.randn(4, channels, 2, 2, generator=torch.Generator().manual_seed(step))
        now = replace(NOW, step=step)
        shown = pool(images, batch, now)
        draws = now.uniform(batch, "pool", 2).tolist()
        np.testing.assert_array_equal(shown.numpy(), oracle_pool(kept, images.numpy(), draws, size))
        np.testing.assert_array_equal(pool.pictures.numpy()[: len(kept)], np.stack(kept))
        assert int(pool.num_filled) == min(size, 4 * (step + 1))
        exchanged += int((shown != images).flatten(1).any(1).sum())
    assert 0.4 < exchanged / (4 * 40 - size) < 0.6


def test_pools_of_other_names_draw_differently():
    shown = []
    for name in ("a", "b"):
        pool = ImagePool(name, 4, (1, 1, 1))
        for step in range(8):
            batch = make_batch(INPUTS, batch_size=4, seed=step)
            images = torch.arange(4.0 * step, 4.0 * step + 4)[:, None, None, None]
            last = pool(images, batch, replace(NOW, step=step))
        shown.append(last)
    assert not torch.equal(*shown)


def test_pool_shows_the_same_to_micro_batches_as_to_the_whole_batch():
    whole, parts = ImagePool("pool", 3, (1, 2, 2)), ImagePool("pool", 3, (1, 2, 2))
    for step in range(6):
        batch = make_batch(INPUTS, batch_size=5, seed=step)
        images = torch.randn(5, 1, 2, 2)
        now = replace(NOW, step=step)
        shown = [
            parts(part, micro, now)
            for part, micro in zip(images.tensor_split(2), batch.split(2), strict=True)
        ]
        assert torch.equal(whole(images, batch, now), torch.cat(shown))
        assert torch.equal(whole.pictures, parts.pictures)


def test_pool_reads_how_full_it_is_once_a_call(monkeypatch):
    """On a device the host waits for each of these."""
    pool, reads, read = ImagePool("pool", 3, (1, 1, 1)), [], torch.Tensor.__int__
    monkeypatch.setattr(torch.Tensor, "__int__", lambda self: reads.append(1) or read(self))
    for step in range(3):
        batch = make_batch(INPUTS, batch_size=5, seed=step)
        pool(torch.randn(5, 1, 1, 1), batch, replace(NOW, step=step))
        assert len(reads) == step + 1


def test_pool_goes_on_with_the_same_pictures_after_a_resume():
    pool, resumed = ImagePool("pool", 2, (1, 2, 2)), ImagePool("pool", 2, (1, 2, 2))
    for step in range(6):
        batch, images = make_batch(INPUTS, batch_size=2, seed=step), torch.randn(2, 1, 2, 2)
        if step == 3:
            resumed.load_state_dict(pool.state_dict())
        shown = pool(images, batch, replace(NOW, step=step))
        if step >= 3:
            assert torch.equal(shown, resumed(images, batch, replace(NOW, step=step)))


def test_pool_detaches_and_leaves_its_input_alone():
    pool = ImagePool("pool", 1, (1, 2, 2))
    for step in range(8):
        images = torch.full((2, 1, 2, 2), float(step), requires_grad=True)
        shown = pool(images, make_batch(INPUTS, batch_size=2, seed=step), NOW)
        assert not shown.requires_grad
        assert (images == step).all()


def test_pool_of_size_zero_shows_each_picture_itself():
    images = torch.randn(3, 1, 2, 2)
    batch = make_batch(INPUTS)
    assert torch.equal(ImagePool("pool", 0, (1, 2, 2))(images, batch, NOW), images)


def test_pool_names_a_picture_of_another_size():
    pool = ImagePool("pool", 2, (3, 8, 8))
    batch = Batch({"a": torch.zeros(1, 3, 9, 8)}, torch.tensor([1]))
    with pytest.raises(DataError, match=r"\(3, 9, 8\) comes after those of \(3, 8, 8\)"):
        pool(batch.images["a"], batch, NOW)


# Historical average


@pytest.fixture
def player():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(2, 3, 3), nn.Linear(4, 2))


def flat(player: nn.Module) -> np.ndarray:
    values = [parameter.detach().double().numpy().ravel() for parameter in player.parameters()]
    return np.concatenate(values)


def move(player: nn.Module) -> None:
    with torch.no_grad():
        for parameter in player.parameters():
            parameter += torch.randn_like(parameter)


def test_distance_is_that_from_the_mean_of_all_updates(player):
    """The term of section 3.2 of arXiv:1606.03498, on a list of all that ever was."""
    history, been = HistoricalAverage(player.parameters()), []
    for _ in range(7):
        history.update()
        been.append(flat(player))
        move(player)
        expected = ((flat(player) - np.mean(been, axis=0)) ** 2).sum()
        distance = history.distance()
        assert distance.shape == ()
        assert distance.dtype == torch.float32
        assert distance.item() == pytest.approx(expected, rel=1e-5)


def test_distance_draws_each_parameter_to_its_mean(player):
    history = HistoricalAverage(player.parameters())
    history.update()
    before = [parameter.detach().clone() for parameter in player.parameters()]
    move(player)
    history.distance().backward()
    for parameter, mean in zip(player.parameters(), before, strict=True):
        torch.testing.assert_close(parameter.grad, 2 * (parameter.detach() - mean))


def test_distance_is_zero_before_an_update_and_has_a_gradient_of_zero(player):
    distance = HistoricalAverage(player.parameters()).distance()
    assert distance == 0
    distance.backward()
    assert all(not parameter.grad.any() for parameter in player.parameters())


def test_history_keeps_no_parameters_and_survives_a_resume(player):
    history = HistoricalAverage(player.parameters())
    assert list(history.parameters()) == []
    for _ in range(3):
        history.update()
        move(player)
    resumed = HistoricalAverage(player.parameters())
    resumed.load_state_dict(history.state_dict())
    history.update()
    resumed.update()
    move(player)
    assert torch.equal(history.distance(), resumed.distance())


def test_history_follows_its_player_where_both_are_copied(player):
    both = nn.ModuleList([player, HistoricalAverage(player.parameters())])
    both[1].update()
    copied = copy.deepcopy(both)
    move(copied[0])
    assert both[1].distance() == 0
    assert copied[1].distance() > 0


def test_history_is_kept_in_float32(player):
    """In bfloat16 the mean of many would stand still."""
    player.bfloat16()
    history, been = HistoricalAverage(player.parameters()), []
    for _ in range(300):
        history.update()
        been.append(flat(player))
        move(player)
    np.testing.assert_allclose(history.mean.numpy(), np.mean(been, axis=0), atol=1e-3)
