"""EXIF, XMP, IPTC, density and texts: by ExifTool and ImageMagick, read back by ExifTool."""

import struct
from dataclasses import replace
from io import BytesIO

import pytest
from PIL import Image

from i2i.imaging import Metadata, Picture, decode, encode, exif, scaled_density, without_gps
from i2i.imaging.exif import EXIF_IFD, GPS_IFD
from tests.unit.envelope import FILES, base8, exiftool, needs_exiftool, off_by, pillow, read

CAMERAS = ["camera.jpg", "camera.png", "camera.webp", "camera.tif", "camera_big_endian.tif"]
FORMATS = {"jpeg": ".jpg", "png": ".png", "tiff": ".tif", "webp": ".webp", "avif": ".avif"}
NOTES = b"NOTES\0\1\2" + bytes(range(200, 256))
IPTC = {"jpeg", "png", "tiff"}
MAKER_NOTE, DATE, LENS = 0x927C, 0x9003, 0xA434


def block_of(content: bytes) -> Image.Exif:
    return pillow(content).getexif()


@pytest.mark.parametrize("number", range(1, 9))
def test_every_orientation_is_applied(number):
    picture = read(f"orientation_{number}.jpg")
    assert picture.size == (24, 32)
    assert off_by(picture.pixels, base8()) <= 4


@pytest.mark.parametrize("name", ["orientation_6.png", "orientation_6.webp", "orientation_6.tif"])
def test_orientation_is_applied_in_every_format(name):
    assert off_by(read(name).pixels, base8()) <= 1


@pytest.mark.parametrize("format_", FORMATS)
@pytest.mark.parametrize("name", ["orientation_8.jpg", "orientation_6.tif"])
def test_outputs_ask_for_no_second_turn(name, format_):
    content = encode(read(name), format_, "x")
    assert block_of(content).get(0x0112, 1) == 1
    assert b'tiff:Orientation="8"' not in content
    assert off_by(decode(content, "x").pixels, base8()) <= 12


@needs_exiftool
@pytest.mark.parametrize("format_", FORMATS)
def test_exiftool_finds_every_orientation_tag_reset(format_, tmp_path):
    content = encode(read("orientation_5.jpg"), format_, "x")
    seen = exiftool(content, FORMATS[format_], tmp_path, "Orientation")
    assert set(seen.values()) == {"1"}
    assert "[XMP-tiff] Orientation" in seen


@pytest.mark.parametrize("format_", FORMATS)
@pytest.mark.parametrize("name", CAMERAS)
def test_what_a_camera_wrote_survives_from_every_format_to_every_other(name, format_):
    picture = read(name)
    assert picture.notes == ()
    content = encode(picture, format_, name)
    block = block_of(content)
    assert (block[0x010F], block[0x0110]) == ("Camera Works", "Model 7")
    inner, position = block.get_ifd(EXIF_IFD), block.get_ifd(GPS_IFD)
    assert (inner[DATE], inner[LENS]) == ("2024:05:06 07:08:09", "50mm")
    if name == "camera.jpg":  # ExifTool does not copy the notes of unknown makers
        assert inner[MAKER_NOTE] == NOTES
    assert position[2] == (52.0, 30.0, 0.0)
    assert (inner[0xA002], inner[0xA003]) == (32, 24)  # the file said 4000x3000
    again = decode(content, "x").metadata
    assert b"A gradient" in again.xmp
    if format_ in IPTC and name != "camera.webp":
        assert b"A caption" in again.iptc
    assert again.density == pytest.approx((300 / 25.4, 300 / 25.4), rel=1e-3)


@needs_exiftool
@pytest.mark.parametrize("format_", FORMATS)
@pytest.mark.parametrize("name", CAMERAS)
def test_exiftool_reads_the_same_from_outputs_as_from_inputs(name, format_, tmp_path):
    tags = ["Make", "Model", "DateTimeOriginal", "LensModel", "UserComment", "EXIF:Copyright",
            "EXIF:GPSLatitude", "EXIF:GPSLongitude", "InteropIndex", "XMP:Title", "XResolution",
            "Caption-Abstract", "City"]  # fmt: skip
    before = exiftool((FILES / name).read_bytes(), FORMATS[format_], tmp_path, *tags)
    content = encode(read(name), format_, "x")
    after = exiftool(content, FORMATS[format_], tmp_path, *tags)
    lost = {key for key in before if not key.startswith("[IPTC]") or format_ in IPTC}
    lost -= {"[JFIF] XResolution", "[IFD1] XResolution"}
    assert {key: after.get(key) for key in lost} == {key: before[key] for key in lost}
    assert "Köln" in after["[ExifIFD] UserComment"]
    assert "©" in after["[IFD0] Copyright"]


def test_maker_notes_stay_where_their_offsets_expect_them():
    before, after = (FILES / "camera.jpg").read_bytes(), encode(read("camera.jpg"), "jpeg", "x")
    start = {content: content.index(b"Exif\0\0") + 6 for content in (before, after)}
    assert after.index(NOTES) - start[after] == before.index(NOTES) - start[before]


@pytest.mark.parametrize("format_", FORMATS)
def test_thumbnails_of_the_input_are_gone(format_, tmp_path):
    assert (FILES / "camera.jpg").read_bytes().count(b"\xff\xd8\xff") == 2
    content = encode(read("camera.jpg"), format_, "x")
    assert content.count(b"\xff\xd8\xff") == (1 if format_ == "jpeg" else 0)
    assert not block_of(content).get_ifd(1)


