"""What a plugin offers, checked before any of it is taken over; nothing here imports a family."""

import importlib.util
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

import pluggy

from i2i import hookspecs
from i2i.downloads import Remote
from i2i.errors import PluginError, suggest

_NAME = r"\w[\w.-]*"


@dataclass(frozen=True)
class Loaded:
    """A plugin in use, and where it comes from."""

    plugin: str
    distribution: str
    version: str
    source: str


@dataclass(frozen=True)
class Offer:
    """A name that a plugin offers: where it is imported from, and whose it is."""

    name: str
    path: str  # "module:Class"
    plugin: str
    distribution: str
    version: str
    source: str  # the file it would be imported from


def check_hooks(trial: pluggy.PluginManager, plugin: Any, name: str) -> None:
    """Refuse a plugin that implements what is no hook, or wraps one; raises PluginError."""
    known = [hook for hook in vars(hookspecs) if hook.startswith("i2i_")]
    for caller in trial.get_hookcallers(plugin) or ():
        if caller.spec is None and not all(each.optionalhook for each in caller.get_hookimpls()):
            remedy = suggest(caller.name, known, f"the hooks are {', '.join(known)}")
            raise refused(f"there is no hook {caller.name!r}", name, remedy)
        if any(each.wrapper or each.hookwrapper for each in caller.get_hookimpls()):
            wrong = f"{caller.name} is a wrapper, and i2i calls none"
            raise refused(wrong, name, "mark it with a plain @hookimpl")


def classes(
    trial: pluggy.PluginManager, hook: str, taken: Mapping[str, Offer], origin: Loaded
) -> dict[str, Offer]:
    """Return the classes that a plugin offers through ``hook``; raises PluginError."""
    offered = _call(trial, hook)
    if offered is None:
        return {}
    if not _is_table(offered) or not all(
        isinstance(path, str) and re.fullmatch(r"\w+(\.\w+)*:\w+", path)
        for path in offered.values()
    ):
        wrong = f"{hook} returned {cut(repr(offered))}"
        raise refused(wrong, origin.plugin, 'return {"name": "module:Class"}')
    owners = {name: offer.distribution for name, offer in taken.items()}
    _check_free(hook, offered, owners, origin)
    return {
        name: Offer(
            name,
            path,
            origin.plugin,
            origin.distribution,
            origin.version,
            _source(path) or origin.source,
        )
        for name, path in offered.items()
    }


def networks(
    trial: pluggy.PluginManager, taken: Mapping[str, Remote], origin: Loaded
) -> dict[str, Remote]:
    """Return the auxiliary networks that a plugin offers; raises PluginError."""
    hook = "i2i_weights"
    offered = _call(trial, hook)
    if offered is None:
        return {}
    if not _is_table(offered) or not all(_is_network(entry) for entry in offered.values()):
        wrong = f"{hook} returned {cut(repr(offered))}"
        keys = '"url": "https://...", "sha256": "64 digits", "bytes": 123, "licence": "..."'
        raise refused(wrong, origin.plugin, f'return {{"name": {{{keys}}}}}')
    _check_free(hook, offered, dict.fromkeys(taken, "another plugin"), origin)
    return {
        name: Remote(name, entry["url"], entry["sha256"].lower(), entry["bytes"], entry["licence"])
        for name, entry in offered.items()
    }


def recipe_folders(trial: pluggy.PluginManager, taken: list[Path], name: str) -> list[Path]:
    """Return the folder of recipes that the plugin ``name`` offers, if any; raises PluginError."""
    folder = _call(trial, "i2i_recipes")
    if folder is None:
        return []
    if not isinstance(folder, str | os.PathLike) or not Path(folder).is_dir():
        wrong = f"i2i_recipes returned {cut(repr(folder))}, which is no folder"
        raise refused(wrong, name, "return the path of a folder that the distribution ships")
    there = {path.stem for other in taken for path in other.glob("*.toml")}
    if twice := sorted(path.stem for path in Path(folder).glob("*.toml") if path.stem in there):
        wrong = f"i2i_recipes offers {twice[0]!r}, which another plugin already offers"
        raise refused(wrong, name, "choose another name")
    return [Path(folder)]


def refused(wrong: str, plugin: str, remedy: str) -> PluginError:
    """Return the error that keeps a whole plugin out."""
    expected = "a plugin as i2i.hookspecs describes it"
    return PluginError(wrong, where=f"plugin {plugin!r}", expected=expected, remedy=remedy)


def cut(text: str, length: int = 80) -> str:
    """Return the beginning of a text that may be long."""
    return text if len(text) <= length else f"{text[: length - 3]}..."


def _call(trial: pluggy.PluginManager, hook: str) -> Any:
    found = getattr(trial.hook, hook).get_hookimpls()
    return found[0].function() if found else None


def _is_table(offered: Any) -> bool:
    return isinstance(offered, Mapping) and all(
        isinstance(name, str) and re.fullmatch(_NAME, name) for name in offered
    )


def _is_network(entry: Any) -> bool:
    """Whether an entry is whole: a judge whose file may change judges nothing."""
    return (
        isinstance(entry, Mapping)
        and entry.keys() == {"url", "sha256", "bytes", "licence"}
        and all(isinstance(entry[key], str) for key in ("url", "sha256", "licence"))
        and re.fullmatch(r"https?://\S+", entry["url"]) is not None
        and re.fullmatch(r"[0-9a-fA-F]{64}", entry["sha256"]) is not None
        and type(entry["bytes"]) is int
        and entry["bytes"] > 0
    )


def _check_free(
    hook: str, offered: Mapping[str, object], owners: Mapping[str, str], origin: Loaded
) -> None:
    for name in offered:
        if name in owners:
            wrong = f"{hook} offers {name!r}, which {owners[name]} already offers"
            raise refused(wrong, origin.plugin, "choose another name")


def _source(path: str) -> str:
    """Return the file that "module:Class" would be imported from, without importing anything.

    ``find_spec`` would import the parents of a nested module, so each level is looked up alone.
    """
    top, *nested = path.partition(":")[0].split(".")
    try:
        spec = importlib.util.find_spec(top)
        for part in nested:
            if spec is None or spec.submodule_search_locations is None:
                return ""
            spec = PathFinder.find_spec(f"{spec.name}.{part}", spec.submodule_search_locations)
    except Exception:
        return ""
    return (spec.origin or "") if spec else ""
