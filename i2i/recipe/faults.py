"""Turn what pydantic found wrong with a recipe into one message with the nearest known name."""

import types
import typing
from collections.abc import Iterable, Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ValidationError

from i2i.errors import RecipeError, suggest


def explain(
    error: ValidationError, schema: type[BaseModel], raw: Mapping[str, Any], where: str
) -> RecipeError:
    """Return the message for the first fault; unknown keys come first, for they explain others."""
    reasons: dict[tuple[str, ...], list[Any]] = {}
    for fault in sorted(error.errors(), key=lambda each: each["type"] != "extra_forbidden"):
        reasons.setdefault(_place(fault, raw), []).append(fault)
    place, faults = next(iter(reasons.items()))
    first = faults[0]
    key = ".".join(place)
    wrong = f"{_short(first.get('input'))} does not fit"
    expected = reasons_of(faults)
    remedy = f"change {key}, or leave it out" if key else "correct it"
    if first["type"] == "extra_forbidden":
        known = _keys_at(schema, place[:-1])
        wrong = f"there is no key {place[-1]!r}"
        expected = f"one of {', '.join(known)}"
        remedy = suggest(place[-1], known, "remove it")
    elif first["type"] == "value_error" and isinstance(first.get("input"), Mapping):
        wrong, remedy = "its keys do not go together", "change one of them"
    elif first["type"] == "missing":
        wrong, expected, remedy = "the key is missing", "a value", "add it"
    if others := len(reasons) - 1:
        remedy += f" ({others} more to correct)"
    return RecipeError(wrong, where=f"{where}: {key}", expected=expected, remedy=remedy)


def reasons_of(faults: Iterable[Any]) -> str:
    """Return what pydantic expected of one value, as the end of "expected ..."."""
    texts: dict[str, None] = {}
    for fault in faults:
        text = str(fault["msg"]).partition(", unable to parse")[0]
        for opening in ("Input should be ", "Value error, "):
            text = text.removeprefix(opening)
        texts[text[:1].lower() + text[1:]] = None
    return " or ".join(texts)


def fields_of(table: type[BaseModel]) -> dict[str, Any]:
    """Return the type of each key of a table, with its limits."""
    return {
        field.alias or name: Annotated[field.annotation, *field.metadata]
        if field.metadata
        else field.annotation
        for name, field in table.model_fields.items()
    }


def model_in(annotation: Any) -> type[BaseModel] | None:
    """Return the table that an annotation holds, if any, also within ``X | None``."""
    annotation = bare(annotation)
    if _is_union(annotation):
        found = [model_in(each) for each in typing.get_args(annotation)]
        return next((each for each in found if each), None)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return None


def entry_of(annotation: Any) -> Any:
    """Return the type of the entries of a mapping with free keys; None for any other type."""
    annotation = bare(annotation)
    if typing.get_origin(annotation) in (Mapping, dict):
        return typing.get_args(annotation)[1]
    return None


def is_nullable(annotation: Any) -> bool:
    """Whether None is one of the values that an annotation allows."""
    annotation = bare(annotation)
    return _is_union(annotation) and type(None) in typing.get_args(annotation)


def bare(annotation: Any) -> Any:
    """Return an annotation without the limits that ``Annotated`` puts around it."""
    while typing.get_origin(annotation) is Annotated:
        annotation = typing.get_args(annotation)[0]
    return annotation


def _is_union(annotation: Any) -> bool:
    return typing.get_origin(annotation) in (typing.Union, types.UnionType)


def _place(fault: Any, raw: Any) -> tuple[str, ...]:
    """Return the keys of a fault as the file spells them: pydantic adds the branches of unions."""
    keys: list[str] = []
    absent = fault["type"] in ("missing", "extra_forbidden")
    for depth, part in enumerate(fault["loc"], start=1):
        try:
            raw = raw[part]
        except (LookupError, TypeError):
            if not (absent and depth == len(fault["loc"])):
                continue
        keys.append(str(part))
    return tuple(keys)


def _keys_at(schema: Any, place: tuple[str, ...]) -> list[str]:
    """Return the keys that the table at ``place`` may have."""
    current: Any = schema
    for part in place:
        table = model_in(current)
        if table is not None:
            current = fields_of(table).get(part)
        elif entry_of(current) is not None:
            current = entry_of(current)
        else:  # a list of tables
            current = next(iter(typing.get_args(bare(current))), None)
    table = model_in(current)
    return list(fields_of(table)) if table else []


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
