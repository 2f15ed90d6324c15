"""A family with two stages that grows, moves a tuple of players and keeps state after a step."""

import os
import signal
from pathlib import Path

import pytest
import torch

from tests.engine.helpers import call, make_data, resume_arguments
from tests.engine.test_resume import KILLER, assert_same_run

FAMILY = """
from typing import ClassVar
import torch
from pydantic import BaseModel, ConfigDict
from torch import nn
from i2i.hookspecs import hookimpl
from i2i.losses import l1
from i2i.translator import Translator
from i2i.types import Fit, Inputs, Term, Update

class Nothing(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

class Growing(Translator):
    name, Options, Request = "growing", Nothing, Nothing
    inputs, exported = Inputs(("a", "b"), paired=False), ("net", "late")
    stages, fit = ("first", "second"), Fit()

    def __init__(self, options):
        super().__init__(options)
        self.net = nn.Conv2d(3, 3, 3, padding=1)
        self.register_buffer("strength", torch.zeros(()))

    def grow(self, stage, shapes):
        if stage == "second":
            self.late = nn.Conv2d(3, 3, 1)
            self.late.weight.data.add_(self.net.weight.data.mean())
            self.register_buffer("noise", torch.zeros(shapes["a"]))
        else:
            self.late = nn.Identity()

    def players(self, stage):
        late = {"late": self.late.parameters()} if stage == "second" else {}
        return {"net": self.net.parameters()} | late

    def training_step(self, batch, now):
        a, b = batch.images["a"], batch.images["b"]
        noise = now.normal(batch, "noise", *a.shape[1:]) * (0.01 + self.strength)
        out = self.late(self.net(a + noise))
        movers = "net" if now.stage == "first" else ("net", "late")
        yield Update(movers, Term("distance", l1(out, b)), spread=out.std())

    @torch.no_grad()
    def after_step(self, now, measured):
        self.strength.add_(0.1 * measured["spread"])
        if now.stage == "second":
            self.noise.add_(measured["distance"])

    def translate(self, images, request):
        return torch.tanh(self.late(self.net(images)))

@hookimpl
def i2i_families():
    return {"growing": "i2i_test_growing:Growing"}
"""

RECIPE = """
family = "growing"
summary = "Two stages"
[[augment.host]]
transform = "RandomCrop"
height = 16
width = 16
[run]
log_every = 4
checkpoint_every = 3
[validate]
every = 6
pictures = 1
[stages.first]
images = 9
average_half_life = 4
[stages.first.players.net]
[stages.second]
images = 14
batch_size = 2
average_half_life = 4
[stages.second.players.net]
clip = 0.5
[stages.second.players.late]
optimizer = "sgd"
learning_rate = 0.01
"""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """Data, recipe, an undisturbed run, and the plugins' environment."""
    folder = tmp_path_factory.mktemp("stages")
    for module, text in (("i2i_test_growing", FAMILY), ("i2i_test_killer", KILLER)):
        (folder / f"{module}.py").write_text(text)
        info = folder / f"{module}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[i2i]\n{module[9:]} = {module}\n")
    make_data(folder / "data")
    (folder / "two.toml").write_text(RECIPE)
    path = os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")]))
    environment = {"PYTHONPATH": path}
    done = call(start(folder, folder / "run"), env=environment)
    assert done.returncode == 0, done.stderr
    return folder, environment


def start(folder: Path, run: Path) -> list[str]:
    command = resume_arguments(run)[:-2]
    return [
        *command,
        "--recipe",
        str(folder / "two.toml"),
        "--data",
        str(folder / "data"),
        "-o",
        str(run),
    ]


@pytest.mark.parametrize("points", [["step@8", "step@11"], ["saving@9", "saved@9", "preview@15"]])
def test_run_killed_around_a_stage_boundary_resumes_bit_identically(
    world: tuple[Path, dict[str, str]], tmp_path: Path, points: list[str]
) -> None:
    folder, environment = world
    command = start(folder, tmp_path / "run")
    for point in points:
        killed = call(command, env=environment | {"KILL_AT": point})
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        command = resume_arguments(tmp_path / "run")
    done = call(command, env=environment)
    assert done.returncode == 0, done.stderr
    assert_same_run(tmp_path / "run", folder / "run")


def test_state_that_follows_from_measurements_is_kept(
    world: tuple[Path, dict[str, str]],
) -> None:
    kept = torch.load(world[0] / "run" / "checkpoint.pt", weights_only=True)
    assert kept["modules"]["strength"] > 0
    assert kept["modules"]["noise"].shape == (3, 16, 16)
    assert kept["modules"]["noise"].min() > 0
    assert list(kept["stages"]) == ["first", "second"]


def test_finished_model_holds_the_averages_of_its_last_stage(
    world: tuple[Path, dict[str, str]],
) -> None:
    kept = torch.load(world[0] / "run" / "checkpoint.pt", weights_only=True)
    for name, average in kept["averages"].items():
        assert torch.equal(kept["modules"][name], average), name


def test_model_of_grown_modules_loads_by_its_path_and_translates(
    world: tuple[Path, dict[str, str]], tmp_path: Path
) -> None:
    folder, environment = world
    command = [*resume_arguments(tmp_path)[:3], "translate", str(folder / "data" / "testA")]
    command += ["--model", str(folder / "run" / "model.safetensors"), "-o", str(tmp_path / "out")]
    done = call(command, env=environment)
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "out").glob("*.png"))) == 5
