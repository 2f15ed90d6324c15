"""Fixtures that several test folders share: the command as a process, real distributions."""

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# The networks of tests are tiny: a second thread costs them more in waiting than it computes, and
# processes that a test starts take the same number over.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@dataclass(frozen=True)
class Distribution:
    """A small project: one package with these files, and its entry points in group i2i."""

    name: str
    files: Mapping[str, str]
    entry_points: Mapping[str, str] = field(default_factory=dict)

    def write(self, folder: Path) -> Path:
        package = self.name.replace("-", "_")
        source = folder / self.name
        for name, text in {"__init__.py": "", **self.files}.items():
            path = source / package / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        points = self.entry_points or {self.name: package}
        listed = "\n".join(f'"{name}" = "{path}"' for name, path in points.items())
        (source / "pyproject.toml").write_text(
            f"""
[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"
[project]
name = "{self.name}"
version = "1.0"
[project.entry-points.i2i]
{listed}
[tool.setuptools]
packages = ["{package}"]
[tool.setuptools.package-data]
{package} = ["**/*"]
""",
            encoding="utf-8",
        )
        return source


@pytest.fixture(scope="session")
def install(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Install with pip into a new folder, which PYTHONPATH then adds: (name, files, points)."""

    def install(*projects: tuple) -> Path:
        sources = tmp_path_factory.mktemp("sources")
        target = tmp_path_factory.mktemp("site")
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps"]
        pip += ["--no-build-isolation", "--no-compile", "--target", str(target)]
        paths = [str(Distribution(*project).write(sources)) for project in projects]
        subprocess.run([*pip, *paths], check=True, capture_output=True)
        return target

    return install


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """The environment of a process whose home and configuration are empty."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("I2I_")}
    kept.setdefault("PYTHONPATH", "")
    home = tmp_path / "home"
    home.mkdir()
    own = {"HOME": home, "XDG_CONFIG_HOME": home / "config", "APPDATA": home, "LOCALAPPDATA": home}
    return kept | {name: str(path) for name, path in own.items()} | {"OMP_NUM_THREADS": "1"}


@pytest.fixture
def i2i(
    tmp_path: Path, environment: dict[str, str]
) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run the command in a process of its own, away from the checkout."""

    def i2i(*arguments: object, site: Path | None = None, **variables: str):
        if site is not None:
            variables["PYTHONPATH"] = os.pathsep.join([str(site), environment["PYTHONPATH"]])
        return subprocess.run(
            [sys.executable, "-m", "i2i", *map(str, arguments)],
            cwd=tmp_path,
            env=environment | variables,
            capture_output=True,
            text=True,
            check=False,
            encoding="utf-8",
        )

    return i2i
