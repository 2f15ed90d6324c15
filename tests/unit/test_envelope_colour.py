"""Colour profiles: files by ImageMagick and Pillow, judged by closed forms and by ImageCms."""

from dataclasses import replace
from io import BytesIO

import numpy as np
import pytest
from PIL import ImageCms

from i2i.imaging import Metadata, Picture, decode, encode
from i2i.imaging.colour import is_srgb, srgb_profile
from tests.unit.envelope import (
    FILES,
    base,
    base8,
    exiftool,
    needs_exiftool,
    off_by,
    opencv,
    pillow,
    read,
)


def profile_of(content: bytes) -> bytes | None:
    return pillow(content).info.get("icc_profile")


def by_image_cms(name: str) -> np.ndarray:
    """Convert a file to sRGB by Pillow's ImageCms, which has 8 bits only."""
    image = pillow((FILES / name).read_bytes())
    source = ImageCms.getOpenProfile(BytesIO(image.info["icc_profile"]))
    black_point = ImageCms.Flags.BLACKPOINTCOMPENSATION
    done = ImageCms.profileToProfile(
        image,
        source,
        ImageCms.createProfile("sRGB"),
        renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
        outputMode="RGB",
        flags=black_point,
    )
    return np.asarray(done)


@pytest.mark.parametrize("space", ["adobe", "p3", "prophoto"])
def test_wide_colours_become_srgb_at_the_files_own_depth(space):
    deep = read(f"{space}16.png")
    assert deep.pixels.dtype == np.uint16
    assert off_by(deep.pixels, base()) <= 30  # ImageMagick rounded too
    flat = read(f"{space}8.png")
    assert flat.pixels.dtype == np.uint8
    assert off_by(flat.pixels, by_image_cms(f"{space}8.png")) <= 1
    raw = opencv((FILES / f"{space}8.png").read_bytes())
    assert off_by(raw, base8()) > 5  # the profile does something


@pytest.mark.parametrize("name", ["adobe16.tif", "adobe8.jpg"])
def test_profiles_of_tiff_and_jpeg_are_honoured(name):
    picture = read(name)
    wanted, allowed = (base(), 30) if name.endswith("tif") else (by_image_cms(name), 1)
    assert off_by(picture.pixels, wanted) <= allowed


@pytest.mark.parametrize("space", ["adobe", "p3", "prophoto"])
@pytest.mark.parametrize(("bits", "allowed"), [(8, 1), (16, 80)])
def test_a_kept_profile_gives_the_files_own_values_back(space, bits, allowed):
    name = f"{space}{bits}.png"
    content = encode(read(name), "png", name, keep_profile=True)
    original = (FILES / name).read_bytes()
    assert off_by(opencv(content), opencv(original)) <= allowed
    assert profile_of(content) == profile_of(original)


@pytest.mark.parametrize("format_", ["jpeg", "png", "tiff", "webp", "avif"])
def test_outputs_of_tagged_pictures_say_srgb_and_untagged_ones_stay_so(format_):
    tagged = profile_of(encode(read("adobe8.png"), format_, "x"))
    assert tagged is not None
    assert is_srgb(tagged)
    assert profile_of(encode(read("rgb8.bmp"), format_, "x")) is None


@pytest.mark.parametrize("format_", ["jpeg", "png", "tiff", "webp", "avif"])
def test_a_kept_profile_is_in_every_format(format_):
    content = encode(read("adobe8.png"), format_, "x", keep_profile=True)
    assert profile_of(content) == (FILES / "adobe.icc").read_bytes()


def srgb_curve(linear: np.ndarray) -> np.ndarray:
    return np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)


@pytest.mark.parametrize(("bits", "allowed"), [(8, 1), (16, 20)])
def test_grey_of_a_gamma_gets_the_curve_of_srgb_and_stays_grey(bits, allowed):
    picture = read(f"grey{bits}.png")
    peak = 2**bits - 1
    raw = opencv((FILES / f"grey{bits}.png").read_bytes())
    wanted = np.rint(srgb_curve((raw / peak) ** (round(1.8 * 256) / 256)) * peak)
    assert picture.pixels.shape[2] == 1
    assert off_by(picture.pixels, wanted) <= allowed
    assert off_by(picture.pixels, raw) > 4


@pytest.mark.parametrize("name", ["grey", "dotgain"])
@pytest.mark.parametrize(("bits", "allowed"), [(8, 1), (16, 20)])
def test_grey_comes_back_to_its_own_profile(name, bits, allowed):
    original = (FILES / f"{name}{bits}.png").read_bytes()
    content = encode(read(f"{name}{bits}.png"), "png", "x", keep_profile=True)
    assert off_by(opencv(content), opencv(original)) <= allowed
    assert profile_of(content) == (FILES / f"{name}.icc").read_bytes()


def test_dot_gain_is_read_as_image_cms_reads_it():
    assert off_by(read("dotgain8.png").pixels.repeat(3, axis=2), by_image_cms("dotgain8.png")) <= 1


@pytest.mark.parametrize("format_", ["jpeg", "png", "tiff", "webp"])
def test_grey_outputs_carry_a_grey_profile_of_srgbs_curve(format_):
    content = encode(read("grey8.png"), format_, "x")
    profile = profile_of(content)
    is_grey = pillow(content).mode == "L"  # WebP has no grey
    assert is_grey == (format_ != "webp")
    assert is_srgb(profile)
    opened = ImageCms.ImageCmsProfile(BytesIO(profile)).profile
    assert opened.xcolor_space.strip() == ("GRAY" if is_grey else "RGB")


