"""Every error that i2i raises on purpose.

::

    I2IError                 exit status 1
    ├── UsageError           exit status 2: the command or the call was wrong
    ├── RecipeError          a recipe that does not validate
    ├── PluginError          a plugin or a family that breaks the contract
    ├── DataError            a data folder that cannot be trained on
    ├── ImageError           a picture that cannot be read, translated or written
    ├── ModelFileError       a model file that cannot be used
    ├── CheckpointError      a run that cannot be resumed
    ├── DownloadError        a file that cannot be fetched, or is not the one that was promised
    └── NonFiniteLoss        training met an infinity or not-a-number

A message has four parts: what was wrong, where, what was expected, what to do next. Any other
exception that leaves i2i is a bug and keeps its traceback.
"""

import difflib
from collections.abc import Iterable
from typing import Any


class I2IError(Exception):
    """An error with a message for the person at the keyboard.

    Printed as one sentence: ``where: wrong; expected this; remedy.``
    """

    exit_status = 1

    def __init__(self, wrong: str, *, where: str, expected: str, remedy: str) -> None:
        self.wrong, self.where, self.expected, self.remedy = wrong, where, expected, remedy
        end = "" if remedy.endswith("?") else "."
        super().__init__(f"{where}: {wrong}; expected {expected}; {remedy}{end}")

    def __reduce__(self) -> tuple[Any, ...]:
        """Survive the way back from a loader's worker process."""
        return (_rebuild, (type(self), self.wrong, self.where, self.expected, self.remedy))


def _rebuild(kind: type[I2IError], wrong: str, where: str, expected: str, remedy: str) -> I2IError:
    return kind(wrong, where=where, expected=expected, remedy=remedy)


class UsageError(I2IError):
    """The command or the call was wrong: unknown recipe, bad ``--set``, colliding outputs."""

    exit_status = 2


class RecipeError(I2IError):
    """A recipe has an unknown key, a wrong type or a value out of range."""


class PluginError(I2IError):
    """A plugin cannot be used, or a family breaks the contract of ``i2i.translator``."""


class DataError(I2IError):
    """A data folder does not have the layout or the pictures that its recipe names."""


class ImageError(I2IError):
    """One picture cannot be read, translated or written."""


class ModelFileError(I2IError):
    """A model file is missing, damaged or does not fit its family."""


class CheckpointError(I2IError):
    """A run folder cannot be resumed."""


class DownloadError(I2IError):
    """A file cannot be fetched, or what came is not what was promised."""


class NonFiniteLoss(I2IError):  # noqa: N818 - says what happened, as ZeroDivisionError's kin do not
    """A term of a move became infinite or not-a-number."""


def suggest(name: str, known: Iterable[str], otherwise: str) -> str:
    """Return "did you mean ...?" with the known name nearest to ``name``, else ``otherwise``."""
    near = nearest(name, known)
    return otherwise if near is None else f"did you mean {near!r}?"


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that ``name`` was probably meant to be, if one is near enough."""
    return next(iter(difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)), None)


def unknown(
    kind: str,
    name: object,
    known: Iterable[str],
    *,
    where: str,
    error: type[I2IError] = UsageError,
    otherwise: str = "choose one of these",
) -> I2IError:
    """Return the error for a ``name`` that is not among the ``known``, with the nearest of them.

    ``kind`` is what stands before the name: "role", "recipe named". ``otherwise`` is what to do
    where no known name is near.
    """
    known = list(known)
    return error(
        f"there is no {kind} {name!r}",
        where=where,
        expected=f"one of {', '.join(known)}" if known else "none, as there are none",
        remedy=suggest(str(name), known, otherwise),
    )
