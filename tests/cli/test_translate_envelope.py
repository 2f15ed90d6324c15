"""What a picture's file says beside its colours, through a whole job."""

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from i2i.imaging import encode, read_picture
from i2i.provenance import COMPOSITE, TRAINED, read_provenance
from tests.cli.folder import files_in, opened, picture, records, saved, sha256, translate
from tests.unit import test_signing

certificates = test_signing.files

FILES = Path(__file__).parents[1] / "files"  # made by exiftool and ImageMagick


def deep(height: int, width: int, num_channels: int) -> np.ndarray:
    generator = np.random.default_rng(3)
    shape = (height, width, num_channels) if num_channels > 1 else (height, width)
    return generator.integers(0, 65536, shape, dtype=np.uint16)


@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize("num_channels", [1, 3, 4])
def test_sixteen_bits_survive_the_model(tmp_path, model, plugins, suffix, num_channels):
    values = deep(13, 21, num_channels)
    assert cv2.imwrite(str(tmp_path / f"a.{suffix}"), values)
    if num_channels == 1:
        model = saved(tmp_path / "grey.safetensors", plugins, channels_out=1)
    out = tmp_path / "out"
    assert translate(tmp_path / f"a.{suffix}", "-o", out, "--model", model).exit_code == 0
    written = cv2.imread(str(out / f"a.{suffix}"), cv2.IMREAD_UNCHANGED)
    assert written.dtype == np.uint16
    expected = 65535 - values.astype(int)
    if num_channels == 4:
        expected[..., 3] = values[..., 3]
        hidden = values[..., 3] == 0
        expected[hidden], written[hidden] = 0, 0
    assert np.abs(written.astype(int) - expected).max() <= (60 if num_channels == 1 else 1)


def test_sixteen_bits_survive_a_reduced_translation_with_detail(tmp_path, model):
    rows = np.linspace(10_000, 50_000, 200)[:, None, None] + np.arange(150)[None, :, None] * 7
    values = np.repeat(rows, 3, 2).astype(np.uint16)
    assert cv2.imwrite(str(tmp_path / "a.png"), values)
    arguments = ["--model", model, "--work-size", 40]
    assert translate(tmp_path / "a.png", "-o", tmp_path / "out", *arguments).exit_code == 0
    written = cv2.imread(str(tmp_path / "out" / "a.png"), cv2.IMREAD_UNCHANGED)
    assert written.shape == values.shape
    assert written.dtype == np.uint16
    inner = (slice(20, -20), slice(20, -20))
    assert np.abs(written.astype(int) + values - 65535)[inner].max() < 200
    assert len(np.unique(written)) > 1000


def test_what_is_hidden_never_bleeds_into_what_is_seen(tmp_path, model):
    """Equal but for the colours under alpha 0, two pictures have equal translations."""
    for work_size in ("native", "30"):
        results = []
        for name, colour in [("one", (0, 255, 0)), ("two", (255, 0, 255))]:
            image = picture(90, 120).convert("RGBA")
            pixels = np.array(image)
            pixels[20:60, 30:70] = (*colour, 0)
            Image.fromarray(pixels).save(tmp_path / f"{name}.png")
            out = tmp_path / f"out-{work_size}"
            arguments = ["--model", model, "--work-size", work_size]
            assert translate(tmp_path / f"{name}.png", "-o", out, *arguments).exit_code == 0
            results.append(np.asarray(opened(out / f"{name}.png")))
        assert results[0].shape == (90, 120, 4)
        assert np.array_equal(results[0][..., 3], pixels[..., 3])
        assert np.array_equal(*results)


def test_alpha_is_enlarged_and_reduced_with_the_picture(tmp_path, model):
    pixels = np.zeros((80, 120, 4), np.uint8)
    pixels[:40] = (200, 10, 10, 255)
    pixels[40:] = (10, 200, 10, 100)
    Image.fromarray(pixels).save(tmp_path / "a.webp", lossless=True, exact=True)
    arguments = ["--model", model, "--work-size", 20, "--no-restore-size", "--format", "png"]
    assert translate(tmp_path / "a.webp", "-o", tmp_path / "out", *arguments).exit_code == 0
    written = np.asarray(opened(tmp_path / "out" / "a.png"))
    assert written.shape == (20, 30, 4)
    assert (written[:8, :, 3] == 255).all()
    assert (written[12:, :, 3] == 100).all()


