"""Auxiliary networks: backbones and judges that no model file holds."""

from collections.abc import Mapping
from pathlib import Path

from i2i.downloads import Remote, Watcher, fetch
from i2i.errors import unknown


def pretrained(name: str, offers: Mapping[str, Remote], watcher: Watcher | None = None) -> Path:
    """Return the checked local file of the auxiliary network ``name``, fetched where need be.

    ``offers`` are those of the hook ``i2i_weights``: ``Plugins.weights``. Raises UsageError for a
    name that is not offered, and DownloadError.
    """
    if name not in offers:
        look = "install the plugin that offers it"
        kind = "auxiliary network named"
        raise unknown(kind, name, sorted(offers), where="networks", otherwise=look)
    return fetch(offers[name], watcher)
