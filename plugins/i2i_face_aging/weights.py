"""Networks that are fetched rather than shipped; nothing here imports torch."""

from collections.abc import Mapping
from typing import Final

from i2i.downloads import Remote

FACENET: Final = "facenet-vggface2"

OFFERED: Final[Mapping[str, Remote]] = {
    FACENET: Remote(
        FACENET,
        "https://github.com/timesler/facenet-pytorch/releases/download/v2.2.9/"
        "20180402-114759-vggface2.pt",
        "281cebca8662831adb987a874bdcb36e73f5b1c6dc5ee5878f305e985625d99b",
        111_898_327,
        "MIT (facenet-pytorch); trained on VGGFace2",
    )
}
"""The networks that this plugin offers: facenet-pytorch's published file."""
