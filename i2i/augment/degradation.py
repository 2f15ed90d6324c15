"""Low-resolution pictures as life makes them: blurred, resized, noisy and compressed, twice."""

import math
from bisect import bisect_right
from collections.abc import Iterator
from itertools import accumulate
from typing import Annotated, Literal, Self

import torch
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator
from torch import Tensor
from torch.nn import functional as F

from i2i.augment.jpeg import compress
from i2i.errors import PluginError
from i2i.types import Batch, Progress


def _rising(value: tuple[float, float]) -> tuple[float, float]:
    if value[0] > value[1]:
        raise ValueError("the smaller number first")
    return value


def _odd(value: tuple[int, int]) -> tuple[int, int]:
    if value[0] % 2 == 0 or value[1] % 2 == 0:
        raise ValueError("odd numbers, so that a kernel has a centre")
    return value


Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Range = Annotated[tuple[Positive, Positive], AfterValidator(_rising)]
Sizes = Annotated[
    tuple[Annotated[int, Field(ge=3)], Annotated[int, Field(ge=3)]],
    AfterValidator(_rising),
    AfterValidator(_odd),
]
Quality = Annotated[int, Field(ge=1, le=100)]
Interpolation = Literal["area", "bilinear", "bicubic"]


class _Options(BaseModel):
    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True
    )

    def _unused(self, condition: bool, why: str, *names: str) -> None:
        """Refuse what would have no effect; a default may stand, for a run's recipe has all."""
        for name in names if condition else ():
            if getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(f"no {name} where {why}: it would change nothing")


class KernelShapes(_Options):
    """How often each shape of kernel blurs, compared with the others."""

    isotropic: float = Field(0.45, ge=0, description="Round Gaussians.")
    anisotropic: float = Field(0.25, ge=0, description="Oval Gaussians, turned at random.")
    generalized_isotropic: float = Field(
        0.12, ge=0, description="Round, and more pointed or flatter than a Gaussian."
    )
    generalized_anisotropic: float = Field(0.03, ge=0, description="The same, oval.")
    plateau_isotropic: float = Field(0.12, ge=0, description="Round, with long tails.")
    plateau_anisotropic: float = Field(0.03, ge=0, description="The same, oval.")

    @model_validator(mode="after")
    def _check_some(self) -> Self:
        if not any(self.weights):
            raise ValueError("one shape above 0 at least; blur = 0 blurs none")
        return self

    @property
    def weights(self) -> list[float]:
        """Return the six numbers, in the order of their declaration."""
        return [getattr(self, name) for name in type(self).model_fields]


class FirstOrder(_Options):
    """What happens to a picture first; the defaults are those of the published options."""

    blur: Share = Field(1.0, description="Probability of a blur.")
    sinc: Share = Field(0.1, description="Share of the blurs that ring: a sinc filter.")
    shapes: KernelShapes = Field(KernelShapes(), description="What the other blurs look like.")
    kernel_size: Sizes = Field((7, 21), description="Pixels a side of a blur's kernel; odd.")
    sigma: Range = Field((0.2, 3.0), description="Pixels of a blur's width along an axis.")
    generalized: Range = Field((0.5, 4.0), description="Exponents of the generalized shapes.")
    plateau: Range = Field((1.0, 2.0), description="Exponents of the plateau shapes.")
    enlarge: Share = Field(0.2, description="Probability of being enlarged.")
    enlarge_to: float = Field(1.5, gt=1, description="The most that it is enlarged by.")
    reduce: Share = Field(0.7, description="Probability of being reduced.")
    reduce_to: float = Field(0.15, gt=0, lt=1, description="The most that it is reduced to.")
    noise: Share = Field(1.0, description="Probability of noise.")
    gaussian: Share = Field(0.5, description="Share of noise that is Gaussian; else it is Poisson.")
    grey: Share = Field(0.4, description="Share of noise that is the same in all channels.")
    gaussian_sigma: Range = Field((1.0, 30.0), description="Of Gaussian noise, of 255 levels.")
    poisson_scale: Range = Field(
        (0.05, 3.0), description="Of Poisson noise, times that of one photon a level of 255."
    )
    jpeg: Share = Field(1.0, description="Probability of JPEG compression.")
    quality: Annotated[tuple[Quality, Quality], AfterValidator(_rising)] = Field(
        (30, 95), description="JPEG quality, from 1 to 100."
    )

    @model_validator(mode="after")
    def _check_used(self) -> Self:
        if self.enlarge + self.reduce > 1 + 1e-9:
            raise ValueError("enlarge and reduce: 1 at most together, the rest keeps its size")
        kernels = ("shapes", "sigma", "generalized", "plateau")
        self._unused(self.blur == 0, "blur is 0", "sinc", "kernel_size", *kernels)
        self._unused(self.sinc == 1, "sinc is 1", *kernels)
        _, _, *others = self.shapes.weights
        self._unused(not any(others[:2]), "no shape is generalized", "generalized")
        self._unused(not any(others[2:]), "no shape is a plateau", "plateau")
        self._unused(self.enlarge == 0, "enlarge is 0", "enlarge_to")
        self._unused(self.reduce == 0, "reduce is 0", "reduce_to")
        strengths = ("gaussian_sigma", "poisson_scale")
        self._unused(self.noise == 0, "noise is 0", "gaussian", "grey", *strengths)
        self._unused(self.gaussian == 0, "gaussian is 0", "gaussian_sigma")
        self._unused(self.gaussian == 1, "gaussian is 1", "poisson_scale")
        self._unused(self.jpeg == 0, "jpeg is 0", "quality")
        return self


