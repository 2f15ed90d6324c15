"""Write every picture of a folder several times smaller, for data.layout = "high_resolution".

``python tools/smaller.py FOLDER OUT 3 4``: NAME_3.png and NAME_4.png for each picture, by the
bicubic that makes low resolution too. What is then smaller than --least is left out.
"""

import argparse
from pathlib import Path

from i2i.data import find_pictures
from i2i.data.loading import read_rgb
from i2i.imaging import Picture, encode, shrink


def main() -> None:
    """Write the pictures."""
    parser = argparse.ArgumentParser(description=__doc__, prog="smaller.py")
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("factors", type=int, nargs="+")
    parser.add_argument("--least", type=int, default=148, help="pixels a side; 148")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    for path in find_pictures(given.folder):
        pixels = read_rgb(path)
        for factor in given.factors:
            height, width = (side // factor for side in pixels.shape[:2])
            if min(height, width) < given.least:
                continue
            small = shrink(pixels[: height * factor, : width * factor], factor)
            out = given.out / f"{path.stem}_{factor}.png"
            out.write_bytes(encode(Picture(small), "png", str(out)))


if __name__ == "__main__":
    main()
