"""Broken plugins break nothing: real distributions, installed by pip, and the real command."""

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from i2i.errors import PluginError
from i2i.plugins import Offer, load_plugins
from i2i.switches import keep, kept

FAMILY = """
from torch import nn
from pydantic import BaseModel, ConfigDict, Field
from i2i import Fit, Inputs, Term, Translator, Update

class Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

class Options(Table):
    width: int = Field(8, ge=1, description="Channels.")

class Mirror(Translator):
    name = "mirror"
    Options = Options
    Request = Table
    inputs = Inputs(images=("a",), paired=False)
    exported = ("layer",)

    def __init__(self, options):
        super().__init__(options)
        self.layer = nn.Linear(1, 1)

    @property
    def fit(self):
        return Fit()

    def players(self, stage):
        return {"all": self.layer.parameters()}

    def training_step(self, batch, now):
        yield Update("all", Term("weight", self.layer.weight.square().sum()))

    def translate(self, images, request):
        return images.flip(-1)

class Unfinished(Translator):
    name = "unfinished"
    Options = Request = Table
    inputs = Inputs(images=("a",), paired=False)
    exported = ()

class Nameless(Mirror):
    pass
"""
GOOD = {
    "door.py": """
from pathlib import Path
from i2i import hookimpl

print("a plugin that prints")

@hookimpl
def i2i_families():
    return {
        "mirror": "good_one.family:Mirror",
        "ghost": "no_such_module.at_all:Ghost",
        "quitter": "good_one.quitter:Quitter",
        "unfinished": "good_one.family:Unfinished",
        "stray": "good_one.family:Options",
        "renamed": "good_one.family:Nameless",
        "elsewhere": "witness.inner:Nothing",
    }

@hookimpl
def i2i_recipes():
    return Path(__file__).parent / "recipes"
""",
    "family.py": FAMILY,
    "quitter.py": "import sys\nsys.exit('no, thank you')",
    "recipes/looking_glass.toml": 'family = "mirror"\nsummary = "Left becomes right"\n',
    "recipes/torn.toml": 'family = "mirror\n',
}
HOOK = "from i2i import hookimpl\n@hookimpl\n"
BROKEN = {  # by plugin: source and reason; the distribution is the first two words
    "bad-import-error": ("raise ValueError('no luck today')", "ValueError: no luck today"),
    "bad-import-exit": ("raise SystemExit(3)", "SystemExit: 3"),
    "bad-import-base": ("class Odd(BaseException): pass\nraise Odd", "Odd"),
    "bad-import-text": (
        "class Mute(Exception):\n def __str__(self): raise RuntimeError\nraise Mute",
        "Mute",
    ),
    "bad-import-syntax": ("def", "SyntaxError"),
    "bad-name-family": (
        HOOK + "def i2i_families(): return {'cyclegan': 'bad_name.mine:Mine'}",
        "i2i_families offers 'cyclegan', which i2i-gan already offers; choose another name",
    ),
    "bad-name-recipe": (
        HOOK + "def i2i_recipes():\n from pathlib import Path\n return Path(__file__).parent",
        "i2i_recipes offers 'horse2zebra', which another plugin already offers",
    ),
    "bad-hook-argument": (HOOK + "def i2i_families(colour): return {}", "colour"),
    "bad-hook-spelling": (
        HOOK + "def i2i_famlies(): return {}",
        "there is no hook 'i2i_famlies'; did you mean 'i2i_families'?",
    ),
    "bad-hook-answer": (HOOK + "def i2i_families(): return 42", "i2i_families returned 42"),
    "bad-hook-path": (
        HOOK + "def i2i_layouts(): return {'mine': 'no class'}",
        "i2i_layouts returned {'mine': 'no class'}",
    ),
    "bad-hook-folder": (
        HOOK + "def i2i_recipes(): return '/no/such/folder'",
        "i2i_recipes returned '/no/such/folder', which is no folder",
    ),
    "bad-hook-call": (HOOK + "def i2i_families(): return 1 / 0", "ZeroDivisionError"),
    "bad-hook-wrapper": (
        "from i2i import hookimpl\n@hookimpl(wrapper=True)\n"
        "def i2i_image_translated(result): return (yield)",
        "i2i_image_translated is a wrapper, and i2i calls none; mark it with a plain @hookimpl",
    ),
    "bad-hook-oldwrapper": (
        "from i2i import hookimpl\n@hookimpl(hookwrapper=True)\ndef i2i_run_started(run): yield",
        "i2i_run_started is a wrapper",
    ),
    "bad-hook-half": (
        HOOK + "def i2i_image_translated(): open('heard', 'w')\n"
        "@hookimpl\ndef i2i_families(): return []",
        "i2i_families returned []",
    ),
}
WITNESS = "import os, pathlib\npathlib.Path(os.environ['WITNESS']).touch()\n"


def distribution_of(plugin: str) -> str:
    return plugin.rpartition("-")[0]