@pytest.mark.parametrize("name", ["rgba8.png", "la16.png"])
def test_a_transparent_picture_may_be_laid_on_white_and_comes_back_opaque(tmp_path, model, name):
    """Negated, white is black; and the half-transparent are half of it, in 16 bits too."""
    source = read_picture(FILES / name)
    arguments = ["--model", model, "--background", "white"]
    done = translate(FILES / name, "-o", tmp_path / "out", *arguments)
    assert "laid on white" in done.stdout
    result = read_picture(tmp_path / "out" / name)
    assert result.alpha is None
    peak = np.iinfo(source.pixels.dtype).max
    assert result.pixels.dtype == source.pixels.dtype
    share = source.alpha.astype(float) / peak
    expected = peak - (source.pixels * share + peak * (1 - share))
    assert np.abs(result.pixels - expected).max() <= 1
    assert (share < 1).any()


def test_grey_stays_grey_where_the_family_is_and_else_becomes_colour_and_says_so(
    tmp_path, model, plugins
):
    picture(9, 9).convert("L").save(tmp_path / "a.png")
    grey = saved(tmp_path / "grey.safetensors", plugins, channels_out=1)
    translate(tmp_path / "a.png", "-o", tmp_path / "grey", "--model", grey)
    assert opened(tmp_path / "grey" / "a.png").mode == "L"
    result = translate(tmp_path / "a.png", "-o", tmp_path / "colour", "--model", model)
    assert opened(tmp_path / "colour" / "a.png").mode == "RGB"
    assert "1 picture: grey became RGB, as the family's results are\n" in result.stdout


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
def test_metadata_survives_and_positions_go_where_asked(tmp_path, model, suffix):
    source = FILES / f"camera.{suffix}"
    before = opened(source).getexif()
    assert translate(source, "-o", tmp_path / "out", "--model", model).exit_code == 0
    kept = opened(tmp_path / "out" / source.name).getexif()
    for ifd in (0x8769, 0x8825):  # Exif and GPS
        assert before.get_ifd(ifd)
        sizes = {0xA002, 0xA003}
        for tag in {*before.get_ifd(ifd)} - sizes:
            assert kept.get_ifd(ifd)[tag] == before.get_ifd(ifd)[tag]
    assert kept[0x010F] == before[0x010F]
    assert kept.get(0x0112, 1) == 1
    translate(source, "-o", tmp_path / "away", "--model", model, "--strip-gps")
    stripped = opened(tmp_path / "away" / source.name).getexif()
    assert stripped[0x010F] == before[0x010F]
    assert not stripped.get_ifd(0x8825)
    assert b"GPS" not in (read_picture(tmp_path / "away" / source.name).metadata.xmp or b"")


@pytest.mark.parametrize("format_", ["jpeg", "png", "tiff", "webp", "avif"])
def test_every_output_says_what_made_it(tmp_path, model, plugins, format_):
    source = tmp_path / "a.png"
    picture(40, 60).save(source)
    arguments = ["--model", model, "--format", format_, "--set", "strength=0.75"]
    assert translate(source, "-o", tmp_path / "out", *arguments).exit_code == 0
    (name,) = files_in(tmp_path / "out")
    said = read_provenance(read_picture(tmp_path / "out" / name).metadata)
    assert said is not None
    assert said.digital_source_type == TRAINED
    assert said.family == "negative"
    assert said.version == "tiny-negative 1.0"
    assert said.model_sha256 == sha256(model)
    assert said.input_sha256 == sha256(source)
    assert json.loads(said.request)["request"]["strength"] == 0.75
    assert json.loads(said.request)["options"]["work_size"] == "native"

    arguments += ["--no-provenance"]
    assert translate(tmp_path / "out" / name, "-o", tmp_path / "none", *arguments).exit_code == 0
    assert read_provenance(read_picture(tmp_path / "none" / name).metadata) is None


def test_pixels_of_the_input_in_the_output_are_said(tmp_path, plugins, site):
    recipe = (site / "recipes" / "negatives.toml").read_text()
    detailed = site / "recipes" / "negative_detailed.toml"
    recipe = recipe.replace("restore_size = false", 'restore = "detail"')
    detailed.write_text(recipe)
    saved(site / "recipes" / "weights" / "negatives.safetensors", plugins)
    picture(60, 90).save(tmp_path / "large.png")
    picture(20, 20).save(tmp_path / "small.png")
    try:
        result = translate(tmp_path, "-o", tmp_path / "out", "--recipe", "negative_detailed")
    finally:
        detailed.unlink()
    assert result.exit_code == 0, result.stderr
    kinds = {
        name: read_provenance(read_picture(tmp_path / "out" / name).metadata)
        for name in ("large.png", "small.png")
    }
    assert kinds["large.png"].digital_source_type == COMPOSITE
    assert kinds["small.png"].digital_source_type == TRAINED
    assert kinds["large.png"].recipe == "negative_detailed"


