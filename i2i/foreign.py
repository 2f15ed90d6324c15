"""Read the tensors of checkpoints that other programs wrote, without running what they hold."""

import pickle
import re
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from i2i.errors import ModelFileError

_WRAPPERS = ("module", "_orig_mod")  # of DataParallel and of torch.compile
_DEEPEST = 6  # tables within tables


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """Return every tensor of a checkpoint, on the CPU, by its path through the tables it lies in.

    ``{"G": {"module.stem.weight": ...}}`` comes back as "G.stem.weight". Reads what ``torch.save``
    writes and safetensors; pickles are read by PyTorch's restricted reader, which builds tensors
    and plain values and calls nothing else. Raises ModelFileError.
    """
    content = _read_safetensors(path) if _is_safetensors(path) else _read_pickle(path)
    tensors = {".".join(_clean(name)): tensor for name, tensor in _flatten(content, ())}
    if not tensors:
        raise _unusable(path, "holds no tensors", "give the file that holds the weights")
    return tensors


def is_foreign(path: Path) -> bool:
    """Whether a file looks like another program's checkpoint, and not like a model file of i2i."""
    if not _is_safetensors(path):
        return _start(path).startswith((b"PK", b"\x80"))
    try:
        with safe_open(path, framework="pt") as file:
            return "i2i" not in (file.metadata() or {})
    except (OSError, SafetensorError):
        return False  # damaged: of i2i, until it can be read


def _flatten(content: Any, above: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Tensor]]:
    if isinstance(content, Tensor):
        yield above, content.detach()
    elif isinstance(content, Mapping) and len(above) < _DEEPEST:
        for name, value in content.items():
            yield from _flatten(value, (*above, str(name)))


def _clean(name: tuple[str, ...]) -> list[str]:
    return [part for part in ".".join(name).split(".") if part not in _WRAPPERS]


def _is_safetensors(path: Path) -> bool:
    """Whether a file begins as that format does: a length, then JSON."""
    return _start(path)[8:9] == b"{"


def _start(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(9)
    except OSError as error:
        wrong = f"cannot be read ({error.strerror or error})"
        raise _unusable(path, wrong, "check the path") from error


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        with safe_open(path, framework="pt") as file:
            if "i2i" in (file.metadata() or {}):
                wrong = "is a model file of i2i already"
                raise _unusable(path, wrong, "give it to 'i2i translate --model'")
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no dict
    except (OSError, SafetensorError) as error:
        wrong = f"cannot be read as safetensors ({error})"
        raise _unusable(path, wrong, "check that it is complete") from error


def _read_pickle(path: Path) -> Any:
    _check_kind(path)
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        called = re.search(r"GLOBAL (\S+)", str(error))
        if called is None:
            raise _unusable(path, "is damaged", "check that it is complete") from error
        raise _unusable(
            path,
            f"wants to call {called[1].rstrip('.')} when it is opened, and was not let",
            "ask its author for a file of the state dict alone, or for safetensors",
        ) from error
    except Exception as error:  # of a damaged file: whatever the reader met
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        wrong = f"is damaged ({reason})"
        raise _unusable(path, wrong, "check that it is complete") from error


def _check_kind(path: Path) -> None:
    """Refuse what is no pickle of ``torch.save``, by its first bytes and its list of parts."""
    start = _start(path)
    if start.startswith(b"PK"):
        if not zipfile.is_zipfile(path):
            raise _unusable(path, "is cut off", "check that it is complete")
        with zipfile.ZipFile(path) as archive:
            parts = {name.partition("/")[2] for name in archive.namelist()}
        if "constants.pkl" in parts:
            wrong = "is a TorchScript program, not weights"
            raise _unusable(path, wrong, "save the state dict of the network it was made from")
        if "data.pkl" not in parts:
            raise _unusable(path, "is a zip archive without weights", "give one of its files")
    elif not start.startswith(b"\x80"):
        raise _unusable(path, "is no checkpoint", "give a file of torch.save or safetensors")


def _unusable(path: Path, wrong: str, remedy: str) -> ModelFileError:
    expected = "the weights of a network, as torch.save or safetensors write them"
    return ModelFileError(wrong, where=str(path), expected=expected, remedy=remedy)
