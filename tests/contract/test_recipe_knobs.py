"""No knob that does nothing: every key of a recipe beside the family's own.

Most are shown here, by runs of seconds that end with another model, log, preview or file. The
others, which need a second program or a picture of their own, name the test that shows them.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from i2i import hookimpl, load_plugins
from i2i.engine.trainer import Trainer
from i2i.model_file import read_header
from i2i.recipe import Recipe, load_recipe
from i2i_cyclegan.translator import CycleGAN
from tests.contract.test_knobs import leaves
from tests.engine.helpers import make_data

ROOT = Path(__file__).parents[2]
PLAYER = "stages.train.players.generators"
STEPS = 4
RECIPE = f"""
family = "cyclegan"
summary = "A run of seconds"
licence = "none"

[model]
width = 2
num_blocks = 1
discriminator = {{ width = 2, patch = 16 }}

[[augment.host]]
transform = "CenterCrop"
height = 16
width = 16

[stages.train]
images = {2 * STEPS}
batch_size = 2

[stages.train.players.generators]
learning_rate = 1e-3

[stages.train.players.discriminators]

[validate]
every = 4
pictures = 1

[run]
log_every = 2
checkpoint_every = 4
"""

HOST = '[{transform = "CenterCrop", height = 20, width = 16}]'
JITTER = 'transform = "ColorJitter", brightness = 0.5, p = 1.0'
FLIP = '[{transform = "RandomHorizontalFlip", p = 1.0}]'


@dataclass(frozen=True)
class Key:
    """Another value for a key, and what is set beside it, both with it and without."""

    value: str
    beside: Sequence[str] = ()
    path: str = ""  # of what is set, if it is not the key itself


SHOWN = {
    "licence": Key("CC0"),
    "augment.host.transform": Key(HOST, path="augment.host"),
    "augment.device.transform": Key(FLIP, path="augment.device"),
    "augment.device.roles": Key(
        f'[{{{JITTER}, roles = ["a"]}}]', [f"augment.device=[{{{JITTER}}}]"], path="augment.device"
    ),
    "stages.images": Key("12"),
    "stages.batch_size": Key("1"),
    "stages.micro_batches": Key("2"),
    "stages.precision": Key("bfloat16"),
    "stages.average_half_life": Key("2"),
    "stages.players.optimizer": Key("adamw", [f"{PLAYER}.weight_decay=0.1"]),
    "stages.players.learning_rate": Key("1e-2"),
    "stages.players.betas": Key("[0.9, 0.99]"),
    "stages.players.momentum": Key("0.9", [f"{PLAYER}.optimizer=sgd"]),
    "stages.players.weight_decay": Key("0.1"),
    "stages.players.warmup": Key("6"),
    "stages.players.decay_from": Key("0.2"),
    "stages.players.final": Key("0.5", [f"{PLAYER}.decay_from=0.2"]),
    "stages.players.clip": Key("0.01", [f"{PLAYER}.optimizer=sgd"]),
    "validate_.every": Key("2"),
    "validate_.pictures": Key("2"),
    "validate_.role": Key("b"),
    "validate_.snapshots": Key("true"),
    "run.seed": Key("1"),
    "run.log_every": Key("1"),
    "run.checkpoint_every": Key("2"),
    "translate.work_size": Key("8"),
    "translate.restore_size": Key("false"),
    "translate.restore": Key("detail"),
    "translate.background": Key("white"),
}

ELSEWHERE = {
    "family": "unit/test_recipe.py::test_another_family_by_set_brings_its_own_options",
    "summary": "cli/test_recipes.py::"
    "test_every_recipe_of_the_project_is_listed_with_its_family_and_summary",
    "data.layout": "unit/test_data_layouts.py::"
    "test_a_family_for_pairs_is_told_which_layouts_bring_them",
    "data.root": "engine/test_beginning.py::"
    "test_data_folder_of_a_recipe_is_relative_to_the_recipe_wherever_one_resumes",
    "stages.compile": "engine/test_beginning.py::"
    "test_machine_without_a_compiler_is_told_how_to_go_without",
    **dict.fromkeys(
        ("weights.file", "weights.url", "weights.sha256", "weights.bytes", "weights.licence"),
        "cli/test_models.py::test_a_recipe_fetches_its_model_when_it_is_first_used",
    ),
    "weights.importer": "cli/test_models.py::test_a_foreign_model_is_fetched_imported_and_here",
}


@dataclass
class Watch:
    """All that a run shows to those who look on."""

    lines: list[Any] = field(default_factory=list)
    previews: list[Any] = field(default_factory=list)
    saved: list[int] = field(default_factory=list)

    @hookimpl
    def i2i_step_finished(self, run: Any, report: Any) -> None:
        line = report.line and (run.step, dict(report.line.terms))
        self.lines.append((dict(report.rates), line))

    @hookimpl
    def i2i_preview(self, run: Any, pairs: Any) -> None:
        self.previews.append((run.images, [source.tolist() for source, _ in pairs]))

    @hookimpl
    def i2i_checkpoint_saved(self, run: Any) -> None:
        self.saved.append(run.images)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("knobs")
    make_data(folder / "data")
    (folder / "data" / "testB").mkdir()
    for picture in (folder / "data" / "trainB").iterdir():
        (folder / "data" / "testB" / picture.name).write_bytes(picture.read_bytes())
    (folder / "recipe.toml").write_text(RECIPE, encoding="utf-8")
    return folder


def outcome(folder: Path, run: Path, settings: Sequence[str]) -> dict[str, Any]:
    """Train, and return what follows from the recipe, without the recipe's own words."""
    overrides = [f"data.root={(folder / 'data').as_posix()}", *settings]
    plugins = load_plugins()
    recipe = load_recipe(folder / "recipe.toml", plugins, overrides)
    run.mkdir()
    watch, parts = Watch(), []
    original = CycleGAN.training_step

    def counted(self: CycleGAN, batch: Any, now: Any) -> Any:
        parts.append(len(batch))
        return original(self, batch, now)

    with pytest.MonkeyPatch.context() as patch, torch.random.fork_rng(devices=[]):
        patch.setattr(CycleGAN, "training_step", counted)
        trainer = Trainer(recipe, run, plugins, observers=[watch], warn=lambda text: None)
        assert trainer.train() == "finished"
    header = read_header(run / "model.safetensors")
    return {
        "model": load_file(run / "model.safetensors"),
        "header": (header.licence, header.translate),
        "parts": parts,
        "watch": watch,
        "files": sorted(str(path.relative_to(run)) for path in run.rglob("*")),
    }


