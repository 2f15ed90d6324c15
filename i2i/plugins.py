"""Find plugins, check them, and keep a broken one from breaking anything else.

Plugins are entry points in group ``i2i``. One that fails to import, implements a hook wrongly or
offers a name that is taken is skipped and reported, never fatal. Nothing here imports torch.
"""

import contextlib
import importlib
import inspect
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import (
    EntryPoint,
    PackageNotFoundError,
    distributions,
    entry_points,
    version,
)
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pluggy

from i2i import builtin, hookspecs
from i2i.downloads import Remote
from i2i.errors import PluginError, unknown
from i2i.offers import (
    Loaded,
    Offer,
    check_hooks,
    classes,
    cut,
    networks,
    recipe_folders,
    refused,
)
from i2i.switches import damage, disabled, keep, kept, set_aside

if TYPE_CHECKING:
    from i2i.importer import Importer
    from i2i.metrics import Metric
    from i2i.translator import Translator

GROUP = "i2i"
OWN_DISTRIBUTION = "i2i-gan"


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
    loaded: list[Loaded] = field(default_factory=list)
    families: dict[str, Offer] = field(default_factory=dict)
    layouts: dict[str, Offer] = field(default_factory=dict)
    importers: dict[str, Offer] = field(default_factory=dict)
    metrics: dict[str, Offer] = field(default_factory=dict)
    weights: dict[str, Remote] = field(default_factory=dict)
    recipe_folders: list[Path] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)

    @property
    def advice(self) -> str:
        """What to do about a name that no plugin offers: where to look."""
        look = "run 'i2i plugins' to see what is installed"
        return f"{look} and why others were skipped" if self.skipped else look

    def family(self, name: str) -> "type[Translator]":
        """Import the family ``name``.

        Raises UsageError for an unknown name and PluginError when its class cannot be used.
        """
        family = self._imported("family", name, self.families)
        offer = self.families[name]
        from i2i.translator import Translator  # imports torch, as a family that works has done

        if not (isinstance(family, type) and issubclass(family, Translator)):
            raise _broken(offer, "is not a subclass of i2i.Translator")
        attributes = ("name", "Options", "Request", "inputs", "exported")
        missing = [attribute for attribute in attributes if not hasattr(family, attribute)]
        if missing or inspect.isabstract(family):
            missing += sorted(getattr(family, "__abstractmethods__", ()))
            raise _broken(offer, f"does not define {', '.join(missing)}")
        for attribute in ("Options", "Request"):
            _check_model(offer, attribute, getattr(family, attribute))
        if family.name != name:
            raise _broken(offer, f"calls itself {family.name!r}, but is offered as {name!r}")
        return family

    def layout(self, name: str) -> type[Any]:
        """Import the data layout ``name``; raises as ``family`` does."""
        layout = self._imported("layout", name, self.layouts)
        from i2i.data.layouts import Layout  # imports torch, as a layout that works has done

        if not (isinstance(layout, type) and issubclass(layout, Layout)):
            raise _broken(self.layouts[name], "is not a subclass of i2i.data.Layout")
        _check_model(self.layouts[name], "Options", getattr(layout, "Options", None))
        return layout

    def importer(self, name: str) -> "Importer":
        """Import the importer ``name`` and make one; raises as ``family`` does."""
        importer = self._imported("importer", name, self.importers)
        from i2i.importer import Importer

        if not (isinstance(importer, type) and issubclass(importer, Importer)):
            raise _broken(self.importers[name], "is not a subclass of i2i.Importer")
        if inspect.isabstract(importer) or not isinstance(getattr(importer, "family", None), str):
            raise _broken(self.importers[name], "does not define family and read")
        made: Importer = importer()
        return made

    def metric(self, name: str) -> "Metric":
        """Import the metric ``name`` and make one; raises as ``family`` does."""
        metric = self._imported("metric", name, self.metrics)
        from i2i.metrics import Metric

        if not (isinstance(metric, type) and issubclass(metric, Metric)):
            raise _broken(self.metrics[name], "is not a subclass of i2i.metrics.Metric")
        if inspect.isabstract(metric) or getattr(metric, "better", "") not in ("higher", "lower"):
            raise _broken(self.metrics[name], "does not define better, protocol and measure")
        if getattr(metric, "name", None) != name:
            raise _broken(self.metrics[name], f"does not call itself {name!r}")
        made: Metric = metric()
        return made

    def _imported(self, kind: str, name: str, offers: Mapping[str, Offer]) -> Any:
        if name not in offers:
            raise unknown(
                f"{kind} named", name, sorted(offers), where="plugins", otherwise=self.advice
            )
        module, _, attribute = offers[name].path.partition(":")
        try:
            return getattr(importlib.import_module(module), attribute)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            raise _broken(offers[name], f"cannot be imported ({_describe(error)})") from error


def load_plugins() -> Plugins:
    """Find every plugin that is installed and not disabled.

    The built-in ones come first, so that no stranger takes a name away from them; then the others
    by distribution and name, so that who wins does not depend on the order of folders.
    """
    plugins = Plugins(_manager())
    _adopt(plugins, "i2i", builtin, OWN_DISTRIBUTION, _own_version())
    off = disabled()
    points, plugins.skipped = _entry_points()
    if wrong := damage():
        reason = f"{wrong.wrong}, so no plugin is disabled by it"
        plugins.skipped.append(Skipped("?", wrong.where, "", reason))
    for point in sorted(points, key=_order):
        distribution, version = _origin(point)
        if point.name in off:
            reason = f"disabled by {off[point.name]}"
            plugins.skipped.append(Skipped(point.name, distribution, version, reason))
            continue
        try:
            with contextlib.redirect_stdout(sys.stderr):  # ours is read by other programs
                _adopt(plugins, point.name, point.load(), distribution, version)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # a plugin may exit, or skip as if it were a test
            plugins.skipped.append(Skipped(point.name, distribution, version, _describe(error)))
    return plugins


