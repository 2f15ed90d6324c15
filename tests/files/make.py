"""Makes the pictures in this folder, with other programs than i2i's own libraries.

Run it where ImageMagick 6 (``convert``, or what CONVERT names) and ExifTool are installed:
``CONVERT=/usr/bin/convert python tests/files/make.py``. The tests need neither.
"""

import os
import struct
import subprocess
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
import pillow_heif
from PIL import Image

HERE = Path(__file__).parent
CONVERT = os.environ.get("CONVERT", "convert")
D50 = (0.9642, 1.0, 0.8249)

# XYZ of the primaries, adapted to D50 (Adobe RGB (1998), Display P3, ROMM RGB), and a gamma
MATRICES: dict[str, tuple[tuple[tuple[float, ...], ...], float]] = {
    "adobe": (((0.60974, 0.31111, 0.01947), (0.20528, 0.62567, 0.06087),
               (0.14919, 0.06322, 0.74457)),
              563 / 256),
    "p3": (((0.51512, 0.24120, -0.00105), (0.29198, 0.69225, 0.04189),
               (0.15710, 0.06657, 0.78407)),
           2.2),
    "prophoto": (((0.79767, 0.28804, 0.0), (0.13519, 0.71188, 0.0),
               (0.03134, 0.00009, 0.82491)),
                 1.8),
}  # fmt: skip
ORIENT = {
    1: [],
    2: ["-flop"],
    3: ["-rotate", "180"],
    4: ["-flip"],
    5: ["-transpose"],
    6: ["-rotate", "270"],
    7: ["-transverse"],
    8: ["-rotate", "90"],
}


def run(*command: str) -> None:
    subprocess.run(command, check=True, cwd=HERE, stdout=subprocess.DEVNULL)


def convert(*arguments: str) -> None:
    run(CONVERT, *arguments)


def exiftool(*arguments: str) -> None:
    run("exiftool", "-q", "-overwrite_original", *arguments)


def base() -> np.ndarray:
    """Return 24x32 smooth RGB of 16 bits, within sRGB's middle, without two equal corners."""
    down, across = np.meshgrid(np.linspace(0, 1, 24), np.linspace(0, 1, 32), indexing="ij")
    red = 0.35 + 0.4 * across
    green = 0.30 + 0.45 * down
    blue = 0.65 - 0.3 * across * down
    return np.rint(np.stack([red, green, blue], axis=-1) * 65535).astype(np.uint16)


def fixed(value: float) -> bytes:
    return struct.pack(">i", round(value * 65536))


def xyz(values: tuple[float, ...]) -> bytes:
    return b"XYZ " + bytes(4) + b"".join(map(fixed, values))


def curve(gamma: float | None = None, table: np.ndarray | None = None) -> bytes:
    if table is None:
        return struct.pack(">4s4xIH", b"curv", 1, round(gamma * 256)) + bytes(2)
    return (
        struct.pack(">4s4xI", b"curv", len(table)) + np.rint(table * 65535).astype(">u2").tobytes()
    )


def profile(space: bytes, pcs: bytes, kind: bytes, tags: dict[bytes, bytes], name: str) -> bytes:
    text = f"{name}, made for tests\0".encode()
    tags = {
        b"desc": struct.pack(">4s4xI", b"desc", len(text)) + text + bytes(78),
        b"cprt": b"text" + bytes(4) + b"CC0\0",
        b"wtpt": xyz(D50),
        **tags,
    }
    table, body, start = struct.pack(">I", len(tags)), b"", 132 + 12 * len(tags)
    places: dict[bytes, int] = {}
    for tag, data in tags.items():
        at = places.setdefault(data, start + len(body))
        table += struct.pack(">4sII", tag, at, len(data))
        if at == start + len(body):
            body += data + bytes(-len(data) % 4)
    header = struct.pack(">I4xI4s4s4s12s4s28x", start + len(body), 0x02400000, kind, space, pcs,
                         struct.pack(">6H", 2026, 1, 1, 0, 0, 0), b"acsp")  # fmt: skip
    header += b"".join(map(fixed, D50)) + bytes(48)
    return header + table + body


