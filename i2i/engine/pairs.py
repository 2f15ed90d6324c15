"""The pairs of a data folder that a model's results can be measured on."""

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from i2i.data.layouts import Layout, Part, Split
from i2i.data.pairing import refusal
from i2i.errors import I2IError, PluginError, UsageError, unknown
from i2i.model_file import Header
from i2i.plugins import Plugins
from i2i.recipe import Data, validate
from i2i.translator import Translator


@dataclass(frozen=True)
class Pair:
    """A picture to translate and what it should become; ``name`` is the target's file."""

    name: str
    source: Part
    target: Part


@dataclass(frozen=True)
class Found:
    """The pairs of a data folder, and how many pictures the layout leaves out for want of one."""

    pairs: tuple[Pair, ...]
    num_alone: int = 0


@dataclass(frozen=True)
class Folder:
    """A data folder as a layout reads it."""

    root: Path
    split: Split
    layout: str
    options: Any
    found: Found


def open_folder(
    root: Path,
    split: Split,
    translator: Translator,
    plugins: Plugins,
    layout: tuple[str, Any] | None,
) -> Folder:
    """Find the pairs of a data folder by a layout and its options.

    Options None are the layout's own defaults for the model's scale. Without a
    layout it is the only one that finds pairs; raises UsageError where none or several do, and
    as ``find_pairs`` does.
    """
    if layout is None:
        return _only(root, split, translator, plugins)
    name, options = layout
    if options is None:
        options = _defaults(plugins, name, translator)
    found = find_pairs(plugins.layout(name), root, options, translator, split)
    return Folder(root, split, name, options, found)


def layout_of(header: Header, plugins: Plugins) -> tuple[str, Any] | None:
    """Return the layout that a model was trained by, with its options; None if it does not say.

    Raises UsageError for a layout that is not installed, and RecipeError for options that are not
    those of today's.
    """
    if not header.recipe:
        return None
    data = tomllib.loads(header.recipe).get("data", {})
    name = data.get("layout", Data.model_fields["layout"].default)
    where = "the model file's recipe: data"
    if name not in plugins.layouts:
        known = sorted(plugins.layouts)
        raise unknown("layout named", name, known, where=where, otherwise=plugins.advice)
    options = plugins.layout(name).Options
    return name, validate(options, data.get("options", {}), f"{where}.options")


def find_pairs(
    layout: type[Layout], root: Path, options: Any, translator: Translator, split: Split
) -> Found:
    """Return the pairs of a split, in the layout's order.

    Raises UsageError for a family that has none, DataError where pictures are missing or have no
    partner, and RecipeError for a layout that cannot serve the family.
    """
    source, target = compared_roles(translator)
    inputs = translator.inputs
    layout.check(options, inputs)
    pairing = layout.match(root, options, inputs, split)
    if pairing is None:
        listed = (
            layout.list_pictures(root, options, inputs, role, split) for role in (source, target)
        )
        parts = [*zip(*listed, strict=True)]
    elif pairing.refused or not pairing.pairs:
        raise refusal(root, pairing, split, "give them equal names")
    else:
        parts = [(pair[source], pair[target]) for pair in pairing.pairs]
    pairs = tuple(Pair(_name(part.path, root), whole, part) for whole, part in parts)
    return Found(pairs, sum(map(len, pairing.alone.values())) if pairing else 0)


def compared_roles(translator: Translator) -> tuple[str, str]:
    """Return the roles of source and target; raises UsageError for a family that has none."""
    roles = translator.compared
    if roles is None:
        raise UsageError(
            f"the family {translator.name!r} learns without pairs, so no result has a target",
            where="evaluate",
            expected="a model of a family that translates one picture of a pair into the other",
            remedy="choose another model: measures without targets are not built yet",
        )
    for role in roles:
        if role not in translator.inputs.images:
            raise PluginError(
                f"compared names {role!r}, which is none of its roles",
                where=f"family {translator.name!r}",
                expected=f"two of {', '.join(translator.inputs.images)}",
                remedy="correct the family",
            )
    return roles


def _only(root: Path, split: Split, translator: Translator, plugins: Plugins) -> Folder:
    compared_roles(translator)
    fitting: list[Folder] = []
    for name in sorted(plugins.layouts):
        try:
            options = _defaults(plugins, name, translator)
            found = find_pairs(plugins.layout(name), root, options, translator, split)
        except I2IError:  # it is for other families, or for folders of other names
            continue
        fitting.append(Folder(root, split, name, options, found))
    if len(fitting) == 1:
        return fitting[0]
    several = "more than one layout finds" if fitting else "no layout finds"
    raise UsageError(
        f"the model does not say how its data are laid out, and {several} pairs in this folder",
        where=str(root),
        expected=f"--layout {' or '.join([each.layout for each in fitting] or plugins.layouts)}",
        remedy="name the layout",
    )


def _defaults(plugins: Plugins, name: str, translator: Translator) -> Any:
    layout = plugins.layout(name)
    raw = layout.defaults(translator.fit.scale)
    return validate(layout.Options, raw, f"the defaults of layout {name!r}")


def _name(path: Path, root: Path) -> str:
    return (path.relative_to(root) if path.is_relative_to(root) else path).as_posix()
