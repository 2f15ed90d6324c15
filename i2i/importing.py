"""Turn a checkpoint of another program into a model file, by the importers that plugins offer."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel
from torch import Tensor

from i2i.downloads import sha256_of
from i2i.errors import ModelFileError, PluginError, UsageError, unknown
from i2i.foreign import read_checkpoint
from i2i.importer import Importer, Reading, Shapes
from i2i.model_file import Header, build, exported_state, save_model
from i2i.plugins import Plugins
from i2i.recipe import apply_override, validate
from i2i.translator import Translator

UNKNOWN_LICENCE = "unknown"


@dataclass(frozen=True)
class Asked:
    """What the person says of a checkpoint."""

    importer: str | None = None  # all are tried
    part: str | None = None  # of a file that holds several networks, such as "G_A"
    options: Mapping[str, Any] = field(default_factory=dict)  # of the family
    overrides: tuple[str, ...] = ()  # more of them, as "key=value"
    licence: str = UNKNOWN_LICENCE
    translate: Mapping[str, Any] = field(default_factory=dict)  # a recipe's [translate]


@dataclass(frozen=True)
class Imported:
    """What became of a checkpoint."""

    header: Header
    num_parameters: int
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Known:
    """An importer that can be used, with its family."""

    name: str
    importer: Importer
    family: type[Translator]


@dataclass(frozen=True)
class _Attempt:
    """What one importer makes of one part of a checkpoint."""

    importer: str
    part: str
    reading: Reading
    translator: Translator
    options: BaseModel
    differences: tuple[str, ...]
    likeness: float  # the share of the tensors that fit
    doubts: tuple[str, ...]  # options that the person gave and the file contradicts

    @property
    def fits(self) -> bool:
        return not self.differences


def import_model(path: Path, out: Path, plugins: Plugins, asked: Asked) -> Imported:
    """Write the checkpoint at ``path`` as the model file ``out``, which keeps its precision.

    Raises ModelFileError for a file that no importer can use, naming the first difference of the
    likeliest, and UsageError where the person must choose.
    """
    tensors = read_checkpoint(path)
    known, notes = _importers(plugins, asked)
    attempt, more = _choose(path, _attempts(path, tensors, known, asked), tensors, known)
    if attempt.reading.undecided:
        raise _undecided(path, attempt.reading.undecided)
    source = _part_of(tensors, attempt.part)
    state = exported_state(attempt.translator)
    for theirs, ours in attempt.reading.names.items():
        state[ours].copy_(source[theirs])
    offer = plugins.families[type(attempt.translator).name]
    header = Header(
        family=offer.name,
        distribution=f"{offer.distribution} {offer.version}".rstrip(),
        options=attempt.options.model_dump(mode="json"),
        request=dict(attempt.reading.request),
        translate=asked.translate,
        training={
            "imported": {
                "file": path.name,
                "sha256": sha256_of(path),
                "part": attempt.part,
                "importer": attempt.importer,
            }
        },
        licence=asked.licence,
    )
    used = [source[theirs] for theirs in attempt.reading.names]
    save_model(out, attempt.translator, header, _precision(used))
    notes = (*attempt.reading.notes, *more, *notes)
    parameters = dict(attempt.translator.named_parameters())
    learnt = [parameters[ours] for ours in attempt.reading.names.values() if ours in parameters]
    return Imported(header, sum(each.numel() for each in learnt), notes)


def _precision(tensors: Iterable[Tensor]) -> torch.dtype:
    """Return what holds the tensors without loss: 16 bits only where all come in 16 bits."""
    return torch.float16 if {each.dtype for each in tensors} == {torch.float16} else torch.float32


def _importers(plugins: Plugins, asked: Asked) -> tuple[list[_Known], tuple[str, ...]]:
    """Return the importers to try, and why others cannot be: one that was named has to work."""
    if asked.importer is not None and asked.importer not in plugins.importers:
        kind = "importer named"
        raise unknown(kind, asked.importer, sorted(plugins.importers), where="--as")
    known, notes = [], []
    for name in sorted(plugins.importers) if asked.importer is None else [asked.importer]:
        try:
            importer = plugins.importer(name)
            known.append(_Known(name, importer, plugins.family(importer.family)))
        except (PluginError, UsageError) as error:
            if asked.importer is not None:
                raise
            notes.append(f"the importer {name!r} is not tried: {error.wrong}")
    return known, tuple(notes)


def _attempts(
    path: Path, tensors: Mapping[str, Tensor], known: Iterable[_Known], asked: Asked
) -> list[_Attempt]:
    parts = sorted({*_prefixes(tensors)})
    if asked.part is not None:
        if asked.part not in parts:
            widest = [part for part in parts if part and "." not in part]
            raise unknown("part", asked.part, widest, where=str(path))
        parts = [asked.part]
    attempts = []
    for part in parts:
        shapes = {name: tuple(each.shape) for name, each in _part_of(tensors, part).items()}
        for each in known:
            implied = each.importer.read(shapes, {})
            if implied is not None:
                attempts.append(_try(path, each, part, shapes, implied, asked))
    return attempts


def _prefixes(names: Iterable[str]) -> Iterator[str]:
    """Yield every table of a checkpoint, the whole file as ""."""
    for name in names:
        parts = name.split(".")
        for depth in range(min(len(parts), 4)):
            yield ".".join(parts[:depth])


def _part_of(tensors: Mapping[str, Tensor], part: str) -> dict[str, Tensor]:
    prefix = f"{part}." if part else ""
    return {
        name.removeprefix(prefix): each for name, each in tensors.items() if name.startswith(prefix)
    }


def _try(
    path: Path, known: _Known, part: str, shapes: Shapes, implied: Reading, asked: Asked
) -> _Attempt:
    family = known.family
    chosen = dict(asked.options)
    for override in asked.overrides:
        apply_override(chosen, override, family.Options)
    reading = known.importer.read(shapes, chosen) or implied
    wanted_options = _merged(reading.options, chosen)
    options = validate(family.Options, wanted_options, f"{path}: {known.name}")
    translator = build(family, options, seed=0)
    wanted = {key: tuple(each.shape) for key, each in exported_state(translator).items()}
    differences = tuple(_differences(shapes, reading, wanted))
    num_tensors = len({*reading.names, *shapes} - reading.unused)
    return _Attempt(
        importer=known.name,
        part=part,
        reading=reading,
        translator=translator,
        options=options,
        differences=differences,
        likeness=1 - len(differences) / max(num_tensors, 1),
        doubts=tuple(_doubts(chosen, implied.options)),
    )


def _merged(implied: Mapping[str, Any], chosen: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that a file implies, with those that the person chose in their places."""
    merged = dict(implied)
    for key, value in chosen.items():
        within: Any = merged.get(key)
        is_table = isinstance(within, Mapping) and isinstance(value, Mapping)
        merged[key] = _merged(within, value) if is_table else value
    return merged


