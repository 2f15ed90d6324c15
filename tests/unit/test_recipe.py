"""Recipes: what they refuse and with which words, what ``--set`` does, and that they stay put."""

import json
import pickle
import tomllib
from pathlib import Path

import pytest

from i2i.errors import PluginError, RecipeError, UsageError
from i2i.plugins import Offer, load_plugins
from i2i.recipe import (
    Recipe,
    Stage,
    apply_override,
    find_recipe,
    list_recipes,
    load_recipe,
    parse_recipe,
    recipe_type,
)

ROOT = Path(__file__).resolve().parents[2]

TINY = """
from typing import Literal
from pydantic import BaseModel, ConfigDict, Field
from i2i.translator import Translator
from i2i.types import Fit, Inputs

class Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

class Game(Table):
    form: Literal["hinge", "logistic"] = Field("hinge", description="The form.")

class Options(Table):
    width: int = Field(8, ge=1, description="Channels.")
    weights: tuple[float, ...] = Field((1.0,), description="Of the scales.")
    clip: float | None = Field(None, gt=0, description="The largest norm.")
    game: Game = Field(Game(), description="The game.")

class Request(Table):
    age: Literal["0-18", "60+"] = Field("60+", description="The group.")
    note: str = Field("", description="Anything.")

class Tiny(Translator):
    name = "tiny"
    Options = Options
    Request = Request
    inputs = Inputs(images=("a",), paired=False)
    exported = ()
    fit = Fit()
    def players(self, stage): return {}
    def training_step(self, batch, now): yield
    def translate(self, images, request): return images

class Demanding(Tiny):
    name = "demanding"
    class Options(Table):
        depth: int = Field(description="There is no default.")

class Stubborn(Tiny):
    name = "stubborn"
    class Options(Table):
        clip: float | None = Field(1.0, description="None is not the default.")
"""
RECIPE = """
family = "tiny"
summary = "A tiny one"
[model]
width = 16
[stages.train]
images = "400k"
players.all = { learning_rate = 1e-3 }
"""


