"""The plugin author's guide, done as its reader would."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.engine.helpers import call, make_data

GUIDE = Path(__file__).parents[2] / "docs" / "plugins.md"


def blocks(language: str) -> list[str]:
    """Return the guide's code blocks of one language, in order."""
    return re.findall(rf"```{language}\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.S)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """The guide's package, installed from its own files beside this environment."""
    folder = tmp_path_factory.mktemp("guide")
    project, recipe = blocks("toml")
    module, _, importer = blocks("python")
    source = folder / "source"
    source.mkdir()
    (source / "pyproject.toml").write_text(project)
    (source / "i2i_recolour.py").write_text(f"{module}\n{importer}")
    (folder / "recolour.toml").write_text(recipe)
    site = folder / "site"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "--target", str(site), str(source)], check=True)
    path = os.pathsep.join(filter(None, [str(site), os.environ.get("PYTHONPATH")]))
    return folder, {"PYTHONPATH": path}


def test_guide_family_is_listed_from_its_own_distribution(
    installed: tuple[Path, dict[str, str]],
) -> None:
    listed = call([sys.executable, "-m", "i2i", "plugins"], env=installed[1])
    assert listed.returncode == 0
    assert "recolour" in listed.stdout
    assert "i2i-recolour" in listed.stdout


def test_guide_family_passes_the_conformance_kit(installed: tuple[Path, dict[str, str]]) -> None:
    _, check, _ = blocks("python")
    checked = call([sys.executable, "-W", "error", "-c", check], env=installed[1])
    assert checked.returncode == 0, checked.stderr


def test_guide_family_trains_and_translates(installed: tuple[Path, dict[str, str]]) -> None:
    folder, environment = installed
    make_data(folder / "data")
    i2i = [sys.executable, "-m", "i2i"]
    run = folder / "runs"
    command = ["train", "--recipe", str(folder / "recolour.toml"), "--data", str(folder / "data")]
    command += ["-o", str(run), "--threads", "1", "--set", "stages.train.images=16"]
    trained = call([*i2i, *command], env=environment)
    assert trained.returncode == 0, trained.stderr
    command = ["translate", "--model", str(run / "model.safetensors"), str(folder / "data/testA")]
    outputs = {}
    for strength in ("0", "0.7"):
        out = folder / f"out-{strength}"
        asked = ["-o", str(out), "--set", f"strength={strength}"]
        translated = call([*i2i, *command, *asked], env=environment)
        assert translated.returncode == 0, translated.stderr
        outputs[strength] = {p.name: p.read_bytes() for p in out.glob("*.png")}
    assert len(outputs["0"]) == 5
    assert outputs["0"] != outputs["0.7"]


def test_guide_importer_reads_a_foreign_checkpoint(
    installed: tuple[Path, dict[str, str]], tmp_path: Path
) -> None:
    names = {"hidden": (5, 3, 1, 1), "colours": (3, 5, 1, 1)}
    state = {f"{name}.weight": torch.rand(shape) for name, shape in names.items()}
    state |= {f"{name}.bias": torch.rand(shape[0]) for name, shape in names.items()}
    torch.save({"state_dict": state}, tmp_path / "theirs.pth")
    i2i, out = [sys.executable, "-m", "i2i"], tmp_path / "ours.safetensors"
    command = ["models", "import", str(tmp_path / "theirs.pth"), "-o", str(out)]
    imported = call([*i2i, *command], env=installed[1])
    assert imported.returncode == 0, imported.stderr
    assert "recolour with 38 parameters" in imported.stdout
    tensors = load_file(out)
    assert torch.equal(tensors["generator.0.weight"], state["hidden.weight"])
    assert torch.equal(tensors["generator.2.bias"], state["colours.bias"])
