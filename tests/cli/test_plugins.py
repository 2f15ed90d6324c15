"""``i2i plugins`` with the built-in plugins alone; tests/contract/test_door.py has strangers."""

import importlib.metadata
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent


def test_every_built_in_plugin_is_listed_with_family_version_and_source(i2i):
    described = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    version = importlib.metadata.version("i2i-gan")

    done = i2i("plugins")

    rows = [line.split() for line in done.stdout.splitlines()]
    for name in described["project"]["entry-points"]["i2i"]:
        (row,) = [row for row in rows if row[:2] == ["family", name]]
        assert row[2:5] == [name, "i2i-gan", version]
        assert Path(row[5]).is_file()
        assert ROOT / "plugins" in Path(row[5]).parents
    assert ["layout", "unpaired", "i2i", "i2i-gan", version] in [row[:5] for row in rows]
    assert "Skipped" not in done.stdout


def test_list_is_what_happens_without_a_subcommand(i2i):
    assert i2i("plugins", "list").stdout == i2i("plugins").stdout
    assert i2i("plugins", "list", "--names").stdout == i2i("plugins", "--names").stdout
    assert "cyclegan" in i2i("plugins", "--names").stdout.split()


def test_the_choice_is_kept_in_the_users_configuration(i2i, environment):
    said = i2i("plugins", "disable", "cyclegan").stdout

    kept = Path(said.split(" in ")[1].strip())
    assert kept.is_relative_to(environment["HOME"])
    assert tomllib.loads(kept.read_text(encoding="utf-8")) == {"disabled": ["cyclegan"]}
    i2i("plugins", "enable", "cyclegan")
    assert tomllib.loads(kept.read_text(encoding="utf-8")) == {"disabled": []}