class SecondOrder(FirstOrder):
    """What happens to it then, gentler; sizes are relative to the low resolution."""

    blur: Share = Field(0.8, description="Probability of a blur.")
    sigma: Range = Field((0.2, 1.5), description="Pixels of a blur's width along an axis.")
    enlarge: Share = Field(0.3, description="Probability of being larger than low resolution.")
    enlarge_to: float = Field(1.2, gt=1, description="The most that it is enlarged by.")
    reduce: Share = Field(0.4, description="Probability of being smaller than low resolution.")
    reduce_to: float = Field(0.3, gt=0, lt=1, description="The most that it is reduced to.")
    gaussian_sigma: Range = Field((1.0, 25.0), description="Of Gaussian noise, of 255 levels.")
    poisson_scale: Range = Field(
        (0.05, 2.5), description="Of Poisson noise, times that of one photon a level of 255."
    )


class DegradationOptions(_Options):
    """How low-resolution pictures are made; 0 for a probability leaves a step out."""

    order: Literal[1, 2] = Field(2, description="How often it is blurred, resized and so on.")
    first: FirstOrder = Field(FirstOrder(), description="The first time.")
    second: SecondOrder = Field(SecondOrder(), description="The second time.")
    interpolations: tuple[Interpolation, ...] = Field(
        ("area", "bilinear", "bicubic"),
        description="What sizes are changed by, one drawn each time; without antialiasing.",
    )
    final_sinc: Share = Field(0.8, description="Probability of ringing at the end.")
    final_kernel_size: Sizes = Field((7, 21), description="Pixels a side of its kernel; odd.")

    @model_validator(mode="after")
    def _check_used(self) -> Self:
        self._unused(self.order == 1, "order is 1", "second")
        self._unused(self.final_sinc == 0, "final_sinc is 0", "final_kernel_size")
        if len({*self.interpolations}) < max(len(self.interpolations), 1):
            raise ValueError("interpolations: each once, and at least one")
        return self


