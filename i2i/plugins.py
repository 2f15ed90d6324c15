"""Find plugins, check them, and keep a broken one from breaking anything else.

Plugins are entry points in group ``i2i``. One that fails to import, implements a hook wrongly or
offers a name that is taken is skipped and reported, never fatal. Nothing here imports torch.
"""

import importlib
import importlib.util
import inspect
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any

import platformdirs
import pluggy

from i2i import builtin, hookspecs
from i2i.errors import PluginError, UsageError, suggest

if TYPE_CHECKING:
    from i2i.translator import Translator

GROUP = "i2i"
OWN_DISTRIBUTION = "i2i-gan"


@dataclass(frozen=True)
class Offer:
    """A name that a plugin offers: where it is imported from, and whose it is."""

    name: str
    path: str  # "module:Class"
    plugin: str
    distribution: str
    version: str
    source: str


@dataclass(frozen=True)
class Skipped:
    """A plugin that is not in use, and why."""

    plugin: str
    distribution: str
    version: str
    reason: str


@dataclass
class Plugins:
    """The plugins in use: their offers by name, the hook caller, and those that were skipped."""

    manager: pluggy.PluginManager
    families: dict[str, Offer] = field(default_factory=dict)
    layouts: dict[str, Offer] = field(default_factory=dict)
    recipe_folders: list[Path] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)

    def family(self, name: str) -> "type[Translator]":
        """Import the family ``name``.

        Raises UsageError for an unknown name and PluginError when its class cannot be used.
        """
        from i2i.translator import Translator

        family = self._imported("family", name, self.families)
        if not (isinstance(family, type) and issubclass(family, Translator)):
            raise _broken(self.families[name], "is not a subclass of i2i.Translator")
        missing = [
            attribute
            for attribute in ("name", "Options", "Request", "inputs", "exported")
            if not hasattr(family, attribute)
        ]
        if missing or inspect.isabstract(family):
            missing += sorted(getattr(family, "__abstractmethods__", ()))
            raise _broken(self.families[name], f"does not define {', '.join(missing)}")
        return family

    def layout(self, name: str) -> type[Any]:
        """Import the data layout ``name``; raises as ``family`` does."""
        layout: type[Any] = self._imported("layout", name, self.layouts)
        return layout

    def _imported(self, kind: str, name: str, offers: Mapping[str, Offer]) -> Any:
        if name not in offers:
            raise UsageError(
                f"there is no {kind} named {name!r}",
                where="plugins",
                expected=f"one of {', '.join(sorted(offers)) or 'none installed'}",
                remedy=suggest(name, offers, "run 'i2i plugins' to see what is installed"),
            )
        module, _, attribute = offers[name].path.partition(":")
        try:
            return getattr(importlib.import_module(module), attribute)
        except Exception as error:
            raise _broken(offers[name], f"cannot be imported ({_describe(error)})") from error


def load_plugins() -> Plugins:
    """Find every plugin that is installed and not disabled.

    The built-in ones come first, then the others by distribution and name, so that a newcomer
    never takes a name away from a plugin that was there.
    """
    manager = pluggy.PluginManager("i2i")
    manager.add_hookspecs(hookspecs)
    plugins = Plugins(manager)
    _adopt(plugins, "i2i", builtin, OWN_DISTRIBUTION, "")
    off = disabled()
    for point in sorted(entry_points(group=GROUP), key=_order):
        distribution, version = _origin(point)
        if point.name in off:
            reason = f"disabled by {off[point.name]}"
            plugins.skipped.append(Skipped(point.name, distribution, version, reason))
            continue
        try:
            _adopt(plugins, point.name, point.load(), distribution, version)
        except (Exception, SystemExit) as error:
            plugins.skipped.append(Skipped(point.name, distribution, version, _describe(error)))
    return plugins


def disabled() -> dict[str, str]:
    """Return the names of disabled plugins, each with what disabled it."""
    off = dict.fromkeys(_read_disabled(), f"{config_file()}")
    named = os.environ.get("I2I_DISABLE", "").split(",")
    return off | {name.strip(): "I2I_DISABLE" for name in named if name.strip()}


def set_disabled(name: str, *, off: bool) -> None:
    """Remember in the user's configuration whether the plugin ``name`` is disabled."""
    names = (set(_read_disabled()) - {name}) | ({name} if off else set())
    listed = ", ".join(f'"{each}"' for each in sorted(names))
    config_file().parent.mkdir(parents=True, exist_ok=True)
    config_file().write_text(f"disabled = [{listed}]\n", encoding="utf-8")


def config_file() -> Path:
    """Return where the user's choice of plugins is kept."""
    return Path(platformdirs.user_config_dir("i2i", appauthor=False)) / "plugins.toml"