def test_grey_that_became_colour_is_tagged_srgb_rather_than_grey():
    grey = read("grey8.png")
    coloured = replace(grey, pixels=grey.pixels.repeat(3, axis=2))
    content = encode(coloured, "png", "x", keep_profile=True)
    assert profile_of(content) == srgb_profile(3)


@pytest.mark.parametrize("name", ["cmyk_profile.tif", "cmyk_profile.jpg"])
def test_inks_are_read_by_their_profile(name):
    picture = read(name)
    assert picture.pixels.shape == (24, 32, 3)
    # ImageCms reads 8 bits; Pillow inverts Adobe's JPEG as libvips does
    assert off_by(picture.pixels, by_image_cms(name)) <= 1
    content = encode(picture, "tiff", "x", keep_profile=True)
    assert pillow(content).mode == "RGB"
    assert is_srgb(profile_of(content))


def test_deep_inks_stay_deep():
    picture = read("cmyk16.tif")
    assert picture.pixels.dtype == np.uint16
    assert off_by(picture.pixels / 257, read("cmyk_profile.tif").pixels) <= 4  # dark blues
    assert (picture.pixels % 257 != 0).any()


def test_inks_without_a_profile_and_adobes_inverted_jpeg_agree():
    from_tiff, from_jpeg = read("cmyk_plain.tif").pixels, read("cmyk_plain.jpg").pixels
    assert off_by(from_tiff, from_jpeg) <= 3
    inks = np.asarray(pillow((FILES / "cmyk_plain.tif").read_bytes())).astype(int)
    light = (255 - inks[..., 0]) * (255 - inks[..., 3])  # what cyan and black let through
    # more ink, less red: neither inverted twice nor not at all
    assert np.corrcoef(light.ravel(), from_tiff[..., 0].ravel())[0, 1] > 0.9
    assert is_srgb(profile_of(encode(read("cmyk_plain.tif"), "png", "x")))


@pytest.mark.parametrize("name", ["damaged_profile.jpg", "unfit.jpg"])
def test_a_profile_that_cannot_be_used_is_ignored_with_a_note(name):
    picture = read(name)
    assert picture.notes == ("its colour profile is damaged or of another kind: taken as sRGB",)
    raw = np.asarray(pillow((FILES / name).read_bytes()))
    assert off_by(picture.pixels, raw) <= 1
    assert profile_of(encode(picture, "png", "x", keep_profile=True)) is None


@pytest.mark.parametrize("missing", [b"rTRC", b"gXYZ"])
def test_a_profile_whose_table_is_broken_counts_as_damaged(missing):
    profile = (FILES / "adobe.icc").read_bytes().replace(missing, b"zzzz")
    file = BytesIO()
    pillow((FILES / "rgb8.bmp").read_bytes()).save(file, "PNG", icc_profile=profile)
    assert "damaged" in decode(file.getvalue(), "x").notes[0]


def test_srgb_by_another_maker_moves_no_pixel():
    assert is_srgb((FILES / "srgb.icc").read_bytes())
    assert off_by(read("srgb8.png").pixels, opencv((FILES / "srgb8.png").read_bytes())) == 0
    for name in ("adobe", "p3", "prophoto", "grey", "dotgain", "cmyk"):
        assert not is_srgb((FILES / f"{name}.icc").read_bytes())


def test_grey_with_an_rgb_profile_is_read_through_it():
    file = BytesIO()
    values = np.arange(256, dtype=np.uint8).reshape(16, 16)
    image = pillow(encode(Picture(values[..., None]), "png", "x"))
    image.save(file, "JPEG", quality=100, icc_profile=(FILES / "prophoto.icc").read_bytes())
    picture = decode(file.getvalue(), "x")
    linear = (np.asarray(pillow(file.getvalue())) / 255) ** (round(1.8 * 256) / 256)
    assert off_by(picture.pixels[..., 0], np.rint(srgb_curve(linear) * 255)) <= 1
    assert picture.metadata.profile is not None
    assert is_srgb(profile_of(encode(picture, "jpeg", "x", keep_profile=True)))


@needs_exiftool
def test_exiftool_names_the_profiles_that_are_written(tmp_path):
    seen = exiftool(encode(read("adobe8.jpg"), "jpeg", "x"), ".jpg", tmp_path)
    assert seen["[ICC-header] ColorSpaceData"] == "RGB"
    seen = exiftool(encode(read("grey16.png"), "tiff", "x"), ".tif", tmp_path)
    assert seen["[ICC-header] ColorSpaceData"] == "GRAY"
    assert seen["[ICC_Profile] ProfileDescription"] == "Grey with the curve of sRGB"


def test_alpha_passes_a_colour_conversion_untouched():
    rgba = read("rgba16.png")
    tagged = replace(rgba, metadata=Metadata(profile=(FILES / "adobe.icc").read_bytes()))
    content = encode(tagged, "png", "x", keep_profile=True)
    again = decode(content, "x")
    assert np.array_equal(again.alpha, rgba.alpha)
    assert off_by(again.pixels, rgba.pixels) <= 80
    assert off_by(opencv(content)[..., :3], rgba.pixels) > 257
