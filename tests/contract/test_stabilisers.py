"""Every stabiliser: what the discriminator is built from, and what it is shown.

As in test_switches, the gradients that a family trains with are those of plain torch. Networks of
other shapes have no gradients to subtract: there the whole gradient is compared, on and off.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor

from i2i.nn import DiscriminatorOptions
from i2i_srgan.options import JudgeOptions
from tests.contract.duels import (
    ALONE,
    Duel,
    Gradients,
    assert_equal,
    duels,
    gradients_of,
    less,
    made,
    make,
    norm,
    play,
)
from tests.contract.plain import FOOLS, JUDGES, zero_centred

FAMILIES = sorted(ALONE)
PATCHES = ["cyclegan", "pix2pix"]  # whose discriminator is the shared one
NETWORKS: dict[str, tuple[dict[str, Any], int]] = {
    "spectral_norm": ({"spectral_norm": True, "norm": "none"}, 16),
    "spectral_norm beside a normalisation": ({"spectral_norm": True}, 16),
    "minibatch_stddev": ({"minibatch_stddev": True}, 16),
    "minibatch_stddev under spectral_norm": ({"minibatch_stddev": True, "spectral_norm": True}, 16),
    "self_attention": ({"self_attention": True, "patch": 70, "width": 2}, 24),
    "num_scales": ({"num_scales": 3}, 24),
    "downsampling": ({"downsampling": "blur"}, 16),
    "downsampling, three times": ({"downsampling": "blur", "patch": 70, "width": 2}, 24),
    "patch 1": ({"patch": 1}, 16),
    "patch 70": ({"patch": 70, "width": 2}, 24),
    "patch 286": ({"patch": 286, "width": 1}, 96),
    "norm none": ({"norm": "none"}, 16),
    "norm batch": ({"norm": "batch"}, 16),
    "width": ({"width": 7}, 16),
    "all together": (
        {
            "patch": 70,
            "width": 2,
            "norm": "batch",
            "spectral_norm": True,
            "minibatch_stddev": True,
            "self_attention": True,
            "downsampling": "blur",
            "num_scales": 2,
        },
        48,
    ),
}
"""What is switched, and the side of pictures that it can judge."""

OWN: dict[str, tuple[dict[str, Any], int]] = {
    "unet": ({"architecture": "unet"}, 16),
    "unet, wider": ({"architecture": "unet", "width": 5}, 24),
    "vgg": ({"architecture": "vgg"}, 32),
    "vgg, wider": ({"architecture": "vgg", "width": 5}, 32),
}
"""The same of srgan's."""

ROWS = [(family, row) for family in PATCHES for row in NETWORKS] + [("srgan", row) for row in OWN]


def total(each: list[Tensor]) -> Tensor:
    return torch.stack(each).sum()


def judging(duel: Duel) -> Tensor:
    real = duel.plain.logits(duel.real)
    fake = duel.plain.logits(duel.fake.detach())
    return total([JUDGES["non_saturating"](*each) for each in zip(real, fake, strict=True)])


def fooling(duel: Duel) -> Tensor:
    return total([FOOLS["non_saturating"](each, each) for each in duel.plain.logits(duel.fake)])


def found_and_expected(
    family: str, changed: Mapping[str, Any], size: int
) -> tuple[Gradients, Gradients]:
    translator = made(family, changed, size=size, still=False)
    batch, now = make(translator, size=size)
    met = duels(translator, batch, now)
    found, _ = play(translator, batch, now)
    return found, gradients_of(translator, met, judging, fooling)


@pytest.mark.parametrize(("family", "row"), ROWS)
def test_gradients_are_those_of_the_network_that_is_asked_for(family, row):
    changed, size = (OWN if family == "srgan" else NETWORKS)[row]
    on, expected = found_and_expected(family, {"discriminator": changed}, size)
    other = {"width": 3} if family == "srgan" else {"patch": 16}
    off, _ = found_and_expected(family, {"discriminator": other}, size)
    assert_equal(on, expected)
    # the generator is the same on and off: its gradients can be told apart
    player = next(name for name in on if name.startswith("generator"))
    assert norm(less({player: on[player]}, off)[player]) > 0.05 * norm(off[player])


