"""Device-side augmentation inside a run: before the game, once a step, the same after a kill."""

import os
import signal
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from i2i import Batch, Inputs, Progress, RecipeError
from i2i.augment import DeviceAugment
from i2i.engine.stage import StageRun
from i2i.recipe import Stage
from i2i.recipe.schema import DeviceTransform
from i2i.testing import make_batch
from tests.engine.helpers import call, make_data, resume_arguments
from tests.engine.test_resume import KILLER, assert_same_run

INPUTS = Inputs(("a", "b"), paired=False)
WORDS: tuple[dict[str, Any], ...] = (
    {"transform": "RandomAffine", "degrees": 20.0, "p": 0.8},
    {"transform": "RandomCrop", "size": [24, 24]},
    {"transform": "ColorJitter", "brightness": 0.2, "hue": 0.1, "roles": ["a"]},
)
FAMILY = """
import torch
from pydantic import BaseModel, ConfigDict
from torch import nn
from i2i import Fit, Inputs, Term, Translator, Update, hookimpl

class Nothing(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

class Watcher(Translator):
    name, Options, Request = "watcher", Nothing, Nothing
    inputs, exported, fit = Inputs(("a", "b"), paired=False), ("net",), Fit()

    def __init__(self, options):
        super().__init__(options)
        self.net = nn.Conv2d(3, 3, 3, padding=1)
        self.seen = []

    def grow(self, stage, shapes):
        self.register_buffer("mean", torch.zeros(shapes["a"]))

    def players(self, stage):
        return {"net": self.net.parameters()}

    def training_step(self, batch, now):
        a, b = batch.images["a"], batch.images["b"]
        self.seen = [*self.seen[-9:], batch]
        self.mean.add_(a.mean(0) - self.mean, alpha=0.1)
        yield Update("net", Term("distance", (self.net(a) - b).abs().mean()))

    def translate(self, images, request):
        return torch.tanh(self.net(images))

@hookimpl
def i2i_families():
    return {"watcher": "i2i_test_watcher:Watcher"}
"""

RECIPE = """
family = "watcher"
summary = "Augments on the device"
[[augment.host]]
transform = "RandomCrop"
height = 32
width = 32
[[augment.device]]
transform = "RandomAffine"
degrees = 20.0
p = 0.8
[[augment.device]]
transform = "RandomCrop"
size = [24, 24]
[[augment.device]]
transform = "ColorJitter"
brightness = 0.2
hue = 0.1
roles = ["a"]
[run]
log_every = 2
checkpoint_every = 4
[validate]
every = 12
pictures = 1
[stages.train]
images = 16
batch_size = 2
micro_batches = 2
average_half_life = 10
[stages.train.players.net]
"""


def play(batch: Batch, micro_batches: int, *, chance: int = 0) -> list[dict[str, Tensor]]:
    """Return what the family sees in two steps, put together again."""
    namespace: dict[str, Any] = {"__name__": "i2i_test_watcher"}
    exec(FAMILY, namespace)
    translator = namespace["Watcher"](namespace["Nothing"]())
    translator.grow("train", {"a": (3, 24, 24)})
    augment = DeviceAugment([DeviceTransform(**each) for each in WORDS], INPUTS)
    options = Stage(images=100, batch_size=6, micro_batches=micro_batches, players={"net": {}})
    run = StageRun(
        "train", options, translator, seed=4, device=torch.device("cpu"), augment=augment
    )
    seen = []
    for step in range(2):
        torch.manual_seed(chance + step)
        run.play(batch)
        parts, translator.seen = translator.seen, []
        assert len(parts) == micro_batches
        assert torch.equal(torch.cat([each.keys for each in parts]), batch.keys)
        seen.append({r: torch.cat([each.images[r] for each in parts]) for r in "ab"})
    return seen


def test_family_sees_the_augmented_batch_however_it_is_split() -> None:
    batch = make_batch(INPUTS, batch_size=6)
    augment = DeviceAugment([DeviceTransform(**each) for each in WORDS], INPUTS)
    for micro_batches in (1, 2, 6):
        seen = play(batch, micro_batches, chance=micro_batches)
        for step in range(2):
            expected = augment(batch, Progress(4, "train", step, 6 * step)).images
            for role in "ab":
                assert seen[step][role].shape == (6, 3, 24, 24)
                assert torch.equal(seen[step][role], expected[role])
    assert not torch.equal(seen[0]["b"], seen[1]["b"])


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """A folder with data, a recipe that augments on the device, and a plugin that kills."""
    folder = tmp_path_factory.mktemp("augmented")
    for module, text in (("i2i_test_watcher", FAMILY), ("i2i_test_killer", KILLER)):
        (folder / f"{module}.py").write_text(text)
        info = folder / f"{module}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[i2i]\n{module[9:]} = {module}\n")
    make_data(folder / "data")
    (folder / "watcher.toml").write_text(RECIPE)
    path = os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")]))
    return folder, {"PYTHONPATH": path}


def start(folder: Path, recipe: Path, run: Path) -> list[str]:
    """Return the command that trains a recipe."""
    command = resume_arguments(run)[:-2]
    return [*command, "--recipe", str(recipe), "--data", str(folder / "data"), "-o", str(run)]


def test_killed_run_that_augments_resumes_bit_identically_with_other_workers(
    world: tuple[Path, dict[str, str]],
) -> None:
    folder, environment = world
    recipe = folder / "watcher.toml"
    whole = call(start(folder, recipe, folder / "whole"), env=environment)
    assert whole.returncode == 0, whole.stderr
    command = start(folder, recipe, folder / "run")
    killed = call(command, env=environment | {"KILL_AT": "step@5"})
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    done = call(resume_arguments(folder / "run", workers=1), env=environment)
    assert done.returncode == 0, done.stderr
    assert_same_run(folder / "run", folder / "whole")
    kept = torch.load(folder / "whole" / "checkpoint.pt", weights_only=True)
    assert kept["stages"]["train"] == {"a": (3, 24, 24), "b": (3, 24, 24)}
    assert kept["modules"]["mean"].shape == (3, 24, 24)
    assert kept["environment"]["kornia"] == version("kornia")


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("RandomAffine", "RandomAfine", ["augment.device[0].transform", "'RandomAffine'?"]),
        ("[24, 24]", "[40, 40]", ["augment.device[1] (RandomCrop)", "cannot cut 40x40"]),
    ],
)
def test_what_cannot_be_done_is_said_before_the_run_folder_is_made(
    world: tuple[Path, dict[str, str]], tmp_path: Path, old: str, new: str, words: list[str]
) -> None:
    folder, environment = world
    recipe = tmp_path / "wrong.toml"
    recipe.write_text(RECIPE.replace(old, new), encoding="utf-8")
    done = call(start(folder, recipe, tmp_path / "run"), env=environment)
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert all(each in " ".join(done.stderr.split()) for each in words), done.stderr
    assert not (tmp_path / "run").exists()


def test_recipe_keeps_the_transforms_word_for_word() -> None:
    one = DeviceTransform(transform="RandomCrop", size=[8, 8], roles=["a"])
    assert DeviceTransform(**one.model_dump(mode="json", exclude_none=True)) == one
    with pytest.raises(ValueError, match="at least 1"):
        DeviceTransform(transform="RandomCrop", roles=[])


def test_augmenting_refuses_a_role_that_the_family_does_not_bring() -> None:
    with pytest.raises(RecipeError, match="some of a, b"):
        DeviceAugment([DeviceTransform(transform="RandomInvert", roles=["x"])], INPUTS)
