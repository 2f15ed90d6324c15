"""``i2i models``: list, fetch, show and import, and what translates afterwards."""

import hashlib
import http.server
import json
import threading
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from i2i import load_model, load_plugins, load_recipe
from i2i.cli.models import command
from i2i.store import model_path
from tests.unit.test_importers import Reference

ROOT = Path(__file__).resolve().parents[2]
PUBLISHED = sorted(
    path.stem
    for family in ("cyclegan", "pix2pix")
    for path in (ROOT / "recipes").glob(f"{family}-*.toml")
)
PUBLISHED.remove("cyclegan-paper")


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(tmp_path):
    """A folder, and the address at which it is served."""
    folder = tmp_path / "served"
    folder.mkdir()
    serving = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), partial(Quiet, directory=str(folder))
    )
    thread = threading.Thread(target=serving.serve_forever)
    thread.start()
    yield folder, f"http://127.0.0.1:{serving.server_port}"
    serving.shutdown()
    thread.join()
    serving.server_close()


@pytest.fixture
def run(i2i, tmp_path):
    """Run the command with a cache of its own."""
    return partial(i2i, I2I_CACHE=str(tmp_path / "cache"), NO_PROXY="127.0.0.1")


@pytest.fixture
def checkpoint(tmp_path):
    torch.manual_seed(0)
    reference = Reference(width=4, num_blocks=1).eval()
    path = tmp_path / "latest_net_G.pth"
    torch.save(reference.state_dict(), path)
    return reference, path


def recipe_of(folder: Path, **weights: object) -> Path:
    table = "\n".join(f"{key} = {json.dumps(value)}" for key, value in weights.items())
    path = folder / "mine.toml"
    path.write_text(
        f'family = "cyclegan"\nsummary = "Mine"\n[translate]\nwork_size = 64\n[weights]\n{table}\n',
        encoding="utf-8",
    )
    return path


def rows_of(text: str) -> dict[str, str]:
    return {line.split()[0]: line for line in text.splitlines() if line.strip()}


def test_an_imported_model_translates_pictures_at_once(run, tmp_path, checkpoint):
    reference, _ = checkpoint
    done = run("models", "import", "latest_net_G.pth", "-o", "m.safetensors", "--licence", "CC0")
    assert done.returncode == 0, done.stderr
    assert "m.safetensors: cyclegan with " in done.stdout
    assert "num_blocks=1" in done.stdout
    assert "licence: CC0" in done.stdout

    pixels = np.random.default_rng(0).integers(0, 256, (32, 24, 3), dtype=np.uint8)
    (tmp_path / "photos").mkdir()
    Image.fromarray(pixels).save(tmp_path / "photos" / "a.png")
    done = run("translate", "--model", "m.safetensors", "photos", "-o", "out")
    assert done.returncode == 0, done.stderr
    with Image.open(tmp_path / "out" / "a.png") as picture, torch.no_grad():
        batch = torch.from_numpy(pixels).permute(2, 0, 1)[None] / 127.5 - 1
        expected = (reference(batch)[0].permute(1, 2, 0) + 1) * 127.5
        found = np.asarray(picture.convert("RGB"), dtype=float)
        assert np.abs(found - expected.numpy()).max() < 0.51


def test_a_checkpoint_is_translated_with_at_once(run, tmp_path, checkpoint):
    run("models", "import", "latest_net_G.pth", "-o", "m.safetensors")
    pixels = np.random.default_rng(0).integers(0, 256, (32, 24, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    said = []
    for model, out in (
        ("m.safetensors", "1"),
        ("latest_net_G.pth", "2"),
        ("latest_net_G.pth", "3"),
    ):
        done = run("translate", "--model", model, "a.png", "-o", out)
        assert done.returncode == 0, done.stderr
        said.append([line for line in done.stderr.splitlines() if line.startswith("note: ")])
    assert [len(each) for each in said] == [0, 1, 0]  # it is imported once
    assert "note: latest_net_G.pth is imported as cyclegan to " in said[1][0]
    assert said[1][0].endswith(", licence unknown")
    written = [np.asarray(Image.open(tmp_path / out / "a.png")) for out in "123"]
    assert np.array_equal(written[0], written[1])
    assert np.array_equal(written[0], written[2])
    assert [path.suffix for path in (tmp_path / "cache").iterdir()] == [".safetensors"]


def test_a_checkpoint_that_leaves_a_question_is_for_import(run, tmp_path):
    reference = Reference(width=4, num_blocks=1, layers=False)
    torch.save(reference.state_dict(), tmp_path / "old.pth")
    done = run("translate", "--model", "old.pth", "old.pth", "-o", "out")
    assert done.returncode == 2
    assert "its tensors do not tell padding" in done.stderr
    assert "'i2i models import' takes it and makes a model file" in done.stderr


def test_notes_are_told_and_the_licence_is_unknown_unless_stated(run, tmp_path):
    norm = partial(torch.nn.InstanceNorm2d, track_running_stats=True)
    torch.save(Reference(width=4, num_blocks=1, norm=norm).state_dict(), tmp_path / "old.pth")
    done = run("models", "import", "old.pth", "-o", "m.safetensors")
    assert done.returncode == 0, done.stderr
    assert "note: running statistics are left out" in done.stderr
    assert done.stdout.splitlines()[-1] == "licence: unknown"


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (("-o", "latest_net_G.pth"), 2, "latest_net_G.pth: is there already"),
        (("-o", "no/m.safetensors"), 2, "no: there is no such folder"),
        (("-o", "m.safetensors", "--as", "cyclgan"), 2, "did you mean 'cyclegan'?"),
        (("-o", "m.safetensors", "--part", "G_A"), 2, "there is no part 'G_A'"),
        (("-o", "m.safetensors", "--set", "num_blocks=4"), 1, "num_blocks=4 was asked for, and"),
    ],
)
def test_what_cannot_be_imported_is_one_message(run, checkpoint, arguments, status, said):
    done = run("models", "import", "latest_net_G.pth", *arguments)
    assert done.returncode == status
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_show_prints_the_header_of_a_model_file(run, checkpoint):
    run("models", "import", "latest_net_G.pth", "-o", "m.safetensors", "--licence", "CC0")
    lines = run("models", "show", "m.safetensors").stdout.splitlines()
    assert "family: cyclegan" in lines
    assert "  num_blocks: 1" in lines
    assert "licence: CC0" in lines
    (imported,) = [line for line in lines if line.startswith("  imported: ")]
    assert json.loads(imported.partition(": ")[2])["file"] == "latest_net_G.pth"


