"""Previews on disk: sources above, translations below, one PNG each time."""

from collections.abc import Sequence

from torch import Tensor

from i2i.engine.preview import preview_sheet
from i2i.engine.run import Run
from i2i.files import write_atomically
from i2i.hookspecs import hookimpl
from i2i.imaging import encode


class Previews:
    """Writes ``previews/STAGE-IMAGES.png`` in the run folder."""

    @hookimpl
    def i2i_preview(self, run: Run, pairs: Sequence[tuple[Tensor, Tensor]]) -> None:
        """Write the pairs as one sheet."""
        folder = run.folder / "previews"
        folder.mkdir(exist_ok=True)
        name = f"{run.stage}-{run.images:09d}.png"
        write_atomically(folder / name, encode(preview_sheet(pairs), "png", name))