def differ(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """Return the kinds of results that two runs do not share."""
    kinds = [name for name in one if name != "model" and one[name] != other[name]]
    models = one["model"], other["model"]
    assert models[0].keys() == models[1].keys()
    same = all(torch.equal(each, models[1][name]) for name, each in models[0].items())
    return kinds if same else [*kinds, "model"]


@pytest.fixture(scope="module")
def runs(folder: Path) -> dict[tuple[str, ...], dict[str, Any]]:
    """Runs that were made before, by their settings."""
    return {}


def path_of(name: str) -> str:
    """Return where a key of the schema stands in this recipe."""
    for schema, recipe in (
        ("validate_.", "validate."),
        ("stages.players.", f"{PLAYER}."),
        ("stages.", "stages.train."),
    ):
        if name.startswith(schema):
            return recipe + name.removeprefix(schema)
    return name


@pytest.mark.parametrize("name", SHOWN)
def test_key_changes_what_a_run_ends_with(folder, runs, tmp_path, name):
    key = SHOWN[name]
    beside = tuple(key.beside)
    if beside not in runs:
        runs[beside] = outcome(folder, tmp_path / "without", beside)
    changed = outcome(
        folder, tmp_path / "with", (*beside, f"{key.path or path_of(name)}={key.value}")
    )
    found = differ(changed, runs[beside])
    assert found
    trains = name.startswith(("augment.", "stages.", "run.seed"))
    assert ("model" in found) == trains, f"{name} changes {found}"


def test_run_from_one_seed_is_the_same_every_time(folder, tmp_path):
    one, other = (outcome(folder, tmp_path / name, ()) for name in ("one", "other"))
    assert differ(one, other) == []


def test_every_key_of_a_recipe_is_in_a_table():
    assert not SHOWN.keys() & ELSEWHERE.keys()
    assert sorted({*SHOWN, *ELSEWHERE}) == sorted(leaves(Recipe))


@pytest.mark.parametrize("name", ELSEWHERE)
def test_key_is_shown_by_the_test_that_is_named(name):
    file, _, test = ELSEWHERE[name].partition("::")
    text = (ROOT / "tests" / file).read_text(encoding="utf-8")
    assert re.search(rf"^def {test}\(", text, re.MULTILINE)
