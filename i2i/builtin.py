"""The core's own plugin: layouts, metrics, networks and recipes; imports no torch."""

from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from i2i.hookspecs import hookimpl
from i2i.nn.pretrained import CORE


@hookimpl
def i2i_layouts() -> Mapping[str, str]:
    """Offer the layouts that need no plugin."""
    return {
        "high_resolution": "i2i.data.high_resolution:HighResolution",
        "paired": "i2i.data.paired:Paired",
        "side_by_side": "i2i.data.paired:SideBySide",
        "unpaired": "i2i.data.unpaired:Unpaired",
    }


@hookimpl
def i2i_metrics() -> Mapping[str, str]:
    """Offer the measures of pairs: how near a result is to its target."""
    return {
        "psnr_y": "i2i.metrics.fidelity:PsnrY",
        "ssim_y": "i2i.metrics.fidelity:SsimY",
        "psnr_rgb": "i2i.metrics.fidelity:PsnrRgb",
        "ssim_rgb": "i2i.metrics.fidelity:SsimRgb",
        "l1": "i2i.metrics.fidelity:L1",
        "features": "i2i.metrics.perceptual:Features",
        "lpips": "i2i.metrics.perceptual:LpipsAlexNet",
    }


@hookimpl
def i2i_weights() -> Mapping[str, Mapping[str, Any]]:
    """Offer the backbones of perceptual losses and distances that do not ship."""
    return {name: remote.offer for name, remote in CORE.items()}


@hookimpl
def i2i_recipes() -> Path:
    """Offer the folder of recipes in this distribution."""
    return Path(str(resources.files("i2i_recipes")))
