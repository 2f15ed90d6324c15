import os
import socket
import struct
import tempfile
import warnings
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from i2i.errors import ImageError
from i2i.imaging import (
    Picture,
    contact_sheet,
    decode,
    encode,
    format_for_suffix,
    from_tensor,
    has_picture_suffix,
    pillow_unbound,
    printable,
    read_picture,
    rgb8,
    suffix_for_format,
    to_tensor,
)


def file_bytes(image: Image.Image, format_: str = "PNG", **settings: object) -> bytes:
    file = BytesIO()
    image.save(file, format_, **settings)
    return file.getvalue()


def noise(height: int, width: int, channels: int = 3) -> np.ndarray:
    generator = np.random.default_rng(0)
    return generator.integers(0, 256, (height, width, channels), dtype=np.uint8)


def test_every_pixel_value_survives_the_way_to_a_tensor_and_back():
    pixels = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, axis=2)
    tensor = to_tensor(pixels)
    assert tensor.shape == (3, 16, 16)
    assert tensor.dtype == torch.float32
    assert (tensor.min(), tensor.max()) == (-1, 1)
    assert np.array_equal(from_tensor(tensor), pixels)


def test_every_sixteen_bit_value_survives_the_way_to_a_tensor_and_back():
    pixels = np.arange(65536, dtype=np.uint16).reshape(256, 256, 1).repeat(3, axis=2)
    tensor = to_tensor(pixels)
    assert tensor.dtype == torch.float32
    assert (tensor.min(), tensor.max()) == (-1, 1)
    assert np.array_equal(from_tensor(tensor, np.uint16), pixels)
    assert from_tensor(tensor, np.uint16).dtype == np.uint16


def test_values_beyond_the_range_are_clamped_and_halves_rounded():
    tensor = torch.tensor([-1.2, 1.2, 0.0]).view(1, 1, 3)
    assert from_tensor(tensor).ravel().tolist() == [0, 255, 128]


def test_one_channel_is_the_luma_and_three_repeat_grey():
    red = np.zeros((1, 1, 3), dtype=np.uint8)
    red[..., 0] = 255
    expected = np.asarray(Image.fromarray(red).convert("L")).item()
    assert from_tensor(to_tensor(red, 1)).item() == expected
    assert to_tensor(red[..., :1], 3).shape == (3, 1, 1)


def test_a_tensor_does_not_share_memory_with_its_pixels():
    pixels = noise(2, 2)
    to_tensor(pixels).fill_(0)
    assert np.array_equal(pixels, noise(2, 2))


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "CMYK", "YCbCr", "LA", "RGBA", "HSV"])
def test_every_usual_mode_becomes_rgb(mode):
    grey = Image.new("L", (5, 3), 255)
    image = grey.convert("RGB").convert(mode) if mode != "LA" else grey.convert("LA")
    format_ = {"CMYK": "JPEG", "YCbCr": "JPEG", "HSV": "TIFF"}.get(mode, "PNG")
    if mode == "HSV":
        image = image.convert("RGB")
    picture = decode(file_bytes(image, format_), "x")
    assert rgb8(picture).shape == (3, 5, 3)
    assert rgb8(picture).dtype == np.uint8
    assert rgb8(picture).min() >= 254
    assert picture.is_grey == (mode in ("1", "L", "LA"))


@pytest.mark.parametrize("format_", ["PNG", "TIFF", "PPM"])
def test_sixteen_bit_grey_stays_and_is_rounded_for_training(format_):
    values = np.array([[0, 257 * 100, 257 * 100 + 129, 65535]], dtype=np.uint16)
    if format_ == "PPM":
        content = b"P5 4 1 65535\n" + values.astype(">u2").tobytes()
    else:
        content = file_bytes(Image.fromarray(values), format_)
    picture = decode(content, "x")
    assert picture.pixels.tolist() == values[..., None].tolist()
    assert rgb8(picture)[0, :, 1].tolist() == [0, 100, 101, 255]


def test_thirty_two_bit_values_are_refused_rather_than_clipped():
    content = file_bytes(Image.fromarray(np.ones((2, 2), dtype=np.float32)), "TIFF")
    with pytest.raises(ImageError, match="32-bit values have no agreed white"):
        decode(content, "x.tif")


def test_transparent_pictures_lie_on_white_for_training():
    rgba = Image.new("RGBA", (2, 1), (255, 0, 0, 0))
    rgba.putpixel((1, 0), (255, 0, 0, 255))
    assert rgb8(decode(file_bytes(rgba), "x")).tolist() == [[[255, 255, 255], [255, 0, 0]]]
    palette = Image.new("P", (2, 1), 0)
    palette.putpalette([255, 0, 0, 0, 0, 255])
    palette.putpixel((1, 0), 1)
    content = file_bytes(palette, transparency=bytes([0, 255]))
    assert rgb8(decode(content, "x")).tolist() == [[[255, 255, 255], [0, 0, 255]]]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format_", ["JPEG", "TIFF", "PNG", "WEBP"])
