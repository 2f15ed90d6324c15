"""Generators of super-resolution against their papers: counts, layers, sizes and what they see."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from i2i_srgan import options as srgan_options
from i2i_srgan.networks import Compact, MSRResNet, RRDBNet, SRResNet
from i2i_srgan.options import GeneratorOptions

Weights = dict[str, Tensor]


@pytest.fixture(autouse=True)
def _one_seed():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def lively(network: nn.Module, by: float = 0.1) -> nn.Module:
    """Give weights, offsets and statistics of a trained network's size, in float64."""
    generator = torch.Generator().manual_seed(1)
    for name, tensor in network.double().state_dict().items():
        noise = torch.rand(tensor.shape, generator=generator, dtype=torch.float64)
        if name.endswith("running_var"):
            tensor.copy_(noise + 0.5)
        elif tensor.is_floating_point():
            tensor += 2 * by * (noise - 0.5)
    return network.eval()


def pictures(height: int = 5, width: int = 7) -> Tensor:
    generator = torch.Generator().manual_seed(5)
    return torch.rand(2, 3, height, width, generator=generator, dtype=torch.float64)


def parameters_of(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize(
    ("network", "count"),
    [
        (lambda: SRResNet(4, 64, 16), 1_549_462),
        (lambda: MSRResNet(4, 64, 16), 1_517_571),
        (lambda: RRDBNet(4, 64, 23, 32), 16_697_987),
        (lambda: Compact(4, 64, 16, "plain"), 621_424),
    ],
)
def test_generators_have_the_published_numbers_of_parameters(network, count):
    with torch.device("meta"):
        assert parameters_of(network()) == count


# Each once more, in functions


def conv(w: Weights, name: str, x: Tensor) -> Tensor:
    kernel = w[f"{name}.weight"]
    return F.conv2d(x, kernel, w[f"{name}.bias"], padding=kernel.shape[-1] // 2)


def sloped(x: Tensor, slope: Tensor | float) -> Tensor:
    return x.clamp(min=0) + slope * x.clamp(max=0)


def prelu(w: Weights, name: str, x: Tensor) -> Tensor:
    return sloped(x, w[f"{name}.weight"][:, None, None])


def normed(w: Weights, name: str, x: Tensor) -> Tensor:
    if f"{name}.weight" not in w:
        return x
    mean, var, scale, offset = (
        w[f"{name}.{key}"][:, None, None]
        for key in ("running_mean", "running_var", "weight", "bias")
    )
    return (x - mean) / (var + 1e-5).sqrt() * scale + offset


def spread(x: Tensor, factor: int) -> Tensor:
    """Channel c r^2 + i r + j of a pixel is channel c of the pixel i below and j right of it."""
    height, width = x.shape[2:]
    result = x.new_zeros(len(x), x.shape[1] // factor**2, factor * height, factor * width)
    for channel in range(x.shape[1]):
        into, place = divmod(channel, factor**2)
        row, column = divmod(place, factor)
        result[:, into, row::factor, column::factor] = x[:, channel]
    return result


def gathered(x: Tensor, factor: int) -> Tensor:
    """The reverse."""
    parts = [
        x[:, channel, row::factor, column::factor]
        for channel in range(x.shape[1])
        for row in range(factor)
        for column in range(factor)
    ]
    return torch.stack(parts, 1)


def repeated(x: Tensor, factor: int) -> Tensor:
    return x.repeat_interleave(factor, 2).repeat_interleave(factor, 3)


def bilinear(x: Tensor, factor: int) -> Tensor:
    """Between centres of pixels; beyond the outermost, their value."""

    def weights(length: int) -> Tensor:
        rows = torch.zeros(factor * length, length, dtype=x.dtype)
        for index, row in enumerate(rows):
            at = min(max((index + 0.5) / factor - 0.5, 0), length - 1)
            below = int(at)
            row[below] += 1 - (at - below)
            row[min(below + 1, length - 1)] += at - below
        return rows

    return weights(x.shape[2]) @ x @ weights(x.shape[3]).T


def factors(scale: int) -> list[int]:
    return {1: [], 2: [2], 3: [3], 4: [2, 2], 8: [2, 2, 2]}[scale]


def srresnet(w: Weights, x: Tensor, scale: int, num_blocks: int) -> Tensor:
    head = x = prelu(w, "head.1", conv(w, "head.0", x))
    for index in range(num_blocks):
        name = f"body.{index}.inside"
        inside = prelu(w, f"{name}.2", normed(w, f"{name}.1", conv(w, f"{name}.0", x)))
        x = x + normed(w, f"{name}.4", conv(w, f"{name}.3", inside))
    x = head + normed(w, "last.1", conv(w, "last.0", x))
    for index, factor in enumerate(factors(scale)):
        x = prelu(w, f"up.{index}.2", spread(conv(w, f"up.{index}.0", x), factor))
    return conv(w, "tail", x)


def msrresnet(w: Weights, x: Tensor, scale: int, num_blocks: int) -> Tensor:
    base, x = bilinear(x, scale), sloped(conv(w, "head", x), 0.1)
    for index in range(num_blocks):
        inside = sloped(conv(w, f"body.{index}.first", x), 0)
        x = x + conv(w, f"body.{index}.second", inside)
    for index, factor in enumerate(factors(scale)):
        x = sloped(spread(conv(w, f"up.{index}", x), factor), 0.1)
    return base + conv(w, "tail", sloped(conv(w, "last", x), 0.1))


def rrdb(w: Weights, x: Tensor, scale: int, num_blocks: int, unshuffle: int = 1) -> Tensor:
    """Section 3.1: each convolution of a dense block sees all before it, and the block's input."""
    head = x = conv(w, "head", gathered(x, unshuffle))
    for index in range(num_blocks):
        outer = x
        for block in range(3):
            inner, seen = x, x
            for place in range(4):
                name = f"body.{index}.blocks.{block}.{place}"
                seen = torch.cat([seen, sloped(conv(w, name, seen), 0.2)], 1)
            x = inner + 0.2 * conv(w, f"body.{index}.blocks.{block}.4", seen)
        x = outer + 0.2 * x
    x = head + conv(w, "last", x)
    for index, factor in enumerate(factors(scale * unshuffle)):
        x = sloped(conv(w, f"up.{index}", repeated(x, factor)), 0.2)
    return conv(w, "tail", sloped(conv(w, "fine", x), 0.2))


def compact(w: Weights, x: Tensor, scale: int, num_blocks: int, body: str, kind: str) -> Tensor:
    def active(name: str, x: Tensor) -> Tensor:
        slopes = {"relu": 0.0, "leaky_relu": 0.1}
        return sloped(x, slopes[kind]) if kind in slopes else prelu(w, name, x)

    base, head = repeated(x, scale), conv(w, "head", x)
    x = head
    if body == "plain":
        x = active("body.0", x)
        for index in range(num_blocks):
            x = active(f"body.{2 * index + 2}", conv(w, f"body.{2 * index + 1}", x))
    else:
        for index in range(num_blocks):
            name = f"body.{index}"
            inside = active(f"{name}.activation", conv(w, f"{name}.first", x))
            x = x + conv(w, f"{name}.second", inside)
        x = head + conv(w, "last", x)
    return base + spread(conv(w, "tail", x), scale)


def assert_same(network: nn.Module, plain: Callable[..., Tensor], *arguments: object) -> None:
    x = pictures(8, 12)
    with torch.no_grad():
        found = lively(network)(x)
        expected = plain(network.state_dict(), x, *arguments)
    torch.testing.assert_close(found, expected)
    assert found.std() > 0.05  # it says something


@pytest.mark.parametrize("norm", ["batch", "none"])
@pytest.mark.parametrize("scale", [2, 3, 4, 8])
def test_srresnet_is_the_network_of_figure_4(scale, norm):
    assert_same(SRResNet(scale, 4, 2, norm), srresnet, scale, 2)


def test_bounded_srresnet_ends_in_tanh():
    plain, bounded = lively(SRResNet(2, 4, 1)), SRResNet(2, 4, 1, bounded=True).double().eval()
    bounded.load_state_dict(plain.state_dict())
    with torch.no_grad():
        expected = plain(pictures()).tanh() / 2 + 0.5
        torch.testing.assert_close(bounded(pictures()), expected)


@pytest.mark.parametrize("scale", [2, 3, 4, 8])
def test_msrresnet_is_that_of_esrgans_authors(scale):
    assert_same(MSRResNet(scale, 4, 2), msrresnet, scale, 2)


@pytest.mark.parametrize(
    ("scale", "unshuffle"), [(1, 1), (2, 1), (3, 1), (4, 1), (8, 1), (2, 2), (1, 4), (1, 2), (4, 2)]
)
def test_rrdb_is_the_network_of_esrgan_and_real_esrgan(scale, unshuffle):
    assert_same(RRDBNet(scale, 4, 2, 3, unshuffle), rrdb, scale, 2, unshuffle)


@pytest.mark.parametrize("activation", ["prelu", "relu", "leaky_relu"])
@pytest.mark.parametrize("body", ["plain", "residual"])
@pytest.mark.parametrize("scale", [2, 3, 4, 8])
def test_compact_works_at_the_small_size_and_adds_to_repeated_pixels(scale, body, activation):
    network = Compact(scale, 4, 2, body, activation)
    assert_same(network, compact, scale, 2, body, activation)


# Where weights begin


@pytest.mark.parametrize(
    "network", [MSRResNet(2, 64, 2), RRDBNet(2, 64, 1), Compact(2, 64, 2, "residual", "relu")]
)
def test_what_adds_to_something_begins_at_a_tenth_and_offsets_at_zero(network):
    """Of sqrt(2 / fan_in); tails add to the picture, or have nothing to say yet."""
    for name, module in network.named_modules():
        if not isinstance(module, nn.Conv2d):
            continue
        usual = math.sqrt(2 / (9 * module.in_channels))
        small = name in ("last", "tail") or "second" in name or "blocks" in name
        expected = usual / 10 if small else usual
        assert module.weight.std().item() == pytest.approx(expected, rel=0.1), name
        assert not module.bias.any()


# What a pixel of the result depends on

KINDS = {
    "srresnet": {},
    "srresnet without norms": {"norm": "none"},
    "msrresnet": {},
    "rrdb": {"growth": 2},
    "rrdb at half the size": {"growth": 2, "unshuffle": 2},
    "compact": {},
    "compact residual": {"body": "residual"},
}


def seen_around(network: nn.Module, side: int) -> tuple[int, int]:
    """How far beyond a square of the source, ``side`` wide, the square of its result looks.

    All weights are positive: gradients cannot vanish, nor cancel.
    """
    around = 80
    with torch.no_grad():
        for parameter in network.double().eval().parameters():
            parameter.fill_(1 / max(parameter[0].numel(), 1))
    x = torch.rand(1, 3, 1, 2 * around + side, dtype=torch.float64).requires_grad_()
    x = x.expand(1, 3, side, 2 * around + side)
    result = network(x)
    scale = result.shape[3] // x.shape[3]
    part = result[..., scale * around : scale * (around + side)]
    (slope,) = torch.autograd.grad(part.sum(), x)
    columns = slope.abs().sum((0, 1, 2)).nonzero().flatten()
    return around - int(columns[0]), int(columns[-1]) - (around + side - 1)


SEEN = [
    (kind, scale)
    for kind in KINDS
    for scale in (1, 2, 3, 4, 8)
    if (scale > 1 or kind.startswith("rrdb")) and (scale in (1, 2, 4) or "half" not in kind)
]


@pytest.mark.parametrize("num_blocks", [1, 2])
@pytest.mark.parametrize(("kind", "scale"), SEEN)
def test_halo_is_how_far_the_network_sees(monkeypatch, kind, scale, num_blocks):
    changed = {"architecture": kind.split()[0], "width": 2, "num_blocks": num_blocks}
    options = GeneratorOptions.model_validate(changed | KINDS[kind])
    monkeypatch.setattr(srgan_options, "_MOST_HALO", 1000)
    seen = seen_around(options.build(scale), options.unshuffle)
    spare = 1 if (options.architecture, scale) == ("rrdb", 3) else 0
    assert seen == (options.halo - spare, options.halo - spare)


def test_halo_is_bounded_and_a_multiple_of_what_is_rearranged():
    deep = {"architecture": "rrdb", "num_blocks": 23}
    assert GeneratorOptions.model_validate(deep).halo == 32
    assert GeneratorOptions.model_validate(deep | {"unshuffle": 4}).halo == 128
