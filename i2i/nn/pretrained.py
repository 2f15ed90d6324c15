"""Auxiliary networks: backbones and judges that no model file holds; nothing here imports torch."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from i2i.downloads import Remote, Watcher, fetch
from i2i.errors import DownloadError, unknown

_log = logging.getLogger(__name__)

_HOST: Final = "https://download.pytorch.org/models"
_TERMS: Final = "BSD-3-Clause (torchvision); trained on ImageNet"

CORE: Final[Mapping[str, Remote]] = {
    remote.name: remote
    for remote in (
        Remote(
            "alexnet",
            f"{_HOST}/alexnet-owt-7be5be79.pth",
            "7be5be791159472b1fbf3c69796f7cb30dca7ad8466c2df70058c37116cdee02",
            244_408_911,
            _TERMS,
        ),
        Remote(
            "squeezenet1_1",
            f"{_HOST}/squeezenet1_1-b8a52dc0.pth",
            "b8a52dc049b60e4b6ab68ad0df457362afab8b6304b2febdc1650a5dab4d7e7b",
            4_958_839,
            _TERMS,
        ),
        Remote(
            "vgg16",
            f"{_HOST}/vgg16-397923af.pth",
            "397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0",
            553_433_881,
            _TERMS,
        ),
        Remote(
            "vgg19",
            f"{_HOST}/vgg19-dcbb9e9d.pth",
            "dcbb9e9dad569fff7a846263a77324fc34978fea2bfb039c012d710e1776ae44",
            574_673_361,
            _TERMS,
        ),
    )
}
"""The networks that the core itself offers: torchvision's published files."""


def pretrained(
    name: str, offers: Mapping[str, Remote] = CORE, watcher: Watcher | None = None
) -> Path:
    """Return the checked local file of the auxiliary network ``name``, fetched where need be.

    ``offers`` are the core's own, or all of the hook ``i2i_weights``: ``Plugins.weights``. Without
    a ``watcher`` a download is logged, as it may take minutes. Raises UsageError for a name that is
    not offered, and DownloadError.
    """
    remote = _offered(name, offers)
    try:
        return fetch(remote, watcher or Watcher(say=_log.warning))
    except DownloadError as error:
        if remote.path.is_file():  # it is here, and not what it should be
            raise
        advice = f"run 'i2i models fetch {name}' where there is a network"
        remedy = f"{advice}, or get the file elsewhere and save it as {remote.path}"
        where = f"network {name!r} ({remote.url})"
        raise DownloadError(
            error.wrong, where=where, expected=error.expected, remedy=remedy
        ) from error


def is_at_hand(name: str, offers: Mapping[str, Remote] = CORE) -> bool:
    """Whether the network ``name`` was fetched before; raises UsageError for an unknown one."""
    return _offered(name, offers).path.is_file()


def _offered(name: str, offers: Mapping[str, Remote]) -> Remote:
    if name not in offers:
        look = "install the plugin that offers it"
        kind = "auxiliary network named"
        raise unknown(kind, name, sorted(offers), where="networks", otherwise=look)
    return offers[name]
