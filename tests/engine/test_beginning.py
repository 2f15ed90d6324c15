"""What can be wrong when a run begins or goes on: found early, said in one sentence."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from i2i import load_plugins
from i2i.engine.trainer import Trainer
from i2i.errors import DownloadError
from i2i.recipe import load_recipe
from tests.engine.helpers import call, resume_arguments, train_arguments

RATES = "stages.train.players"

PAIRED = """
family = "pix2pix"
summary = "Pairs of 32 pixels"
[model]
num_halvings = 3
width = 2
discriminator = { width = 2, patch = 16 }
perceptual = { weight = 1.0 }
[data]
layout = "side_by_side"
[stages.train]
images = 4
[stages.train.players.generator]
[stages.train.players.discriminator]
[validate]
pictures = 1
"""


def assert_refused(done: subprocess.CompletedProcess[str], status: int, *words: str) -> None:
    assert done.returncode == status, done.stderr
    assert "Traceback" not in done.stderr
    for word in words:
        assert word in done.stderr


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        (f"{RATES}.generatros.learning_rate=1e-3", ["no player 'generatros'", "'generators'?"]),
        ("stages.tarin.images=5", ["tarin", "'train'?"]),
        ("validate.role=c", ["no role 'c'", "one of a, b"]),
        ("validate.rolle=a", ["no key 'rolle'", "'role'?"]),
        ("stages.train.batch_size=many", ["'many' does not fit"]),
    ],
)
def test_wrong_setting_is_named_before_the_run_folder_is_made(
    tmp_path: Path, setting: str, words: list[str]
) -> None:
    done = call(train_arguments(tmp_path, tmp_path / "run", setting))
    assert done.returncode in (1, 2)
    assert_refused(done, done.returncode, *words)
    assert not (tmp_path / "run").exists()


def test_unreadable_test_picture_is_named_before_training(tmp_path: Path) -> None:
    command = train_arguments(tmp_path, tmp_path / "run")
    bad = tmp_path / "data" / "testA" / "0.png"
    bad.write_bytes(bad.read_bytes()[:60])
    assert_refused(call(command), 1, str(bad))
    assert not (tmp_path / "run").exists()


def test_run_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    done = call(train_arguments(tmp_path, tmp_path / "file" / "run"))
    assert_refused(done, 2, "run folder cannot be made", "--out")


def test_missing_trainB_is_named(tmp_path: Path) -> None:  # noqa: N802 - the folder's name
    command = train_arguments(tmp_path, tmp_path / "run")
    shutil.rmtree(tmp_path / "data" / "trainB")
    assert_refused(call(command), 1, "trainB")


def test_data_folder_of_a_recipe_is_relative_to_the_recipe_wherever_one_resumes(
    tmp_path: Path,
) -> None:
    command = train_arguments(tmp_path, tmp_path / "run")
    place = command.index("--data")
    recipe = tmp_path / "tiny.toml"
    recipe.write_text(recipe.read_text() + '\n[data]\nroot = "data"\n')
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    done = call([*command[:place], *command[place + 2 :]], cwd=elsewhere)
    assert done.returncode == 0, done.stderr
    (tmp_path / "run" / "checkpoint.pt").unlink()
    assert call(resume_arguments(tmp_path / "run"), cwd=elsewhere).returncode == 0


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data and a run whose checkpoint is that of step 0."""
    folder = tmp_path_factory.mktemp("stopped")
    command = train_arguments(folder, folder / "run", "run.log_every=1")
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        next(line for line in process.stderr if line.startswith("train 1/"))
        process.kill()
    return folder


def test_resume_says_that_pictures_or_threads_changed(stopped: Path) -> None:
    run = stopped / "run"
    extra = stopped / "data" / "trainA" / "extra.png"
    shutil.copy(stopped / "data" / "trainA" / "0.png", extra)
    command = resume_arguments(run)
    command[command.index("--threads") + 1] = "2"
    done = call(command)
    extra.unlink()
    assert done.returncode == 0
    assert "threads 1 -> 2" in done.stderr
    assert "pictures " in done.stderr


def test_resume_of_an_edited_model_is_refused_and_leaves_the_run_as_it_was(tmp_path: Path) -> None:
    command = train_arguments(tmp_path, tmp_path / "run")
    assert call(command).returncode == 0
    run = tmp_path / "run"
    kept = torch.load(run / "checkpoint.pt", weights_only=True)
    torch.save(kept | {"finished": False}, run / "checkpoint.pt")
    recipe = run / "recipe.toml"
    recipe.write_text(recipe.read_text().replace("width = 4\n", "width = 8\n"))
    before = {p: p.stat().st_size for p in run.rglob("*") if p.is_file()}
    assert_refused(call(resume_arguments(run)), 1, "does not fit the recipe", "start a new run")
    assert {p: p.stat().st_size for p in run.rglob("*") if p.is_file()} == before


def test_machine_without_a_compiler_is_told_how_to_go_without(tmp_path: Path) -> None:
    command = train_arguments(tmp_path, tmp_path / "run")
    command = [each.replace("compile=false", "compile=true") for each in command]
    nowhere = {"CXX": "no-such-compiler", "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache")}
    done = call(command, env=nowhere)
    assert_refused(done, 1, "no C++ compiler", "--set stages.train.compile=false")


@pytest.mark.slow
def test_compiled_run_that_is_killed_resumes_bit_identically(tmp_path: Path) -> None:
    runs = [tmp_path / "whole", tmp_path / "killed"]
    settings = ("stages.train.precision=bfloat16", "run.log_every=1")
    commands = [
        [
            e.replace("compile=false", "compile=true")
            for e in train_arguments(tmp_path, r, *settings)
        ]
        for r in runs
    ]
    assert call(commands[0]).returncode == 0
    with subprocess.Popen(commands[1], stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        next(line for line in process.stderr if line.startswith("train 7/"))
        process.kill()
    assert call(resume_arguments(runs[1])).returncode == 0
    whole, killed = ((r / "model.safetensors").read_bytes() for r in runs)
    assert whole == killed


def test_help_of_train_imports_no_torch() -> None:
    script = "import sys; from i2i.cli import main\ntry: main(['train', '--help'])\n"
    script += "except SystemExit: assert 'torch' not in sys.modules"
    assert call([sys.executable, "-c", script]).returncode == 0


def test_backbone_that_cannot_be_had_is_named_before_the_run_folder_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A loss looks through it for the first time when the discriminator has moved already."""
    monkeypatch.setenv("I2I_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("I2I_OFFLINE", "1")
    random, pairs = np.random.default_rng(0), tmp_path / "data"
    for name in ("train", "test"):
        (pairs / name).mkdir(parents=True)
        pixels = random.integers(0, 256, (32, 64, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(pairs / name / "0.png")
    path = tmp_path / "pairs.toml"
    path.write_text(PAIRED)
    plugins = load_plugins()

    def trainer(backbone: str) -> Trainer:
        settings = [f"data.root={pairs}", f"model.perceptual.backbone={backbone}"]
        recipe = load_recipe(path, plugins, settings)
        return Trainer(recipe, tmp_path / "run", plugins, observers=(), warn=pytest.fail)

    with pytest.raises(DownloadError, match="i2i models fetch vgg19"):
        trainer("vgg19")
    assert not (tmp_path / "run").exists()
    trainer("squeezenet")  # which is shipped
