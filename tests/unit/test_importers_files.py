"""Files of other programs are read without running them, and each damage has one clear error."""

import os
import pickle
import zipfile
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import nn

from i2i import ModelFileError
from i2i.foreign import read_checkpoint

STATE = {"layer.weight": torch.arange(6.0).reshape(2, 3), "layer.bias": torch.ones(2)}


class Payload:
    """Creates a file when an ordinary unpickler opens it."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self):
        return os.mkdir, (str(self.target),)


def refused(path: Path) -> str:
    with pytest.raises(ModelFileError) as caught:
        read_checkpoint(path)
    assert caught.value.where == str(path)
    return str(caught.value)


def assert_same(found: dict) -> None:
    assert found.keys() == STATE.keys()
    assert all(torch.equal(found[name], each) for name, each in STATE.items())


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_that_runs_code_is_refused_and_its_code_has_not_run(zipped, tmp_path):
    target, path = tmp_path / "pwned", tmp_path / "evil.pth"
    content = STATE | {"layer.extra": Payload(target)}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)

    message = refused(path)

    assert not target.exists()
    assert (
        f"wants to call {os.mkdir.__module__}.mkdir when it is opened, and was not let" in message
    )
    torch.load(path, weights_only=False)  # the payload is real: it runs where it is let
    assert target.is_dir()


def test_a_plain_pickle_that_runs_code_is_refused_too(tmp_path):
    target, path = tmp_path / "pwned", tmp_path / "evil.pth"
    path.write_bytes(pickle.dumps(Payload(target), protocol=2))

    assert "wants to call" in refused(path)
    assert not target.exists()
    pickle.loads(path.read_bytes())
    assert target.is_dir()


def test_a_whole_pickled_network_is_refused_by_the_name_of_its_class(tmp_path):
    path = tmp_path / "whole.pth"
    torch.save(nn.Sequential(nn.Linear(1, 1)), path)
    message = refused(path)
    assert "wants to call torch.nn.modules.container.Sequential" in message
    assert "a file of the state dict alone" in message


@pytest.mark.parametrize("zipped", [True, False])
def test_both_formats_of_torch_save_are_read(zipped, tmp_path):
    path = tmp_path / "file.pth"
    torch.save(STATE, path, _use_new_zipfile_serialization=zipped)
    assert_same(read_checkpoint(path))


def test_safetensors_are_read_whatever_the_name(tmp_path):
    path = tmp_path / "weights.bin"
    safetensors.torch.save_file(STATE, path)
    assert_same(read_checkpoint(path))


def test_tables_are_flattened_and_what_wraps_a_network_is_left_out(tmp_path):
    path = tmp_path / "file.pth"
    wrapped = {f"module.{name}": each for name, each in STATE.items()}
    torch.save(
        {"epoch": 3, "nets": {"G": wrapped, 0: {"_orig_mod": {"b": STATE["layer.bias"]}}}}, path
    )
    assert list(read_checkpoint(path)) == ["nets.G.layer.weight", "nets.G.layer.bias", "nets.0.b"]


def test_a_table_that_holds_itself_ends(tmp_path):
    path, table = tmp_path / "file.pth", dict(STATE)
    table["self"] = table
    torch.save(table, path)
    assert set(read_checkpoint(path)) > set(STATE)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("part", [0.5, 0.99])
def test_a_file_that_is_cut_off_is_damaged(zipped, part, tmp_path):
    path = tmp_path / "file.pth"
    torch.save(STATE | {"more": torch.rand(200)}, path, _use_new_zipfile_serialization=zipped)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * part)])
    message = refused(path)
    assert "is cut off" in message if zipped else "is damaged" in message
    assert message.endswith("check that it is complete.")


def test_safetensors_that_are_cut_off_are_damaged(tmp_path):
    path = tmp_path / "file.safetensors"
    safetensors.torch.save_file(STATE, path)
    path.write_bytes(path.read_bytes()[:-3])
    assert "cannot be read as safetensors" in refused(path)


@pytest.mark.filterwarnings("ignore:.torch.jit")  # deprecated, and people have the files
def test_a_torchscript_program_is_named_as_one(tmp_path):
    path = tmp_path / "file.pt"
    torch.jit.trace(nn.Linear(1, 1), torch.zeros(1, 1)).save(path)
    message = refused(path)
    assert "is a TorchScript program, not weights" in message
    assert "save the state dict of the network it was made from" in message


def test_a_model_file_of_ours_is_named_as_one(tmp_path):
    path = tmp_path / "file.safetensors"
    safetensors.torch.save_file(STATE, path, metadata={"i2i": "{}"})
    assert "is a model file of i2i already" in refused(path)


@pytest.mark.parametrize(
    "content", [b"", b"<!DOCTYPE html><title>404</title>", b"weights\n", b"\x00" * 64]
)
def test_what_is_no_checkpoint_is_told_so(content, tmp_path):
    path = tmp_path / "file.pth"
    path.write_bytes(content)
    assert "is no checkpoint" in refused(path)


def test_another_zip_archive_is_told_so(tmp_path):
    path = tmp_path / "file.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("folder/readme.txt", "hello")
    assert "is a zip archive without weights" in refused(path)


def test_a_file_without_tensors_and_one_that_is_not_there_are_told_so(tmp_path):
    path = tmp_path / "file.pth"
    assert "cannot be read (No such file" in refused(path)
    assert "cannot be read (Is a directory" in refused(tmp_path)
    torch.save({"epoch": 3}, path)
    assert "holds no tensors" in refused(path)
