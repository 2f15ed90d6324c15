"""From folders of pictures to batches: layouts, host-side augmentation, loading and checking.

Names are resolved when they are first used, so that a plugin's layout imports no more than it
needs.
"""

from typing import TYPE_CHECKING, Any

from i2i.lazy import resolve

if TYPE_CHECKING:
    from i2i.data.augment import HostAugment
    from i2i.data.check import FolderReport, check_folders
    from i2i.data.layouts import Layout, Sample, Split, Unpaired, find_pictures
    from i2i.data.loading import example_shapes, make_loader

_HOMES = {
    "FolderReport": "check",
    "HostAugment": "augment",
    "Layout": "layouts",
    "Sample": "layouts",
    "Split": "layouts",
    "Unpaired": "layouts",
    "check_folders": "check",
    "example_shapes": "loading",
    "find_pictures": "layouts",
    "make_loader": "loading",
}

__all__ = [
    "FolderReport",
    "HostAugment",
    "Layout",
    "Sample",
    "Split",
    "Unpaired",
    "check_folders",
    "example_shapes",
    "find_pictures",
    "make_loader",
]


def __getattr__(name: str) -> Any:
    return resolve(__name__, _HOMES, name)