def _read_disabled() -> list[str]:
    try:
        names = tomllib.loads(config_file().read_text(encoding="utf-8")).get("disabled", [])
    except FileNotFoundError:
        return []
    except tomllib.TOMLDecodeError as error:
        raise PluginError(
            f"not valid TOML ({error})",
            where=str(config_file()),
            expected='a line such as disabled = ["name"]',
            remedy="correct or delete the file",
        ) from error
    return [str(name) for name in names]


def _order(point: EntryPoint) -> tuple[bool, str, str]:
    distribution, _ = _origin(point)
    return distribution != OWN_DISTRIBUTION, distribution, point.name


def _origin(point: EntryPoint) -> tuple[str, str]:
    return (point.dist.name, point.dist.version) if point.dist else ("unknown", "")


def _adopt(plugins: Plugins, name: str, plugin: Any, distribution: str, version: str) -> None:
    """Register one plugin and take over what it offers, or leave no trace of it and raise."""
    manager = plugins.manager
    if manager.has_plugin(name):
        raise _refused(f"the plugin name {name!r} is taken", name, "rename the entry point")
    manager.register(plugin, name=name)
    try:
        _check_hook_names(manager, plugin, name)
        source = str(getattr(plugin, "__file__", ""))
        offers = {
            hook: _offers(manager, hook, plugin, taken, (name, distribution, version, source))
            for hook, taken in (
                ("i2i_families", plugins.families),
                ("i2i_layouts", plugins.layouts),
            )
        }
        folder = _call(manager, "i2i_recipes", plugin)
        if folder is not None and not Path(folder).is_dir():
            raise _refused(f"i2i_recipes names {folder}, which is no folder", name, "ship it")
    except BaseException:
        manager.unregister(plugin)
        raise
    plugins.families |= offers["i2i_families"]
    plugins.layouts |= offers["i2i_layouts"]
    if folder is not None:
        plugins.recipe_folders.append(Path(folder))


def _check_hook_names(manager: pluggy.PluginManager, plugin: Any, name: str) -> None:
    known = [hook for hook in vars(hookspecs) if hook.startswith("i2i_")]
    for caller in manager.get_hookcallers(plugin) or ():
        if caller.spec is None:
            remedy = suggest(caller.name, known, f"the hooks are {', '.join(known)}")
            raise _refused(f"there is no hook {caller.name!r}", name, remedy)


def _call(manager: pluggy.PluginManager, hook: str, plugin: Any) -> Any:
    for implementation in getattr(manager.hook, hook).get_hookimpls():
        if implementation.plugin is plugin:
            return implementation.function()
    return None


def _offers(
    manager: pluggy.PluginManager,
    hook: str,
    plugin: Any,
    taken: Mapping[str, Offer],
    origin: tuple[str, str, str, str],
) -> dict[str, Offer]:
    offered = _call(manager, hook, plugin)
    if offered is None:
        return {}
    if not isinstance(offered, Mapping) or not all(
        isinstance(name, str) and isinstance(path, str) and path.count(":") == 1
        for name, path in offered.items()
    ):
        raise _refused(f"{hook} returned {offered!r}", origin[0], 'return {"name": "module:Class"}')
    for name in offered:
        if name in taken:
            raise _refused(
                f"{hook} offers {name!r}, which {taken[name].distribution} already offers",
                origin[0],
                "choose another name",
            )
    return {
        name: Offer(name, path, origin[0], origin[1], origin[2], _source(path) or origin[3])
        for name, path in offered.items()
    }


def _source(path: str) -> str:
    """Return the file that "module:Class" would be imported from, without importing it."""
    module = path.partition(":")[0]
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError):
        return ""
    return (spec.origin or "") if spec else ""


def _refused(wrong: str, plugin: str, remedy: str) -> PluginError:
    expected = "a plugin as i2i.hookspecs describes it"
    return PluginError(wrong, where=f"plugin {plugin!r}", expected=expected, remedy=remedy)


def _broken(offer: Offer, wrong: str) -> PluginError:
    return PluginError(
        f"{offer.path} {wrong}",
        where=f"plugin {offer.plugin!r} of {offer.distribution} {offer.version}".rstrip(),
        expected="a class that keeps the contract of i2i.translator and i2i.data",
        remedy=f"repair it, or switch it off with 'i2i plugins disable {offer.plugin}'",
    )


def _describe(error: BaseException) -> str:
    if isinstance(error, PluginError):
        return f"{error.wrong}; {error.remedy}"
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


__all__ = ["Offer", "Plugins", "Skipped", "disabled", "load_plugins", "set_disabled"]
