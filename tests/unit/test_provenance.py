"""What outputs say of the model that made them, as other programs read it."""

import json
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from i2i.imaging import FORMATS, Metadata, Picture, decode, encode, xmp
from i2i.provenance import (
    COMPOSITE,
    KEYWORD,
    TRAINED,
    Provenance,
    read_provenance,
    source_type,
    stamp,
)

MADE = Provenance(
    digital_source_type=COMPOSITE,
    recipe="zebra <ä>",
    family="stripes",
    version="i2i-gan 1.2",
    model_sha256="ab" * 32,
    request='{"direction":"a2b","note":"\\u99ac"}',
    input_sha256="cd" * 32,
)


def test_the_addresses_are_the_iptcs() -> None:
    vocabulary = "http://cv.iptc.org/newscodes/digitalsourcetype"
    assert f"{vocabulary}/trainedAlgorithmicMedia" == TRAINED
    assert f"{vocabulary}/compositeWithTrainedAlgorithmicMedia" == COMPOSITE


@pytest.mark.parametrize("format_", FORMATS)
def test_other_programs_read_what_every_format_says(format_: str, tmp_path: Path) -> None:
    program = shutil.which("exiftool")
    if program is None:
        pytest.skip("exiftool is not installed (Debian: libimage-exiftool-perl)")
    picture = Picture(np.zeros((16, 16, 3), np.uint8), metadata=stamp(Metadata(), MADE))
    file = tmp_path / f"a{FORMATS[format_]}"
    file.write_bytes(encode(picture, format_, "a"))

    command = [program, "-config", "", "-json", "-G1", "-a", "-s", file]
    (found,) = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)

    assert found["XMP-iptcExt:DigitalSourceType"] == COMPOSITE
    ours = {key: value for key, value in found.items() if key.startswith("XMP-i2i:")}
    assert ours == {
        "XMP-i2i:Recipe": MADE.recipe,
        "XMP-i2i:Family": MADE.family,
        "XMP-i2i:Version": MADE.version,
        "XMP-i2i:ModelSHA256": MADE.model_sha256,
        "XMP-i2i:Request": MADE.request,
        "XMP-i2i:InputSHA256": MADE.input_sha256,
    }
    assert "Warning" not in str(list(found))
    if format_ == "png":
        assert json.loads(found["PNG:I2i"]) == json.loads(MADE.to_json())


@pytest.mark.parametrize("format_", FORMATS)
def test_every_format_brings_it_back(format_: str) -> None:
    picture = Picture(np.zeros((16, 16, 1), np.uint8), metadata=stamp(Metadata(), MADE))
    assert read_provenance(decode(encode(picture, format_, "a"), "a").metadata) == MADE


def test_the_text_of_a_png_serves_where_the_xmp_was_removed() -> None:
    stamped = stamp(Metadata(text={"Title": "a horse"}), MADE)
    assert read_provenance(replace(stamped, xmp=None)) == MADE
    assert read_provenance(replace(stamped, text={})) == MADE
    assert stamped.text["Title"] == "a horse"
    other = replace(stamped, text={KEYWORD: replace(MADE, recipe="older").to_json()})
    assert read_provenance(other) == MADE


def test_what_another_program_removed_is_empty() -> None:
    packet = stamp(Metadata(), MADE).xmp
    assert packet is not None
    kept = {key: value for key, value in xmp.read(packet).items() if "Recipe" not in key}
    assert read_provenance(Metadata(xmp=xmp.merge(None, kept))) == replace(MADE, recipe="")


def test_the_earlier_one_of_an_input_is_replaced_or_taken_out() -> None:
    first = stamp(Metadata(text={"Title": "x"}), MADE)
    second = replace(MADE, recipe="other", input_sha256="ef" * 32)
    assert stamp(first, second) == stamp(Metadata(text={"Title": "x"}), second)
    removed = stamp(first, None)
    assert read_provenance(removed) is None
    assert source_type(removed) == COMPOSITE  # that a model took part stays true
    assert removed.text == {"Title": "x"}
    assert stamp(Metadata(), None) == Metadata()


@pytest.mark.parametrize("text", ["", "{", "[1]", '"x"', "null"])
def test_metadata_of_others_says_nothing_of_ours(text: str) -> None:
    assert read_provenance(Metadata()) is None
    assert read_provenance(Metadata(xmp=b"damaged", text={KEYWORD: text})) is None
    theirs = xmp.merge(None, {f"{{{xmp.IPTC_EXTENSION}}}DigitalSourceType": TRAINED})
    assert read_provenance(Metadata(xmp=theirs)) is None
    assert source_type(Metadata(xmp=theirs)) == TRAINED


def test_equal_jobs_give_equal_bytes() -> None:
    assert stamp(Metadata(), MADE) == stamp(Metadata(), replace(MADE))


def test_a_damaged_packet_is_not_repaired_in_silence() -> None:
    with pytest.raises(xmp.DamagedXmp):
        stamp(Metadata(xmp=b"damaged"), MADE)