@pytest.mark.parametrize("family", PATCHES)
def test_penalty_is_taken_through_spectral_normalisation(family):
    """One picture's slope does not depend on the others without a normalisation over them."""
    network = {"spectral_norm": True, "norm": "none"}
    translator = made(family, {"discriminator": network, "r1_weight": 500.0})
    batch, now = make(translator)
    met = duels(translator, batch, now)

    def penalised(duel: Duel) -> Tensor:
        plain = judging(duel)
        at = duel.real.clone().requires_grad_()
        scores = total([each.mean((1, 2, 3)).sum() for each in duel.plain.logits(at)])
        (slopes,) = torch.autograd.grad(scores, at, create_graph=True)
        return plain + 500.0 * (slopes**2).sum((1, 2, 3)).mean() / 2

    on, _ = play(translator, batch, now)
    off, _ = play(made(family, {"discriminator": network}), batch, now)
    assert_equal(on, gradients_of(translator, met, penalised, fooling))
    player = next(name for name in on if name.startswith("discriminator"))
    assert norm(less(on, off)[player]) > 0.1 * norm(off[player])


@pytest.mark.parametrize("family", PATCHES)
def test_attention_begins_as_nothing_and_learns_at_once(family):
    changed = {"patch": 70, "width": 2}
    off = made(family, {"discriminator": changed}, size=24)
    on = made(family, {"discriminator": changed | {"self_attention": True}}, size=24)
    gammas = [p for name, p in on.named_parameters() if name.endswith("gamma")]
    assert len(gammas) == (2 if family == "cyclegan" else 1)
    on.load_state_dict(off.state_dict(), strict=False)
    with torch.no_grad():
        for gamma in gammas:
            gamma.zero_()
    batch, now = make(on, size=24)
    without, with_it = play(off, batch, now)[0], play(on, batch, now)[0]
    for player, gradients in without.items():
        shared = {name: with_it[player][name] for name in gradients}
        assert norm(less({player: shared}, without)[player]) < 1e-5 * norm(gradients)
    moving = [
        float(each) for found in with_it.values() for n, each in found.items() if "gamma" in n
    ]
    assert moving
    assert all(abs(each) > 1e-6 for each in moving)


def test_every_key_of_the_discriminator_has_a_row():
    switched = {key for changed, _ in NETWORKS.values() for key in changed}
    assert switched == set(DiscriminatorOptions.model_fields)
    switched = {key for changed, _ in OWN.values() for key in changed}
    assert switched == set(JudgeOptions.model_fields)


# What is shown: augmented by hand, one picture after another, with the draws of the step


