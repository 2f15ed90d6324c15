"""The two checks that the author of a family calls."""

from collections.abc import Callable, Mapping
from typing import Any

from pydantic import BaseModel

from i2i.model_file import build
from i2i.testing.declarations import check_class, check_exported, check_stages
from i2i.testing.location import check_locate
from i2i.testing.subject import SEED, Subject, batches, sheltered, valid_options
from i2i.testing.training import (
    check_losses,
    check_micro_batches,
    check_moves,
    check_repeats,
    check_resumes,
    rehearse,
)
from i2i.testing.translation import (
    check_model_file,
    check_tiles,
    check_translate,
    check_variants,
)
from i2i.translator import Translator
from i2i.types import Batch


def check_translator(
    family: type[Translator],
    options: BaseModel | Mapping[str, Any] | None = None,
    *,
    make: Callable[[int], Batch] | None = None,
) -> None:
    """Check every rule of ``i2i.translator`` on made pictures; raises PluginError for a broken one.

    Choose small ``options``: some forty steps of every stage are played on the CPU. ``make(seed)``
    returns the batches, for instance by ``make_batch``, where a family's roles have other sizes
    than its first one times ``fit.scale``, or its labels more than two classes; all its batches
    have the same shapes.
    """
    with sheltered():
        subject = _subject(family, options, make)
        first = rehearse(subject, chance=1)
        check_exported(subject, first.course.translator)
        check_repeats(subject, first)
        check_resumes(subject, first)
        check_moves(subject, first)
        check_losses(subject)
        check_variants(subject.family)
        check_translate(subject, first.course.translator)
        check_tiles(subject, first.course.translator)
        check_locate(subject, first.course.translator)
        check_model_file(subject, first.course.translator)


def check_accumulation(
    family: type[Translator],
    options: BaseModel | Mapping[str, Any] | None = None,
    *,
    make: Callable[[int], Batch] | None = None,
) -> None:
    """Check that two micro-batches move everything as the whole batch does, within 1e-5.

    True of families whose losses are means over samples; not of batch statistics, relativistic
    means or dropout, which is why ``check_translator`` leaves it out. Arguments and errors are
    those of ``check_translator``; batches hold two samples at least.
    """
    with sheltered():
        check_micro_batches(_subject(family, options, make))


def _subject(
    family: type[Translator],
    options: BaseModel | Mapping[str, Any] | None,
    make: Callable[[int], Batch] | None,
) -> Subject:
    """Check what the class declares, and choose options and batches where none are given."""
    check_class(family)
    options = valid_options(family, options)
    translator = build(family, options, SEED)
    check_stages(translator)
    return Subject(family, options, make or batches(family, translator.fit))
