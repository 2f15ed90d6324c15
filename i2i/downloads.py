"""Files from the network: fetched once into the user's cache, resumed, and checked before use.

A download grows in a ``.part`` file that survives a killed process. It gets its name only when its
size and sha256 are right. Nothing here imports torch.
"""

import contextlib
import hashlib
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import platformdirs

from i2i.errors import DownloadError

if TYPE_CHECKING:
    from requests import Response

_ATTEMPTS = 3  # in a row that bring nothing new
_TIMEOUT = (10.0, 60.0)  # seconds to connect, and between two pieces
_PIECE = 1 << 16  # bytes


@dataclass(frozen=True)
class Remote:
    """A file on a server, and what it must be."""

    name: str
    url: str
    sha256: str | None = None  # None: not known, so the first download decides
    num_bytes: int | None = None
    licence: str = ""

    @property
    def offer(self) -> dict[str, Any]:
        """What the hook ``i2i_weights`` says of it."""
        return {
            "url": self.url,
            "sha256": self.sha256,
            "bytes": self.num_bytes,
            "licence": self.licence,
        }

    @property
    def path(self) -> Path:
        """Where the file lies once it is fetched; another url or hash lies elsewhere."""
        key = hashlib.sha256(f"{self.url} {self.sha256}".encode()).hexdigest()[:8]
        suffix = Path(urlsplit(self.url).path).suffix
        return cache_folder() / f"{self.name}-{key}{suffix}"

    @property
    def size(self) -> str:
        """The size for people; empty where it is not known."""
        return megabytes(self.num_bytes) if self.num_bytes is not None else ""


@dataclass(frozen=True)
class Watcher:
    """Whom a download tells what it does: lines of text, and (bytes, of how many)."""

    say: Callable[[str], None] = lambda text: None
    advance: Callable[[int, int | None], None] = lambda have, total: None


def cache_folder() -> Path:
    """Return the folder of fetched files: I2I_CACHE, or the user's cache."""
    chosen = os.environ.get("I2I_CACHE")
    return Path(chosen) if chosen else Path(platformdirs.user_cache_dir("i2i", appauthor=False))


def is_offline() -> bool:
    """Whether I2I_OFFLINE forbids the network."""
    return os.environ.get("I2I_OFFLINE", "") not in ("", "0")


def megabytes(num_bytes: int) -> str:
    """Return a size as people read it."""
    return f"{num_bytes / 1e6:.1f} MB"


def fetch(remote: Remote, watcher: Watcher | None = None) -> Path:
    """Return the local file of ``remote``, downloaded first where it is not there, and checked.

    A file whose hash nobody stated is compared with what came the first time. Raises DownloadError,
    which says where to put the file by hand.
    """
    path = remote.path
    if path.is_file():
        _check(remote)
        return path
    if is_offline():
        wrong = "is not here, and I2I_OFFLINE forbids the network"
        raise _failed(remote, wrong, first="unset I2I_OFFLINE")
    from filelock import FileLock

    with _writing(remote):
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{path}.lock"):  # another process may be fetching it too
            if not path.is_file():
                _download(remote, watcher or Watcher())
            _check(remote)
    return path


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file, as hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _expected_hash(remote: Remote) -> str | None:
    """Return the hash that was stated, or else the one of the first time."""
    if remote.sha256 is not None:
        return remote.sha256
    with contextlib.suppress(FileNotFoundError):
        return _record(remote).read_text(encoding="ascii").strip()
    return None


def _record(remote: Remote) -> Path:
    return remote.path.with_name(f"{remote.path.name}.sha256")


def _check(remote: Remote) -> None:
    """Refuse a file in the cache that is not the one promised; remember one nobody promised."""
    found, expected = sha256_of(remote.path), _expected_hash(remote)
    if expected is None:
        with _writing(remote):
            _record(remote).write_text(f"{found}\n", encoding="ascii")
    elif found != expected:
        raise DownloadError(
            f"is another file: its sha256 is {found}",
            where=str(remote.path),
            expected=f"{expected}, as {_origin_of(remote)}",
            remedy="delete it and fetch it again",
        )


def _origin_of(remote: Remote) -> str:
    return "promised" if remote.sha256 is not None else f"came first ({_record(remote)})"