def test_the_profile_is_kept_or_becomes_srgb(tmp_path, model):
    source = FILES / "adobe16.png"
    profile = opened(source).info["icc_profile"]
    translate(source, "-o", tmp_path / "srgb", "--model", model)
    translate(source, "-o", tmp_path / "own", "--model", model, "--keep-profile")
    written = opened(tmp_path / "srgb" / source.name).info["icc_profile"]
    assert written not in (None, profile)
    assert opened(tmp_path / "own" / source.name).info["icc_profile"] == profile
    before, after = (
        read_picture(source).pixels,
        read_picture(tmp_path / "srgb" / source.name).pixels,
    )
    limit = np.iinfo(before.dtype).max
    assert np.abs(after.astype(int) + before - limit).max() <= limit / 255


def test_outputs_are_signed_with_the_users_certificate(tmp_path, model, certificates):
    c2pa = pytest.importorskip("c2pa")
    certificate, key = certificates()
    picture(40, 60).save(tmp_path / "a.jpg")
    signed = ["--c2pa-certificate", certificate, "--c2pa-key", key]
    result = translate(tmp_path / "a.jpg", "-o", tmp_path / "out", "--model", model, *signed)
    assert result.exit_code == 0, result.stderr
    with (tmp_path / "out" / "a.jpg").open("rb") as content:
        manifest = json.loads(c2pa.Reader("image/jpeg", content).json())
    assert manifest["active_manifest"] in manifest["manifests"]
    again = translate(tmp_path / "a.jpg", "-o", tmp_path / "out", "--model", model, *signed)
    assert again.stdout.startswith("0 done, 1 done before")
    one = translate(tmp_path / "a.jpg", "-o", tmp_path / "x", "--model", model, *signed[:2])
    assert one.exit_code == 2
    assert "--c2pa-certificate and --c2pa-key: one is given without the other" in one.stderr
    assert not (tmp_path / "x").exists()


def test_outputs_do_not_depend_on_when_they_are_made(tmp_path, model):
    photos = tmp_path / "photos"
    photos.mkdir()
    for suffix in ("jpg", "png", "tif", "webp"):
        (photos / f"{suffix}.{suffix}").write_bytes((FILES / f"camera.{suffix}").read_bytes())
    for out in ("one", "two"):
        arguments = [photos, "-o", tmp_path / out, "--model", model, "--report"]
        assert translate(*arguments, tmp_path / f"{out}.jsonl").exit_code == 0
    hashes = [
        {each["name"]: each["output_sha256"] for each in records(tmp_path / f"{out}.jsonl")}
        for out in ("one", "two")
    ]
    assert hashes[0] == hashes[1]
    assert len(hashes[0]) == 4


def test_what_a_jpeg_has_no_room_for_is_said(tmp_path, model):
    source = tmp_path / "a.png"
    source.write_bytes((FILES / "camera.png").read_bytes())
    before = read_picture(source)
    packet = (before.metadata.xmp or b"").decode()
    at = packet.index("</rdf:RDF>")
    long = (
        '<rdf:Description rdf:about="" xmlns:photoshop="http://ns.adobe.com/photoshop/1.0/">'
        f"<photoshop:History>{'x' * 70_000}</photoshop:History></rdf:Description>"
    )
    metadata = replace(before.metadata, xmp=(packet[:at] + long + packet[at:]).encode())
    source.write_bytes(encode(replace(before, metadata=metadata), "png", "a"))
    kept = translate(source, "-o", tmp_path / "png", "--model", model)
    assert "XMP" not in kept.stdout
    assert b"xxxxx" in (read_picture(tmp_path / "png" / "a.png").metadata.xmp or b"")
    said = translate(source, "-o", tmp_path / "jpeg", "--model", model, "--format", "jpeg")
    assert "1 picture: XMP too long for JPEG: photoshop:History left out\n" in said.stdout
    written = read_picture(tmp_path / "jpeg" / "a.jpg").metadata
    assert b"xxxxx" not in (written.xmp or b"")
    assert read_provenance(written) is not None


def test_what_an_output_cannot_keep_is_said(tmp_path, model):
    inks = translate(
        FILES / "cmyk_profile.jpg", "-o", tmp_path / "inks", "--model", model, "--keep-profile"
    )
    assert "1 picture: its profile is of another kind of colours than the output" in inks.stdout
    deep = translate(
        FILES / "adobe16.png", "-o", tmp_path / "deep", "--model", model, "--format", "jpeg"
    )
    assert "1 picture: 16 bits became 8, as jpeg holds no more\n" in deep.stdout
    plain = translate(FILES / "adobe8.jpg", "-o", tmp_path / "plain", "--model", model)
    assert "1 picture:" not in plain.stdout
