"""How near a result is to its target, as super-resolution measures it: PSNR, SSIM and L1.

Papers report values "on the Y channel" of 8-bit pictures with a border cut off. Each of these
choices moves a value by tenths of a decibel, so each is in the protocol.
"""

import math
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from i2i.errors import UsageError
from i2i.metrics.metric import Bytes, Metric

_PEAK = 255.0
_WEIGHTS = np.array((65.481, 128.553, 24.966)) / 255  # ITU-R BT.601, 8 bits, 16 to 235
_OFFSET = 16.0
_WINDOW = 11  # pixels a side
_SIGMA = 1.5  # pixels
_C1 = (0.01 * _PEAK) ** 2
_C2 = (0.03 * _PEAK) ** 2
_STRIP_VALUES = 2**20  # of a map, computed at once: a large picture needs no more memory

Values = NDArray[np.float64]


def luma(pixels: Bytes) -> Values:
    """Return Y of (H, W, 3) pixels as (H, W, 1) float64, 16 to 235, not rounded.

    ``Y = 16 + (65.481 R + 128.553 G + 24.966 B) / 255`` (ITU-R BT.601, as MATLAB's rgb2ycbcr).
    """
    y: Values = np.empty((*pixels.shape[:2], 1))
    for rows in _strips(pixels.shape):
        y[rows, :, 0] = pixels[rows] @ _WEIGHTS + _OFFSET
    return y


def psnr(result: NDArray[Any], target: NDArray[Any]) -> float:
    """Return ``10 log10(255^2 / E (x - y)^2)`` in dB, over all channels; infinite where equal.

    Both are (H, W, C) of one size, 0..255. Raises UsageError for two sizes or none.
    """
    _check(result, target, 1)
    total = 0.0
    for rows in _strips(result.shape):
        difference = result[rows].astype(np.float64) - target[rows]
        total += float(np.square(difference).sum())
    return math.inf if total == 0 else 10 * math.log10(_PEAK**2 * int(result.size) / total)


def ssim(result: NDArray[Any], target: NDArray[Any]) -> float:
    """Return the structural similarity, up to 1, a mean over channels and positions.

    ``(2 m_x m_y + C1)(2 s_xy + C2) / ((m_x^2 + m_y^2 + C1)(s_x^2 + s_y^2 + C2))``: means, variances
    and covariance under a Gaussian of 11x11 pixels with a sigma of 1.5, where it lies within the
    picture; K = 0.01 and 0.03, peak 255 (Wang, Bovik, Sheikh and Simoncelli, Image quality
    assessment, IEEE TIP 13(4), 2004, equation 13 and section III.B). Both are (H, W, C) of one
    size, 0..255. Raises UsageError for two sizes, or one below the window's.
    """
    _check(result, target, _WINDOW)
    num_rows = result.shape[0] - _WINDOW + 1
    total = 0.0
    for rows in _strips((num_rows, *result.shape[1:])):
        seen = slice(rows.start, rows.stop + _WINDOW - 1)
        total += float(_similarity(result[seen], target[seen]).sum())
    num_values: int = num_rows * (result.shape[1] - _WINDOW + 1) * result.shape[2]
    return total / num_values


def trimmed(pixels: NDArray[Any], border: int) -> NDArray[Any]:
    """Return (H, W, C) without ``border`` pixels at each side."""
    height, width = pixels.shape[:2]
    return pixels[border : height - border, border : width - border]


class _Fidelity(Metric):
    """What the four below share: the border that is cut off, and the channels compared."""

    better = "higher"
    channels: ClassVar[str]  # as the protocol names them
    window: ClassVar[int] = 1

    def smallest(self, scale: int) -> int:
        """Return the length of the window, with a border at each end."""
        return self.window + 2 * _border(scale)


class PsnrRgb(_Fidelity):
    """Peak signal-to-noise ratio over red, green and blue."""

    name = "psnr_rgb"
    unit = "dB"
    digits = 2
    channels = "RGB, the squared error's mean over all three"

    def protocol(self, scale: int) -> str:
        """Say the peak, the channels and the border."""
        return f"PSNR, peak 255; {_common(self.channels, scale)}"

    def measure(self, result: Bytes, target: Bytes, scale: int) -> float:
        """Return it in dB."""
        return psnr(*_prepared(result, target, scale))


class PsnrY(PsnrRgb):
    """Peak signal-to-noise ratio of the brightness."""

    name = "psnr_y"
    channels = "Y of BT.601, 16 to 235, not rounded"

    def measure(self, result: Bytes, target: Bytes, scale: int) -> float:
        """Return it in dB."""
        return psnr(*map(luma, _prepared(result, target, scale)))


