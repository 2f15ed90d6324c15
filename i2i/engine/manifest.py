"""What a folder job has done, kept beside its outputs so that a killed one goes on.

``OUT/.i2i-job.jsonl`` holds a line of JSON a picture, or a variant of it, written once its output
lies in its place, and before that a line that claims the output's name. The last line that says
"done" of a picture tells what its output holds, also when a later job failed on it. A torn last
line, of a job that was killed as it wrote, is cut off.
"""

import errno
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from io import FileIO
from pathlib import Path
from threading import Lock
from typing import Any

from filelock import FileLock, Timeout

from i2i.errors import UsageError
from i2i.imaging import printable

NAME = ".i2i-job.jsonl"
LOCK = ".i2i-job.lock"

_KEPT = (
    *("input", "input_sha256", "file", "output_sha256", "model_sha256"),
    *("request", "options", "notes"),
)


class Manifest:
    """The records of the jobs that wrote into a folder, and the file that further ones go to."""

    def __init__(self, file: FileIO | None, content: bytes) -> None:
        self._file = file
        self._records: dict[str, Mapping[str, Any]] = {}
        self._owned: set[str] = set()
        self._unfinished: dict[str, str] = {}
        self._torn = ""
        self._lock = Lock()
        for line in content.splitlines():
            # A damaged line is no record: its picture is done again
            with suppress(ValueError, KeyError, TypeError, RecursionError):
                self._take(json.loads(line))

    def find(self, name: str) -> Mapping[str, Any] | None:
        """Return the last record of the picture called ``name``, if it was done."""
        return self._records.get(name)

    def owns(self, file: str) -> bool:
        """Whether ``file``, relative to the folder, is a job's: written, or about to be."""
        return file in self._owned or file in self._unfinished.values()

    def unfinished(self) -> list[str]:
        """Return the files, relative to the folder, that a job was killed over."""
        return list(self._unfinished.values())

    def claim(self, name: str, file: str) -> None:
        """Say that ``file`` is about to be written for the picture called ``name``.

        It is on the disk before the file can be, or a power cut would leave one without an owner.
        """
        self._add({"name": name, "file": file, "status": "writing"})
        assert self._file is not None
        os.fsync(self._file.fileno())

    def record(self, record: Mapping[str, Any]) -> None:
        """Add the record of a picture; it has a name, a status, and the file that it was."""
        self._add(record)

    def _add(self, record: Mapping[str, Any]) -> None:
        assert self._file is not None, "opened to read only"
        line = json.dumps(record, sort_keys=True)  # ASCII: names that are no UTF-8 come back
        with self._lock:  # claims come from the threads that write
            content = f"{self._torn}{line}\n".encode()
            self._torn = "\n"  # should this one be cut short, by a full disk
            if self._file.write(content) < len(content):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            self._torn = ""
            self._take(record)

    def _take(self, record: Mapping[str, Any]) -> None:
        name, file, status = record["name"], record["file"], record["status"]
        if status == "done":
            self._records[name] = {key: record[key] for key in _KEPT}
            self._owned.add(file)
        self._unfinished.pop(name, None)
        if status == "writing":
            self._unfinished[name] = file


def read_manifest(out: Path) -> Manifest:
    """Return what the jobs of a folder have recorded, for looking only."""
    try:
        return Manifest(None, (out / NAME).read_bytes())
    except FileNotFoundError:
        return Manifest(None, b"")
    except OSError as error:
        raise _unusable(out / NAME, error) from error


@contextmanager
def open_manifest(out: Path) -> Iterator[Manifest]:
    """Open the folder's manifest to add to it, and keep other jobs out of the folder.

    Raises UsageError where another job works there, or the manifest cannot be read or written.
    """
    path = out / NAME
    with ExitStack() as stack:
        try:
            stack.enter_context(FileLock(out / LOCK, timeout=0))
            file = stack.enter_context(path.open("a+b", buffering=0))
            file.seek(0)
            content = file.read()
            whole = content[: content.rfind(b"\n") + 1]
            file.truncate(len(whole))
        except Timeout as error:
            raise UsageError(
                "another job is writing into it",
                where=printable(out),
                expected="one job a folder",
                remedy="wait for it, or choose another folder with --out",
            ) from error
        except OSError as error:
            raise _unusable(path, error) from error
        yield Manifest(file, whole)


def _unusable(path: Path, error: OSError) -> UsageError:
    return UsageError(
        f"the job's manifest cannot be used ({error.strerror or error})",
        where=printable(path),
        expected="a file that can be read and written",
        remedy="correct its permissions, or choose another folder with --out",
    )