def installed() -> list[str]:
    """Return the names of all installed plugins, disabled ones included; imports none."""
    return sorted({point.name for point in _entry_points()[0]})


def set_disabled(name: str, *, off: bool) -> Path | None:
    """Remember in the user's configuration whether the plugin ``name`` is disabled.

    Imports no plugin. A configuration that cannot be read begins anew; returns where the damaged
    file lies then. Raises UsageError for a name that is neither installed nor disabled, and
    PluginError where the configuration cannot be written.
    """
    damaged = damage() is not None
    before = set() if damaged else set(kept())
    known = {*installed(), *before}
    if name not in known:
        look = "run 'i2i plugins' to see what is installed"
        raise unknown("plugin named", name, sorted(known), where="plugins", otherwise=look)
    rescued = set_aside() if damaged else None
    keep(sorted(before | {name} if off else before - {name}))
    return rescued


def _own_version() -> str:
    try:
        return version(OWN_DISTRIBUTION)
    except PackageNotFoundError:  # run from a checkout that is not installed
        return ""


def _manager() -> pluggy.PluginManager:
    manager = pluggy.PluginManager("i2i")
    manager.add_hookspecs(hookspecs)
    return manager


def _entry_points() -> tuple[list[EntryPoint], list[Skipped]]:
    """Return our entry points, and the distributions whose entry points cannot be read."""
    try:
        return list(entry_points(group=GROUP)), []
    except Exception:
        return _entry_points_one_by_one()


def _entry_points_one_by_one() -> tuple[list[EntryPoint], list[Skipped]]:
    """Do the same where one distribution's damaged metadata stops the quick way."""
    points: list[EntryPoint] = []
    damaged: list[Skipped] = []
    seen: set[str] = set()
    for distribution in distributions():
        name = "unknown"
        try:
            name = distribution.name
            if name not in seen:  # the first on the path is the one that is imported
                seen.add(name)
                points += distribution.entry_points.select(group=GROUP)
        except Exception as error:
            reason = f"its entry points cannot be read ({_describe(error)})"
            damaged.append(Skipped("?", str(name), "", reason))
    return points, damaged


def _order(point: EntryPoint) -> tuple[bool, str, str]:
    distribution, _ = _origin(point)
    return distribution != OWN_DISTRIBUTION, distribution, point.name


def _origin(point: EntryPoint) -> tuple[str, str]:
    try:
        return (str(point.dist.name), str(point.dist.version)) if point.dist else ("unknown", "")
    except Exception:
        return "unknown", ""


def _adopt(plugins: Plugins, name: str, plugin: Any, distribution: str, version: str) -> None:
    """Take over what one plugin offers, or leave no trace of it and raise."""
    trial = _manager()
    if plugins.manager.has_plugin(name):
        raise refused(f"the plugin name {name!r} is taken", name, "rename the entry point")
    if trial.register(plugin, name=name) is None:
        raise refused("the entry point names nothing", name, "name a module")
    check_hooks(trial, plugin, name)
    source = str(getattr(plugin, "__file__", ""))
    origin = Loaded(name, distribution, version, source)
    families = classes(trial, "i2i_families", plugins.families, origin)
    layouts = classes(trial, "i2i_layouts", plugins.layouts, origin)
    importers = classes(trial, "i2i_importers", plugins.importers, origin)
    metrics = classes(trial, "i2i_metrics", plugins.metrics, origin)
    weights = networks(trial, plugins.weights, origin)
    folders = recipe_folders(trial, plugins.recipe_folders, name)
    plugins.manager.register(plugin, name=name)
    plugins.loaded.append(origin)
    plugins.families |= families
    plugins.layouts |= layouts
    plugins.importers |= importers
    plugins.metrics |= metrics
    plugins.weights |= weights
    plugins.recipe_folders += folders


def _check_model(offer: Offer, attribute: str, found: Any) -> None:
    from pydantic import BaseModel  # slow to import, and not needed to list plugins

    if not (isinstance(found, type) and issubclass(found, BaseModel)):
        raise _broken(offer, f"has {attribute} = {cut(repr(found))}, which is no pydantic model")


def _broken(offer: Offer, wrong: str) -> PluginError:
    return PluginError(
        f"{offer.path} {wrong}",
        where=f"plugin {offer.plugin!r} of {offer.distribution} {offer.version}".rstrip(),
        expected="a class that keeps the contract of its kind (i2i.hookspecs says which)",
        remedy=f"repair it, or switch it off with 'i2i plugins disable {offer.plugin}'",
    )


def _describe(error: BaseException) -> str:
    if isinstance(error, PluginError):
        return f"{error.wrong}; {error.remedy}"
    try:
        text = " ".join(str(error).split())
    except Exception:  # a stranger's __str__ is a stranger's code
        text = ""
    return cut(f"{type(error).__name__}: {text}" if text else type(error).__name__, 300)


__all__ = [
    "Loaded",
    "Offer",
    "Plugins",
    "Skipped",
    "installed",
    "load_plugins",
    "set_disabled",
]