def cmyk_profile() -> bytes:
    """Return a printer that multiplies what its inks let through, on yellowish paper."""
    grid = np.stack(np.meshgrid(*[np.linspace(0, 1, 5)] * 4, indexing="ij"), axis=-1).reshape(-1, 4)
    inks = 1 - grid[:, :3] * (0.9, 0.85, 0.8)
    rgb = 0.2 + 0.8 * inks * (1 - grid[:, 3:])  # a weak black
    linear = rgb**2.2
    to_xyz = np.array(
        [[0.4361, 0.3851, 0.1431], [0.2225, 0.7169, 0.0606], [0.0139, 0.0971, 0.7141]]
    )
    ratio = linear @ to_xyz.T / np.array(D50)
    root = np.where(ratio > 216 / 24389, np.cbrt(ratio), (24389 / 27 * ratio + 16) / 116)
    lightness = 116 * root[:, 1] - 16
    a, b = 500 * (root[:, 0] - root[:, 1]), 200 * (root[:, 1] - root[:, 2]) + 3 * lightness / 100
    lab = np.stack([lightness * 2.55, a + 128, b + 128], axis=-1)
    ramp = bytes(range(256))
    identity = b"".join(map(fixed, (1, 0, 0, 0, 1, 0, 0, 0, 1)))
    lut = b"mft1" + bytes(4) + bytes([4, 3, 5, 0]) + identity + ramp * 4
    lut += np.rint(np.clip(lab, 0, 255)).astype(np.uint8).tobytes() + ramp * 3
    return profile(b"CMYK", b"Lab ", b"scnr", {b"A2B0": lut, b"A2B1": lut}, "Inks")


def make_profiles() -> None:
    for name, (primaries, gamma) in MATRICES.items():
        tags = {b"rXYZ": xyz(primaries[0]), b"gXYZ": xyz(primaries[1]), b"bXYZ": xyz(primaries[2])}
        tags |= {tag: curve(gamma) for tag in (b"rTRC", b"gTRC", b"bTRC")}
        (HERE / f"{name}.icc").write_bytes(profile(b"RGB ", b"XYZ ", b"mntr", tags, name))
    grey = {b"kTRC": curve(1.8)}
    (HERE / "grey.icc").write_bytes(profile(b"GRAY", b"XYZ ", b"mntr", grey, "Grey 1.8"))
    dots = np.linspace(0, 1, 256)
    covered = 1 - dots
    gain = np.clip(covered + 0.2 * 4 * covered * (1 - covered), 0, 1)
    tags = {b"kTRC": curve(table=1 - gain)}
    (HERE / "dotgain.icc").write_bytes(profile(b"GRAY", b"XYZ ", b"prtr", tags, "Dot gain 20%"))
    (HERE / "cmyk.icc").write_bytes(cmyk_profile())
    from PIL import ImageCms

    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    (HERE / "srgb.icc").write_bytes(srgb)


def make_orientations() -> None:
    for number, turn in ORIENT.items():
        names = [f"orientation_{number}.jpg"]
        if number == 6:
            names += ["orientation_6.png", "orientation_6.webp", "orientation_6.tif"]
        for name in names:
            plain = ["-depth", "8", "-quality", "100", "-sampling-factor", "1x1"]
            convert("base16.png", *turn, *plain, "-strip", name)
            exiftool("-n", f"-IFD0:Orientation={number}", f"-XMP-tiff:Orientation={number}", name)


def make_colours() -> None:
    for name in MATRICES:
        to = ["-profile", "srgb.icc", "-intent", "relative", "-profile", f"{name}.icc"]
        convert("base16.png", *to, "-define", "png:bit-depth=16", f"{name}16.png")
        convert("base16.png", *to, "-depth", "8", f"{name}8.png")
    convert("base16.png", "-profile", "srgb.icc", "-profile", "adobe.icc", "-quality", "98",
            "-sampling-factor", "1x1", "-depth", "8", "adobe8.jpg")  # fmt: skip
    convert("base16.png", "-profile", "srgb.icc", "-profile", "adobe.icc", "-compress", "lzw",
            "adobe16.tif")  # fmt: skip
    convert("base16.png", "-depth", "8", "-profile", "srgb.icc", "srgb8.png")
    grey = base()[..., 0]
    for name in ("grey", "dotgain"):
        icc = (HERE / f"{name}.icc").read_bytes()
        Image.fromarray(grey).save(HERE / f"{name}16.png", icc_profile=icc)
        Image.fromarray((grey >> 8).astype(np.uint8)).save(HERE / f"{name}8.png", icc_profile=icc)
    black = np.repeat(np.linspace(0, 255, 24).astype(np.uint16)[:, None, None], 32, axis=1)
    inks = np.concatenate([base() >> 8, black], axis=-1)
    for name, icc in (("cmyk_plain", None), ("cmyk_profile", (HERE / "cmyk.icc").read_bytes())):
        image = Image.fromarray(inks.astype(np.uint8), "CMYK")
        image.save(HERE / f"{name}.tif", compression="tiff_lzw", icc_profile=icc)
        convert(f"{name}.tif", "-quality", "100", "-sampling-factor", "1x1", f"{name}.jpg")
    convert("cmyk_profile.tif", "-depth", "16", "-compress", "lzw", "cmyk16.tif")
    convert("base16.png", "-depth", "8", "-profile", "grey.icc", "unfit.jpg")
    sound = (HERE / "adobe8.jpg").read_bytes()
    at = sound.index(b"acsp")
    (HERE / "damaged_profile.jpg").write_bytes(sound[:at] + b"xxxx" + sound[at + 4 :])


