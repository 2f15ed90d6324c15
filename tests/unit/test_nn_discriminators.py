"""The discriminators against their papers: sizes, counts, what a logit sees, and every option."""

import copy

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import nn
from torch.nn import functional as F

from i2i.nn import DiscriminatorOptions, PatchDiscriminator, smallest_side

WIDTHS = {1: (1, 2), 16: (1, 2), 70: (1, 2, 4, 8), 286: (1, 2, 4, 8, 8, 8)}
STRIDES = {1: (1, 1, 1), 16: (2, 1, 1), 70: (2, 2, 2, 1, 1), 286: (2, 2, 2, 2, 2, 1, 1)}
SPECTRAL = ("parametrizations.weight.original", "weight")


def options(**changed) -> DiscriminatorOptions:
    return DiscriminatorOptions(**{"width": 4, **changed})


def made(channels: int = 3, **changed) -> PatchDiscriminator:
    torch.manual_seed(0)
    return PatchDiscriminator(channels, options(**changed))


def logits(judge: PatchDiscriminator, pictures: torch.Tensor) -> torch.Tensor:
    return judge(pictures)[0][-1]


def convolutions(module: nn.Module) -> list[nn.Conv2d]:
    return [each for each in module.modules() if isinstance(each, nn.Conv2d)]