def test_show_of_a_recipe_says_its_models_terms_and_data(run):
    lines = run("models", "show", "face-aging").stdout.splitlines()
    assert "licence: Trained on UTKFace: non-commercial research" in lines
    assert "trained on: UTKFace, 11,400 faces" in lines


def test_show_of_a_trained_model_ends_with_its_recipe(run):
    lines = run("models", "show", ROOT / "recipes/weights/horse2zebra.safetensors").stdout
    assert "metrics:\n" in lines
    assert '\nrecipe:\n  family = "cyclegan"' in lines


def test_every_published_model_is_listed_as_fetchable_and_unverified(run):
    assert len(PUBLISHED) == 23
    models = rows_of(run("models").stdout)
    recipes = rows_of(run("recipes").stdout)
    for name in PUBLISHED:
        for rows in (models, recipes):
            assert "fetchable, unverified" in rows[name]
    assert "shipped" in models["horse2zebra"]
    assert "cyclegan-paper" not in models
    assert run("models", "list").stdout == run("models").stdout


def test_a_published_model_says_where_it_comes_from(run, tmp_path):
    told = run("models", "show", "cyclegan-style-monet").stdout
    address = "http://efrosgans.eecs.berkeley.edu/cyclegan/pretrained_models/style_monet.pth"
    assert f"url: {address}" in told
    assert "sha256: unverified" in told
    assert f"cached as: {tmp_path / 'cache' / 'cyclegan-style-monet-'}" in told
    assert "model: none" in run("models", "show", "cyclegan-paper").stdout
    assert "weights/horse2zebra.safetensors" in run("models", "show", "horse2zebra").stdout


def test_offline_a_model_is_not_fetched_and_the_file_is_named(run, tmp_path):
    done = run("models", "fetch", "cyclegan-horse2zebra", I2I_OFFLINE="1")
    assert done.returncode == 1
    assert "I2I_OFFLINE forbids the network" in done.stderr
    assert f"save it as {tmp_path / 'cache' / 'cyclegan-horse2zebra-'}" in done.stderr

    every = run("models", "fetch", "all", I2I_OFFLINE="1")
    assert every.returncode == 1
    assert every.stderr.count("Error: ") == len(PUBLISHED)


def test_a_foreign_model_is_fetched_imported_and_here(run, tmp_path, server, checkpoint):
    folder, address = server
    content = checkpoint[1].read_bytes()
    (folder / "net.pth").write_bytes(content)
    sha256 = hashlib.sha256(content).hexdigest()
    recipe = recipe_of(
        tmp_path, url=f"{address}/net.pth", sha256=sha256, bytes=len(content), importer="cyclegan",
        licence="CC0",
    )  # fmt: skip

    done = run("models", "fetch", recipe)

    assert done.returncode == 0, done.stderr
    assert "downloading mine (" in done.stderr
    assert "licence: CC0" in done.stderr
    model = load_model(Path(done.stdout.strip()), load_plugins())
    assert model.header.licence == "CC0"
    assert model.header.translate["work_size"] == 64
    assert model.header.training["imported"]["sha256"] == sha256
    (folder / "net.pth").unlink()
    again = run("models", "fetch", recipe, I2I_OFFLINE="1")
    assert (again.stdout, again.stderr) == (done.stdout, "")


