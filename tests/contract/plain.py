"""Discriminators and games once more, in plain torch: what the switches are measured against.

Nothing here comes from i2i.losses, i2i.nn or i2i.augment. Networks are read off a state dict and
computed in float64; losses are the papers' formulas, written as sums over pictures where the
product takes means over batches.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional as F

Weights = Mapping[str, Tensor]
Scales = list[list[Tensor]]


@dataclass
class Plain:
    """A patch discriminator that is nothing but its weights; ``forward`` in the order of calls.

    ``norm`` normalises over pictures ("batch"), or a picture ("instance"). Spectral normalisation
    keeps its vectors in ``vectors``, which a call moves on, as one power iteration does, unless
    it ``is_still``.
    """

    weights: Weights
    norm: str = "instance"
    patch: int = 16
    blur: bool = False
    vectors: dict[str, tuple[Tensor, Tensor]] = field(default_factory=dict)
    is_still: bool = False

    @property
    def depth(self) -> int:
        return 1 + max(int(name.split(".")[2]) for name in self.weights)

    @property
    def num_scales(self) -> int:
        return 1 + max(int(name.split(".")[1]) for name in self.weights)

    def __call__(self, x: Tensor) -> Scales:
        said = []
        for scale in range(self.num_scales):
            if scale:
                x = x[..., ::2, ::2] + x[..., 1::2, ::2] + x[..., ::2, 1::2] + x[..., 1::2, 1::2]
                x = x / 4
            said.append(self._layers(f"scales.{scale}", x))
        return said

    def logits(self, x: Tensor) -> list[Tensor]:
        return [each[-1] for each in self(x)]

    def under(self, condition: Tensor | None) -> "Plain":
        """The same, which judges pictures under a condition; most know of none."""
        assert condition is None
        return self

    def of(self, index: int) -> "Plain":
        """The same, which judges one of these pictures."""
        return self

    def score(self, x: Tensor) -> Tensor:
        """The mean logit of one picture (C, H, W), judged alone; scales add."""
        return torch.stack([each.mean() for each in self.logits(x[None])]).sum()

    def _layers(self, prefix: str, x: Tensor) -> list[Tensor]:
        outputs = []
        halvings = {1: 0, 16: 1, 70: 3, 286: 5}[self.patch]
        for index in range(self.depth):
            last, halves = index == self.depth - 1, index < halvings
            name = f"{prefix}.{index}"
            if last and any(key.startswith(f"{name}.1.") for key in self.weights):
                x, name = with_deviation(x), f"{name}.1"
            elif not last:
                name = f"{name}.0"
            x = F.conv2d(
                x,
                self._weight(name),
                self.weights.get(f"{name}.bias"),
                stride=2 if halves and not self.blur else 1,
                padding=0 if self.patch == 1 else 1,
            )
            if index and not last and self.norm != "none":
                over = (0, 2, 3) if self.norm == "batch" else (2, 3)
                x = x - x.mean(over, keepdim=True)
                x = x / (x.square().mean(over, keepdim=True) + 1e-5).sqrt()
                if self.norm == "batch":
                    scale, offset = (
                        self.weights[f"{prefix}.{index}.1.{n}"] for n in ("weight", "bias")
                    )
                    x = x * scale[:, None, None] + offset[:, None, None]
            if not last:
                x = torch.where(x > 0, x, 0.2 * x)
                x = blurred(x) if self.blur and halves else x
                x = self._attended(f"{prefix}.{index}", x)
            outputs.append(x)
        return outputs

    def _weight(self, name: str) -> Tensor:
        plain = self.weights.get(f"{name}.weight")
        if plain is not None:
            return plain
        weight = self.weights[f"{name}.parametrizations.weight.original"]
        matrix = weight.flatten(1)
        u, v = self.vectors[name]
        if not self.is_still:
            with torch.no_grad():
                u = matrix @ v
                u = u / u.norm()
                v = matrix.T @ u
                v = v / v.norm()
            self.vectors[name] = u, v
        return weight / (u @ matrix @ v)

    def _attended(self, prefix: str, x: Tensor) -> Tensor:
        gammas = [n for n in self.weights if n.startswith(prefix) and n.endswith("gamma")]
        if not gammas:
            return x
        name = gammas[0].removesuffix(".gamma")
        query, key, value, out = (
            self._weight(f"{name}.{part}")[:, :, 0, 0]
            for part in ("query", "key", "value", "output")
        )
        results = []
        for picture in x:
            places = picture.flatten(1)
            keys = F.max_pool2d(torch.einsum("oc,chw->ohw", key, picture)[None], 2)[0].flatten(1)
            values = torch.einsum("oc,chw->ohw", value, picture)
            values = F.max_pool2d(values[None], 2)[0].flatten(1)
            likeness = ((query @ places).T @ keys).exp()
            seen = values @ (likeness / likeness.sum(1, keepdim=True)).T
            results.append(self.weights[gammas[0]] * (out @ seen).view_as(picture) + picture)
        return torch.stack(results)


def with_deviation(x: Tensor) -> Tensor:
    """Append the mean standard deviation over the batch (arXiv:1710.10196, section 3)."""
    spread = (x.var(0, unbiased=False) + 1e-8).sqrt().mean()
    return torch.cat([x, spread * torch.ones_like(x[:, :1])], 1)


def blurred(x: Tensor) -> Tensor:
    """Halve behind [1, 2, 1] both ways, reflected at the edges (arXiv:1904.11486)."""
    for axis in (2, 3):
        length = x.shape[axis]
        places = torch.arange(0, length, 2)
        before = x.index_select(axis, (places - 1).abs())
        after = x.index_select(axis, torch.where(places + 1 < length, places + 1, length - 2))
        x = (before + 2 * x.index_select(axis, places) + after) / 4
    return x


# Games: of each the discriminator's and the generator's loss, from logits of real and fake


def _log(x: Tensor) -> Tensor:
    return x.sigmoid().log()


def _relativistic(real: Tensor, fake: Tensor) -> Tensor:
    return -_log(real - fake.mean()).mean() - _log(real.mean() - fake).mean()


JUDGES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "minimax": lambda real, fake: -_log(real).mean() - _log(-fake).mean(),
    "non_saturating": lambda real, fake: -_log(real).mean() - _log(-fake).mean(),
    "least_squares": lambda real, fake: ((real - 1) ** 2).mean() + (fake**2).mean(),
    "hinge": lambda real, fake: (1 - real).clamp(min=0).mean() + (1 + fake).clamp(min=0).mean(),
    "wasserstein": lambda real, fake: fake.mean() - real.mean(),
    "relativistic_average": _relativistic,
}
FOOLS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "minimax": lambda real, fake: _log(-fake).mean(),
    "non_saturating": lambda real, fake: -_log(fake).mean(),
    "least_squares": lambda real, fake: ((fake - 1) ** 2).mean(),
    "hinge": lambda real, fake: -fake.mean(),
    "wasserstein": lambda real, fake: -fake.mean(),
    "relativistic_average": lambda real, fake: _relativistic(fake, real),
}


# What is added to the discriminator's loss


def slopes(plain: Plain, pictures: Tensor, seen: Callable[[int, Tensor], Tensor]) -> list[Tensor]:
    """The gradient of each picture's score by its pixels, one picture at a time."""
    gradients = []
    for index, picture in enumerate(pictures.detach()):
        at = picture.clone().requires_grad_()
        score = plain.of(index).score(seen(index, at))
        gradients.append(torch.autograd.grad(score, at, create_graph=True)[0])
    return gradients


