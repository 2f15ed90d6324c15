"""From folders of pictures to batches: layouts, host-side augmentation, loading and checking.

Names are resolved when they are first used, so that a plugin's layout imports no more than it
needs.
"""

from typing import TYPE_CHECKING, Any

from i2i.lazy import resolve

if TYPE_CHECKING:
    from i2i.data.augment import HostAugment
    from i2i.data.check import FolderReport, check_folders
    from i2i.data.folders import find_pictures
    from i2i.data.high_resolution import HighResolution
    from i2i.data.layouts import Layout, Pairing, Part, PreparedPart, Sample, Split
    from i2i.data.loading import example_shapes, make_loader
    from i2i.data.paired import Paired, SideBySide
    from i2i.data.unpaired import Unpaired

_HOMES = {
    "FolderReport": "check",
    "HighResolution": "high_resolution",
    "HostAugment": "augment",
    "Layout": "layouts",
    "Paired": "paired",
    "Pairing": "layouts",
    "Part": "layouts",
    "PreparedPart": "layouts",
    "Sample": "layouts",
    "SideBySide": "paired",
    "Split": "layouts",
    "Unpaired": "unpaired",
    "check_folders": "check",
    "example_shapes": "loading",
    "find_pictures": "folders",
    "make_loader": "loading",
}

__all__ = [
    "FolderReport",
    "HighResolution",
    "HostAugment",
    "Layout",
    "Paired",
    "Pairing",
    "Part",
    "PreparedPart",
    "Sample",
    "SideBySide",
    "Split",
    "Unpaired",
    "check_folders",
    "example_shapes",
    "find_pictures",
    "make_loader",
]


def __getattr__(name: str) -> Any:
    return resolve(__name__, _HOMES, name)