def parameters_of(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def randomised(judge: PatchDiscriminator) -> PatchDiscriminator:
    """Return a copy whose weights are larger than at the start, so that errors show."""
    torch.manual_seed(1)
    judge = copy.deepcopy(judge)
    for parameter in judge.parameters():
        nn.init.normal_(parameter, 0.1, 0.3)
    return judge


# Architecture


@pytest.mark.parametrize(
    ("channels", "norm", "count"), [(3, "instance", 2_764_737), (6, "batch", 2_768_705)]
)
def test_it_has_the_published_number_of_parameters(channels, norm, count):
    with torch.device("meta"):
        judge = PatchDiscriminator(channels, DiscriminatorOptions(norm=norm))
    assert parameters_of(judge) == count


@pytest.mark.parametrize("patch", WIDTHS)
@pytest.mark.parametrize("norm", ["instance", "batch", "none"])
def test_layers_are_those_of_the_appendix(patch, norm):
    """Every layer's output, computed again from the weights with torch's functions alone."""
    judge = randomised(made(patch=patch, norm=norm))
    size, padding = (1, 0) if patch == 1 else (4, 1)
    x = torch.rand(2, 3, 96, 104) * 2 - 1
    outputs = judge(x)[0]
    weights = iter(judge.parameters())
    widths = [4 * width for width in WIDTHS[patch]]
    assert [each.shape[1] for each in outputs] == [*widths, 1]
    for place, (output, stride) in enumerate(zip(outputs, STRIDES[patch], strict=True)):
        inner = 0 < place < len(outputs) - 1
        weight = next(weights)
        assert weight.shape[2:] == (size, size)
        bias = None if inner and norm == "batch" else next(weights)
        x = F.conv2d(x, weight, bias, stride, padding)
        if inner and norm == "instance":
            x = F.instance_norm(x)
        elif inner and norm == "batch":
            x = F.batch_norm(x, None, None, next(weights), next(weights), training=True)
        if place < len(outputs) - 1:
            x = torch.where(x > 0, x, 0.2 * x)
        torch.testing.assert_close(output, x, rtol=1e-4, atol=1e-4)
    assert not list(weights)


@pytest.mark.parametrize(("patch", "side"), [(1, 256), (16, 126), (70, 30), (286, 6)])
def test_a_picture_of_256_pixels_has_the_published_number_of_logits(patch, side):
    with torch.no_grad():
        shape = logits(made(patch=patch, width=1), torch.zeros(1, 3, 256, 256)).shape
    assert shape == (1, 1, side, side)


@pytest.mark.parametrize(
    ("patch", "downsampling", "side"),
    [
        *((patch, "stride", patch) for patch in WIDTHS),
        *((16, "blur", 18), (70, "blur", 84), (286, "blur", 348)),
    ],
)
def test_a_logit_sees_a_square_of_exactly_its_patch(patch, downsampling, side):
    judge = made(1, patch=patch, downsampling=downsampling, norm="none", width=1).double()
    for parameter in judge.parameters():
        nn.init.uniform_(parameter, 0.1, 0.2)  # positive: no gradient cancels
    size = 2 * side + 32
    picture = torch.rand(1, 1, size, size, dtype=torch.float64, requires_grad=True)
    said = logits(judge, picture)
    said[0, 0, said.shape[2] // 2, said.shape[3] // 2].backward()
    seen = picture.grad[0, 0] != 0
    rows, columns = seen.any(1).nonzero(), seen.any(0).nonzero()
    assert int(rows.max() - rows.min()) + 1 == side
    assert int(columns.max() - columns.min()) + 1 == side
    assert int(seen.sum()) == side**2


def test_blur_keeps_the_parameters_and_every_size():
    strided, blurred = made(), made(downsampling="blur")
    for theirs, ours in zip(strided.parameters(), blurred.parameters(), strict=True):
        assert torch.equal(theirs, ours)
    for height, width in [(24, 25), (47, 64), (81, 30)]:
        picture = torch.randn(1, 3, height, width)
        shapes = [[each.shape for each in judge(picture)[0]] for judge in (strided, blurred)]
        assert shapes[0] == shapes[1]


def test_blur_comes_behind_the_activation():
    judge = randomised(made(downsampling="blur", norm="none"))
    picture = torch.randn(1, 3, 40, 40)
    first = convolutions(judge)[0]
    full = F.leaky_relu(F.conv2d(picture, first.weight, first.bias, padding=1), 0.2)
    padded = np.pad(full[0].detach().numpy(), ((0, 0), (1, 1), (1, 1)), mode="reflect")
    rows = (padded[:, :-2] + 2 * padded[:, 1:-1] + padded[:, 2:]) / 4
    both = (rows[:, :, :-2] + 2 * rows[:, :, 1:-1] + rows[:, :, 2:]) / 4
    got = judge(picture)[0][0][0].detach().numpy()
    np.testing.assert_allclose(got, both[:, ::2, ::2], rtol=1e-4, atol=1e-5)


def test_weights_are_drawn_as_published():
    judge = made(width=32, norm="batch", self_attention=True)
    weights = torch.cat([each.weight.flatten() for each in convolutions(judge)])
    assert weights.std().item() == pytest.approx(0.02, rel=0.02)
    assert weights.mean().item() == pytest.approx(0.0, abs=2e-4)
    scales = [each.weight for each in judge.modules() if isinstance(each, nn.BatchNorm2d)]
    scale = torch.cat(scales)
    assert scale.std().item() == pytest.approx(0.02, rel=0.15)
    assert scale.mean().item() == pytest.approx(1.0, abs=0.005)
    assert all(not p.any() for n, p in judge.named_parameters() if n.endswith("bias"))


@pytest.mark.parametrize("patch", WIDTHS)
@pytest.mark.parametrize("norm", ["instance", "none"])
@pytest.mark.parametrize("num_scales", [1, 2])
@pytest.mark.parametrize("downsampling", ["stride", "blur"])
def test_the_smallest_side_is_the_smallest_that_says_something(
    patch, norm, num_scales, downsampling
):
    if patch == 1 and downsampling == "blur":
        return  # refused, see below
    chosen = options(
        patch=patch, norm=norm, num_scales=num_scales, downsampling=downsampling, width=1
    )
    judge = PatchDiscriminator(3, chosen)
    side = smallest_side(chosen)
    picture = torch.randn(1, 3, side, side + 3, requires_grad=True)
    said = judge(picture)
    assert all(each[-1].numel() for each in said)
    for each in said:
        (slope,) = torch.autograd.grad(each[-1].square().sum(), picture, retain_graph=True)
        assert slope.any()
    with pytest.raises((RuntimeError, ValueError)):
        judge(torch.randn(1, 3, side - 1, side - 1))


def test_the_smallest_side_with_batch_normalisation_needs_two_values():
    assert smallest_side(options(patch=1, norm="batch")) == 2
    assert smallest_side(options(patch=70, norm="batch")) == 24


# Options


def test_scales_judge_the_picture_halved_by_averaging():
    judge = randomised(made(num_scales=3))
    picture = torch.rand(2, 3, 100, 104)
    said = judge(picture)
    assert len(said) == 3
    values = picture.numpy()
    for scale, outputs in enumerate(said):
        alone = made()
        alone.scales[0] = judge.scales[scale]
        for ours, theirs in zip(outputs, alone(torch.from_numpy(values))[0], strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
        height, width = (side // 2 for side in values.shape[2:])
        whole = values[:, :, : 2 * height, : 2 * width]
        values = whole.reshape(2, 3, height, 2, width, 2).mean((3, 5))
    first = [convolutions(each)[0].weight for each in judge.scales]
    assert not torch.equal(first[0], first[1])


def test_spectral_normalisation_makes_the_largest_singular_value_one():
    judge = randomised(made(norm="none", spectral_norm=True, self_attention=True))
    for _ in range(40):
        judge(torch.zeros(1, 3, 24, 24))
    judge.eval()
    for each in convolutions(judge):
        largest = torch.linalg.svdvals(each.weight.flatten(1))[0]
        assert float(largest.detach()) == pytest.approx(1.0, abs=0.02)
        drawn = torch.linalg.svdvals(each.parametrizations.weight.original.flatten(1))[0]
        torch.testing.assert_close(
            each.weight * drawn, each.parametrizations.weight.original * 1.0, rtol=0.02, atol=1e-3
        )


def test_spectral_normalisation_keeps_the_weights_that_are_drawn():
    plain = dict(made().named_parameters())
    normalised = made(spectral_norm=True)
    for name, weight in normalised.named_parameters():
        assert torch.equal(weight, plain[name.replace(*SPECTRAL)])
    assert len(convolutions(normalised)) == 5
    assert all(hasattr(each, "parametrizations") for each in convolutions(normalised))


def test_spectral_normalisation_follows_the_weights_in_16_bits_too():
    judge = made(spectral_norm=True, norm="none")
    with torch.autocast("cpu", torch.bfloat16):
        loss = logits(judge, torch.randn(1, 3, 32, 32)).float().mean()
        loss = loss - logits(judge, torch.randn(1, 3, 32, 32)).float().mean()
    loss.backward()
    for name, buffer in judge.named_buffers():
        assert buffer.dtype == torch.float32, name
    assert all(weight.grad.any() for n, weight in judge.named_parameters() if "original" in n)


@pytest.mark.parametrize("norm", ["instance", "batch", "none"])
def test_minibatch_deviation_shows_in_the_logits_whatever_the_normalisation(norm):
    """Away from the edge it adds deviation times the weights of its channel, to every logit."""
    judge = randomised(made(norm=norm, minibatch_stddev=True))
    outputs = judge(torch.randn(3, 3, 64, 64))[0]
    values = outputs[-2].detach().numpy().astype(np.float64)
    deviation = np.sqrt(values.var(0) + 1e-8).mean()
    last = convolutions(judge)[-1]
    assert last.in_channels == 4 * 8 + 1
    without = F.conv2d(outputs[-2], last.weight[:, :-1], last.bias, padding=1)
    added = (outputs[-1] - without)[:, :, 1:-1, 1:-1].detach()
    expected = deviation * float(last.weight[:, -1].detach().sum())
    assert abs(expected) > 0.01
    torch.testing.assert_close(added, torch.full_like(added, expected), rtol=1e-3, atol=1e-3)


def test_pictures_are_judged_apart_unless_an_option_joins_them():
    pictures = torch.randn(3, 3, 32, 32)
    for changed, joins in [
        ({}, False),
        ({"self_attention": True, "num_scales": 1, "spectral_norm": True}, False),
        ({"norm": "batch"}, True),
        ({"minibatch_stddev": True}, True),
    ]:
        judge = randomised(made(**changed)).eval()
        together, alone = logits(judge, pictures)[:1], logits(judge, pictures[:1])
        assert torch.allclose(together, alone, rtol=1e-3, atol=1e-4) != joins


def test_attention_lets_a_logit_see_beyond_its_patch():
    judge = made(norm="none", self_attention=True)
    plain = made(norm="none")
    state = plain.state_dict()
    judge.load_state_dict(state, strict=False)
    picture = torch.randn(1, 3, 160, 160, requires_grad=True)
    outputs = judge(picture)[0]
    assert outputs[1].shape == (1, 8, 40, 40)  # a quarter of the size
    assert torch.equal(outputs[-1], logits(plain, picture))  # gamma starts at zero

    judge, plain = randomised(judge), randomised(plain)
    for network, sees in [(judge, [False, True, True, True, True]), (plain, [False] * 5)]:
        for output, far in zip(network(picture)[0], sees, strict=True):
            (slope,) = torch.autograd.grad(output[0, :, 0, 0].sum(), picture, retain_graph=True)
            assert bool(slope[0, :, -8:, -8:].any()) == far


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"patch": 1, "downsampling": "blur"}, "none is halved"),
        ({"patch": 1, "self_attention": True}, "use patch 70 or 286"),
        ({"patch": 16, "self_attention": True}, "use patch 70 or 286"),
        ({"patch": 34}, "1, 16, 70 or 286"),
        ({"width": 0}, "greater than or equal to 1"),
        ({"num_scales": 0}, "greater than or equal to 1"),
        ({"num_layers": 3}, "Extra inputs"),
    ],
)
def test_options_without_effect_are_refused(changed, message):
    with pytest.raises(ValidationError, match=message):
        DiscriminatorOptions(**changed)