def make_alpha() -> None:
    rgb = base()
    down = np.linspace(0, 65535, 24).round().astype(np.uint16)
    alpha = np.repeat(down[:, None], 32, axis=1)
    bgra = np.dstack([rgb[..., ::-1], alpha])
    cv2.imwrite(str(HERE / "rgba16.png"), bgra)
    cv2.imwrite(str(HERE / "rgba8.png"), (bgra >> 8).astype(np.uint8))
    convert(
        "rgba8.png", "-define", "webp:lossless=true", "-define", "webp:exact=true", "rgba8.webp"
    )
    for kind in ("associated", "unassociated"):
        convert("rgba8.png", "-compress", "lzw", "-define", f"tiff:alpha={kind}", f"{kind}8.tif")
        convert("rgba16.png", "-compress", "lzw", "-define", f"tiff:alpha={kind}", f"{kind}16.tif")
    grey = ["-colorspace", "gray", "-define", "png:color-type=4"]
    convert("rgba8.png", *grey, "-define", "png:bit-depth=8", "la8.png")
    convert("rgba16.png", *grey, "-define", "png:bit-depth=16", "la16.png")
    palette = Image.new("P", (32, 24), 0)
    palette.putpalette([200, 30, 40, 20, 160, 60])
    palette.paste(1, (16, 0, 32, 24))
    palette.save(HERE / "palette_alpha.png", transparency=bytes([0, 200]))
    palette.save(HERE / "palette.png")
    palette.save(HERE / "palette.gif", transparency=0)
    palette.save(HERE / "palette.bmp")
    convert("palette.png", "-type", "palette", "palette.tif")
    palette.convert("RGB").save(HERE / "colour_key.png", transparency=(200, 30, 40))


def make_depths() -> None:
    convert("base16.png", "-compress", "lzw", "-define", "tiff:predictor=2", "rgb16_lzw.tif")
    convert("base16.png", "-compress", "zip", "-define", "tiff:predictor=2", "rgb16_deflate.tif")
    convert("base16.png", "-compress", "none", "-define", "tiff:endian=msb", "rgb16_big_endian.tif")
    convert("base16.png", "rgb16.ppm")
    grey = ["base16.png", "-channel", "R", "-separate", "+channel"]
    convert(*grey, "-define", "png:bit-depth=16", "grey16_plain.png")
    convert(*grey, "-compress", "zip", "grey16_plain.tif")
    convert(*grey, "grey16.pgm")
    convert(*grey, "-depth", "8", "grey8.jpg")
    for bits in (1, 2, 4):
        depth = ["-depth", str(bits), "-define", f"png:bit-depth={bits}"]
        convert(
            *grey, "-threshold", "50%", *depth, "-define", "png:color-type=0", f"grey{bits}.png"
        )
        kind = ["-type", "bilevel", "-compress", "group4"] if bits == 1 else ["-compress", "lzw"]
        convert(*grey, "-threshold", "50%", "-depth", str(bits), *kind, f"grey{bits}.tif")
    convert(*grey, "-depth", "8", "-define", "quantum:polarity=min-is-white", "white_is_zero.tif")
    convert("base16.png", "-depth", "12", "rgb12.tif")
    convert("base16.png", "-depth", "32", "rgb32.tif")
    Image.fromarray(np.ones((24, 32), np.float32)).save(HERE / "float.tif")


def make_frames() -> None:
    rgb = Image.fromarray((base() >> 8).astype(np.uint8))
    frames = [rgb, rgb.rotate(180), rgb.transpose(Image.Transpose.FLIP_LEFT_RIGHT)]
    more = {"save_all": True, "append_images": frames[1:]}
    rgb.save(HERE / "animated.gif", **more, duration=100)
    rgb.save(HERE / "animated.webp", **more, lossless=True)
    rgb.save(HERE / "animated.png", **more)
    rgb.save(HERE / "animated.avif", **more)
    rgb.save(HERE / "pages.tif", **more, compression="tiff_lzw")
    rgb.save(HERE / "two_views.mpo", **more)
    convert("base16.png", "-depth", "8", "-resize", "128x96", "-compress", "zip",
            "-define", "ptif:minimum-geometry=32x32", "ptif:pyramid.tif")  # fmt: skip
    exiftool("-n", "-IFD1:SubfileType=1", "pyramid.tif")  # reduced resolution


