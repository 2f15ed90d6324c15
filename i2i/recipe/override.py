"""``--set key.path=value``: change one key of a recipe or a request, by its own type."""

import json
import tomllib
from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel, TypeAdapter, ValidationError

from i2i.errors import I2IError, UsageError, unknown
from i2i.recipe.faults import entry_of, fields_of, is_nullable, model_in, reasons_of


def key_of(override: str) -> str:
    """Return the key path of "key.path=value"; raises UsageError where there is no "="."""
    key, equals, _ = override.partition("=")
    if not equals:
        raise UsageError(
            "there is no '='",
            where=f"--set {override}",
            expected="key=value",
            remedy="write it as --set key=value",
        )
    return key.strip()


def apply_override(raw: dict[str, Any], override: str, schema: type[BaseModel]) -> None:
    """Set "key.path=text" in ``raw``: the text is tried against the schema, then as TOML.

    So ``60+`` and ``400k`` are text where text is wanted, ``[1, 2]`` is a list, and ``none``
    unsets a key that may be unset. Raises UsageError.
    """
    *parents, last = path = key_of(override).split(".")
    annotation = _annotation(schema, raw, path, override)
    value = _read_value(override.partition("=")[2].strip(), annotation, override)
    table = raw
    for part in parents:
        table = table.setdefault(part, {})
    table[last] = value


def _annotation(schema: type[BaseModel], raw: Any, path: list[str], override: str) -> Any:
    """Return the type of the value at ``path``; raises UsageError for a key that is not there."""
    current: Any = schema
    for depth, part in enumerate(path):
        if not isinstance(raw, dict):
            raise _not_a_table(path[:depth], override)
        table, entry = model_in(current), entry_of(current)
        if table is not None:
            fields = fields_of(table)
            if part not in fields:
                raise _no_key(part, fields, override)
            current = fields[part]
        elif entry is not None:
            # A new entry made by one misspelt letter would lack what each entry must have.
            if raw and part not in raw and _is_incomplete(entry):
                raise _no_key(part, raw, override)
            current = entry
        else:
            raise _not_a_table(path[:depth], override)
        raw = raw.get(part, {})
    return current


def _is_incomplete(entry: Any) -> bool:
    table = model_in(entry)
    return table is not None and any(each.is_required() for each in table.model_fields.values())


def _read_value(text: str, annotation: Any, override: str) -> Any:
    if is_nullable(annotation) and text.lower() in ("none", "null"):
        return None
    adapter: TypeAdapter[Any] = TypeAdapter(annotation)
    try:
        return adapter.dump_python(adapter.validate_strings(text), mode="json")
    except ValidationError as error:
        fault = error
    try:
        value = tomllib.loads(f"value = {text}")["value"]
        adapter.validate_json(json.dumps(value, default=str), strict=True)
    except tomllib.TOMLDecodeError:
        pass
    except ValidationError as error:
        if isinstance(value, list | dict):  # it was meant as TOML, so that is what is at fault
            fault = error
    else:
        return value
    raise UsageError(
        f"{text!r} does not fit",
        where=f"--set {override}",
        expected=reasons_of(fault.errors()),
        remedy="give a value of that kind",
    ) from fault


def _no_key(part: str, known: Iterable[str], override: str) -> I2IError:
    return unknown("key", part, known, where=f"--set {override}")


def _not_a_table(path: list[str], override: str) -> UsageError:
    key = ".".join(path)
    return UsageError(
        f"{key!r} holds a value, not a table",
        where=f"--set {override}",
        expected="a table wherever the key has a dot",
        remedy=f"set {key} itself",
    )
