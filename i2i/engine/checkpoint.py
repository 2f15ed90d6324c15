"""One atomic file that holds all of a run, and logs that are cut back to it on a resume."""

import hashlib
import io
import platform
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout

from i2i.data import Layout
from i2i.errors import CheckpointError, UsageError
from i2i.files import write_atomically
from i2i.translator import Translator

FORMAT = 1
NAME = "checkpoint.pt"


@dataclass(frozen=True)
class Checkpoint:
    """Everything a run needs to go on as if it had never stopped.

    ``modules`` is the translator's state; ``optimizers`` one state a player; ``averages`` the
    averaged tensors; ``stages`` the shapes that each stage begun saw; ``window`` the sums of the
    log's unfinished line; ``logs`` the length in bytes of every file that only grows.
    """

    stage: str
    step: int  # steps of the stage that are done
    finished: bool
    modules: Mapping[str, Any]
    optimizers: Mapping[str, Any]
    averages: Mapping[str, Any]
    stages: Mapping[str, Any]
    window: Mapping[str, Any]
    logs: Mapping[str, int]
    environment: Mapping[str, Any]


@contextmanager
def only_one(folder: Path) -> Iterator[None]:
    """Hold a run folder against a second process; the lock goes with the process, however it ends.

    Raises UsageError where another one holds it.
    """
    try:
        with FileLock(folder / ".lock", timeout=0):
            yield
    except Timeout as error:
        raise UsageError(
            "another process is training in it",
            where=str(folder),
            expected="one process a run",
            remedy="wait for it, stop it, or choose another run folder",
        ) from error


def environment(device: torch.device, layout: Layout) -> dict[str, Any]:
    """Return what must be the same for a resume to be bit-identical."""
    libraries = ("torch", "numpy", "pillow", "albumentations", "opencv-python-headless", "kornia")
    return {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "device": device.type,
        "threads": torch.get_num_threads(),
        "pictures": _digest(layout),
        **{name: version(name) for name in libraries},
    }


def _digest(layout: Layout) -> str:
    """Return a short hash of which pictures there are: adding one changes every epoch's order."""
    inputs = layout.inputs
    paths = [
        part.path.relative_to(layout.root).as_posix()
        for role in inputs.images
        for part in layout.list_pictures(layout.root, layout.options, inputs, role, "train")
    ]
    text = "\n".join(paths).encode("utf-8", "surrogateescape")
    return hashlib.sha256(text).hexdigest()[:12]


def restore_modules(translator: Translator, kept: Checkpoint, folder: Path) -> None:
    """Put the checkpoint's state into the grown translator; raises CheckpointError."""
    try:
        translator.load_state_dict(kept.modules)
    except RuntimeError as error:
        first = str(error).splitlines()[1].strip()
        raise CheckpointError(
            f"it does not fit the recipe beside it ({first})",
            where=str(folder / NAME),
            expected="networks as recipe.toml describes them",
            remedy="undo the change to [model] or [augment] in recipe.toml, or start a new run",
        ) from error


def save_checkpoint(folder: Path, checkpoint: Checkpoint) -> Path:
    """Write the checkpoint beside the old one and rename; return its path."""
    content = io.BytesIO()
    torch.save({"format": FORMAT} | _shallow(checkpoint), content)
    path = folder / NAME
    write_atomically(path, content.getvalue())
    return path


def _shallow(checkpoint: Checkpoint) -> dict[str, Any]:
    """Return the fields without copying what they hold, as ``dataclasses.asdict`` would."""
    return {field.name: getattr(checkpoint, field.name) for field in fields(checkpoint)}


def load_checkpoint(folder: Path) -> Checkpoint:
    """Read a run's checkpoint on the CPU, executing nothing; raises CheckpointError."""
    path = folder / NAME
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        found = content.pop("format")
        if found != FORMAT:
            raise ValueError(f"format {found}")
        return Checkpoint(**content)
    except FileNotFoundError as error:
        raise _unusable(path, "there is no checkpoint") from error
    except Exception as error:
        raise _unusable(path, f"cannot be read ({type(error).__name__}: {error})") from error


def append_only_files(folder: Path) -> list[Path]:
    """Return the files of a run that only ever grow: the log and TensorBoard's events."""
    return sorted(p for p in [folder / "log.jsonl", *folder.glob("tensorboard/*")] if p.is_file())


def lengths(folder: Path) -> dict[str, int]:
    """Return the length of each append-only file, by its path in the run folder."""
    return {p.relative_to(folder).as_posix(): p.stat().st_size for p in append_only_files(folder)}


def cut_back(folder: Path, recorded: Mapping[str, int]) -> None:
    """Make the append-only files what they were at the checkpoint: later lines never happened."""
    for path in append_only_files(folder):
        length = recorded.get(path.relative_to(folder).as_posix())
        if length is None:
            path.unlink()
        elif path.stat().st_size < length:
            raise _unusable(path, f"is shorter than the {length} bytes at the checkpoint")
        else:
            with path.open("r+b") as file:
                file.truncate(length)


def differences(recorded: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Describe how the present environment differs from the checkpoint's."""
    return [
        f"{name} {recorded.get(name)} -> {now[name]}"
        for name in now
        if recorded.get(name) != now[name]
    ]


def _unusable(path: Path, wrong: str) -> CheckpointError:
    return CheckpointError(
        wrong,
        where=str(path),
        expected="a run folder as 'i2i train' leaves it",
        remedy="name another run, or start a new one with --recipe",
    )