@pytest.fixture
def plugins(tmp_path, monkeypatch):
    """The plugins with three families more, and a folder of recipes."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(__import__("sys").modules, "recipe_family", raising=False)
    (tmp_path / "recipe_family.py").write_text(TINY, encoding="utf-8")
    plugins = load_plugins()
    for name in ("tiny", "demanding", "stubborn"):
        path = f"recipe_family:{name.title()}"
        plugins.families[name] = Offer(name, path, "test", "test", "1.0", "")
    folder = tmp_path / "recipes"
    folder.mkdir()
    (folder / "small.toml").write_text(RECIPE, encoding="utf-8")
    plugins.recipe_folders.append(folder)
    return plugins


@pytest.fixture
def parse(plugins):
    return lambda text, *overrides: parse_recipe(text, "my.toml", plugins, overrides)


@pytest.fixture
def refused(parse):
    def refused(text, *overrides, kind=RecipeError):
        with pytest.raises(kind) as caught:
            parse(text, *overrides)
        return str(caught.value)

    return refused


def test_a_recipe_is_validated_with_its_familys_options(parse):
    recipe = parse(RECIPE)

    assert recipe.model.width == 16
    assert recipe.model.game.form == "hinge"
    assert recipe.request.age == "60+"
    assert recipe.stages["train"].images == 400_000
    assert recipe.stages["train"].players["all"].learning_rate == 1e-3


def test_a_byte_order_mark_is_no_fault(plugins, tmp_path):
    path = tmp_path / "windows.toml"
    path.write_text(RECIPE, encoding="utf-8-sig")

    assert load_recipe(path, plugins).family == "tiny"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            RECIPE.replace("width", "widht"),
            "my.toml: model.widht: there is no key 'widht'; "
            "expected one of width, weights, clip, game; did you mean 'width'?",
        ),
        (
            RECIPE.replace('images = "400k"', 'imges = "400k"'),
            "my.toml: stages.train.imges: there is no key 'imges'; expected one of images, ",
        ),
        (
            RECIPE.replace("learning_rate", "rate"),
            "my.toml: stages.train.players.all.rate: there is no key 'rate'; ",
        ),
        (
            RECIPE.replace("width = 16", 'width = "16"'),
            "my.toml: model.width: '16' does not fit; expected a valid integer; ",
        ),
        (
            RECIPE.replace("width = 16", "width = 0"),
            "my.toml: model.width: 0 does not fit; expected greater than or equal to 1; ",
        ),
        (
            RECIPE.replace("400k", "4 hundred"),
            "stages.train.images: '4 hundred' does not fit; expected a whole number of images",
        ),
        (
            RECIPE.replace("1e-3", "inf"),
            "stages.train.players.all.learning_rate: inf does not fit; expected a finite number",
        ),
        (
            RECIPE + '[translate]\nwork_size = "big"',
            "my.toml: translate.work_size: 'big' does not fit; "
            "expected a valid integer or 'native' or 'trained'; ",
        ),
        (
            RECIPE + "[translate]\nwork_size = 0",
            "my.toml: translate.work_size: 0 does not fit; "
            "expected greater than 0 or 'native' or 'trained'; ",
        ),
        (
            RECIPE.replace("learning_rate = 1e-3", "betas = [0.5, 1.0]"),
            "my.toml: stages.train.players.all.betas.1: 1.0 does not fit; expected less than 1; ",
        ),
        (
            RECIPE.replace("[stages.train]", "[stages.train]\nbatch_size = 2\nmicro_batches = 3"),
            "my.toml: stages.train.micro_batches: 3 does not fit; "
            "expected at most batch_size, which is 2; change stages.train.micro_batches",
        ),
        (
            RECIPE.replace("learning_rate", 'optimizer = "adamw", momentum'),
            "my.toml: stages.train.players.all: its keys do not go together; "
            "expected no momentum beside adamw: momentum is for sgd; change one of them.",
        ),
        (
            RECIPE.replace("learning_rate = 1e-3", 'optimizer = "sgd", betas = [0.1, 0.9]'),
            "my.toml: stages.train.players.all: its keys do not go together; "
            "expected no betas beside sgd: betas is for adam and adamw; change one of them.",
        ),
        (
            RECIPE.replace('"400k"', "1e3"),
            "stages.train.images: 1000.0 does not fit; "
            'expected a whole number of images, such as 400000, "400k" or "1.5M"; ',
        ),
        (
            RECIPE + "[augment]\nhost = [{ name = 1 }]",
            "my.toml: augment.host.0.transform: the key is missing; expected a value; add it",
        ),
        (
            RECIPE + "[weights]\n",
            "my.toml: weights: its keys do not go together; expected either file or url; ",
        ),
        (RECIPE + "[stages.more]\n", "my.toml: stages.more.images: the key is missing; "),
        ('family = "tiny"', "my.toml: summary: the key is missing; "),
        ("summary = ''", "my.toml: family: the key is missing; expected one of "),
        ("family = 3", "my.toml: family: there is no family named 3; "),
        (
            RECIPE.replace('"tiny"', '"tinny"'),
            "my.toml: family: there is no family named 'tinny'; expected one of age-cgan, "
            "cyclegan, demanding, face-aging, pix2pix, srgan, stubborn, tiny; did you mean 'tiny'?",
        ),
        (
            RECIPE + '[data]\nlayout = "unpared"',
            "my.toml: data.layout: there is no layout named 'unpared'; "
            "expected one of age_folders, age_table, high_resolution, paired, side_by_side, "
            "unpaired, utkface; "
            "did you mean 'unpaired'?",
        ),
        ('family = "tiny', "my.toml: not valid TOML: "),
        ('family = "demanding"\nsummary = ""', "my.toml: model: the key is missing; "),
    ],
)
def test_a_fault_is_one_message_with_file_key_and_what_to_do(refused, text, message):
    assert message in refused(text)


def test_several_faults_are_counted_and_an_unknown_key_comes_first(refused):
    message = refused(RECIPE.replace("width", "widht").replace("1e-3", "-1").replace("400k", "x"))

    assert "there is no key 'widht'" in message
    assert "(2 more to correct)" in message


def test_a_family_whose_none_could_not_be_written_down_is_refused(refused):
    message = refused('family = "stubborn"\nsummary = ""', kind=PluginError)

    assert "Options.clip may be None, but is not by default" in message


@pytest.mark.parametrize(
    ("override", "path", "value"),
    [
        ("model.width=3", "model.width", 3),
        ("model.width = 3", "model.width", 3),
        ("model.weights=[1, 2.5]", "model.weights", (1.0, 2.5)),
        ("model.clip=0.5", "model.clip", 0.5),
        ("model.clip=none", "model.clip", None),
        ("model.game.form=logistic", "model.game.form", "logistic"),
        ("request.age=60+", "request.age", "60+"),
        ("request.note=12", "request.note", "12"),
        ("request.note=a = b", "request.note", "a = b"),
        ("request.note=none", "request.note", "none"),
        ("stages.train.images=400k", "stages.train.images", 400_000),
        ("stages.train.images=1.5M", "stages.train.images", 1_500_000),
        ("stages.train.images=7", "stages.train.images", 7),
        ("stages.train.average_half_life=none", "stages.train.average_half_life", None),
        ("stages.train.compile=true", "stages.train.compile", True),
        ("stages.train.players.all.betas=[0.1, 0.2]", "stages.train.players.all.betas", (0.1, 0.2)),
        ("stages.train.players.new.clip=2", "stages.train.players.new.clip", 2.0),
        ("translate.work_size=trained", "translate.work_size", "trained"),
        ("translate.work_size=256", "translate.work_size", 256),
        ("validate.every=2k", "validate_.every", 2000),
        ("run.seed=5", "run.seed", 5),
    ],
)
def test_set_reads_text_by_the_keys_own_type(parse, override, path, value):
    found = parse(RECIPE, override)
    for part in path.split("."):
        found = found[part] if isinstance(found, dict) else getattr(found, part)

    assert found == value
    assert type(found) is type(value)


def test_set_replaces_a_list_of_tables(parse):
    text = 'augment.host=[{ transform = "Resize", height = 3 }]'

    (transform,) = parse(RECIPE, text).augment.host

    assert transform.model_dump() == {"transform": "Resize", "height": 3}


def test_later_overrides_win_and_the_given_recipe_is_not_changed(plugins):
    raw = tomllib.loads(RECIPE)
    schema = recipe_type(raw, "my.toml", plugins)

    for override in ("model.width=1", "model.width=2"):
        apply_override(raw, override, schema)

    assert raw["model"] == {"width": 2}


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.width", "--set model.width: there is no '='; expected key=value; "),
        (
            "model.widht=3",
            "--set model.widht=3: there is no key 'widht'; "
            "expected one of width, weights, clip, game; did you mean 'width'?",
        ),
        ("modle.width=3", "there is no key 'modle'; expected one of family, summary, model, "),
        ("stages.trian.batch_size=4", "there is no key 'trian'; expected one of train; did you"),
        ("model.width=wide", "'wide' does not fit; expected a valid integer; "),
        ("model.width=0", "'0' does not fit; expected greater than or equal to 1; "),
        ("request.age=61", "'61' does not fit; expected '0-18' or '60+'; "),
        ("translate.work_size=0", "'0' does not fit; expected greater than 0 or 'native' or "),
        ("translate.work_size=-8", "'-8' does not fit; expected greater than 0 or 'native' or "),
        ("stages.train.players.all.betas=[0.5, 1]", "expected less than 1; "),
        ("stages.train.players.all.clip=inf", "clip: inf does not fit; expected a finite number"),
        ("stages.train.players.all.momentum=0.9", "no momentum beside adam: momentum is for sgd"),
        ("stages.train.micro_batches=2", "expected at most batch_size, which is 1; "),
        ("stages.train.images=0.5", "expected a whole number of images, such as 400000"),
        ("model.weights=[1, 'x']", "expected a valid number; "),
        ("model.width.more=3", "'model.width' holds a value, not a table; "),
        ("family=tinny", "--set family=tinny: there is no family named 'tinny'; "),
        ("data.layout=pared", "--set data.layout=pared: there is no layout named 'pared'; "),
    ],
)
def test_a_wrong_set_is_a_usage_error_that_names_it(refused, override, message):
    assert message in refused(RECIPE, override, kind=UsageError)


def test_a_fault_of_the_file_is_not_blamed_on_a_sound_set(refused):
    message = refused(RECIPE.replace("width = 16", "width = 0"), "run.seed=3", kind=RecipeError)

    assert "model.width: 0 does not fit" in message


def test_micro_batches_may_be_as_many_as_the_batch_has_samples(parse):
    recipe = parse(RECIPE, "stages.train.micro_batches=4", "stages.train.batch_size=4")

    assert recipe.stages["train"].micro_batches == 4


def test_another_family_by_set_brings_its_own_options(parse, refused):
    bare = 'family = "tiny"\nsummary = "s"'

    recipe = parse(bare, "model.depth=3", "family=demanding")

    assert (recipe.family, recipe.model.depth) == ("demanding", 3)
    assert "there is no key 'width'" in refused(RECIPE, "family=demanding")


def test_a_recipe_is_frozen_to_its_depth(parse):
    recipe = parse(RECIPE)
    stage = recipe.stages["train"]

    with pytest.raises(ValueError, match="frozen"):
        recipe.run.seed = 3
    with pytest.raises(ValueError, match="frozen"):
        recipe.model.width = 3
    with pytest.raises(TypeError, match="frozen"):
        recipe.stages["train"] = stage
    with pytest.raises(TypeError, match="frozen"):
        stage.players.update({})
    with pytest.raises(TypeError, match="frozen"):
        Stage(images=1).players["all"] = None
    assert isinstance(recipe.augment.host, tuple)


def test_a_stage_travels_to_another_process(parse):
    stage = parse(RECIPE).stages["train"]

    assert pickle.loads(pickle.dumps(stage)) == stage


def test_the_printed_recipe_reads_back_as_itself(parse):
    for optimizer in ("adam", "adamw", "sgd"):
        recipe = parse(
            RECIPE,
            'augment.host=[{ transform = "Resize", sizes = [1, 2] }]',
            f"stages.train.players.all.optimizer={optimizer}",
        )

        again = parse(recipe.to_toml())

        assert again.model_dump() == recipe.model_dump()
        assert "decay_from = 1.0" in recipe.to_toml()
        assert "momentum = 0.0" in recipe.to_toml()


def test_the_schema_accepts_what_the_recipe_holds_and_describes_every_key(plugins):
    schema = recipe_type({"family": "tiny"}, "my.toml", plugins).model_json_schema()

    tables = [schema, *schema["$defs"].values()]
    assert json.dumps(schema)
    assert {"model", "request", "data", "validate"} <= schema["properties"].keys()
    for table in tables:
        for key, value in table.get("properties", {}).items():
            assert value.get("description"), f"{table['title']}.{key}"
    images = schema["$defs"]["Stage"]["properties"]["images"]
    assert {kind["type"] for kind in images["anyOf"]} == {"integer", "string"}


def test_the_plain_schema_requires_no_table_that_a_family_may_leave_to_its_defaults(plugins):
    plain = Recipe.model_json_schema()
    demanding = recipe_type({"family": "demanding"}, "my.toml", plugins).model_json_schema()

    assert plain["required"] == ["family", "summary"]
    assert "required" not in plain["$defs"]["Data"]
    assert "model" in demanding["required"]


def test_recipes_are_listed_with_family_and_weights_and_damaged_ones_with_the_fault(plugins):
    folder = plugins.recipe_folders[-1]
    (folder / "torn.toml").write_text("family = ", encoding="utf-8")
    (folder / "binary.toml").write_bytes(b"\xff\xfe")
    (folder / "model.bin").write_bytes(b"")
    ready = RECIPE + '[weights]\nfile = "model.bin"\n'
    (folder / "ready.toml").write_text(ready, encoding="utf-8")
    (folder / "empty.toml").write_text(ready.replace(".bin", ".gone"), encoding="utf-8")
    remote = RECIPE + '[weights]\nurl = "https://example.org/m.bin"\n'
    (folder / "remote.toml").write_text(remote, encoding="utf-8")
    (folder / "sure.toml").write_text(f'{remote}sha256 = "{"ab" * 32}"\n', encoding="utf-8")

    listed = {recipe.name: recipe for recipe in list_recipes(plugins)}

    assert (listed["ready"].family, listed["ready"].summary) == ("tiny", "A tiny one")
    with_weights = {name for name, recipe in listed.items() if recipe.has_weights}
    assert with_weights >= {"ready", "remote", "sure"}
    assert with_weights.isdisjoint({"empty", "small", "torn"})
    models = [listed[name].model for name in ("ready", "empty", "remote", "sure")]
    assert models == ["shipped", "-", "fetchable, unverified", "fetchable"]
    assert "not valid TOML" in listed["torn"].fault
    assert "cannot be read" in listed["binary"].fault
    assert listed["ready"].fault == ""


def test_a_recipe_is_found_by_name_and_by_path_and_near_misses_are_suggested(plugins):
    folder = plugins.recipe_folders[-1]

    assert find_recipe("small", plugins) == folder / "small.toml"
    assert find_recipe(str(folder / "small.toml"), plugins) == folder / "small.toml"
    with pytest.raises(UsageError, match=r"no recipe named 'smal'.* did you mean 'small'\?"):
        find_recipe("smal", plugins)
    with pytest.raises(UsageError, match=r"there is no such file; .* did you mean .*small.toml"):
        find_recipe(str(folder / "smal.toml"), plugins)


def test_the_ending_that_all_recipes_have_makes_no_two_alike(plugins, tmp_path):
    (tmp_path / "up.toml").touch()

    with pytest.raises(UsageError, match=r"no such file; .*; check the path\."):
        find_recipe(str(tmp_path / "nope.toml"), plugins)


def test_every_recipe_that_ships_is_valid():
    plugins = load_plugins()
    listed = list_recipes(plugins)

    assert [recipe.name for recipe in listed if recipe.fault] == []
    for recipe in listed:
        loaded = load_recipe(Path(recipe.path), plugins)
        again = parse_recipe(loaded.to_toml(), "printed", plugins)
        assert again.model_dump() == loaded.model_dump()


def test_every_recipe_of_the_project_is_valid_and_its_layout_serves_its_family():
    plugins = load_plugins()
    for path in sorted((ROOT / "recipes").glob("*.toml")):
        recipe = load_recipe(path, plugins)
        layout = plugins.layout(recipe.data.layout)
        layout.check(recipe.data.options, plugins.family(recipe.family).inputs)