def diffaugmented(picture: Tensor, draws: Iterator[float], operations: tuple[str, ...]) -> Tensor:
    """DiffAugment of (3 k, H, W): colours a group of three channels, then rows and columns."""
    height, width = picture.shape[1:]
    if "colour" in operations:
        brightness, saturation, contrast = next(draws) - 0.5, 2 * next(draws), next(draws) + 0.5
        groups = []
        for group in picture.split(3):
            group = group + brightness
            grey = (group[0] + group[1] + group[2]) / 3
            group = saturation * group + (1 - saturation) * grey
            groups.append(contrast * group + (1 - contrast) * group.sum() / group.numel())
        picture = torch.cat(groups)
    if "translation" in operations:
        for axis, length in ((1, height), (2, width)):
            most = math.floor(length / 8 + 0.5)
            by = math.floor(next(draws) * (2 * most + 1)) - most
            kept = picture.narrow(axis, max(by, 0), length - abs(by))
            none = torch.zeros_like(picture.narrow(axis, 0, abs(by)))
            picture = torch.cat([kept, none] if by > 0 else [none, kept], axis)
    if "cutout" in operations:
        seen = torch.ones(height, width, dtype=picture.dtype)
        rows, columns = (
            slice(max(centre - length // 4, 0), max(centre + length // 4, 0))
            for length in (height, width)
            for centre in [math.floor(next(draws) * (length + 1))]
        )
        seen[rows, columns] = 0
        picture = picture * seen
    return picture


def moved(picture: Tensor, draws: Iterator[float], p: float) -> Tensor:
    """Flips, quarter turns and whole shifts of a square picture, seen from the result."""
    side = picture.shape[1]
    is_flipped = (next(draws) < p) * math.floor(2 * next(draws))
    turned = math.floor(4 * next(draws)) * (next(draws) < p)
    shifts = next(draws) < p
    x, y = (shifts * round((next(draws) / 4 - 0.125) * side) for _ in range(2))
    result = []
    for row in range(side):
        for column in range(side):
            right, down = column + x - (side - 1) / 2, row + y - (side - 1) / 2
            for _ in range(turned):
                right, down = -down, right
            right = -right if is_flipped else right
            places = [int(each + (side - 1) / 2) for each in (down, right)]
            places = [-1 - at if at < 0 else at for at in places]
            places = [2 * side - 1 - at if at >= side else at for at in places]
            result.append(picture[:, places[0], places[1]])
    return torch.stack(result, 1).view_as(picture)


def draws_of(duel: Duel, kind: str) -> list[list[float]]:
    name = f"{kind}{duel.label}.augment"
    return duel.now.uniform(duel.batch, name, 32).double().tolist()


Augment = Callable[[Tensor, Iterator[float]], Tensor]

MOVING = {"target": 0.6, "limit": 1.0}
"""What a probability above 0.8 needs; it moves after a step, and one step is played here."""

AUGMENTS: dict[str, tuple[dict[str, Any], Augment]] = {
    "diffaugment": (
        {"policy": "diffaugment"},
        lambda x, draws: diffaugmented(x, draws, ("colour", "translation", "cutout")),
    ),
    "diffaugment of colour": (
        {"policy": "diffaugment", "operations": ["colour"]},
        lambda x, draws: diffaugmented(x, draws, ("colour",)),
    ),
    "diffaugment of places": (
        {"policy": "diffaugment", "operations": ["translation", "cutout"]},
        lambda x, draws: diffaugmented(x, draws, ("translation", "cutout")),
    ),
    "adaptive, always": (
        {"policy": "adaptive", "operations": ["pixels"], "probability": 1.0} | MOVING,
        lambda x, draws: moved(x, draws, 1.0),
    ),
    "adaptive, now and then": (
        {"policy": "adaptive", "operations": ["pixels"], "probability": 0.6},
        lambda x, draws: moved(x, draws, 0.6),
    ),
}


@pytest.mark.parametrize("penalty", [0.0, 4.0])
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("row", AUGMENTS)
def test_gradients_come_through_the_augmentation(family, row, penalty):
    """Those of both players, and of the slopes at the pictures as they were before it."""
    options, augment = AUGMENTS[row]
    translator = made(family, {"augment": options, "r1_weight": penalty})

    def shown(duel: Duel, pictures: Tensor, kind: str) -> Tensor:
        draws = draws_of(duel, kind)
        return torch.stack([augment(x, iter(d)) for x, d in zip(pictures, draws, strict=True)])

    def judging(duel: Duel) -> Tensor:
        real = duel.on_real.logits(shown(duel, duel.real, "real"))
        fake = duel.on_fake.logits(shown(duel, duel.fake.detach(), "fake"))
        loss = JUDGES["non_saturating"](real[0], fake[0])
        if penalty:
            draws = draws_of(duel, "real")
            loss = loss + penalty * zero_centred(
                duel.on_real, duel.real, lambda index, x: augment(x, iter(draws[index]))
            )
        return loss

    def fooling(duel: Duel) -> Tensor:
        fake = duel.on_fake.logits(shown(duel, duel.fake, "fooling"))
        return FOOLS["non_saturating"](fake[0], fake[0])

    batch, now = make(translator)
    met = duels(translator, batch, now)
    found, _ = play(translator, batch, now)
    assert_equal(found, gradients_of(translator, met, judging, fooling))
    off, _ = play(made(family, {"r1_weight": penalty}), batch, now)
    for player, gradients in less(found, off).items():
        assert norm(gradients) > 0.05 * norm(off[player])