def test_pictures_are_turned_as_exif_says(format_, orientation):
    upright = Image.fromarray(np.kron(noise(2, 3), np.ones((16, 16, 1), dtype=np.uint8)))
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = upright.transpose(undo[orientation]) if orientation > 1 else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    settings = {"JPEG": {"quality": 98, "subsampling": 0}, "WEBP": {"lossless": True}}
    content = file_bytes(stored, format_, exif=exif, **settings.get(format_, {}))
    difference = decode(content, "x").pixels.astype(int) - np.asarray(upright)
    assert np.abs(difference).max() < 16


def test_a_picture_with_damaged_exif_is_still_read():
    broken = b"Exif\0\0MM\0*\0\0\0\x08" + struct.pack(">H", 40000)
    content = file_bytes(Image.new("RGB", (4, 4), "red"), "JPEG", exif=broken)
    with pillow_unbound():
        assert decode(content, "x").size == (4, 4)


def test_the_first_of_several_frames_counts():
    frames = [Image.new("RGB", (3, 2), colour) for colour in ("red", "blue")]
    content = file_bytes(frames[0], "TIFF", save_all=True, append_images=frames[1:])
    assert decode(content, "x").pixels[0, 0].tolist() == [255, 0, 0]


@pytest.mark.parametrize("format_", ["JPEG", "PNG", "TIFF", "WEBP", "BMP", "GIF"])
def test_a_truncated_file_is_an_error_that_names_it(format_):
    content = file_bytes(Image.fromarray(noise(64, 64)), format_)
    with pytest.raises(ImageError, match=r"^photo\.jpg: cannot be decoded \(") as caught:
        decode(content[: len(content) // 2], "photo.jpg")
    assert caught.value.remedy == "replace the file or leave it out"


@pytest.mark.parametrize(
    ("content", "wrong"),
    [
        (b"", "the file is empty"),
        (b"hello, I am a text", "is not a picture"),
        (b"%PDF-1.7 ...", "is not a picture"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "is not a picture"),
    ],
)
def test_what_is_no_picture_is_called_so(content, wrong):
    with pytest.raises(ImageError) as caught:
        decode(content, "photo.jpg")
    assert caught.value.wrong == wrong


def test_a_missing_file_is_an_image_error(tmp_path: Path):
    with pytest.raises(ImageError, match="No such file"):
        read_picture(tmp_path / "none.png")


def special(folder: Path, kind: str) -> Path:
    path = folder / "a.jpg"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(str(path))
    else:
        path.mkdir()
    return path


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
@pytest.mark.parametrize("kind", ["pipe", "device", "socket", "folder"])
def test_only_regular_files_are_read_and_nothing_is_waited_for(kind, monkeypatch):
    def read(path: Path) -> bytes:
        raise AssertionError("reading it would wait for ever")

    monkeypatch.setattr(Path, "read_bytes", read)
    with (
        tempfile.TemporaryDirectory() as folder,  # short: names of sockets are
        pytest.raises(ImageError, match="a folder, a pipe, a socket or a device"),
    ):
        read_picture(special(Path(folder), kind))


def test_a_link_to_a_picture_is_read(tmp_path: Path):
    (tmp_path / "a.png").write_bytes(file_bytes(Image.new("RGB", (3, 2))))
    (tmp_path / "link.png").symlink_to(tmp_path / "a.png")
    assert read_picture(tmp_path / "link.png").size == (2, 3)


def test_names_become_one_line_that_encodes_and_keep_every_script():
    assert printable("a\nb\tc\x1b[0m\udcff\u2028") == r"a\nb\tc\x1b[0m\udcff\u2028"
    kept = "Été 写真 👩\u200d🎨 at 9.41\u202fPM"
    assert printable(Path(kept)) == kept


def test_too_many_pixels_are_refused_before_decoding_with_the_callers_advice():
    content = file_bytes(Image.new("RGB", (20, 10)))
    assert decode(content, "x", max_pixels=200).size == (10, 20)
    with pytest.raises(ImageError, match="20x10 pixels are too many; expected at most 199 pix"):
        decode(content, "x", max_pixels=199)
    with pytest.raises(ImageError) as caught:
        decode(content, "x", max_pixels=199)
    assert caught.value.remedy == "reduce it or leave it out"
    with pytest.raises(ImageError, match="; ask for more"):
        decode(content, "x", max_pixels=199, if_too_large="ask for more")


def test_pillows_own_limit_gives_the_same_message_for_what_pillow_reads(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 150)
    content = file_bytes(Image.new("RGB", (20, 10)), "BMP")
    with pytest.raises(ImageError, match="too many pixels"):
        decode(content, "x")
    with pillow_unbound():
        assert decode(content, "x").size == (10, 20)
    assert Image.MAX_IMAGE_PIXELS == 150


def test_warnings_of_others_still_count_while_pillow_is_unbound():
    with pillow_unbound(), pytest.warns(UserWarning, match="ours"):
        warnings.warn("ours", stacklevel=1)


@pytest.mark.parametrize("format_", ["png", "tiff"])
@pytest.mark.parametrize("channels", [1, 3])
def test_lossless_formats_give_the_pixels_back(format_, channels):
    pixels = noise(7, 5, channels)
    content = encode(Picture(pixels), format_, "x")
    assert np.array_equal(decode(content, "x").pixels, pixels)
    assert Image.open(BytesIO(content)).mode == {1: "L", 3: "RGB"}[channels]


def test_jpeg_is_written_at_quality_95_without_chroma_subsampling():
    pixels = np.kron(noise(4, 4), np.ones((8, 8, 1), dtype=np.uint8))
    image = Image.open(BytesIO(encode(Picture(pixels), "jpeg", "x")))
    reference = Image.open(BytesIO(file_bytes(Image.fromarray(pixels), "JPEG", quality=95)))
    assert image.quantization == reference.quantization
    assert [layer[1:3] for layer in image.layer] == [(1, 1)] * 3


@pytest.mark.parametrize("format_", ["jpeg", "png", "tiff", "webp", "avif"])
def test_equal_pictures_give_equal_bytes(format_):
    first, second = (encode(Picture(noise(33, 17)), format_, "x") for _ in range(2))
    assert first == second
    assert decode(first, "x").size == (33, 17)


def test_a_picture_that_a_format_cannot_hold_is_named():
    wide = Picture(np.zeros((1, 20000, 3), dtype=np.uint8))
    with pytest.raises(
        ImageError, match="20000x1 pixels are more than the 16,383 a side"
    ) as caught:
        encode(wide, "webp", "wide.webp")
    assert "--format" in caught.value.remedy


def test_names_keep_their_own_spelling_of_a_format():
    assert [format_for_suffix(each) for each in (".JPG", ".tif", ".bmp", "")] == [
        "jpeg",
        "tiff",
        "png",
        "png",
    ]
    assert suffix_for_format("jpeg", ".JPEG") == ".JPEG"
    assert suffix_for_format("png", ".jpg") == ".png"


def test_picture_files_are_told_by_their_names():
    names = ["a.JPG", "a.webp", "a.bmp", "a.gif", "a.txt", "a", "a.pdf", "a.svg", ".jpg"]
    assert [has_picture_suffix(Path(name)) for name in names] == [True] * 4 + [False] * 5


def test_a_contact_sheet_shows_each_input_left_of_its_output():
    red = Picture(np.full((40, 20, 3), (255, 0, 0), dtype=np.uint8))
    grey = Picture(np.full((600, 600, 1), 90, dtype=np.uint8))
    sheet = contact_sheet([(red, grey)] * 4, cell=64, num_columns=3).pixels
    assert sheet.shape == (2 * 80, 3 * 144, 3)
    assert sheet[40, 8 + 32].tolist() == [255, 0, 0]
    assert sheet[40, 8 + 64 + 32].tolist() == [90, 90, 90]
    assert sheet[120, 8 + 64 + 32].tolist() == [90, 90, 90]
    assert sheet[120, 300].tolist() == [255, 255, 255]
    wide = Picture(np.zeros((8, 64, 3), dtype=np.uint8))
    assert contact_sheet([(wide, wide)] * 2, cell=64, num_columns=1).size == (2 * 24, 144)


def test_long_strips_of_a_contact_sheet_stay_within_4096_pixels():
    shades = [Picture(np.full((300, 200, 3), shade, dtype=np.uint8)) for shade in range(0, 200, 5)]
    sheet = contact_sheet([shades, shades]).pixels
    cell = 4096 // 40
    assert sheet.shape == (2 * (cell + 16), 40 * cell + 16, 3)
    for row in (0, 1):
        centres = sheet[row * (cell + 16) + 8 + cell // 2, 8 + cell // 2 :: cell]
        assert centres[:40, 0].tolist() == [*range(0, 200, 5)]


def test_a_contact_sheet_leaves_the_place_of_what_is_missing_grey():
    red = Picture(np.full((20, 40, 3), (255, 0, 0), dtype=np.uint8))
    sheet = contact_sheet([(red, None, red)], ("input", "", "b"), cell=64).pixels
    assert sheet.shape == (24 + 8 + 36, 3 * 64 + 16, 3)
    dark = [(sheet[8:32, left : left + 64] < 100).any() for left in (8, 72, 136)]
    assert dark == [True, False, True]
    assert (sheet[32 + 8 : 32 + 28, 72 + 12 : 72 + 52] == 200).all()
    assert (sheet[32:, 72 : 72 + 12] == 255).all()