def make_others() -> None:
    for suffix in ("bmp", "gif", "jp2", "ppm"):
        convert("base16.png", "-depth", "8", f"rgb8.{suffix}")
    rgb = Image.fromarray((base() >> 8).astype(np.uint8))
    rgb.save(HERE / "rgb8.tga")  # ImageMagick 6 writes them upside down
    rgb.save(HERE / "rgb8.ico", sizes=[(32, 24)])
    convert("base16.png", "rgb16.jp2")
    convert("base16.png", "-depth", "8", "-quality", "100", "rgb8.webp")
    for depth in (8, 10, 12):
        settings = [cv2.IMWRITE_AVIF_DEPTH, depth, cv2.IMWRITE_AVIF_QUALITY, 100]
        values = base()[..., ::-1] >> (16 - depth)
        kind = np.uint8 if depth == 8 else np.uint16
        cv2.imwrite(str(HERE / f"rgb{depth}.avif"), values.astype(kind), settings)
    pillow_heif.from_pillow(rgb).save(HERE / "rgb8.heic", quality=100, chroma=444)
    pillow_heif.options.SAVE_HDR_TO_12_BIT = False
    deep = pillow_heif.from_bytes("RGB;16", (32, 24), base().tobytes())
    deep.save(HERE / "rgb10.heic", quality=100, chroma=444)


def make_camera() -> None:
    """Write what a camera writes, in every format that holds it; maker notes of no maker."""
    rgb = Image.fromarray((base() >> 8).astype(np.uint8))
    exif = Image.Exif()
    exif[0x011A], exif[0x011B], exif[0x0128] = 300.0, 300.0, 2
    exif[0x010F], exif[0x0110] = "Camera Works", "Model 7"
    exif.get_ifd(0x8769)[0x927C] = b"NOTES\0\1\2" + bytes(range(200, 256))
    exif.get_ifd(0x8769)[0xA002], exif.get_ifd(0x8769)[0xA003] = 4000, 3000
    file = BytesIO()
    rgb.save(file, "JPEG", quality=98, subsampling=0, exif=exif, dpi=(300, 300))
    (HERE / "camera.jpg").write_bytes(file.getvalue())
    rgb.resize((16, 12)).save(HERE / "thumbnail.jpg", quality=60)
    exiftool(
        "-DateTimeOriginal=2024:05:06 07:08:09", "-LensModel=50mm", "-UserComment=Gruß aus Köln",
        "-Copyright=© A. Nobody", "-GPSLatitude=52.5", "-GPSLatitudeRef=N", "-GPSLongitude=13.4",
        "-GPSLongitudeRef=E", "-InteropIndex=R98", "-XMP-exif:GPSLatitude=52.5",
        "-XMP-dc:Title=A gradient", "-IPTC:Caption-Abstract=A caption", "-IPTC:City=Berlin",
        "-ThumbnailImage<=thumbnail.jpg", "camera.jpg",
    )  # fmt: skip
    (HERE / "thumbnail.jpg").unlink()
    convert(
        "camera.jpg",
        "-strip",
        "-depth",
        "8",
        "-units",
        "PixelsPerInch",
        "-density",
        "300",
        "camera.png",
    )
    convert("camera.jpg", "-strip", "-quality", "100", "camera.webp")
    convert(
        "camera.jpg",
        "-strip",
        "-units",
        "PixelsPerInch",
        "-density",
        "300",
        "-compress",
        "lzw",
        "camera.tif",
    )
    convert("camera.tif", "-define", "tiff:endian=msb", "camera_big_endian.tif")
    for name in ("camera.png", "camera.webp", "camera.tif", "camera_big_endian.tif"):
        exiftool("-tagsfromfile", "camera.jpg", "-exif:all", "-makernotes", "-xmp:all", "-iptc:all",
                 "-ThumbnailImage=", name)  # fmt: skip
    exiftool("-PNG:Comment=a comment", "-PNG:Title=Übersicht", "camera.png")
    convert("camera.jpg", "-set", "exif:GPSLatitude", "52/1, 30/1, 0/1", "-set", "Author", "nobody",
            "texts.png")  # fmt: skip


def main() -> None:
    for old in HERE.iterdir():
        if old.suffix not in (".py", ".md"):
            old.unlink()
    cv2.imwrite(str(HERE / "base16.png"), base()[..., ::-1])
    make_profiles()
    make_orientations()
    make_colours()
    make_alpha()
    make_depths()
    make_frames()
    make_others()
    make_camera()


if __name__ == "__main__":
    main()
