"""Damage, bombs, foreign files and threads: nothing of them may cost more than its own file."""

import json
import logging
import struct
import subprocess
import sys
import zlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from i2i.errors import ImageError
from i2i.imaging import Metadata, Picture, containers, decode, encode
from i2i.imaging.opened import sniff
from i2i.imaging.vips import LOADERS
from tests.unit.envelope import FILES, base8, imagemagick, off_by, read

KINDS = ["adobe8.jpg", "base16.png", "rgb16_lzw.tif", "rgb16_big_endian.tif", "rgb8.webp",
         "rgb8.gif", "rgb8.avif", "rgb8.heic", "rgb8.bmp", "rgb8.ppm", "rgb8.tga", "rgb8.jp2",
         "rgb16.ppm"]  # fmt: skip


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
@pytest.mark.parametrize("name", KINDS)
def test_a_file_that_is_cut_short_is_an_error(name, share):
    content = (FILES / name).read_bytes()
    with pytest.raises(ImageError, match=r"cannot be decoded|is not a picture") as caught:
        decode(content[: int(len(content) * share)], "photo")
    assert caught.value.remedy == "replace the file or leave it out"


@pytest.mark.parametrize(
    ("name", "kind"), [("adobe8.jpg", "JPEG"), ("base16.png", "PNG"), ("rgb16_lzw.tif", "TIFF"),
                       ("rgb8.webp", "WebP"), ("rgb8.gif", "GIF"), ("rgb8.avif", "AVIF")]
)  # fmt: skip
def test_the_message_names_the_kind_of_file_and_quotes_no_library(name, kind):
    content = (FILES / name).read_bytes()
    with pytest.raises(ImageError) as caught:
        decode(content[: len(content) * 2 // 3], "photo")
    assert caught.value.wrong == f"cannot be decoded (the {kind} is cut short or damaged)"


@pytest.mark.parametrize("name", [name for name in KINDS if name != "rgb8.tga"])
def test_garbage_after_the_end_of_a_file_is_nobodys_business(name):
    content = (FILES / name).read_bytes()
    whole, longer = decode(content, "x"), decode(content + b"garbage" * 30, "x")
    assert np.array_equal(whole.pixels, longer.pixels)


def test_bytes_that_are_turned_over_never_crash_and_never_leave_another_error():
    generator = np.random.default_rng(0)
    for name in KINDS:
        content = (FILES / name).read_bytes()
        for _ in range(40):
            damaged = bytearray(content)
            for at in generator.integers(0, len(content), 3):
                damaged[at] ^= int(generator.integers(1, 256))
            with suppress(ImageError):
                decode(bytes(damaged), "x", max_pixels=1_000_000)


@pytest.mark.parametrize("kind", ["svg", "pdf", "ps", "hdr", "fits", "mat", "v"])
def test_no_other_loader_of_libvips_runs(kind):
    contents = {
        "svg": b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"></svg>',
        "pdf": b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n1 0 obj\n<<>>\nendobj\n",
        "ps": b"%!PS-Adobe-3.0\n%%BoundingBox: 0 0 9 9\n",
        "hdr": b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y 1 +X 1\n\1\1\1\1",
        "fits": b"SIMPLE  =                    T" + b" " * 2850,
        "mat": b"MATLAB 5.0 MAT-file" + b" " * 109,
        "v": b"\x08\xf2\xa6\xb6" + bytes(200),
    }
    assert sniff(contents[kind]) is None
    with pytest.raises(ImageError, match="is not a picture"):
        decode(contents[kind], "x")


def test_the_loaders_are_a_fixed_table():
    assert set(LOADERS) == {"jpeg", "png", "tiff", "webp", "avif", "gif"}


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, *chunks: bytes) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes((width * 3 + 1) * height) if width < 1000 else bytes(1000))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        [png_chunk(b"IHDR", header), *chunks, png_chunk(b"IDAT", pixels), png_chunk(b"IEND", b"")]
    )


def test_a_huge_size_is_refused_from_the_header_with_the_callers_advice():
    for content in (png(60_000, 60_000), b"P6 60000 60000 255\n", gif(60_000, 60_000)):
        with pytest.raises(ImageError, match=r"too many.*at most 100,000,000 pixels") as caught:
            decode(content, "x", if_too_large="raise --max-pixels if the file is to be trusted")
        assert "--max-pixels" in caught.value.remedy
    with pytest.raises(ImageError, match="32x24 pixels are too many; expected at most 767"):
        decode((FILES / "rgb8.heic").read_bytes(), "x", max_pixels=767)


def gif(width: int, height: int) -> bytes:
    return (
        b"GIF89a"
        + struct.pack("<HH", width, height)
        + b"\x80\0\0"
        + bytes(6)
        + (b",\0\0\0\0" + struct.pack("<HH", width, height) + b"\0\2\2\x4c\1\0;")
    )


