"""Find, read, override and validate recipes; every fault becomes one message."""

import json
import tomllib
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, TypeAdapter, ValidationError, create_model

from i2i.errors import RecipeError, UsageError, suggest
from i2i.plugins import Plugins
from i2i.recipe.schema import Data, Recipe


Model = typing.TypeVar("Model", bound=BaseModel)


@dataclass(frozen=True)
class Listed:
    """One line of ``i2i recipes``: read, but not yet validated."""

    name: str
    path: Path
    family: str
    summary: str
    has_weights: bool


def list_recipes(plugins: Plugins) -> list[Listed]:
    """Return the recipes that plugins offer, by name; the first plugin to offer a name wins."""
    paths: dict[str, Path] = {}
    for folder in plugins.recipe_folders:
        for path in sorted(folder.glob("*.toml")):
            paths.setdefault(path.stem, path)
    listed = []
    for name, path in sorted(paths.items()):
        raw = _parse(path.read_text(encoding="utf-8"), str(path))
        weights = raw.get("weights")
        file = weights.get("file") if isinstance(weights, Mapping) else None
        listed.append(
            Listed(
                name,
                path,
                str(raw.get("family", "?")),
                str(raw.get("summary", "")),
                isinstance(file, str) and (path.parent / file).is_file(),
            )
        )
    return listed


def find_recipe(name: str, plugins: Plugins) -> Path:
    """Return the file of a recipe given by name or by path; raises UsageError."""
    if name.endswith(".toml") or "/" in name or "\\" in name:
        if Path(name).is_file():
            return Path(name)
        raise UsageError(
            "there is no such file",
            where=name,
            expected="a recipe in TOML",
            remedy="check the path",
        )
    known = {recipe.name: recipe.path for recipe in list_recipes(plugins)}
    if name not in known:
        raise UsageError(
            f"there is no recipe named {name!r}",
            where="--recipe",
            expected=f"one of {', '.join(known) or 'none installed'}, or the path of a .toml file",
            remedy=suggest(name, known, "run 'i2i recipes' to see them"),
        )
    return known[name]


