"""Which plugins the user has switched off, by the names of their entry points."""

import contextlib
import os
import tomllib
from collections.abc import Iterator
from pathlib import Path

import platformdirs
import tomli_w

from i2i.errors import PluginError


def disabled() -> dict[str, str]:
    """Return the names of disabled plugins, each with what disabled it.

    A configuration that is damaged disables nothing: see ``damage``.
    """
    off = {} if damage() else dict.fromkeys(kept(), f"{config_file()}")
    named = os.environ.get("I2I_DISABLE", "").split(",")
    return off | {name.strip(): "I2I_DISABLE" for name in named if name.strip()}


def kept() -> list[str]:
    """Return the names in the configuration; raises PluginError for a file that is damaged."""
    try:
        names = tomllib.loads(config_file().read_text(encoding="utf-8-sig")).get("disabled", [])
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:  # a TOML or a UTF-8 error is a ValueError
        raise _unreadable(f"cannot be read ({error})") from error
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise _unreadable(f"disabled is {names!r}")
    return names


def damage() -> PluginError | None:
    """Return why the configuration cannot be used, if it cannot."""
    try:
        kept()
    except PluginError as error:
        return error
    return None


def keep(names: list[str]) -> None:
    """Write the names into the configuration, whole or not at all; raises PluginError."""
    path = config_file()
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    with _writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            beside.write_text(tomli_w.dumps({"disabled": names}), encoding="utf-8")
            beside.replace(path)
        finally:
            with contextlib.suppress(OSError):  # the first error is the one to tell
                beside.unlink(missing_ok=True)


def set_aside() -> Path:
    """Rename a damaged configuration, and return where it lies now; raises PluginError."""
    path = config_file()
    with _writing(path):
        return path.replace(path.with_name(f"{path.name}.damaged"))


def config_file() -> Path:
    """Return where the user's choice of plugins is kept."""
    return Path(platformdirs.user_config_dir("i2i", appauthor=False)) / "plugins.toml"


@contextlib.contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise PluginError(
            f"cannot be written ({error})",
            where=str(path),
            expected="a folder for the user's configuration",
            remedy="make it writable, or use I2I_DISABLE=NAME in the environment",
        ) from error


def _unreadable(wrong: str) -> PluginError:
    return PluginError(
        wrong,
        where=str(config_file()),
        expected='a line such as disabled = ["name"]',
        remedy="correct or delete the file",
    )
