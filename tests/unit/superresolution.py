"""Networks of other super-resolution programs: the tensors of their files, and what they compute.

Plain functions of a checkpoint's tensors and pictures in [0, 1], written from the papers and the
files' names: the original code runs beside ours by hand only.
"""

import math
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count

import torch
from torch import Tensor
from torch.nn import functional as F

State = dict[str, Tensor]
Forward = Callable[[State, Tensor], Tensor]


def conv(state: State, name: str, x: Tensor) -> Tensor:
    weight = state[f"{name}.weight"]
    return F.conv2d(x, weight, state[f"{name}.bias"], padding=weight.shape[2] // 2)


def prelu(state: State, name: str, x: Tensor) -> Tensor:
    slope = state[f"{name}.weight"].view(-1, 1, 1)
    return x.clamp(min=0) + slope * x.clamp(max=0)


def norm(state: State, name: str, x: Tensor) -> Tensor:
    weight, bias, mean, variance = (
        state[f"{name}.{each}"].view(-1, 1, 1)
        for each in ("weight", "bias", "running_mean", "running_var")
    )
    return (x - mean) / (variance + 1e-5).sqrt() * weight + bias


def tenth(x: Tensor) -> Tensor:
    return F.leaky_relu(x, 0.1)


def fifth(x: Tensor) -> Tensor:
    return F.leaky_relu(x, 0.2)


def repeated(x: Tensor, factor: int) -> Tensor:
    return x.repeat_interleave(factor, 2).repeat_interleave(factor, 3)


def convolutions(**shapes: tuple[int, int]) -> dict[str, tuple[int, ...]]:
    return {name: (after, before, 3, 3) for name, (before, after) in shapes.items()}


def msrresnet(scale: int, body: str = "body", fine: str = "conv_hr", ends: int = 3) -> State:
    factors = (2, 2) if scale == 4 else (scale,)
    sizes = {"conv_first": (ends, 6)}
    sizes |= {f"{body}.{block}.conv{each}": (6, 6) for block in range(3) for each in (1, 2)}
    sizes |= {f"upconv{place + 1}": (6, 6 * factor**2) for place, factor in enumerate(factors)}
    return drawn(convolutions(**sizes, **{fine: (6, 6)}, conv_last=(6, ends)))


def by_msrresnet(state: State, x: Tensor, scale: int, body: str, fine: str) -> Tensor:
    out = tenth(conv(state, "conv_first", x))
    for block in range(3):
        inner = conv(state, f"{body}.{block}.conv1", out).relu()
        out = out + conv(state, f"{body}.{block}.conv2", inner)
    for place, factor in enumerate((2, 2) if scale == 4 else (scale,)):
        out = tenth(F.pixel_shuffle(conv(state, f"upconv{place + 1}", out), factor))
    out = conv(state, "conv_last", tenth(conv(state, fine, out)))
    return out + F.interpolate(x, scale_factor=scale, mode="bilinear", align_corners=False)


STYLES = {
    "Real-ESRGAN": (
        "body.{}.rdb{}.conv{}",
        ["conv_first", "conv_body", "conv_hr", "conv_last"],
        "conv_up{}",
    ),
    "ESRGAN": (
        "RRDB_trunk.{}.RDB{}.conv{}",
        ["conv_first", "trunk_conv", "HRconv", "conv_last"],
        "upconv{}",
    ),
    "first ESRGAN": ("model.1.sub.{}.RDB{}.conv{}.0", [], ""),
}


def rrdb_names(style: str, factors: tuple[int, ...]) -> tuple[str, list[str], list[str]]:
    """Return the names of dense layers, of head, trunk, fine and tail, and what enlarges."""
    dense, names, up = STYLES[style]
    if up:
        return dense, names, [up.format(place + 1) for place in range(len(factors))]
    # One sequence of the head, the blocks, three layers (two with no weights) that enlarge each
    # time, a convolution, its activation and the tail.
    places = count(2)
    ups = [f"model.{[next(places) for _ in range(3)][1]}" for _ in factors]
    fine, _, tail = (f"model.{next(places)}" for _ in range(3))
    return dense, ["model.0", "model.1.sub.2", fine, tail], ups


def rrdb(
    style: str = "Real-ESRGAN", factors: tuple[int, ...] = (2, 2), unshuffle: int = 1, ends: int = 3
) -> State:
    dense, (head, trunk, fine, tail), ups = rrdb_names(style, factors)
    sizes = {head: (ends * unshuffle**2, 6)}
    for block in range(2):
        for each in range(3):
            for place in range(5):
                name = dense.format(block, each + 1, place + 1)
                sizes[name] = (6 + 4 * place, 6 if place == 4 else 4)
    sizes |= {trunk: (6, 6), **dict.fromkeys(ups, (6, 6)), fine: (6, 6), tail: (6, ends)}
    return drawn(convolutions(**sizes))


def by_rrdb(
    state: State, x: Tensor, style: str, factors: tuple[int, ...], unshuffle: int
) -> Tensor:
    dense, (head, trunk, fine, tail), ups = rrdb_names(style, factors)
    if unshuffle > 1:  # channels are ordered by the picture's, then by row, then by column
        parts = [
            x[:, channel : channel + 1, row::unshuffle, column::unshuffle]
            for channel in range(3)
            for row in range(unshuffle)
            for column in range(unshuffle)
        ]
        x = torch.cat(parts, 1)
    out = first = conv(state, head, x)
    for block in range(2):
        outer = out
        for each in range(3):
            seen = out
            for place in range(5):
                new = conv(state, dense.format(block, each + 1, place + 1), seen)
                seen = torch.cat([seen, fifth(new)], 1)
            out = out + 0.2 * new
        out = outer + 0.2 * out
    out = first + conv(state, trunk, out)
    for name, factor in zip(ups, factors, strict=True):
        out = fifth(conv(state, name, repeated(out, factor)))
    return conv(state, tail, fifth(conv(state, fine, out)))


def compact(scale: int, prelus: bool = True, ends: int = 3, blocks: int = 2) -> State:
    last = 2 * blocks + 2
    sizes = {"body.0": (ends, 6)} | {f"body.{at}": (6, 6) for at in range(2, last, 2)}
    slopes = {f"body.{at}": (6,) for at in range(1, last, 2)} if prelus else {}
    return drawn({**convolutions(**sizes, **{f"body.{last}": (6, ends * scale**2)}), **slopes})


def by_compact(state: State, x: Tensor, scale: int, activation: str) -> Tensor:
    last = max(int(name.split(".")[1]) for name in state)
    out = x
    for place in range(0, last, 2):
        out = conv(state, f"body.{place}", out)
        if activation == "prelu":
            out = prelu(state, f"body.{place + 1}", out)
        else:
            out = out.relu() if activation == "relu" else tenth(out)
    return repeated(x, scale) + F.pixel_shuffle(conv(state, f"body.{last}", out), scale)


def leftthomas(scale: int, closing: str = "norm", blocks: int = 5, ends: int = 3) -> State:
    shapes: dict[str, tuple[int, ...]] = {"block1.0": (6, ends, 9, 9), "block1.1": (1,)}
    for block in range(2, blocks + 2):
        for each in (1, 2):
            shapes[f"block{block}.conv{each}"] = (6, 6, 3, 3)
            shapes[f"block{block}.bn{each}"] = (6, 0)
        shapes[f"block{block}.prelu"] = (1,)
    shapes |= {f"block{blocks + 2}.0": (6, 6, 3, 3)}
    shapes |= {f"block{blocks + 2}.1": (1,) if closing == "prelu" else (6, 0)}
    num_ups = int(math.log2(scale))
    for up in range(num_ups):
        shapes[f"block{blocks + 3}.{up}.conv"] = (24, 6, 3, 3)
        shapes[f"block{blocks + 3}.{up}.prelu"] = (1,)
    return drawn(shapes | {f"block{blocks + 3}.{num_ups}": (ends, 6, 9, 9)})


def by_leftthomas(state: State, x: Tensor, closing: str) -> Tensor:
    blocks = sum(name.endswith("conv1.weight") for name in state)
    num_ups = sum(name.endswith(".conv.weight") for name in state)
    out = first = prelu(state, "block1.1", conv(state, "block1.0", x))
    for block in (f"block{number}" for number in range(2, blocks + 2)):
        inner = norm(state, f"{block}.bn1", conv(state, f"{block}.conv1", out))
        inner = conv(state, f"{block}.conv2", prelu(state, f"{block}.prelu", inner))
        out = out + norm(state, f"{block}.bn2", inner)
    close = prelu if closing == "prelu" else norm
    name = f"block{blocks + 2}"
    out = first + close(state, f"{name}.1", conv(state, f"{name}.0", out))
    name = f"block{blocks + 3}"
    for up in range(num_ups):
        out = F.pixel_shuffle(conv(state, f"{name}.{up}.conv", out), 2)
        out = prelu(state, f"{name}.{up}.prelu", out)
    return (torch.tanh(conv(state, f"{name}.{num_ups}", out)) + 1) / 2


def drawn(shapes: dict[str, tuple[int, ...]]) -> State:
    """Return tensors that say something: four sizes are a convolution's, two a norm's."""
    generator = torch.Generator().manual_seed(0)
    normal = partial(torch.randn, generator=generator)
    state = {}
    for name, shape in shapes.items():
        if len(shape) == 1:
            state[f"{name}.weight"] = 0.25 + normal(shape) / 8
        elif len(shape) == 2:
            state[f"{name}.weight"] = 1 + normal(shape[0]) / 4
            state[f"{name}.bias"] = normal(shape[0]) / 4
            state[f"{name}.running_mean"] = normal(shape[0]) / 4
            state[f"{name}.running_var"] = 0.5 + torch.rand(shape[0], generator=generator)
            state[f"{name}.num_batches_tracked"] = torch.tensor(7)
        else:
            state[f"{name}.weight"] = normal(shape) / math.sqrt(math.prod(shape[1:]))
            state[f"{name}.bias"] = normal(shape[0]) / 4
    return state


def rrdbs() -> Iterator[tuple[str, tuple[State, Forward, dict[str, object]]]]:
    for style, factors, unshuffle in [
        ("Real-ESRGAN", (2, 2), 1),
        ("Real-ESRGAN", (2, 2), 2),
        ("Real-ESRGAN", (2, 2), 4),
        ("ESRGAN", (2,), 1),
        ("ESRGAN", (2, 2), 1),
        ("first ESRGAN", (), 1),
        ("first ESRGAN", (2,), 1),
        ("first ESRGAN", (2, 2), 1),
        ("first ESRGAN", (2, 2, 2), 1),
        ("first ESRGAN", (2, 2), 2),
    ]:
        scale = 2 ** len(factors) // unshuffle
        made = rrdb(style, factors, unshuffle)
        forward = partial(by_rrdb, style=style, factors=factors, unshuffle=unshuffle)
        wanted = {"scale": scale, "architecture": "rrdb", "num_blocks": 2, "growth": 4}
        title = f"{style} x{scale}" + (f" in {unshuffle}x{unshuffle}" if unshuffle > 1 else "")
        yield title, (made, forward, wanted)


def others() -> Iterator[tuple[str, tuple[State, Forward, dict[str, object]]]]:
    for body, fine in (("body", "conv_hr"), ("recon_trunk", "HRconv")):
        for scale in (2, 3, 4):
            forward = partial(by_msrresnet, scale=scale, body=body, fine=fine)
            wanted = {"scale": scale, "architecture": "msrresnet", "num_blocks": 3}
            yield f"MSRResNet x{scale} in {body}", (msrresnet(scale, body, fine), forward, wanted)
    for scale in (1, 2, 3, 4, 8):
        forward = partial(by_compact, scale=scale, activation="prelu")
        wanted = {"scale": scale, "architecture": "compact", "body": "plain", "num_blocks": 2}
        yield f"compact x{scale}", (compact(scale), forward, wanted)
    for scale, closing, blocks in [(2, "norm", 5), (4, "prelu", 5), (8, "norm", 3)]:
        forward = partial(by_leftthomas, closing=closing)
        wanted = {"scale": scale, "architecture": "srresnet", "num_blocks": blocks, "bounded": True}
        title = f"leftthomas x{scale}, {blocks} blocks and a {closing}"
        yield title, (leftthomas(scale, closing, blocks), forward, wanted)


NETWORKS = dict([*rrdbs(), *others()])