def test_bombs_in_files_eat_no_memory(tmp_path):
    zeros = zlib.compress(bytes(400_000_000), 9)
    bombs = {
        "size.png": png(60_000, 60_000),
        "profile.png": png(4, 4, png_chunk(b"iCCP", b"x\0\0" + zeros)),
        "text.png": png(4, 4, png_chunk(b"zTXt", b"x\0\0" + zeros)),
        "itext.png": png(4, 4, png_chunk(b"iTXt", b"x\0\1\0\0\0" + zeros)),
        "size.gif": gif(60_000, 60_000),
        "size.ppm": b"P6 60000 60000 65535\n",
    }
    for name, content in bombs.items():
        (tmp_path / name).write_bytes(content)
    script = (
        "import resource, sys\n"
        "from pathlib import Path\n"
        "from i2i.errors import ImageError\n"
        "from i2i.imaging import read_picture\n"
        f"read_picture(Path({str(FILES / 'base16.png')!r}))\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "for name in sys.argv[1:]:\n"
        "    try:\n"
        "        read_picture(Path(name))\n"
        "    except ImageError:\n"
        "        pass\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    names = [str(tmp_path / name) for name in bombs]
    done = subprocess.run([sys.executable, "-c", script, *names], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    kilobytes = int(done.stdout) // (1024 if sys.platform == "darwin" else 1)
    assert kilobytes < 60_000
    assert done.stderr == ""


def test_texts_that_unpack_without_end_are_left_out():
    bomb = png_chunk(b"zTXt", b"bomb\0\0" + zlib.compress(bytes(10_000_000)))
    content = png(4, 4, bomb, png_chunk(b"tEXt", b"key\0value"))
    assert containers.png_texts(content) == {"key": "value"}


def test_a_header_of_a_pnm_that_never_ends_is_read_in_no_time():
    with pytest.raises(ImageError):
        decode(b"P6" + b" " * 100_000, "x")
    with pytest.raises(ImageError):
        decode(b"P6" + b"# \n" * 100_000, "x")


@pytest.mark.parametrize("format_", ["jpeg", "png", "tiff", "webp", "avif"])
def test_pictures_with_all_their_metadata_give_equal_bytes_again(format_):
    first, second = (encode(read("camera.jpg"), format_, "x") for _ in range(2))
    assert first == second
    deep = [encode(read("adobe16.png"), format_, "x", keep_profile=True) for _ in range(2)]
    assert deep[0] == deep[1]


def test_many_threads_give_what_one_gives(caplog):
    names = [*KINDS, "animated.gif", "cmyk_profile.jpg", "adobe16.png", "grey16.png", "camera.tif"]
    contents = {name: (FILES / name).read_bytes() for name in names}
    broken = (FILES / "adobe8.jpg").read_bytes()[:700]

    def work(name: str) -> tuple[bytes, str]:
        picture = decode(contents[name], name)
        try:
            decode(broken, f"broken beside {name}")
        except ImageError as error:
            message = str(error)
        return encode(picture, "png", name, keep_profile=True), message

    alone = [work(name) for name in names]
    with ThreadPoolExecutor(12) as threads, caplog.at_level(logging.DEBUG):
        together = list(threads.map(work, names * 6))
    assert together == alone * 6
    assert all(name in alone[index][1] for index, name in enumerate(names))
    assert not [record for record in caplog.records if record.name.startswith("pyvips")]


def test_nothing_is_printed_about_odd_files(capfd):
    noisy = BytesIO()
    Image.fromarray(base8().astype(np.uint8)).save(
        noisy, "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff"
    )
    content = noisy.getvalue()
    decode(content, "x")
    for name in KINDS:
        broken = (FILES / name).read_bytes()
        with pytest.raises(ImageError):
            decode(broken[: len(broken) // 2], "x")
    encode(Picture(base8().astype(np.uint8), metadata=Metadata(xmp=b"x" * 70_000)), "tiff", "x")
    seen = capfd.readouterr()
    assert (seen.out, seen.err) == ("", "")


def test_importing_loads_no_codec():
    script = (
        "import sys, json\n"
        "import i2i.imaging\n"
        "from i2i.imaging import format_for_suffix, has_picture_suffix, printable\n"
        "print(json.dumps([n for n in ('pyvips', '_libvips', 'pillow_heif') if n in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert json.loads(done.stdout) == []


def test_imagemagick_reads_every_output(tmp_path):
    convert = imagemagick()
    for format_, suffix in (("jpeg", ".jpg"), ("png", ".png"), ("tiff", ".tif"), ("webp", ".webp")):
        path: Path = tmp_path / f"a{suffix}"
        path.write_bytes(encode(read("camera.jpg"), format_, "x"))
        command = [convert, str(path), "-depth", "8", "rgb:-"]
        done = subprocess.run(command, capture_output=True, check=True)
        pixels = np.frombuffer(done.stdout, np.uint8).reshape(24, 32, 3)
        assert off_by(pixels, base8()) <= 8
        if format_ in ("jpeg", "png"):  # of XMP in WebP and Interop in TIFF it knows nothing
            assert done.stderr == b""