def _download(remote: Remote, watcher: Watcher) -> None:
    import pooch

    path, part = remote.path, remote.path.with_name(f"{remote.path.name}.part")
    facts = ", ".join(filter(None, [remote.size, f"licence: {remote.licence or 'unknown'}"]))
    watcher.say(f"downloading {remote.name} ({facts}) from {remote.url} to {path}")
    _complete(remote, part, watcher)
    _tag(part).unlink(missing_ok=True)
    pooch.get_logger().setLevel("WARNING")  # it would repeat what was said
    try:
        pooch.retrieve(
            remote.url,
            known_hash=_expected_hash(remote),
            fname=path.name,
            path=path.parent,
            downloader=lambda url, file, pooch: part.replace(file),
        )
    except ValueError as error:
        found = re.search(r"got (\w+)", str(error))
        wrong = f"the server sent another file: its sha256 is {found[1] if found else '?'}"
        expected = f"{_expected_hash(remote)}, as {_origin_of(remote)}"
        raise _failed(remote, wrong, expected) from error


def _complete(remote: Remote, part: Path, watcher: Watcher) -> None:
    """Receive until the whole file is in ``part``; what broke off is resumed."""
    import requests

    fruitless, most = 0, _size(part)
    while True:
        try:
            if _receive(remote, part, watcher):
                return
            error: Exception = ConnectionError("the server closed the connection")
        except requests.RequestException as failure:
            error = failure
        fruitless = 0 if _size(part) > most else fruitless + 1
        most = max(most, _size(part))
        if fruitless == _ATTEMPTS:
            at = f"broke off after {megabytes(most)}" if most else "cannot be reached"
            raise _failed(remote, f"{at} ({_reason(error)})") from error


def _receive(remote: Remote, part: Path, watcher: Watcher) -> bool:
    """Append one answer of the server to ``part``; returns whether the file is whole."""
    import requests

    headers = {"Accept-Encoding": "identity"} | _range(remote, part)
    with requests.get(remote.url, headers=headers, stream=True, timeout=_TIMEOUT) as response:
        if response.status_code == requests.codes.requested_range_not_satisfiable:
            part.unlink()  # longer than the file is now: begin anew
            return False
        if not response.ok:
            raise _failed(remote, f"the server answered {response.status_code} {response.reason}")
        resumed = response.status_code == requests.codes.partial_content
        have, total = _extent(response)
        if resumed and have != _size(part):
            part.unlink(missing_ok=True)
            return False
        limit = remote.num_bytes
        if limit is not None and total not in (limit, None):
            raise _failed(remote, f"the server offers {total:,} bytes", f"{limit:,} bytes")
        _keep_tag(response, part)
        with part.open("ab" if resumed else "wb") as file:
            for piece in response.iter_content(_PIECE):
                have += len(piece)
                if limit is not None and have > limit:
                    raise _too_long(remote, part)
                file.write(piece)
                watcher.advance(have, total or limit)
    whole = total if total is not None else limit
    return whole is None or have >= whole


def _range(remote: Remote, part: Path) -> dict[str, str]:
    """Return what asks for the rest of a file; without hash or tag it could be another one's."""
    have = _size(part)
    tag = _tag(part).read_text(encoding="latin-1") if _tag(part).exists() else ""
    if not have or not (tag or remote.sha256):
        return {}
    return {"Range": f"bytes={have}-"} | ({"If-Range": tag} if tag else {})


def _extent(response: "Response") -> tuple[int, int | None]:
    """Return where an answer begins in the file, and how long the whole file is if it says so."""
    said = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
    if said is not None:
        return int(said[1]), None if said[2] == "*" else int(said[2])
    length = response.headers.get("Content-Length", "")
    return 0, int(length) if length.isdecimal() else None


def _keep_tag(response: "Response", part: Path) -> None:
    """Remember which version of the file ``part`` holds a piece of."""
    tag = response.headers.get("ETag", "W/")
    tag = response.headers.get("Last-Modified", "") if tag.startswith("W/") else tag
    _tag(part).write_text(tag, encoding="latin-1")


def _tag(part: Path) -> Path:
    return part.with_name(f"{part.name}.tag")


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _reason(error: Exception) -> str:
    """Return the innermost reason: requests wraps that of urllib3, and that the system's."""
    while (inner := error.__cause__ or error.__context__) is not None:
        if not isinstance(inner, Exception):
            break
        error = inner
    return " ".join(str(error).split()) or type(error).__name__


def _too_long(remote: Remote, part: Path) -> DownloadError:
    part.unlink()
    limit = f"{remote.num_bytes:,} bytes"
    return _failed(remote, f"the server sends more than {limit}", limit)


@contextlib.contextmanager
def _writing(remote: Remote) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DownloadError(
            f"cannot be written ({error.strerror or error})",
            where=str(remote.path),
            expected="a folder for fetched files with room for it",
            remedy="make room, or name another folder with I2I_CACHE",
        ) from error


def _failed(
    remote: Remote, wrong: str, expected: str | None = None, first: str = "try again"
) -> DownloadError:
    return DownloadError(
        wrong,
        where=remote.url,
        expected=expected or f"the file {remote.name!r}",
        remedy=f"{first}, or get it elsewhere and save it as {remote.path}",
    )