class SsimRgb(_Fidelity):
    """Structural similarity, a mean over red, green and blue."""

    name = "ssim_rgb"
    channels = "RGB, the mean over the three"
    window = _WINDOW

    def protocol(self, scale: int) -> str:
        """Say the window, the constants, the channels and the border."""
        return (
            "SSIM of Wang et al. 2004, Gaussian window of 11x11 with sigma 1.5 at positions within "
            f"the picture, K 0.01 and 0.03, peak 255; {_common(self.channels, scale)}"
        )

    def measure(self, result: Bytes, target: Bytes, scale: int) -> float:
        """Return it, up to 1."""
        return ssim(*_prepared(result, target, scale))


class SsimY(SsimRgb):
    """Structural similarity of the brightness."""

    name = "ssim_y"
    channels = "Y of BT.601, 16 to 235, not rounded"

    def measure(self, result: Bytes, target: Bytes, scale: int) -> float:
        """Return it, up to 1."""
        return ssim(*map(luma, _prepared(result, target, scale)))


class L1(Metric):
    """The mean absolute difference, in steps of 8-bit pixels."""

    name = "l1"
    unit = "of 255"
    better = "lower"
    digits = 2

    def protocol(self, scale: int) -> str:
        """Say the channels and that no border is cut off."""
        return "mean absolute difference; RGB, 8 bits, whole pictures; the mean over pictures"

    def measure(self, result: Bytes, target: Bytes, scale: int) -> float:
        """Return it, 0 to 255."""
        _check(result, target, 1)
        total = sum(
            int(np.abs(result[rows].astype(np.int64) - target[rows]).sum())
            for rows in _strips(result.shape)
        )
        return total / result.size


def _border(scale: int) -> int:
    """Return what papers cut off: the scale, and nothing where sizes stay."""
    return scale if scale > 1 else 0


def _common(channels: str, scale: int) -> str:
    border = _border(scale)
    pixels = "1 pixel" if border == 1 else f"{border} pixels"
    cut = f"{pixels} cut off at each side" if border else "no border cut off"
    return f"{channels}; 8 bits, {cut}; the mean over pictures"


def _prepared(result: Bytes, target: Bytes, scale: int) -> tuple[Bytes, Bytes]:
    _check(result, target, 1)
    border = _border(scale)
    return trimmed(result, border), trimmed(target, border)


def _check(result: NDArray[Any], target: NDArray[Any], smallest: int) -> None:
    if result.shape != target.shape or min(result.shape, default=0) < 1:
        raise _refused(result, target, "two pictures of one size, (H, W, C)")
    if min(result.shape[:2]) < smallest:
        raise _refused(result, target, f"at least {smallest} pixels a side")


def _refused(result: NDArray[Any], target: NDArray[Any], expected: str) -> UsageError:
    return UsageError(
        f"pixels of shape {result.shape} meet a target of {target.shape}",
        where="metrics",
        expected=expected,
        remedy="bring both to one size, and leave out what is too small",
    )


def _strips(shape: tuple[int, ...]) -> list[slice]:
    """Cut rows into strips of bounded size."""
    rows = max(1, _STRIP_VALUES // max(1, math.prod(shape[1:])))
    return [slice(start, min(start + rows, shape[0])) for start in range(0, shape[0], rows)]


def _similarity(x: NDArray[Any], y: NDArray[Any]) -> Values:
    x, y = x.astype(np.float64), y.astype(np.float64)
    mean_x, mean_y = _weighed(x), _weighed(y)
    product, squares = mean_x * mean_y, mean_x**2 + mean_y**2
    covariance = _weighed(x * y) - product
    variances = _weighed(x**2 + y**2) - squares
    near = (2 * product + _C1) * (2 * covariance + _C2)
    result: Values = near / ((squares + _C1) * (variances + _C2))
    return result


def _weighed(values: Values) -> Values:
    """Return (H - 10, W - 10, C) means of (H, W, C) under the window, down and then across."""
    offsets = np.arange(_WINDOW) - _WINDOW // 2
    weights = np.exp(-(offsets**2) / (2 * _SIGMA**2))
    weights /= weights.sum()
    height, width = values.shape[0] - _WINDOW + 1, values.shape[1] - _WINDOW + 1
    values = sum((values[i : i + height] * w for i, w in enumerate(weights)), np.zeros(()))
    values = sum((values[:, i : i + width] * w for i, w in enumerate(weights)), np.zeros(()))
    return values
