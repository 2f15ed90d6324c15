"""Depths, transparency, formats and frames, in files by ImageMagick, OpenCV, Pillow and libheif."""

import subprocess
import sys

import cv2
import numpy as np
import pytest
from PIL import Image

from i2i.errors import ImageError
from i2i.imaging import (
    Metadata,
    Picture,
    decode,
    encode,
    fill_hidden,
    holds_16_bits,
    left_out,
    picture_size,
    read_picture,
    refusal,
    rgb8,
)
from i2i.imaging.vips import from_pixels
from tests.unit.envelope import FILES, base, base8, imagemagick, off_by, opencv, pillow, read


@pytest.mark.parametrize(
    "name",
    ["base16.png", "rgb16_lzw.tif", "rgb16_deflate.tif", "rgb16_big_endian.tif", "rgb16.ppm"],
)
def test_sixteen_bits_of_colour_are_read_bit_for_bit(name):
    picture = read(name)
    assert picture.pixels.dtype == np.uint16
    assert off_by(picture.pixels, base()) == 0
    assert (picture.pixels % 257 != 0).mean() > 0.9  # not eight bits in disguise


@pytest.mark.parametrize("name", ["grey16_plain.png", "grey16_plain.tif", "grey16.pgm"])
def test_sixteen_bits_of_grey_are_read_bit_for_bit(name):
    assert off_by(read(name).pixels, base()[..., :1]) == 0


@pytest.mark.parametrize("name", ["base16.png", "grey16_plain.png", "rgba16.png", "la16.png"])
@pytest.mark.parametrize("format_", ["png", "tiff"])
def test_sixteen_bits_are_written_bit_for_bit(name, format_):
    picture = read(name)
    content = encode(picture, format_, "x")
    again = decode(content, "x")
    assert again.pixels.dtype == np.uint16
    assert np.array_equal(again.pixels, picture.pixels)
    assert (again.alpha is None) == (picture.alpha is None)
    assert picture.alpha is None or np.array_equal(again.alpha, picture.alpha)
    if name != "la16.png" or format_ == "tiff":  # OpenCV makes RGBA of grey with alpha
        others = [picture.pixels] + ([picture.alpha] if picture.alpha is not None else [])
        if name != "la16.png":
            assert off_by(opencv(content), np.dstack(others)) == 0


def test_imagemagick_reads_our_sixteen_bits(tmp_path):
    for format_, suffix in (("png", ".png"), ("tiff", ".tif")):
        path = tmp_path / f"ours{suffix}"
        path.write_bytes(encode(read("base16.png"), format_, "x"))
        command = [imagemagick(), str(path), "-depth", "16", "-endian", "MSB", "rgb:-"]
        raw = subprocess.run(command, capture_output=True, check=True).stdout
        assert off_by(np.frombuffer(raw, ">u2").reshape(24, 32, 3), base()) == 0


@pytest.mark.parametrize("format_", ["jpeg", "webp"])
def test_sixteen_bits_are_rounded_where_a_format_holds_eight(format_):
    assert not holds_16_bits(format_)
    content = encode(read("base16.png"), format_, "x")
    assert off_by(np.asarray(pillow(content)), base8()) <= 8


@pytest.mark.parametrize(("bits", "allowed"), [(10, 64), (12, 16)])
def test_ten_and_twelve_bits_of_avif_become_sixteen(bits, allowed):
    picture = read(f"rgb{bits}.avif")
    assert picture.pixels.dtype == np.uint16
    assert off_by(picture.pixels, base()) <= allowed
    white = np.full((16, 16, 3), 2**bits - 1, np.uint16)
    settings = [cv2.IMWRITE_AVIF_DEPTH, bits, cv2.IMWRITE_AVIF_QUALITY, 100]
    content = cv2.imencode(".avif", white, settings)[1].tobytes()
    assert decode(content, "x").pixels.min() == 65535


