"""Importers and auxiliary networks come through the door too, checked, and break nothing."""

import pytest
import torch

from i2i import PluginError, load_plugins
from i2i.offers import Offer
from tests.unit.test_importers import Reference

HOOK = "from i2i import hookimpl\n@hookimpl\n"
SHA256 = "ab" * 32
NETWORK = f'"url": "https://example.org/judge.pt", "sha256": "{SHA256}", "bytes": 5, "licence": "B"'
GOOD = f"""
from i2i import Importer, Reading, hookimpl

class Squeezed(Importer):
    family = "cyclegan"

    def read(self, shapes, chosen):
        return None

class Unfinished(Importer):
    pass

@hookimpl
def i2i_importers():
    return {{
        "squeezed": "offering:Squeezed",
        "unfinished": "offering:Unfinished",
        "stray": "offering:Reading",
        "ghost": "no_such_module:Ghost",
    }}

@hookimpl
def i2i_weights():
    return {{"judge": {{{NETWORK}}}}}
"""
BROKEN = {  # by plugin: what its hook returns, and what is said
    "worse-importer-taken": ("importers", '{"cyclegan": "worse.mine:Mine"}', "already offers"),
    "worse-importer-path": ("importers", '{"mine": "no class"}', "i2i_importers returned"),
    "worse-weights-taken": (
        "weights",
        f'{{"judge": {{{NETWORK}}}}}',
        "i2i_weights offers 'judge', which another plugin already offers; choose another name",
    ),
    "worse-weights-answer": ("weights", "[]", "i2i_weights returned []"),
    "worse-weights-name": ("weights", f'{{"a b": {{{NETWORK}}}}}', "i2i_weights returned"),
    "worse-weights-hash": (
        "weights",
        f'{{"mine": {{{NETWORK.replace(SHA256, "ab")}}}}}',
        'return {"name": {"url": "https://...", "sha256": "64 digits", "bytes": 123, "lic',
    ),
    "worse-weights-url": (
        "weights",
        f'{{"mine": {{{NETWORK.replace("https", "file")}}}}}',
        "i2i_weights returned",
    ),
    "worse-weights-bytes": (
        "weights",
        f'{{"mine": {{{NETWORK.replace("5,", "True,")}}}}}',
        "i2i_weights returned",
    ),
    "worse-weights-key": (
        "weights",
        f'{{"mine": {{{NETWORK}, "colour": "red"}}}}',
        "i2i_weights returned",
    ),
    "worse-weights-call": ("weights", "1 / 0", "ZeroDivisionError"),
}


@pytest.fixture(scope="module")
def site(install):
    files = {
        f"{plugin.replace('-', '_')}.py": f"{HOOK}def i2i_{hook}(): return {answer}"
        for plugin, (hook, answer, _) in BROKEN.items()
    }
    points = {plugin: f"worse.{plugin.replace('-', '_')}" for plugin in BROKEN}
    return install(("offering", {"__init__.py": GOOD}), ("worse", files, points))


def test_importers_are_listed_and_what_is_broken_is_skipped_with_the_reason(i2i, site):
    done = i2i("plugins", site=site)

    assert done.returncode == 0
    rows = [line.split()[:5] for line in done.stdout.splitlines()]
    assert ["importer", "cyclegan", "cyclegan", "i2i-gan"] in [row[:4] for row in rows]
    assert ["importer", "squeezed", "offering", "offering", "1.0"] in rows
    told = {line.split(" (")[0].strip(): line for line in done.stdout.splitlines() if " (" in line}
    for plugin, (_, _, reason) in BROKEN.items():
        assert reason in told[plugin]


def test_weights_and_importers_are_found_by_name(site, monkeypatch):
    monkeypatch.syspath_prepend(str(site))
    plugins = load_plugins()

    judge = plugins.weights["judge"]
    assert (judge.url, judge.num_bytes) == ("https://example.org/judge.pt", 5)
    assert (judge.sha256, judge.licence) == (SHA256, "B")
    assert plugins.importer("squeezed").family == "cyclegan"
    with pytest.raises(PluginError, match="offering:Unfinished does not define family and read"):
        plugins.importer("unfinished")
    with pytest.raises(PluginError, match=r"offering:Reading is not a subclass of i2i\.Importer"):
        plugins.importer("stray")
    with pytest.raises(PluginError, match=r"cannot be imported .*no_such_module"):
        plugins.importer("ghost")


def test_a_broken_importer_keeps_no_other_from_its_work(i2i, site, tmp_path):
    torch.save(Reference(width=4, num_blocks=1).state_dict(), tmp_path / "net.pth")
    command = ("models", "import", "net.pth", "-o")

    done = i2i(*command, "out.safetensors", site=site)
    assert done.returncode == 0, done.stderr
    assert "note: the importer 'ghost' is not tried: no_such_module:Ghost cannot be" in done.stderr
    named = i2i(*command, "other.safetensors", "--as", "ghost", site=site)
    assert named.returncode == 1
    assert "Error: plugin 'offering' of offering 1.0: no_such_module:Ghost" in named.stderr
    assert not (tmp_path / "other.safetensors").exists()


def test_the_offers_are_taken_over_without_importing_them():
    plugins = load_plugins()
    assert isinstance(plugins.importers["cyclegan"], Offer)
    assert plugins.importers["cyclegan"].source.endswith("reference.py")