class Degradation:
    """Makes low-resolution pictures ``scale`` times smaller: arXiv:2107.10833, sections 3.1-3.4.

    An order blurs, resizes, adds noise and compresses. Behind the last one's noise come, in either
    order, its compression, and the resize to the final size with the final sinc filter; the result
    has 8 bits. Deviations from the published code: exponents of kernels are drawn uniformly;
    Poisson noise has one photon a level of 255, not a level that occurs, rounded up to a power of
    two, and its counts are drawn by Cornish and Fisher's expansion, right to the third moment;
    where a kernel is larger than the picture, its border is replicated, not reflected.
    """

    def __init__(self, options: DegradationOptions, scale: int) -> None:
        self.options = options
        self.scale = scale

    @torch.no_grad()
    def __call__(self, high: Tensor, batch: Batch, now: Progress) -> Tensor:
        """Return (N, 3, H / scale, W / scale) float32 in [-1, 1] of (N, 3, H, W) in [-1, 1].

        Draws are keyed by sample, and each picture is worked on alone, since sizes differ on the
        way: what comes out does not depend on the others. Raises PluginError for pictures that are
        not one a sample, not RGB, or whose sides ``scale`` does not divide.
        """
        num, channels, height, width = high.shape
        if num != len(batch) or channels != 3 or height % self.scale or width % self.scale:
            raise PluginError(
                f"it cannot degrade pictures of the shape {tuple(high.shape)}",
                where="i2i.augment.Degradation",
                expected=f"({len(batch)}, 3, H, W): sides that are multiples of {self.scale}",
                remedy="crop the pictures, and give one a sample of the batch",
            )
        with torch.autocast(high.device.type, enabled=False):
            pictures = (high.float() + 1) / 2
            low = [
                self._degrade(pictures[i : i + 1], _Draws(pictures, batch.keys[i : i + 1], now))
                for i in range(num)
            ]
            return torch.cat(low).mul_(255).round_().div_(127.5).sub_(1)

    def _degrade(self, x: Tensor, draws: "_Draws") -> Tensor:
        """Return one picture (1, 3, H / scale, W / scale) in [0, 1]."""
        options = self.options
        size = (x.shape[2], x.shape[3])
        low = (size[0] // self.scale, size[1] // self.scale)
        order: FirstOrder = options.first
        for place, base in enumerate((size, low)[: options.order]):
            order = (options.first, options.second)[place]
            if place:
                x = _compressed(x, options.first, draws.uniform("0.jpeg", 2))
            x = _blurred(x, order, draws.uniform(f"{place}.blur", 8))
            x = self._resized(x, base, order, draws.uniform(f"{place}.resize", 3))
            x = _noisy(x, order, draws, f"{place}.noise")
        compression = draws.uniform(f"{options.order - 1}.jpeg", 2)
        final = draws.uniform("final", 5)
        if next(final) < 0.5:
            return _compressed(self._finished(x, low, final), order, compression).clamp(0, 1)
        return self._finished(_compressed(x, order, compression), low, final).clamp(0, 1)

    def _resized(
        self, x: Tensor, base: tuple[int, int], order: FirstOrder, numbers: Iterator[float]
    ) -> Tensor:
        """Return the picture at a drawn multiple of the size ``base``."""
        kind, where = next(numbers), next(numbers)
        if kind < order.enlarge:
            factor = _between((1.0, order.enlarge_to), where)
        elif kind < order.enlarge + order.reduce:
            factor = _between((order.reduce_to, 1.0), where)
        else:
            factor = 1.0
        size = (max(int(base[0] * factor), 1), max(int(base[1] * factor), 1))
        return self._interpolated(x, size, next(numbers))

    def _finished(self, x: Tensor, size: tuple[int, int], numbers: Iterator[float]) -> Tensor:
        """Return the picture at its final size, ringing perhaps."""
        x = self._interpolated(x, size, next(numbers))
        if next(numbers) >= self.options.final_sinc:
            return x
        side = _odd_between(self.options.final_kernel_size, next(numbers))
        return _filtered(x, sinc_kernel(side, _between((math.pi / 3, math.pi), next(numbers))))

    def _interpolated(self, x: Tensor, size: tuple[int, int], number: float) -> Tensor:
        if tuple(x.shape[2:]) == size:
            return x
        known = self.options.interpolations
        mode = known[int(number * len(known))]
        return F.interpolate(x, size, mode=mode, align_corners=None if mode == "area" else False)


class _Draws:
    """The numbers that one sample draws, by name: changing an option moves no other draw."""

    def __init__(self, pictures: Tensor, key: Tensor, now: Progress) -> None:
        self._here = Batch({"picture": torch.empty(0)}, key)  # where choices are made
        self._there = Batch({"picture": pictures}, key)
        self._now = now

    def uniform(self, name: str, count: int) -> Iterator[float]:
        numbers = self._now.uniform(self._here, f"degradation.{name}", count)
        return iter(numbers[0].tolist())

    def normal(self, name: str, *shape: int) -> Tensor:
        return self._now.normal(self._there, f"degradation.{name}", *shape)


def bell_kernel(
    size: int,
    sigmas: tuple[float, float],
    angle: float = 0.0,
    exponent: float = 1.0,
    plateau: bool = False,
) -> Tensor:
    """Return a blur's kernel: (size, size) float64 of sum 1; arXiv:2107.10833, section 3.2.

    With d = c^T S^-1 c at the offset c, S having the variances ``sigmas``^2 along axes turned by
    ``angle`` (radians): exp(-d^exponent / 2), and 1 / (1 + d^exponent) where ``plateau``.
    """
    offset = torch.arange(size, dtype=torch.float64) - size // 2
    y, x = torch.meshgrid(offset, offset, indexing="ij")
    along = x * math.cos(angle) + y * math.sin(angle)
    across = y * math.cos(angle) - x * math.sin(angle)
    power = ((along / sigmas[0]) ** 2 + (across / sigmas[1]) ** 2) ** exponent
    kernel = 1 / (1 + power) if plateau else torch.exp(-power / 2)
    return kernel / kernel.sum()


def sinc_kernel(size: int, cutoff: float) -> Tensor:
    """Return a round low-pass filter: (size, size) float64 of sum 1.

    ``cutoff`` w is in radians a pixel: w J1(w r) / (2 pi r) at the distance r, w^2 / (4 pi) at 0
    (arXiv:2107.10833, equation 6).
    """
    offset = torch.arange(size, dtype=torch.float64) - size // 2
    distance = torch.hypot(offset[:, None], offset[None, :])
    distance[size // 2, size // 2] = 1
    wave: Tensor = torch.special.bessel_j1(cutoff * distance)
    kernel = cutoff * wave / (2 * math.pi * distance)
    kernel[size // 2, size // 2] = cutoff**2 / (4 * math.pi)
    return kernel / kernel.sum()


def _blurred(x: Tensor, order: FirstOrder, numbers: Iterator[float]) -> Tensor:
    if next(numbers) >= order.blur:
        return x
    rings, size = next(numbers) < order.sinc, _odd_between(order.kernel_size, next(numbers))
    if rings:
        lowest = math.pi / 3 if size < 13 else math.pi / 5  # small ones cut off no lower
        return _filtered(x, sinc_kernel(size, _between((lowest, math.pi), next(numbers))))
    sums = list(accumulate(order.shapes.weights))
    shape = min(bisect_right(sums, next(numbers) * sums[-1]), len(sums) - 1)
    sigma = _between(order.sigma, next(numbers))
    across, angle = _between(order.sigma, next(numbers)), math.pi * next(numbers)
    if shape % 2 == 0:  # the round ones
        across, angle = sigma, 0.0
    exponents = ((1.0, 1.0), order.generalized, order.plateau)[shape // 2]
    exponent = _between(exponents, next(numbers))
    return _filtered(x, bell_kernel(size, (sigma, across), angle, exponent, shape // 2 == 2))


def _filtered(x: Tensor, kernel: Tensor) -> Tensor:
    from kornia.filters import fft_conv, filter2d  # late: importing it takes seconds

    border = "reflect" if len(kernel) // 2 < min(x.shape[2:]) else "replicate"
    # on a CPU twice as fast; elsewhere each size it has not met costs a plan
    convolve = fft_conv if x.device.type == "cpu" else filter2d
    result: Tensor = convolve(x, kernel[None].float().to(x.device), border_type=border)
    return result


def _noisy(x: Tensor, order: FirstOrder, draws: _Draws, name: str) -> Tensor:
    numbers = draws.uniform(name, 4)
    if next(numbers) >= order.noise:
        return x
    gaussian, grey = next(numbers) < order.gaussian, next(numbers) < order.grey
    normal = draws.normal(f"{name}.normal", 1 if grey else 3, *x.shape[2:])
    if gaussian:
        noise = normal * _between(order.gaussian_sigma, next(numbers))
    else:
        noise = photon_noise(_luma(x) if grey else x, normal)
        noise = noise * _between(order.poisson_scale, next(numbers))
    return (x + noise / 255).clamp(0, 1)


def photon_noise(x: Tensor, normal: Tensor) -> Tensor:
    """Return Poisson noise of ``x`` in [0, 1], in levels of 255, from numbers of N(0, 1).

    A level is a photon. Mean 0, and variance (within 1/18) and third moment those of Poisson
    counts; black has none.
    """
    photons = (x.clamp(0, 1) * 255).round()
    return photons.sqrt() * normal + (normal**2 - 1) / 6 * (photons > 0)


def _luma(x: Tensor) -> Tensor:
    return (x * x.new_tensor([0.299, 0.587, 0.114]).view(3, 1, 1)).sum(1, keepdim=True)


def _compressed(x: Tensor, order: FirstOrder, numbers: Iterator[float]) -> Tensor:
    if next(numbers) >= order.jpeg:
        return x
    return compress(x, int(_between((order.quality[0], order.quality[1] + 1), next(numbers))))


def _between(limits: tuple[float, float], number: float) -> float:
    return limits[0] + (limits[1] - limits[0]) * number


def _odd_between(limits: tuple[int, int], number: float) -> int:
    """Return an odd number of the closed range; ``number`` is in [0, 1)."""
    return limits[0] + 2 * int(number * ((limits[1] - limits[0]) // 2 + 1))