def test_avif_keeps_more_than_eight_bits_of_sixteen():
    assert holds_16_bits("avif")
    steps = np.repeat(np.linspace(30000, 33000, 64).astype(np.uint16)[:, None], 64, axis=1)
    picture = Picture(steps[..., None].repeat(3, axis=2))
    again = decode(encode(picture, "avif", "x"), "x").pixels
    assert again.dtype == np.uint16
    assert off_by(again, picture.pixels) <= 128  # eight bits would be off by as much on their own
    assert len(np.unique(again)) > 2 * len(np.unique(picture.pixels // 257))


@pytest.mark.parametrize(
    ("name", "allowed"),
    [("rgb8.bmp", 1), ("rgb8.ppm", 1), ("rgb8.tga", 1), ("rgb8.ico", 1), ("rgb8.jp2", 2),
     ("rgb8.webp", 2), ("rgb8.avif", 2), ("rgb8.gif", 12), ("rgb8.heic", 6)],
)  # fmt: skip
def test_every_format_is_read_upright_and_in_its_colours(name, allowed):
    picture = read(name)
    assert picture.pixels.dtype == np.uint8
    assert (picture.alpha, picture.notes) == (None, ())
    assert off_by(picture.pixels, base8()) <= allowed


def test_what_pillow_halves_is_said():
    picture = read("rgb16.jp2")
    assert picture.notes == ("16 bits a channel read as 8",)
    assert off_by(picture.pixels, base8()) <= 2


def test_ten_bits_of_heic_stay():
    picture = read("rgb10.heic")
    assert picture.pixels.dtype == np.uint16
    assert off_by(picture.pixels, base()) <= 800  # lossy
    white = FILES / "rgb10.heic"
    assert picture_size(white) == (24, 32)


def test_heic_without_the_extra_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(ImageError) as caught:
        read("rgb8.heic")
    assert 'pip install "i2i-gan[heic]"' in str(caught.value)
    with pytest.raises(ImageError, match="heic"):
        picture_size(FILES / "rgb8.heic")


@pytest.mark.parametrize("bits", [1, 2, 4])
@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_one_two_and_four_bits_of_grey_use_the_whole_range(bits, suffix):
    picture = read(f"grey{bits}.{suffix}")
    wanted = np.where(base()[..., :1] > 32767, 255, 0)
    assert picture.pixels.dtype == np.uint8
    assert off_by(picture.pixels, wanted) == 0


def test_tiff_whose_zero_is_white_is_turned_round():
    wanted = np.asarray(pillow((FILES / "white_is_zero.tif").read_bytes()))[..., None]
    assert pillow((FILES / "white_is_zero.tif").read_bytes()).tag_v2[262] == 0
    assert off_by(read("white_is_zero.tif").pixels, wanted) == 0


@pytest.mark.parametrize("name", ["palette.png", "palette.bmp", "palette.tif"])
def test_palettes_become_their_colours(name):
    picture = read(name)
    assert picture.pixels[0, 0].tolist() == [200, 30, 40]
    assert picture.pixels[0, 31].tolist() == [20, 160, 60]


@pytest.mark.parametrize("name", ["float.tif", "rgb32.tif", "rgb12.tif"])
def test_depths_without_an_agreed_white_are_refused(name):
    with pytest.raises(ImageError, match="expected 8 or 16 bits a channel") as caught:
        read(name)
    assert caught.value.remedy == "convert it first"


RAMP = np.repeat(np.linspace(0, 65535, 24).round().astype(int)[:, None], 32, axis=1)[..., None]


@pytest.mark.parametrize(
    "name", ["rgba16.png", "rgba8.png", "unassociated16.tif", "unassociated8.tif", "rgba8.webp"]
)
def test_alpha_is_taken_off_and_hides_no_colour(name):
    picture = read(name)
    deep = picture.pixels.dtype == np.uint16
    assert deep == ("16" in name)
    assert off_by(picture.alpha, RAMP if deep else RAMP >> 8) <= 1
    visible = (slice(1, None) if name.endswith("webp") else slice(None),)  # WebP's first is hidden
    assert off_by(picture.pixels[visible], (base() if deep else base() >> 8)[visible]) <= 1


@pytest.mark.parametrize(("name", "peak"), [("associated8.tif", 255), ("associated16.tif", 65535)])
def test_colours_that_were_multiplied_by_alpha_are_divided_by_it(name, peak):
    picture = read(name)
    lower = slice(12, None)  # where half of the values' bits are left
    wanted = base() >> 8 if peak == 255 else base()
    assert off_by(picture.pixels[lower], wanted[lower]) <= 3
    with Image.open(FILES / name) as image:
        assert image.tag_v2[338] == (1,)  # associated, says the file


@pytest.mark.parametrize(("name", "dtype"), [("la8.png", np.uint8), ("la16.png", np.uint16)])
def test_grey_with_alpha_stays_grey_with_alpha(name, dtype):
    picture = read(name)
    assert picture.pixels.shape == picture.alpha.shape == (24, 32, 1)
    assert picture.pixels.dtype == picture.alpha.dtype == dtype
    again = decode(encode(picture, "png", "x"), "x")
    assert np.array_equal(again.pixels, picture.pixels)
    assert np.array_equal(again.alpha, picture.alpha)


@pytest.mark.parametrize(
    ("name", "left", "right"),
    [("palette_alpha.png", 0, 200), ("colour_key.png", 0, 255), ("palette.gif", 0, 255)],
)
def test_transparent_palettes_and_colour_keys_become_alpha(name, left, right):
    picture = read(name)
    assert picture.alpha[0, [0, 31], 0].tolist() == [left, right]
    assert picture.pixels[0, 31].tolist() == [20, 160, 60]
    assert rgb8(picture)[0, 0].tolist() == [255, 255, 255]


@pytest.mark.parametrize("format_", ["png", "tiff", "webp", "avif"])
def test_alpha_is_joined_again(format_):
    picture = read("rgba8.png")
    again = decode(encode(picture, format_, "x"), "x")
    assert off_by(again.alpha, picture.alpha) <= (0 if format_ != "avif" else 2)
    opened = pillow(encode(picture, format_, "x"))
    assert opened.mode == "RGBA"
    assert off_by(np.asarray(opened)[4:, :, :3], picture.pixels[4:]) <= 12


def test_what_a_format_cannot_hold_is_told_beforehand():
    assert refusal("jpeg", (8, 8), has_alpha=True) == "JPEG has no transparency"
    for format_, limit in (("jpeg", 65500), ("webp", 16383), ("avif", 16384)):
        assert refusal(format_, (1, limit), has_alpha=False) is None
        assert f"{limit:,} a side" in refusal(format_, (limit + 1, 1), has_alpha=False)
        content = encode(Picture(np.zeros((16, limit, 1), np.uint8)), format_, "x")
        assert decode(content, "x").size == (16, limit)
    for format_ in ("png", "tiff"):
        assert refusal(format_, (1, 100_000), has_alpha=True) is None
    with pytest.raises(ImageError, match=r"JPEG has no transparency.*--format, such as png"):
        encode(read("rgba8.png"), "jpeg", "x")


@pytest.mark.parametrize(
    ("name", "count"),
    [("animated.gif", "3"), ("animated.webp", "3"), ("animated.png", "3"), ("pages.tif", "3"),
     ("animated.avif", "several")],
)  # fmt: skip
def test_of_several_frames_the_first_is_taken_or_the_file_refused(name, count):
    picture = read(name)
    assert picture.notes == (f"first of {count} frames",)
    assert off_by(picture.pixels, base8()) <= 12
    with pytest.raises(ImageError, match=f"it has {count} frames or pages") as caught:
        decode((FILES / name).read_bytes(), name, frames="error")
    assert "--frames first" in caught.value.remedy


@pytest.mark.parametrize("name", ["pyramid.tif", "two_views.mpo", "rgb8.gif", "rgb8.ico"])
def test_reduced_copies_and_second_views_are_no_frames(name):
    assert decode((FILES / name).read_bytes(), name, frames="error").notes == ()


def test_hidden_colours_are_replaced_by_what_is_seen_around_them():
    pixels = np.full((40, 50, 3), 100, np.uint8)
    pixels[:, 25:] = 140
    alpha = np.full((40, 50, 1), 255, np.uint8)
    alpha[10:30, 10:40] = 0
    garbage = pixels.copy()
    garbage[10:30, 10:40] = (0, 255, 0)
    filled = fill_hidden(garbage, alpha)
    seen = alpha[..., 0] > 0
    assert np.array_equal(filled[seen], pixels[seen])
    assert filled[~seen].min() >= 100
    assert filled[~seen].max() <= 140
    assert filled[20, 11, 0] < filled[20, 38, 0]  # continued from either side
    assert np.array_equal(fill_hidden(pixels, alpha), filled)  # whatever was hidden


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 7, 1), (5, 1, 3), (33, 17, 3)])
def test_filling_works_at_every_size_and_depth(shape, dtype):
    peak = np.iinfo(dtype).max
    pixels = np.full(shape, peak, dtype)
    nothing = np.zeros((*shape[:2], 1), dtype)
    assert fill_hidden(pixels, nothing).max() == 0
    one = nothing.copy()
    one[-1, -1] = 1  # nearly hidden is seen
    garbage = np.zeros(shape, dtype)
    garbage[-1, -1] = peak
    assert fill_hidden(garbage, one).min() == peak