@pytest.fixture(scope="module")
def site(install):
    """A folder with a good plugin, one that shows when it is imported, and every broken one."""
    broken: dict[str, tuple] = {}
    for plugin, (source, _) in BROKEN.items():
        distribution = distribution_of(plugin)
        package = f"{distribution.replace('-', '_')}.{plugin.replace('-', '_')}"
        _, files, points = broken.setdefault(distribution, (distribution, {}, {}))
        files[f"{package.rpartition('.')[2]}.py"] = source
        files["horse2zebra.toml"] = ""
        points[plugin] = package
    good = ("good-one", GOOD, {"mirrors": "good_one.door"})
    witness = ("witness", {"__init__.py": WITNESS}, {"watcher": "witness"})
    return install(*broken.values(), good, witness)


@pytest.fixture
def run(i2i, site, tmp_path):
    """Run the command among all these plugins."""
    return lambda *arguments, **variables: i2i(
        *arguments, site=site, WITNESS=str(tmp_path / "witness"), **variables
    )


def test_every_broken_plugin_is_named_with_its_distribution_and_the_reason(run):
    done = run("plugins")

    assert done.returncode == 0
    told = {line.split(" (")[0].strip(): line for line in done.stdout.splitlines() if " (" in line}
    for name, (_, reason) in BROKEN.items():
        assert f"({distribution_of(name)} 1.0)" in told[name]
        assert reason in told[name]


def test_a_plugin_is_listed_with_family_distribution_version_and_source(run, site):
    lines = [line.split() for line in run("plugins").stdout.splitlines()]

    source = str(site / "good_one" / "family.py")
    assert ["family", "mirror", "mirrors", "good-one", "1.0", source] in lines
    assert ["other", "-", "watcher", "witness", "1.0", str(site / "witness/__init__.py")] in lines


def test_names_are_those_in_use_and_nothing_else_reaches_standard_output(run):
    done = run("plugins", "--names")

    assert " ".join(done.stdout.split()) == "i2i cyclegan face-aging pix2pix srgan mirrors watcher"
    assert "a plugin that prints" in done.stderr


def test_recipes_go_on_and_a_torn_one_is_named(run):
    done = run("recipes")

    assert done.returncode == 0
    assert "Left becomes right" in done.stdout
    assert "horse2zebra" in done.stdout
    assert "torn.toml): not valid TOML" in done.stderr


def test_a_recipe_of_a_strangers_family_is_shown_with_its_options(run):
    done = run("recipes", "show", "looking_glass", "--set", "model.width=3")

    assert done.returncode == 0
    assert "width = 3" in done.stdout