def test_options_are_frozen_and_described():
    with pytest.raises(ValidationError, match="frozen"):
        DiscriminatorOptions().width = 3
    assert all(field.description for field in DiscriminatorOptions.model_fields.values())


EVERYTHING = [
    {},
    {"norm": "batch", "minibatch_stddev": True, "num_scales": 2},
    {"self_attention": True, "spectral_norm": True, "downsampling": "blur"},
    {"norm": "none", "patch": 16, "downsampling": "blur", "minibatch_stddev": True},
]


@pytest.mark.parametrize("changed", EVERYTHING)
def test_it_can_be_differentiated_twice(changed):
    """A penalty on slopes has the gradient that a difference of two penalties has."""
    judge = randomised(made(1, width=2, **changed)).double().eval()  # no power iterations
    pictures = torch.randn(2, 1, 48, 48, dtype=torch.float64)

    def penalty() -> torch.Tensor:
        picture = pictures.clone().requires_grad_()
        score = sum(outputs[-1].mean((1, 2, 3)) for outputs in judge(picture))
        (slope,) = torch.autograd.grad(score.sum(), picture, create_graph=True)
        return slope.square().sum()

    weights = [weight for weight in judge.parameters() if weight.ndim == 4]
    gradients = torch.autograd.grad(penalty(), weights)
    towards = [torch.randn_like(weight) for weight in weights]
    expected = sum(float((g * t).sum()) for g, t in zip(gradients, towards, strict=True))
    step, ends = 1e-7, []
    for sign in (1, -2):
        with torch.no_grad():
            for weight, toward in zip(weights, towards, strict=True):
                weight += sign * step * toward
        ends.append(float(penalty().detach()))
    assert abs(expected) > 1e-3
    assert (ends[0] - ends[1]) / (2 * step) == pytest.approx(expected, rel=1e-3)