def test_a_turned_picture_has_its_size_upright_from_the_header():
    for name in ("orientation_5.jpg", "orientation_6.png", "orientation_6.tif", "camera.webp",
                 "rgb8.avif", "rgb8.heic", "rgb8.bmp", "rgb8.jp2", "animated.gif"):  # fmt: skip
        assert picture_size(FILES / name) == (24, 32) == read_picture(FILES / name).size


def test_the_header_is_enough_for_the_size(tmp_path):
    content = (FILES / "rgb16_lzw.tif").read_bytes()
    path = tmp_path / "a.png"
    path.write_bytes((FILES / "base16.png").read_bytes()[:500])
    assert picture_size(path) == (24, 32)
    path.write_bytes(b"no picture")
    with pytest.raises(ImageError, match="is not a picture"):
        picture_size(path)
    path.write_bytes(b"")
    with pytest.raises(ImageError, match="the file is empty"):
        picture_size(path)
    path.write_bytes(content[:6])
    with pytest.raises(ImageError, match="cut short or damaged"):
        picture_size(path)


def test_more_channels_than_colour_and_alpha_are_left_out_with_a_note():
    five = np.arange(5, dtype=np.uint8)[None, None].repeat(4, axis=0).repeat(4, axis=1)
    content = from_pixels(five, "srgb").tiffsave_buffer()  # no other program here writes one
    picture = decode(content, "x")
    assert picture.notes == ("channels beside colour and alpha left out",)
    assert (picture.pixels[0, 0].tolist(), picture.alpha[0, 0].tolist()) == ([0, 1, 2], [3])


def test_what_an_output_cannot_carry_is_said():
    deep_grey, camera, inks = read("grey16.png"), read("camera.png"), read("cmyk_profile.tif")
    assert left_out(deep_grey, "png", keep_profile=True) == ()
    assert left_out(deep_grey, "webp", keep_profile=True) == (
        "grey written as RGB: WebP has no grey",
        "its profile is of another kind of colours than the output: tagged sRGB",
        "16 bits rounded to 8: WebP holds no more",
    )
    assert left_out(camera, "png") == ()
    assert left_out(camera, "avif") == (
        "its IPTC has no place in AVIF: left out",
        "its PNG texts have no place in AVIF: left out",
    )
    assert left_out(inks, "tiff") == ()
    assert "another kind of colours" in left_out(inks, "tiff", keep_profile=True)[0]
    long = Metadata(exif=bytes(65_528))
    assert "longer than a JPEG" in left_out(Picture(camera.pixels, metadata=long), "jpeg")[0]
    assert left_out(Picture(camera.pixels, metadata=long), "png") == ()