def as_it_is(_: int, picture: Tensor) -> Tensor:
    return picture


def zero_centred(
    plain: Plain, pictures: Tensor, seen: Callable[[int, Tensor], Tensor] = as_it_is
) -> Tensor:
    """R1 and R2 (arXiv:1801.04406, equation 9)."""
    each = [(gradient**2).sum() for gradient in slopes(plain, pictures, seen)]
    return 0.5 * torch.stack(each).mean()


def one_centred(plain: Plain, real: Tensor, fake: Tensor, mix: Tensor) -> Tensor:
    """WGAN-GP (arXiv:1704.00028, equation 3)."""
    between = torch.stack([m * r + (1 - m) * f for m, r, f in zip(mix, real, fake, strict=True)])
    each = [((g**2).sum().sqrt() - 1) ** 2 for g in slopes(plain, between, as_it_is)]
    return torch.stack(each).mean()


def overlaps(weights: Weights) -> Tensor:
    """Twice the squared inner products of every two filters (arXiv:1809.11096, equation 3)."""
    total = torch.zeros((), dtype=torch.float64)
    for weight in weights.values():
        if weight.dim() < 2:
            continue
        for one in range(len(weight)):
            for other in range(one):
                total = total + 2 * (weight[one] * weight[other]).sum() ** 2
    return total
