"""Measures of translations: each value carries its protocol.

Names are resolved when they are first used, so that a plugin's metric imports no more than it
needs.
"""

from typing import TYPE_CHECKING, Any

from i2i.lazy import resolve

if TYPE_CHECKING:
    from i2i.metrics.fidelity import luma, psnr, ssim
    from i2i.metrics.metric import Metric
    from i2i.metrics.score import Score, better_than, score_of

_HOMES = {
    "Metric": "metric",
    "Score": "score",
    "better_than": "score",
    "luma": "fidelity",
    "psnr": "fidelity",
    "score_of": "score",
    "ssim": "fidelity",
}

__all__ = ["Metric", "Score", "better_than", "luma", "psnr", "score_of", "ssim"]


def __getattr__(name: str) -> Any:
    return resolve(__name__, _HOMES, name)
