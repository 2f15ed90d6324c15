"""What is shipped: the wheel's files, and the wheel in an empty environment."""

import re
import shutil
import subprocess
import sys
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
SOURCES = {"i2i": "i2i", "plugins": "", "recipes": "i2i_recipes"}  # folder: where it goes


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    found = [line.split("==") for line in lines if not line.startswith("#")]
    return {normal(name): version for name, version in found}


def requirements() -> set[str]:
    listed = sum(PROJECT["optional-dependencies"].values(), PROJECT["dependencies"])
    return {normal(re.match(r"[\w.-]+", each)[0]) for each in listed} - {PROJECT["name"]}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """The wheel, built from a copy: building leaves files in the folder that is built."""
    copy = tmp_path_factory.mktemp("copy")
    for name in SOURCES:
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    out = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "--wheel-dir", str(out), str(copy)], check=True, capture_output=True)
    (path,) = out.glob("i2i_gan-*.whl")
    return path


def test_the_wheel_holds_every_module_recipe_and_model(wheel):
    packed = set(zipfile.ZipFile(wheel).namelist())

    for folder, place in SOURCES.items():
        for path in (ROOT / folder).rglob("*"):
            if path.suffix in (".py", ".toml", ".typed", ".safetensors"):
                assert (Path(place) / path.relative_to(ROOT / folder)).as_posix() in packed


def test_every_dependency_is_pinned_without_a_local_label_and_explained():
    explained = (ROOT / "docs" / "dependencies.md").read_text(encoding="utf-8")

    assert requirements() <= pins().keys()
    for name in requirements():
        assert f"| {name} |" in explained
    assert not [pin for pin in pins().values() if "+" in pin or not pin]


@pytest.mark.slow
@pytest.mark.network
def test_the_wheel_works_in_an_empty_environment_away_from_the_checkout(
    wheel, tmp_path, environment
):
    venv.create(tmp_path / "venv", with_pip=True)
    binaries = tmp_path / "venv" / ("Scripts" if sys.platform == "win32" else "bin")

    def call(program: str, *arguments: object) -> str:
        done = subprocess.run(
            [str(binaries / program), *map(str, arguments)],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    call("python", "-m", "pip", "install", "-q", "-c", ROOT / "constraints.txt", wheel)

    installed = call("python", "-m", "pip", "freeze").splitlines()
    found = {
        normal(name): pin for name, pin in (each.split("==") for each in installed if "==" in each)
    }
    pinned = pins()
    assert len(found) > len(PROJECT["dependencies"])
    for name, version in found.items():
        if not name.startswith(("nvidia-", "cuda-", "triton")):  # where torch brings its own
            assert version.partition("+")[0] == pinned[name], name
    assert set(call("i2i", "plugins", "--names").split()) == {
        "i2i",
        *PROJECT["entry-points"]["i2i"],
    }
    assert str(tmp_path / "venv") in call("i2i", "plugins")
    assert str(ROOT / "i2i") not in call("i2i", "plugins")
    rows = [line.split() for line in call("i2i", "recipes").splitlines()]
    models = {row[0]: row[2] for row in rows if len(row) > 2}
    for path in (ROOT / "recipes").glob("*.toml"):
        weights = tomllib.loads(path.read_text(encoding="utf-8")).get("weights", {})
        shipped = (path.parent / weights.get("file", "nowhere")).is_file()
        expected = "shipped" if shipped else "fetchable," if "url" in weights else "-"
        assert models[path.stem] == expected
        call("i2i", "recipes", "show", path.stem)
        if shipped and path.stem == "horse2zebra":
            horses = ROOT / "docs" / "samples" / "horses"
            call("i2i", "translate", horses, "-o", "zebras", "--recipe", path.stem)
            assert len(list((tmp_path / "zebras").glob("*.jpg"))) == 2