def test_a_recipe_fetches_its_model_when_it_is_first_used(run, tmp_path, server, checkpoint):
    folder, address = server
    (folder / "net.pth").write_bytes(checkpoint[1].read_bytes())
    recipe = recipe_of(tmp_path, url=f"{address}/net.pth", importer="cyclegan")
    Image.new("RGB", (24, 16), "orange").save(tmp_path / "a.png")
    translate = ("translate", "--recipe", recipe, "a.png", "-o")

    refused = run(*translate, "none", I2I_OFFLINE="1")
    assert refused.returncode == 1
    assert "I2I_OFFLINE forbids the network" in refused.stderr
    first = run(*translate, "first")
    assert first.returncode == 0, first.stderr
    assert f"downloading mine (licence: unknown) from {address}/net.pth" in first.stderr
    second = run(*translate, "second", I2I_OFFLINE="1")
    assert second.returncode == 0, second.stderr
    assert "downloading" not in second.stderr
    pictures = [(tmp_path / out / "a.png").read_bytes() for out in ("first", "second")]
    assert pictures[0] == pictures[1]


def test_a_direction_that_a_model_has_not_is_one_message(run, tmp_path, checkpoint):
    run("models", "import", "latest_net_G.pth", "-o", "m.safetensors")
    Image.new("RGB", (24, 16), "orange").save(tmp_path / "a.png")
    done = run(
        "translate", "--model", "m.safetensors", "a.png", "-o", "out", "--set", "direction=b2a"
    )
    assert done.returncode in (1, 2)
    assert "the model translates a2b only" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_model_of_ours_is_fetched_as_it_is(run, tmp_path, server):
    folder, address = server
    shipped = (ROOT / "recipes/weights/horse2zebra.safetensors").read_bytes()
    (folder / "m.safetensors").write_bytes(shipped)
    done = run("models", "fetch", recipe_of(tmp_path, url=f"{address}/m.safetensors"))
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()).read_bytes() == shipped


def test_options_of_the_recipe_that_the_file_contradicts_are_told(
    tmp_path, server, checkpoint, monkeypatch
):
    monkeypatch.setenv("I2I_CACHE", str(tmp_path / "cache"))
    folder, address = server
    (folder / "net.pth").write_bytes(checkpoint[1].read_bytes())
    path = recipe_of(tmp_path, url=f"{address}/net.pth", importer="cyclegan")
    path.write_text(f"{path.read_text()}[model]\nnum_blocks = 6\n", encoding="utf-8")
    plugins = load_plugins()

    with pytest.raises(Exception, match="num_blocks=6 was asked for, and the file looks like"):
        model_path(path, load_recipe(path, plugins), plugins)


@pytest.mark.parametrize(
    ("weights", "said"),
    [
        ({}, "either file or url"),
        ({"file": "a", "url": "https://b"}, "either file or url"),
        ({"file": "a", "sha256": "ab" * 32}, "no sha256 beside file"),
        ({"url": "ftp://b"}, "pattern"),
        ({"url": "https://b", "sha256": "abc"}, "pattern"),
        ({"url": "https://b", "bytes": 0}, "greater than 0"),
    ],
)
def test_weights_that_make_no_sense_are_refused(run, tmp_path, weights, said):
    done = run("recipes", "show", recipe_of(tmp_path, **weights))
    assert done.returncode == 1
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_the_list_imports_no_torch():
    import subprocess
    import sys

    script = "import sys, i2i.cli.models as m; m._list(); print('torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True
    )
    assert done.stdout.split()[-1] == "False"
    assert sorted(command.commands) == ["fetch", "import", "list", "show"]


def test_an_auxiliary_network_is_fetched_by_its_name(run, tmp_path, server):
    """From a stranger's offer; the core's own are hundreds of megabytes."""
    folder, address = server
    content = b"weights of a judge"
    (folder / "judge.bin").write_bytes(content)
    offer = {
        "url": f"{address}/judge.bin",
        "sha256": hashlib.sha256(content).hexdigest(),
        "bytes": len(content),
        "licence": "CC0",
    }
    site = tmp_path / "site"
    (site / "judges-1.dist-info").mkdir(parents=True)
    (site / "judges.py").write_text(
        "from i2i import hookimpl\n@hookimpl\ndef i2i_weights():\n"
        f"    return {{'judge': {offer!r}}}\n",
        encoding="utf-8",
    )
    (site / "judges-1.dist-info" / "METADATA").write_text("Name: judges\nVersion: 1\n")
    (site / "judges-1.dist-info" / "entry_points.txt").write_text("[i2i]\njudges = judges\n")
    listed = run("models", PYTHONPATH=str(site))
    assert "fetchable" in rows_of(listed.stdout)["judge"]
    fetched = run("models", "fetch", "judge", PYTHONPATH=str(site))
    assert fetched.returncode == 0, fetched.stderr
    assert Path(fetched.stdout.strip()).read_bytes() == content
    assert "here" in rows_of(run("models", PYTHONPATH=str(site)).stdout)["judge"]
    assert "fetchable" in rows_of(listed.stdout)["vgg19"]
