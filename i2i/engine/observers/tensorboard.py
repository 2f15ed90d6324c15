"""TensorBoard scalars and picture grids, at steps counted over all stages."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor

from i2i.engine.preview import preview_sheet
from i2i.engine.run import Run, StepReport
from i2i.hookspecs import hookimpl

if TYPE_CHECKING:
    from torch.utils.tensorboard.writer import SummaryWriter


class TensorBoard:
    """Writes event files to ``tensorboard/`` in the run folder; needs no server."""

    def __init__(self) -> None:
        self._writer: SummaryWriter | None = None

    @hookimpl
    def i2i_run_started(self, run: Run) -> None:
        """Open a new event file that tells readers to drop what a killed run wrote beyond here."""
        from torch.utils.tensorboard.writer import SummaryWriter

        purge = run.total_step + 1 if run.total_step else None
        self._writer = SummaryWriter(str(run.folder / "tensorboard"), purge_step=purge)

    @hookimpl
    def i2i_step_finished(self, run: Run, report: StepReport) -> None:
        """Write the means of a line of the log."""
        if report.line is None or self._writer is None:
            return
        groups = {
            "terms": report.line.terms,
            "measured": report.line.measured,
            "learning_rate": report.rates,
        }
        for group, values in groups.items():
            for name, value in values.items():
                self._writer.add_scalar(f"{group}/{name}", value, run.total_step)

    @hookimpl
    def i2i_preview(self, run: Run, pairs: Sequence[tuple[Tensor, Tensor]]) -> None:
        """Write the preview as one grid."""
        if self._writer is not None:
            sheet = preview_sheet(pairs).pixels
            self._writer.add_image("preview", sheet, run.total_step, dataformats="HWC")

    @hookimpl
    def i2i_checkpoint_saving(self) -> None:
        """Hand the events to the system."""
        if self._writer is not None:
            self._writer.flush()

    @hookimpl
    def i2i_run_finished(self) -> None:
        """Close the event file."""
        if self._writer is not None:
            self._writer.close()