@pytest.mark.parametrize("name", ["camera.jpg", "camera.tif", "camera_big_endian.tif"])
@pytest.mark.parametrize("format_", FORMATS)
def test_positions_can_be_taken_out_of_everything(name, format_):
    picture = read(name)
    assert b"GPS" in picture.metadata.xmp
    bare = without_gps(picture.metadata)
    content = encode(replace(picture, metadata=bare), format_, "x")
    block = block_of(content)
    assert GPS_IFD not in block
    assert block[0x0110] == "Model 7"
    assert block.get_ifd(EXIF_IFD)[LENS] == "50mm"
    assert b"GPS" not in content
    assert b"A gradient" in bare.xmp
    for order in "<>":  # 52 degrees 30 minutes as they stood in the block
        assert struct.pack(f"{order}4I", 52, 1, 30, 1) not in content


def test_positions_in_texts_of_a_png_are_taken_out_too():
    picture = read("texts.png")
    assert picture.metadata.text["exif:GPSLatitude"] == "52/1, 30/1, 0/1"
    kept = without_gps(picture.metadata).text
    assert kept["Author"] == "nobody"
    assert not [key for key in kept if "gps" in key.lower()]
    content = encode(replace(picture, metadata=without_gps(picture.metadata)), "png", "x")
    assert pillow(content).text["Author"] == "nobody"


@needs_exiftool
@pytest.mark.parametrize("format_", FORMATS)
def test_exiftool_finds_no_position_and_no_damage(format_, tmp_path):
    picture = read("camera.jpg")
    content = encode(replace(picture, metadata=without_gps(picture.metadata)), format_, "x")
    seen = exiftool(content, FORMATS[format_], tmp_path)
    assert not [key for key in seen if "GPS" in key]
    assert not [key for key in seen if "Error" in key]
    assert seen["[IFD0] Model"] == "Model 7"
    warnings = [seen[key] for key in seen if "Warning" in key]
    assert not [each for each in warnings if "MakerNote" not in each]  # ours are of no maker


def test_texts_of_a_png_survive_in_any_script():
    content = encode(read("camera.png"), "png", "x")
    assert pillow(content).text["Comment"] == "a comment"
    assert pillow(content).text["Title"] == "Übersicht"
    written = Picture(read("camera.png").pixels, metadata=Metadata(text={"Title": "写真"}))
    assert pillow(encode(written, "png", "x")).text["Title"] == "写真"


def test_damaged_exif_and_xmp_are_left_out_with_a_note():
    broken = b"Exif\0\0MM\0*\0\0\0\x08" + struct.pack(">H", 40000)
    file = BytesIO()
    Image.new("RGB", (8, 8), "red").save(file, "JPEG", exif=broken, xmp=b"<x:xmpmeta>no end")
    picture = decode(file.getvalue(), "x")
    assert picture.notes == ("its EXIF is damaged: left out", "its XMP is damaged: left out")
    assert (picture.metadata.exif, picture.metadata.xmp) == (None, None)
    assert picture.pixels[0, 0].tolist() == [254, 0, 0]


def test_hostile_exif_costs_neither_time_nor_memory():
    def block(*entries: tuple[int, int, int, int], following: int = 0) -> bytes:
        table = b"".join(struct.pack("<HHII", *entry) for entry in entries)
        return (
            b"II*\0\x08\0\0\0"
            + struct.pack("<H", len(entries))
            + table
            + struct.pack("<I", following)
        )

    itself = block((EXIF_IFD, 4, 1, 8), (GPS_IFD, 4, 1, 8))
    assert exif.cleaned(itself) is not None  # a directory that points at itself
    huge = block((0x010E, 5, 0xFFFFFFFF, 8), (GPS_IFD, 4, 1, 8), following=8)
    assert len(exif.cleaned(huge)) <= len(huge)
    assert len(exif.without_gps(huge)) == len(huge)
    assert exif.cleaned(b"II*\0\xff\xff\xff\xff") is None


def test_an_enlarged_picture_prints_as_large_as_before():
    metadata = scaled_density(read("camera.jpg").metadata, 4)
    content = encode(Picture(read("camera.jpg").pixels, metadata=metadata), "jpeg", "x")
    assert pillow(content).info["dpi"] == pytest.approx((1200, 1200), abs=1)
    assert block_of(content)[0x011A] == pytest.approx(1200)
    assert scaled_density(Metadata(), 4).density is None


@pytest.mark.parametrize("format_", ["jpeg", "png", "tiff"])
def test_a_picture_without_density_gets_none(format_):
    content = encode(Picture(base8().astype("uint8")), format_, "x")
    assert "dpi" not in pillow(content).info or format_ == "tiff"
    assert decode(content, "x").metadata == Metadata()


@pytest.mark.parametrize("format_", FORMATS)
def test_a_picture_without_metadata_gets_none(format_):
    assert not dict(block_of(encode(Picture(base8().astype("uint8")), format_, "x"))) or (
        format_ == "tiff"  # whose directory holds what describes its pixels
    )


def test_what_is_longer_than_a_segment_of_a_jpeg_is_left_out_and_the_rest_stays():
    long = b"II*\0\x08\0\0\0\1\0" + struct.pack("<HHII", 0x927C, 7, 70_000, 26) + bytes(70_004)
    picture = Picture(
        base8().astype("uint8"), metadata=Metadata(exif=long, iptc=b"\x1c\2\x05\0\1x")
    )
    content = encode(picture, "jpeg", "x")
    assert decode(content, "x").metadata.exif is None
    assert decode(content, "x").metadata.iptc == b"\x1c\2\x05\0\1x"
    assert decode(encode(picture, "png", "x"), "x").metadata.exif == long
