"""Which plugins the user has switched off, by the names of their entry points."""

import os
import tomllib
from pathlib import Path

import platformdirs
import tomli_w

from i2i.errors import PluginError


def disabled() -> dict[str, str]:
    """Return the names of disabled plugins, each with what disabled it."""
    off = dict.fromkeys(kept(), f"{config_file()}")
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


def keep(names: list[str]) -> None:
    """Write the names into the configuration."""
    config_file().parent.mkdir(parents=True, exist_ok=True)
    config_file().write_text(tomli_w.dumps({"disabled": names}), encoding="utf-8")


def config_file() -> Path:
    """Return where the user's choice of plugins is kept."""
    return Path(platformdirs.user_config_dir("i2i", appauthor=False)) / "plugins.toml"


def _unreadable(wrong: str) -> PluginError:
    return PluginError(
        wrong,
        where=str(config_file()),
        expected='a line such as disabled = ["name"]',
        remedy="correct or delete the file",
    )
