import json
from pathlib import Path
from typing import cast

import pytest
import torch
from pydantic import BaseModel
from safetensors.torch import save
from torch import nn

from i2i.errors import ModelFileError
from i2i.files import write_atomically
from i2i.model_file import Header, load_model, read_header, save_model
from i2i.plugins import Plugins
from i2i.translator import Translator
from i2i.types import Fit, Inputs


class Nothing(BaseModel):
    pass


class Growing(Translator):
    """Builds in ``grow`` what the shapes of a stage ask for, and trusts them as families do."""

    name = "growing"
    Options = Nothing
    Request = Nothing
    inputs = Inputs(images=("a", "b"), paired=False)
    exported = ("net",)
    fit = Fit()

    def __init__(self, options):
        super().__init__(options)
        self.net = nn.ModuleDict()

    def grow(self, stage, shapes):
        self.net[f"{stage}ed"] = nn.Linear(shapes["a"][1], min(shapes["b"]))

    def players(self, stage):
        return {}

    def training_step(self, batch, now):
        yield from ()

    def translate(self, images, request):
        return images


class _Growing:
    def family(self, name: str) -> type[Translator]:
        return Growing


PLUGINS = cast("Plugins", _Growing())
SHAPES = {"a": (3, 4, 4), "b": (3, 4, 4)}


def header(**changed: object) -> dict:
    described = Header(
        family="growing",
        distribution="growing 1.0",
        options={},
        request={},
        stages={"train": SHAPES},
    )
    return described.model_dump(mode="json") | changed


def written(folder: Path, content: object) -> Path:
    path = folder / "model.safetensors"
    text = content if isinstance(content, str) else json.dumps(content)
    path.write_bytes(save({"net.x": torch.zeros(1)}, metadata={"i2i": text}))
    return path


def test_a_model_comes_back_as_it_was_saved(tmp_path):
    translator = Growing(Nothing())
    translator.grow("train", SHAPES)
    save_model(tmp_path / "a", translator, Header.model_validate(header()))
    loaded = load_model(tmp_path / "a", PLUGINS)
    weight = translator.net["trained"].weight.detach()
    torch.testing.assert_close(loaded.translator.net["trained"].weight, weight, atol=1e-3, rtol=0)
    assert loaded.header == Header.model_validate(header())


def test_a_newer_format_is_told_from_damage_whatever_else_it_holds(tmp_path):
    newer = {"format": 2, "parts": [1], "family": {"name": "growing"}}
    with pytest.raises(
        ModelFileError, match="has format 2, and this i2i reads up to 1; "
    ) as caught:
        read_header(written(tmp_path, newer))
    assert caught.value.remedy == "upgrade i2i"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (header(format=0), "has format 0, and the first one is 1"),
        (header(format=-1), "has format -1"),
        (header(format="new"), r"header does not validate \(\('format',\)"),
        (header(extra=1), r"header does not validate \(\('extra',\)"),
        ("{", "header does not validate"),
        ("[]", "header does not validate"),
        ("[" * 100_000, "header does not validate"),
    ],
)
def test_a_damaged_header_is_a_model_file_error(tmp_path, content, said):
    with pytest.raises(ModelFileError, match=rf"model\.safetensors: .*{said}"):
        read_header(written(tmp_path, content))


@pytest.mark.parametrize(
    ("shapes", "reason"),
    [
        ({}, "KeyError"),
        ({"a": [3, -4, 4], "b": [3, 4, 4]}, "RuntimeError"),
        ({"a": [3, 4, 4], "b": []}, "ValueError"),
        ({"a": [3], "b": [3]}, "IndexError"),
    ],
)
def test_damaged_stages_are_a_model_file_error(tmp_path, shapes, reason):
    path = written(tmp_path, header(stages={"train": shapes}))
    wrong = rf"'growing' cannot be built from its header \({reason}: .*growing 1\.0 is installed"
    with pytest.raises(ModelFileError, match=wrong):
        load_model(path, PLUGINS)


def test_a_file_with_the_longest_name_is_written_and_nothing_is_left_beside_it(tmp_path):
    name = "é" * 127  # 254 bytes
    write_atomically(tmp_path / name, b"whole")
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_bytes() == b"whole"
