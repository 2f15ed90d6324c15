"""``i2i recipes``: the list, one recipe, the schema."""

import json
import tomllib
from pathlib import Path

from i2i.recipe import Recipe

ROOT = Path(__file__).resolve().parent.parent.parent


def test_every_recipe_of_the_project_is_listed_with_its_family_and_summary(i2i):
    lines = i2i("recipes").stdout.splitlines()

    for path in (ROOT / "recipes").glob("*.toml"):
        recipe = tomllib.loads(path.read_text(encoding="utf-8"))
        (line,) = [line for line in lines if line.split()[:1] == [path.stem]]
        name, family, model, *_ = line.split()
        weights = recipe.get("weights", {})
        shipped = "file" in weights and (path.parent / weights["file"]).is_file()
        expected = "shipped" if shipped else "fetchable," if "url" in weights else "-"
        assert (name, family, model) == (path.stem, recipe["family"], expected)
        assert recipe["summary"] in line
    assert i2i("recipes", "list").stdout.splitlines() == lines


def test_show_prints_valid_toml_with_every_key_and_names_the_unset_ones(i2i, tmp_path):
    done = i2i("recipes", "show", "horse2zebra", "--set", "stages.train.images=5k")

    shown = tomllib.loads(done.stdout)
    assert shown["stages"]["train"]["images"] == 5000
    assert shown["data"]["layout"] == "unpaired"
    unset = done.stdout.splitlines()[-1]
    assert unset.startswith("# not set: ")
    tables = {field.alias or name for name, field in Recipe.model_fields.items()}
    assert tables - {"weights"} <= shown.keys()
    assert "data.root" in unset
    again = tmp_path / "again.toml"
    again.write_text(done.stdout, encoding="utf-8")
    assert i2i("recipes", "show", again).stdout == done.stdout


def test_show_says_what_is_wrong_with_a_recipe_and_a_set(i2i, tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text('family = "cyclegan"\nsummary = ""\n[modle]\n', encoding="utf-8")

    bad_file = i2i("recipes", "show", path)
    bad_set = i2i("recipes", "show", "horse2zebra", "--set", "model.widht=3")
    bad_name = i2i("recipes", "show", "horse2zebr")

    assert (bad_file.returncode, bad_set.returncode, bad_name.returncode) == (1, 2, 2)
    assert f"Error: {path}: modle: there is no key 'modle'; " in bad_file.stderr
    assert "did you mean 'model'?" in bad_file.stderr
    assert "did you mean 'width'?" in bad_set.stderr
    assert "did you mean 'horse2zebra'?" in bad_name.stderr


def test_show_looks_at_transforms_and_at_roles_too(i2i):
    transform = 'augment.host=[{transform = "RandomCrp", height = 8, width = 8}]'

    bad_transform = i2i("recipes", "show", "horse2zebra", "--set", transform)
    bad_role = i2i("recipes", "show", "horse2zebra", "--set", "data.options.train.zz=folder")

    assert bad_transform.returncode == bad_role.returncode == 1
    assert "did you mean 'RandomCrop'?" in bad_transform.stderr
    assert "data.options.train: there is no role 'zz'; expected one of a, b; " in bad_role.stderr


def test_train_names_transforms_and_roles_before_it_makes_a_folder(i2i, tmp_path):
    (tmp_path / "data").mkdir()
    train = ("train", "--recipe", "horse2zebra", "--data", tmp_path / "data", "-o", "run", "--set")

    bad_transform = i2i(*train, 'augment.host=[{transform = "RandomCrp"}]')
    bad_role = i2i(*train, "data.options.train.zz=folder")

    assert bad_transform.returncode == bad_role.returncode == 1
    assert "there is no role 'zz'" in bad_role.stderr
    assert not (tmp_path / "run").exists()


def test_the_schema_of_a_family_holds_its_options_and_the_plain_one_holds_none(i2i):
    plain = json.loads(i2i("recipes", "schema").stdout)
    family = json.loads(i2i("recipes", "schema", "--family", "cyclegan").stdout)

    assert plain["properties"].keys() == family["properties"].keys()
    options = family["$defs"][family["properties"]["model"]["$ref"].rpartition("/")[2]]
    assert "num_blocks" in options["properties"]
    assert "num_blocks" not in json.dumps(plain)


def test_the_schema_of_an_unknown_family_is_a_wrong_command(i2i):
    done = i2i("recipes", "schema", "--family", "cyclgan")

    assert done.returncode == 2
    assert "did you mean 'cyclegan'?" in done.stderr
