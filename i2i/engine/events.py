"""How observers and plugins hear of what happens."""

from collections.abc import Callable, Sequence
from typing import Any

from i2i.plugins import Plugins


class Events:
    """Tells observers and plugins what happens.

    The ``observers`` must work: what they raise ends the run or job. A plugin that raises is
    reported once through ``warn`` and not called again, so that a logger never ends a week of
    training.
    """

    def __init__(
        self, plugins: Plugins, observers: Sequence[object], warn: Callable[[str], None]
    ) -> None:
        self._manager = plugins.manager
        self._observers = list(observers)
        self.warn = warn
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
            except (Exception, SystemExit) as error:
                self._silenced.add(id(implementation.plugin))
                name = implementation.plugin_name
                self.warn(f"plugin {name!r} failed in {hook} and is ignored from here: {error!r}")

    def close(self) -> None:
        """Let go of the observers."""
        for observer in self._observers:
            self._manager.unregister(observer)