def load_recipe(path: Path, plugins: Plugins, overrides: Iterable[str] = ()) -> Recipe:
    """Read and validate a recipe file; ``overrides`` are "key.path=value" texts.

    Raises RecipeError for what the file holds and UsageError for an override.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(
            f"cannot be read ({error})",
            where=str(path),
            expected="a recipe in TOML",
            remedy="check the path and the file",
        ) from error
    return parse_recipe(text, str(path), plugins, overrides)


def parse_recipe(
    text: str, where: str, plugins: Plugins, overrides: Iterable[str] = ()
) -> Recipe:
    """Validate the TOML ``text`` of a recipe; ``where`` names it in messages."""
    raw = _parse(text, where)
    schema = recipe_type(raw, where, plugins)
    for override in overrides:
        apply_override(raw, override, schema)
    return validate(schema, raw, where)


def recipe_type(raw: Mapping[str, Any], where: str, plugins: Plugins) -> type[Recipe]:
    """Return ``Recipe`` with the options of the family and the layout that ``raw`` names."""
    name = raw.get("family")
    if not isinstance(name, str) or name not in plugins.families:
        raise RecipeError(
            f"there is no family named {name!r}" if name else "the key is missing",
            where=f"{where}: family",
            expected=f"one of {', '.join(sorted(plugins.families)) or 'none installed'}",
            remedy=suggest(str(name), plugins.families, "run 'i2i plugins' to see families"),
        )
    data = raw.get("data", {})
    layout = data.get("layout", "unpaired") if isinstance(data, Mapping) else "unpaired"
    if layout not in plugins.layouts:
        raise RecipeError(
            f"there is no layout named {layout!r}",
            where=f"{where}: data.layout",
            expected=f"one of {', '.join(sorted(plugins.layouts))}",
            remedy=suggest(str(layout), plugins.layouts, "run 'i2i plugins' to see layouts"),
        )
    family = plugins.family(name)
    options = plugins.layout(layout).Options
    resolved = create_model("Data", __base__=Data, options=_table(options))
    return create_model(
        "Recipe",
        __base__=Recipe,
        model=_table(family.Options),
        request=_table(family.Request),
        data=_table(resolved),
    )


def validate(schema: type[Model], raw: Mapping[str, Any], where: str) -> Model:
    """Validate ``raw`` strictly: text is no number. Raises RecipeError for the first fault."""
    try:
        return schema.model_validate_json(json.dumps(raw, default=str), strict=True)
    except ValidationError as error:
        raise _explain(error, schema, where) from error


def apply_override(raw: dict[str, Any], override: str, schema: type[BaseModel]) -> None:
    """Set "key.path=text" in ``raw``: the text is tried against the schema, then as TOML."""
    key, equals, text = override.partition("=")
    if not equals:
        raise UsageError(
            "there is no '='",
            where=f"--set {override}",
            expected="key=value",
            remedy="write it as --set key=value",
        )
    *parents, last = path = key.strip().split(".")
    annotation = _annotation(schema, path, override)
    table = raw
    for part in parents:
        table = table.setdefault(part, {})
        if not isinstance(table, dict):
            raise UsageError(
                f"{part!r} is no table",
                where=f"--set {override}",
                expected="a key that holds a value",
                remedy="run 'i2i recipes show' to see the recipe's keys",
            )
    table[last] = _read_value(text.strip(), annotation, override)


def _read_value(text: str, annotation: Any, override: str) -> Any:
    adapter: TypeAdapter[Any] = TypeAdapter(annotation)
    try:
        return adapter.dump_python(adapter.validate_strings(text), mode="json")
    except ValidationError as first:
        try:
            value = tomllib.loads(f"value = {text}")["value"]
            adapter.validate_json(json.dumps(value, default=str), strict=True)
        except (tomllib.TOMLDecodeError, ValidationError):
            raise UsageError(
                f"{text!r} does not fit ({_reason(first.errors()[0])})",
                where=f"--set {override}",
                expected=_type_name(annotation),
                remedy="give a value of that kind",
            ) from first
        return value


def _annotation(schema: type[BaseModel], path: list[str], override: str) -> Any:
    """Return the type of the value at ``path``; raises UsageError for a key that is not there."""
    current: Any = schema
    for depth, part in enumerate(path):
        table = _model_in(current)
        if table is not None:
            fields = _fields(table)
            if part not in fields:
                raise UsageError(
                    f"there is no key {part!r}",
                    where=f"--set {override}",
                    expected=f"one of {', '.join(fields)}",
                    remedy=suggest(part, fields, "run 'i2i recipes show' to see the keys"),
                )
            current = fields[part]
        elif typing.get_origin(current) in (Mapping, dict):
            current = typing.get_args(current)[1]
        else:
            raise UsageError(
                f"{'.'.join(path[:depth])!r} holds a value, not a table",
                where=f"--set {override}",
                expected=_type_name(current),
                remedy=f"set {'.'.join(path[:depth])} itself",
            )
    return current


def _fields(table: type[BaseModel]) -> dict[str, Any]:
    return {
        field.alias or name: Annotated[field.annotation, *field.metadata]
        if field.metadata
        else field.annotation
        for name, field in table.model_fields.items()
    }


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """Return the table that an annotation holds, if any, also within ``X | None``."""
    if typing.get_origin(annotation) is Annotated:
        annotation = typing.get_args(annotation)[0]
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        found = [_model_in(each) for each in typing.get_args(annotation)]
        return next((each for each in found if each), None)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return None


def _table(model: type[BaseModel]) -> Any:
    """Return a field definition for ``model``: optional where all of its own fields are."""
    if any(field.is_required() for field in model.model_fields.values()):
        return (model, ...)
    return (model, Field(default_factory=model))


def _parse(text: str, where: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise RecipeError(
            f"not valid TOML: {error}",
            where=where,
            expected="a recipe as 'i2i recipes schema' describes it",
            remedy="correct that line",
        ) from error


def _explain(error: ValidationError, schema: type[BaseModel], where: str) -> RecipeError:
    """Turn the first fault that pydantic found into a message with the nearest known name."""
    first, *others = error.errors()
    location = [str(part) for part in first["loc"]]
    remedy = "correct it"
    expected = _reason(first)
    wrong = f"{_short(first.get('input'))} does not fit"
    if first["type"] == "extra_forbidden":
        known = _known_keys(schema, location[:-1])
        wrong = f"there is no key {location[-1]!r}"
        expected = f"one of {', '.join(known)}"
        remedy = suggest(location[-1], known, "remove it")
    elif first["type"] == "missing":
        wrong, expected, remedy = "the key is missing", "a value", "add it"
    if others:
        remedy += f" (and {len(others)} more like it)" if len(others) > 1 else " (and one more)"
    return RecipeError(
        wrong, where=f"{where}: {'.'.join(location)}", expected=expected, remedy=remedy
    )


def _known_keys(schema: type[BaseModel], location: list[str]) -> list[str]:
    try:
        table = _model_in(_annotation(schema, location, "") if location else schema)
    except UsageError:
        table = None
    return list(_fields(table)) if table else []


def _reason(fault: Any) -> str:
    text = str(fault["msg"])
    return text.removeprefix("Input should be ").removeprefix("Value error, ")


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


def _type_name(annotation: Any) -> str:
    if typing.get_origin(annotation) is Annotated:
        annotation = typing.get_args(annotation)[0]
    if typing.get_origin(annotation) is Literal:
        return f"one of {', '.join(map(str, typing.get_args(annotation)))}"
    return getattr(annotation, "__name__", str(annotation).replace("typing.", ""))