def test_a_strangers_family_translates_pictures_among_broken_plugins(run, site, tmp_path):
    script = f"""
import sys
sys.path.insert(0, {str(site)!r})
from pathlib import Path
from i2i import Header, save_model
from good_one.family import Mirror, Options
header = Header(family="mirror", distribution="good-one 1.0", options={{}}, request={{}})
save_model(Path("mirror.safetensors"), Mirror(Options()), header)
"""
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, check=True)
    pixels = np.random.default_rng(0).integers(0, 256, (6, 9, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "picture.png")

    done = run("translate", "picture.png", "-o", "out", "--model", "mirror.safetensors")

    assert done.returncode == 0, done.stderr
    with Image.open(tmp_path / "out" / "picture.png") as picture:
        assert np.array_equal(np.asarray(picture.convert("RGB")), pixels[:, ::-1])
    assert not (tmp_path / "heard").exists()  # by the plugin that was skipped half-way


@pytest.mark.parametrize(
    ("family", "reason"),
    [("ghost", "no_such_module"), ("quitter", "SystemExit: no, thank you")],
)
def test_a_family_that_cannot_be_imported_shows_only_when_it_is_asked_for(run, family, reason):
    assert family in run("plugins").stdout

    done = run("recipes", "schema", "--family", family)

    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("Error: plugin 'mirrors' of good-one 1.0: ")
    assert reason in done.stderr
    assert "i2i plugins disable mirrors" in done.stderr


def test_a_class_that_is_no_family_is_told_what_it_lacks(site, environment):
    script = """
from i2i import PluginError, load_plugins
plugins = load_plugins()
for family in ("unfinished", "stray", "renamed"):
    try:
        plugins.family(family)
    except PluginError as error:
        print(error.wrong)
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=environment
        | {
            "PYTHONPATH": os.pathsep.join([str(site), environment["PYTHONPATH"]]),
            "WITNESS": os.devnull,
        },
        capture_output=True,
        text=True,
        check=True,
    )

    assert done.stdout.splitlines() == [
        "good_one.family:Unfinished does not define fit, players, training_step, translate",
        "good_one.family:Options is not a subclass of i2i.Translator",
        "good_one.family:Nameless calls itself 'mirror', but is offered as 'renamed'",
    ]


def test_the_variable_switches_a_plugin_off_without_importing_it(run, tmp_path):
    done = run("plugins", I2I_DISABLE="watcher, nobody")

    assert "watcher (witness 1.0): disabled by I2I_DISABLE" in done.stdout
    assert "'nobody', which is not installed" in done.stderr
    assert not (tmp_path / "witness").exists()


def test_disable_and_enable_last_and_never_import_the_plugin(run, tmp_path):
    assert run("plugins", "disable", "watcher").returncode == 0
    assert "watcher" not in run("plugins", "--names").stdout
    assert "disabled by" in run("plugins").stdout
    still_off = run("plugins", "enable", "watcher", I2I_DISABLE="watcher")
    assert "I2I_DISABLE still switches it off" in still_off.stderr
    assert not (tmp_path / "witness").exists()

    assert "watcher" in run("plugins", "--names").stdout
    assert (tmp_path / "witness").exists()


def test_disabling_a_built_in_family_leaves_its_recipe_with_a_clear_message(i2i):
    i2i("plugins", "disable", "cyclegan")

    done = i2i("recipes", "show", "horse2zebra")

    assert done.returncode == 1
    assert "there is no family named 'cyclegan'" in done.stderr
    assert "why others were skipped" in done.stderr


def test_a_newcomer_gets_a_name_once_its_owner_is_switched_off(run):
    done = run("plugins", I2I_DISABLE="cyclegan")

    rows = [line.split() for line in done.stdout.splitlines()]
    assert ["family", "cyclegan", "bad-name-family", "bad-name", "1.0"] in [row[:5] for row in rows]


def test_disabling_a_name_that_is_not_there_suggests_the_nearest(run):
    done = run("plugins", "disable", "cyclgan")

    assert done.returncode == 2
    assert "did you mean 'cyclegan'?" in done.stderr


@pytest.fixture
def configuration(environment):
    """The file of the user's choice of plugins, in a folder that is there."""
    path = Path(environment["XDG_CONFIG_HOME"], "i2i", "plugins.toml")
    path.parent.mkdir(parents=True)
    return path


@pytest.mark.parametrize("text", ["disabled = [", "disabled = 5"])
def test_a_damaged_configuration_is_named_and_everything_goes_on(i2i, configuration, text):
    configuration.write_text(text, encoding="utf-8")

    recipes, plugins = i2i("recipes"), i2i("plugins")

    assert (recipes.returncode, plugins.returncode) == (0, 0)
    assert "horse2zebra" in recipes.stdout
    for done in (recipes, plugins):
        assert f"Warning: {configuration}: " in done.stderr
    assert f"? ({configuration}): " in plugins.stdout


def test_the_switch_repairs_a_damaged_configuration_and_keeps_the_old_file(i2i, configuration):
    configuration.write_text("disabled = [", encoding="utf-8")

    done = i2i("plugins", "disable", "cyclegan")

    assert done.returncode == 0, done.stderr
    aside = configuration.with_name("plugins.toml.damaged")
    assert str(aside) in done.stderr
    assert aside.read_text(encoding="utf-8") == "disabled = ["
    assert tomllib.loads(configuration.read_text(encoding="utf-8")) == {"disabled": ["cyclegan"]}
    assert "Warning" not in i2i("plugins").stderr


def test_a_configuration_that_cannot_be_written_is_one_message(i2i, environment):
    Path(environment["XDG_CONFIG_HOME"]).write_text("no folder", encoding="utf-8")

    done = i2i("plugins", "disable", "cyclegan")

    assert done.returncode == 1
    assert "plugins.toml: cannot be written (" in done.stderr
    assert "I2I_DISABLE=NAME" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_failed_write_leaves_the_old_choice_and_no_rubbish(configuration, monkeypatch):
    monkeypatch.setattr("i2i.switches.config_file", lambda: configuration)
    keep(["watcher"])

    def fail(self, target):
        raise OSError("no space")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(PluginError, match=r"cannot be written \(no space\)"):
        keep(["other"])
    assert kept() == ["watcher"]
    assert list(configuration.parent.iterdir()) == [configuration]


def test_a_layout_that_is_no_layout_is_told_so():
    plugins = load_plugins()
    plugins.layouts["odd"] = Offer("odd", "pathlib:Path", "odd", "odd", "1.0", "")

    with pytest.raises(PluginError, match=r"is not a subclass of i2i\.data\.Layout"):
        plugins.layout("odd")


def test_a_distribution_with_damaged_metadata_is_named_and_the_others_are_found(
    i2i, site, tmp_path
):
    intact = next(site.glob("witness-1.0.dist-info"))
    damaged = tmp_path / "path" / "damaged_one-1.0.dist-info"
    shutil.copytree(intact, damaged)
    metadata = (damaged / "METADATA").read_text(encoding="utf-8")
    (damaged / "METADATA").write_text(metadata.replace("witness", "damaged-one"), encoding="utf-8")
    (damaged / "entry_points.txt").write_text("[i2i]\nno equals sign\n", encoding="utf-8")

    done = i2i("plugins", site=tmp_path / "path")

    assert "cyclegan" in done.stdout
    assert "(damaged-one): its entry points cannot be read (TypeError" in done.stdout
