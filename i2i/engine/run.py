"""What observers see of a training run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from i2i.engine.window import Line
from i2i.plugins import Plugins
from i2i.recipe import Recipe
from i2i.translator import Translator


@dataclass
class Run:
    """One training run: its folder, its recipe, and how far it is."""

    folder: Path
    recipe: Recipe
    translator: Translator
    stage: str = ""
    step: int = 0  # steps done in the stage
    images: int = 0  # images seen in the stage
    length: int = 0  # images in the stage
    total_step: int = 0  # steps done in all stages


@dataclass(frozen=True)
class StepReport:
    """One finished step; ``line`` holds the means since the last line where one is due."""

    rates: Mapping[str, float]  # learning rate a player
    line: Line | None


class Events:
    """Tells observers and plugins what happens.

    The run's own observers must work: what they raise ends the run. A stranger's that raises is
    reported once and not called again, so that a logger never ends a week of training.
    """

    def __init__(self, plugins: Plugins, observers: Sequence[object], warn: Any) -> None:
        self._manager = plugins.manager
        self._observers = list(observers)
        self._warn = warn
        self._silenced: set[int] = set()
        for observer in self._observers:
            self._manager.register(observer)

    def tell(self, hook: str, **arguments: Any) -> None:
        """Call every implementation of ``hook`` with the arguments it takes."""
        for implementation in getattr(self._manager.hook, hook).get_hookimpls():
            if id(implementation.plugin) in self._silenced:
                continue
            chosen = [arguments[name] for name in implementation.argnames]
            if any(implementation.plugin is observer for observer in self._observers):
                implementation.function(*chosen)
                continue
            try:
                implementation.function(*chosen)
            except Exception as error:
                self._silenced.add(id(implementation.plugin))
                name = implementation.plugin_name
                self._warn(f"plugin {name!r} failed in {hook} and is ignored from here: {error!r}")

    def close(self) -> None:
        """Let go of the observers."""
        for observer in self._observers:
            self._manager.unregister(observer)
