"""What a plugin may offer and what it may listen to; a plugin implements any of these.

A plugin is a module named by an entry point in group ``i2i``; its functions are marked with
``i2i.hookimpl`` and may take fewer arguments than shown here.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pluggy

if TYPE_CHECKING:
    from torch import Tensor

hookspec = pluggy.HookspecMarker("i2i")
hookimpl = pluggy.HookimplMarker("i2i")


@hookspec
def i2i_families() -> Mapping[str, str]:
    """Offer translation families: names to "module:Class", imported only when one is asked for."""
    raise AssertionError


@hookspec
def i2i_layouts() -> Mapping[str, str]:
    """Offer data layouts: names to "module:Class", each a subclass of ``i2i.data.Layout``."""
    raise AssertionError


@hookspec
def i2i_metrics() -> Mapping[str, str]:
    """Offer metrics: names to "module:Class", each a subclass of ``i2i.metrics.Metric``."""
    raise AssertionError


@hookspec
def i2i_recipes() -> Path:
    """Offer a folder of recipes: each ``NAME.toml`` in it becomes the recipe NAME."""
    raise AssertionError


@hookspec
def i2i_importers() -> Mapping[str, str]:
    """Offer readers of foreign checkpoints: names to "module:Class", each an ``i2i.Importer``."""
    raise AssertionError


@hookspec
def i2i_weights() -> Mapping[str, Mapping[str, Any]]:
    """Offer auxiliary networks: names to their url, sha256, bytes and licence."""
    raise AssertionError


@hookspec
def i2i_run_started(run: Any) -> None:
    """Hear that training begins or goes on, with the run (``i2i.engine.run.Run``)."""


@hookspec
def i2i_step_finished(run: Any, report: Any) -> None:
    """Hear of every training step, with its report (``i2i.engine.run.StepReport``)."""


@hookspec
def i2i_preview(run: Any, pairs: "Sequence[tuple[Tensor, Tensor]]") -> None:
    """See sources beside translations by the averaged weights: (C, H, W) in [-1, 1], on the CPU."""


@hookspec
def i2i_checkpoint_saving(run: Any) -> None:
    """Write out whatever is buffered: the checkpoint is about to record how long each log is."""


@hookspec
def i2i_checkpoint_saved(run: Any, path: Path) -> None:
    """Hear that the checkpoint at ``path`` is complete."""


@hookspec
def i2i_run_finished(run: Any, outcome: str) -> None:
    """Hear that training ended: "finished", "interrupted" or "failed"."""


@hookspec
def i2i_image_translated(result: Any) -> None:
    """Hear of each picture of a folder job, with its record (``i2i.engine.job.Result``)."""