def _doubts(
    chosen: Mapping[str, Any], implied: Mapping[str, Any], above: str = ""
) -> Iterator[str]:
    """Yield the options that the person chose and the file contradicts."""
    for key, value in chosen.items():
        within, name = implied.get(key, value), f"{above}{key}"
        if isinstance(within, Mapping) and isinstance(value, Mapping):
            yield from _doubts(value, within, f"{name}.")
        elif within != value:
            yield f"{name}={value} was asked for, and the file looks like {name}={within}"


def _differences(shapes: Shapes, reading: Reading, wanted: Shapes) -> Iterator[str]:
    """Yield how the file's tensors differ from the network's, in the network's order."""
    for theirs, ours in reading.names.items():
        reason = f" ({reading.reasons[theirs]})" if theirs in reading.reasons else ""
        if ours not in wanted:
            yield f"the network has no place for {theirs!r}"
        elif theirs not in shapes:
            yield f"{theirs!r} is missing{reason}"
        elif shapes[theirs] != wanted[ours]:
            yield f"{theirs!r} is {_text(shapes[theirs])}, not {_text(wanted[ours])}{reason}"
    for ours in wanted.keys() - set(reading.names.values()):
        yield f"nothing in the file becomes {ours!r}"
    for theirs in shapes:
        if theirs not in reading.names and theirs not in reading.unused:
            yield f"{theirs!r} belongs to no layer"


def _text(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "a single number"


def _choose(
    path: Path, attempts: list[_Attempt], tensors: Mapping[str, Tensor], known: Iterable[_Known]
) -> tuple[_Attempt, tuple[str, ...]]:
    """Return the one attempt that fits, with notes; raises for none and for several."""
    fitting = [attempt for attempt in attempts if attempt.fits]
    if len(fitting) == 1:
        return fitting[0], ()
    preferred = {each.name: each.importer.preferred for each in known}
    own = [each for each in fitting if each.part.split(".")[-1] in preferred[each.importer]]
    if len(own) == 1:
        others = sorted({each.part for each in fitting} - {own[0].part})
        taken = f"{own[0].part} is taken, as its program does"
        return own[0], tuple(f"{taken}; --part {other} for the other" for other in others[:1])
    if fitting:
        raise _ambiguous(path, fitting)
    if not attempts:
        names = ", ".join(each.name for each in known) or "none, as there are none"
        raise ModelFileError(
            f"no importer knows its tensors, such as {next(iter(tensors))!r}",
            where=str(path),
            expected=f"a checkpoint for one of {names}",
            remedy="install a plugin that imports it",
        )
    nearest = max(attempts, key=lambda attempt: attempt.likeness)
    first, *others = nearest.differences
    more = f", and {len(others)} more differ" if others else ""
    doubts = "".join(f"; {doubt}" for doubt in nearest.doubts)
    part = f" in {nearest.part!r}" if nearest.part else ""
    raise ModelFileError(
        f"{first}{part}{more}{doubts}",
        where=str(path),
        expected=f"a checkpoint as the importer {nearest.importer!r} knows them, which fits "
        f"{nearest.likeness:.0%} of the tensors",
        remedy="leave out the --set that the file contradicts"
        if nearest.doubts
        else "check that the file is complete and of that kind",
    )


def _ambiguous(path: Path, fitting: list[_Attempt]) -> UsageError:
    parts = sorted({attempt.part for attempt in fitting})
    importers = sorted({attempt.importer for attempt in fitting})
    flag, choices = ("--part", parts) if len(parts) > 1 else ("--as", importers)
    what = "networks" if len(parts) > 1 else "readings"
    return UsageError(
        f"{len(choices)} {what} fit",
        where=str(path),
        expected=f"one of {', '.join(choices)}",
        remedy=f"choose with {flag} {choices[0]}",
    )


def _undecided(path: Path, undecided: Mapping[str, str]) -> UsageError:
    key, advice = next(iter(undecided.items()))
    return UsageError(
        f"its tensors do not tell {key}",
        where=str(path),
        expected=f"--set {key}=...: {advice}",
        remedy="choose one, and compare a picture with the original program's",
    )
