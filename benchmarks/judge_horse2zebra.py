"""Judge horse2zebra models: how many horses an outside classifier takes for zebras, and KID.

    python benchmarks/judge_horse2zebra.py MODEL.safetensors [MODEL ...] [--work-size N ...]
        [--direction a2b|b2a] [--sheet DIR] [--json FILE]

Data and classifier are read from ``$I2I_SHARED_DATA``, else ``../shared/data`` beside the checkout.

Protocol ``horse2zebra-squeezenet-1``, also in benchmarks/README.md:

1. Pictures: every file of horse2zebra/testA (120 horses, 256x256) or testB (140 zebras), RGB.
2. Work size N: the short side reduced to N (bilinear, antialiased), both sides padded by reflection
   to the family's multiple, translated in float32 in eval mode without gradients, padding removed,
   rounded to 8 bits. Without ``--work-size``, N is what the model file's recipe says.
3. Judge: SqueezeNet 1.0 trained on ImageNet (weights/squeezenet1_0_decoded.npz). It sees the
   translation resized straight to 227x227 (bilinear, not antialiased), BGR, 0..255, minus
   (104, 117, 123). Antialiasing or bicubic here moves a model's rate by ten points.
4. Zebra rate: the share whose top-1 class is 340, zebra. For b2a lower is better.
5. KID x 1000: unbiased squared MMD, kernel (x.y/d + 1)^3 (arXiv:1801.01401, section 4), on the
   output of fire9 (the input of conv10) averaged over positions, d = 512, divided by one number:
   the root mean square of the real pictures' features, which are tens in size and would leave of
   the kernel nothing but its cube. All translations against all real test pictures of the target
   domain, no subsets. Comparable within this protocol only: these are not Inception features.

The last reference row's KID is that between random halves of the real pictures of the target
domain, mean and standard deviation of 20 draws: what a perfect model would have, and the noise.
"""

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor, nn
from torch.nn import functional

from i2i.errors import DataError, I2IError, UsageError
from i2i.model_file import Model, load_model
from i2i.plugins import load_plugins
from i2i.types import Fit

PROTOCOL = "horse2zebra-squeezenet-1"
ZEBRA = 340  # ImageNet class
JUDGE_SIZE = 227  # pixels a side
PICTURE_SIZE = 256  # pixels a side
BATCH_SIZE = 10  # pictures
NUM_HALVES = 20  # random halves behind the last reference row


class Fire(nn.Module):
    """A 1x1 squeeze and two expansions, concatenated: (N, C, H, W) to (N, 2E, H, W)."""

    def __init__(self, channels: int, squeezed: int, expanded: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(channels, squeezed, 1)
        self.expand1x1 = nn.Conv2d(squeezed, expanded, 1)
        self.expand3x3 = nn.Conv2d(squeezed, expanded, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Return the 1x1 expansion's channels, then the 3x3 one's."""
        x = functional.relu(self.squeeze(x))
        return torch.cat(
            (functional.relu(self.expand1x1(x)), functional.relu(self.expand3x3(x))), dim=1
        )


class SqueezeNet(nn.Module):
    """SqueezeNet 1.0 (arXiv:1602.07360, table 1) as its authors' Caffe file has it.

    The stem is not padded and pooling rounds sizes up, as Caffe does.
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 96, 7, stride=2)
        self.fire2, self.fire3 = Fire(96, 16, 64), Fire(128, 16, 64)
        self.fire4, self.fire5 = Fire(128, 32, 128), Fire(256, 32, 128)
        self.fire6, self.fire7 = Fire(256, 48, 192), Fire(384, 48, 192)
        self.fire8, self.fire9 = Fire(384, 64, 256), Fire(512, 64, 256)
        self.conv10 = nn.Conv2d(512, 1000, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Take (N, 3, H, W) BGR with the mean removed; return features (N, 512), scores (N, 1000).

        Scores are the logits: the positions' mean after the last ReLU.
        """
        x = _pool(functional.relu(self.conv1(x)))
        x = _pool(self.fire4(self.fire3(self.fire2(x))))
        x = _pool(self.fire8(self.fire7(self.fire6(self.fire5(x)))))
        x = self.fire9(x)
        return x.mean((2, 3)), functional.relu(self.conv10(x)).mean((2, 3))


def _pool(x: Tensor) -> Tensor:
    return functional.max_pool2d(x, 3, 2, ceil_mode=True)


@dataclass(frozen=True)
class Judged:
    """What the judge says: ``zebra`` (N,) bool, ``features`` (N, 512) float64."""

    zebra: Tensor
    features: Tensor


@dataclass(frozen=True)
class Row:
    """One line of the table, and one object of the JSON file."""

    name: str
    work_size: int | None  # pixels, short side; None for real pictures
    num_zebra: int
    num_pictures: int
    kid_x1000: float
    kid_x1000_deviation: float | None = None  # of the random halves
    sha256: str | None = None

    @property
    def rate(self) -> float:
        """The share called zebra, in percent."""
        return 100 * self.num_zebra / self.num_pictures


def load_judge(root: Path) -> SqueezeNet:
    """Load the classifier from the shared data folder; raises DataError when it is not there."""
    path = root / "weights" / "squeezenet1_0_decoded.npz"
    if not path.is_file():
        raise _absent(path, "the judge's weights")
    with np.load(path) as arrays:
        weights = {name: torch.from_numpy(arrays[name]) for name in arrays.files}
    judge = SqueezeNet()
    judge.load_state_dict(weights)
    return judge.eval().requires_grad_(False)


def read_pictures(folder: Path) -> Tensor:
    """Read every picture of a folder, by name: (N, 3, 256, 256) uint8 RGB."""
    paths = sorted(folder.iterdir()) if folder.is_dir() else []
    if not paths:
        raise _absent(folder, "the test pictures")
    pictures = [np.asarray(Image.open(path).convert("RGB")) for path in paths]
    for path, picture in zip(paths, pictures, strict=True):
        if picture.shape != (PICTURE_SIZE, PICTURE_SIZE, 3):
            wanted = f"{PICTURE_SIZE}x{PICTURE_SIZE} pixels"
            size = f"{picture.shape[1]}x{picture.shape[0]} pixels"
            raise DataError(size, where=str(path), expected=wanted, remedy="use the original")
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).contiguous()


@torch.no_grad()
def examine(judge: SqueezeNet, pictures: Tensor) -> Judged:
    """Show (N, 3, H, W) uint8 RGB to the judge, step 3 of the protocol."""
    mean = torch.tensor([104.0, 117.0, 123.0]).view(1, 3, 1, 1)
    features, zebra = [], []
    for batch in torch.split(pictures, BATCH_SIZE):
        seen = functional.interpolate(batch.float(), size=(JUDGE_SIZE, JUDGE_SIZE), mode="bilinear")
        averaged, scores = judge(seen.flip(1) - mean)
        features.append(averaged.double())
        zebra.append(scores.argmax(1) == ZEBRA)
    return Judged(torch.cat(zebra), torch.cat(features))


@torch.no_grad()
def translate_pictures(
    translate: Callable[[Tensor], Tensor], fit: Fit, pictures: Tensor, work_size: int
) -> Tensor:
    """Translate (N, 3, H, W) uint8 RGB at a work size, step 2 of the protocol; returns uint8."""
    height, width = pictures.shape[2:]
    ratio = work_size / min(height, width)
    height, width = round(height * ratio), round(width * ratio)
    bottom, right = (
        -(-max(side, fit.smallest) // fit.multiple) * fit.multiple - side
        for side in (height, width)
    )
    translated = []
    for batch in torch.split(pictures, BATCH_SIZE):
        images = batch.float()
        if images.shape[2:] != (height, width):
            images = functional.interpolate(
                images, (height, width), mode="bilinear", antialias=True
            )
        images = functional.pad(images / 127.5 - 1, (0, right, 0, bottom), mode="reflect")
        result = translate(images)[:, :, : height * fit.scale, : width * fit.scale]
        translated.append(((result + 1) * 127.5).round().clamp(0, 255).to(torch.uint8))
    return torch.cat(translated)


def kid(x: Tensor, y: Tensor) -> float:
    """Return the unbiased squared MMD of features (M, D) and (N, D), float64.

    With k(a, b) = (a.b/D + 1)^3: mean k(x, x') over pairs of different samples, plus the same of y,
    minus twice the mean of k(x, y) (arXiv:1801.01401, equation 4).
    """

    def kernel(a: Tensor, b: Tensor) -> Tensor:
        return (a @ b.T / a.shape[1] + 1) ** 3

    def within(a: Tensor) -> Tensor:
        values = kernel(a, a)
        return (values.sum() - values.diagonal().sum()) / (len(a) * (len(a) - 1))

    return float(within(x) + within(y) - 2 * kernel(x, y).mean())


def kid_x1000(features: Tensor, target: Tensor) -> float:
    """Return 1000 times the KID of features to the target's, both in units of the target's RMS."""
    unit = target.square().mean().sqrt()
    return 1000 * kid(features / unit, target / unit)


def split_half_kid_x1000(target: Tensor) -> tuple[float, float]:
    """Return mean and standard deviation of ``kid_x1000`` between random halves of one set."""
    generator = torch.Generator().manual_seed(0)
    features = target / target.square().mean().sqrt()
    half = len(features) // 2
    draws = []
    for _ in range(NUM_HALVES):
        order = torch.randperm(len(features), generator=generator)
        draws.append(1000 * kid(features[order[:half]], features[order[half:]]))
    values = torch.tensor(draws, dtype=torch.float64)
    return float(values.mean()), float(values.std())


def reference_rows(direction: str, source: Judged, target: Judged) -> list[Row]:
    """Judge the real pictures: the source untranslated, and the target against itself."""
    names = ("horses, untranslated", "zebras, real")
    if direction == "b2a":
        names = ("zebras, untranslated", "horses, real")
    mean, deviation = split_half_kid_x1000(target.features)
    untouched = kid_x1000(source.features, target.features)
    counts = [(int(judged.zebra.sum()), len(judged.zebra)) for judged in (source, target)]
    return [
        Row(names[0], None, *counts[0], untouched),
        Row(names[1], None, *counts[1], mean, deviation),
    ]


def write_sheets(folder: Path, name: str, inputs: Tensor, outputs: Tensor, zebra: Tensor) -> None:
    """Write contact sheets of 40 pairs, input above output.

    A green bar under a pair: the judge says zebra. A grey bar: it says something else.
    """
    columns, rows, tile, bar = 10, 4, 160, 6
    folder.mkdir(parents=True, exist_ok=True)
    per_sheet = columns * rows
    for first in range(0, len(inputs), per_sheet):
        sheet = Image.new("RGB", (columns * tile, rows * (2 * tile + bar)))
        draw = ImageDraw.Draw(sheet)
        for place, index in enumerate(range(first, min(first + per_sheet, len(inputs)))):
            left, top = place % columns * tile, place // columns * (2 * tile + bar)
            for row, picture in enumerate((inputs[index], outputs[index])):
                image = Image.fromarray(picture.permute(1, 2, 0).numpy())
                small = image.resize((tile, tile), Image.Resampling.BICUBIC)
                sheet.paste(small, (left, top + row * tile))
            colour = (0, 190, 60) if zebra[index] else (110, 110, 110)
            below = top + 2 * tile
            draw.rectangle((left, below, left + tile - 3, below + bar - 1), fill=colour)
        sheet.save(folder / f"{name}-{first // per_sheet + 1}.png")


def print_table(rows: Sequence[Row], direction: str) -> None:
    """Print the rows for people."""
    print(f"protocol {PROTOCOL}, direction {direction}")
    width = max(len(row.name) for row in rows)
    print(f"{'':{width}}  work size  called zebra        KID x 1000")
    for row in rows:
        size = "-" if row.work_size is None else str(row.work_size)
        called = f"{row.rate:5.1f}% ({row.num_zebra}/{row.num_pictures})"
        distance = f"{row.kid_x1000:8.1f}"
        if row.kid_x1000_deviation is not None:
            distance += f" ± {row.kid_x1000_deviation:.1f} (halves)"
        print(f"{row.name:{width}}  {size:>9}  {called:<16}  {distance}")


def write_json(path: Path, rows: Sequence[Row], direction: str) -> None:
    """Write the rows with their protocol for programs."""
    listed = [asdict(row) | {"rate": row.rate} for row in rows]
    better = "higher" if direction == "a2b" else "lower"
    said = {"protocol": PROTOCOL, "direction": direction, "deciding": "rate", "better": better}
    content = said | {"rows": listed}
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def data_root() -> Path:
    """Return the shared data folder, which need not exist."""
    beside = Path(__file__).resolve().parents[1].parent / "shared" / "data"
    return Path(os.environ.get("I2I_SHARED_DATA") or beside)


def default_work_size(model: Model) -> int:
    """Return the work size that the model file's recipe translates at."""
    wanted = model.header.translate.get("work_size", "native")
    if wanted == "trained":
        wanted = model.translator.fit.trained_size
    return min(wanted, PICTURE_SIZE) if isinstance(wanted, int) else PICTURE_SIZE


def translation(model: Model, direction: str) -> Callable[[Tensor], Tensor]:
    """Return the model's translation in one direction, the rest of its request as in its file."""
    family = type(model.translator)
    if "direction" not in family.Request.model_fields:
        wrong = f"its family {model.header.family!r} has no directions"
        expected = "a model with 'direction' in its request"
        raise UsageError(wrong, where="model", expected=expected, remedy="judge another model")
    request = family.Request.model_validate({**model.header.request, "direction": direction})
    return lambda images: model.translator.translate(images, request)


def _absent(path: Path, what: str) -> DataError:
    return DataError(
        f"{what} are not there",
        where=str(path),
        expected="the folder of shared data",
        remedy="set I2I_SHARED_DATA to it",
    )


def _work_size(text: str) -> int:
    size = int(text)
    if not 32 <= size <= PICTURE_SIZE:
        raise argparse.ArgumentTypeError(f"{size} is not in 32..{PICTURE_SIZE}")
    return size


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", nargs="+", type=Path, metavar="MODEL", help="model files")
    size_help = "short sides to translate at; the recipe's own if left out"
    parser.add_argument("--work-size", nargs="+", type=_work_size, metavar="N", help=size_help)
    parser.add_argument("--direction", choices=("a2b", "b2a"), default="a2b")
    parser.add_argument("--sheet", type=Path, metavar="DIR", help="write contact sheets here")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the table here")
    return parser.parse_args(arguments)


def run(arguments: argparse.Namespace) -> list[Row]:
    """Judge every model at every work size; returns the table, references first."""
    root = data_root()
    judge = load_judge(root)
    folders = ("testA", "testB") if arguments.direction == "a2b" else ("testB", "testA")
    inputs, targets = (read_pictures(root / "horse2zebra" / folder) for folder in folders)
    target = examine(judge, targets)
    rows = reference_rows(arguments.direction, examine(judge, inputs), target)
    plugins = load_plugins()
    for path in arguments.models:
        model = load_model(path, plugins)
        translate = translation(model, arguments.direction)
        for work_size in arguments.work_size or [default_work_size(model)]:
            outputs = translate_pictures(translate, model.translator.fit, inputs, work_size)
            judged = examine(judge, outputs)
            distance = kid_x1000(judged.features, target.features)
            counts = (int(judged.zebra.sum()), len(judged.zebra))
            rows.append(Row(path.name, work_size, *counts, distance, sha256=model.sha256))
            if arguments.sheet:
                name = f"{path.stem}-{model.sha256[:8]}-{arguments.direction}-{work_size}"
                write_sheets(arguments.sheet, name, inputs, outputs, judged.zebra)
    return rows


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parsed = _parse(arguments)
    try:
        rows = run(parsed)
    except I2IError as error:
        print(error, file=sys.stderr)
        return error.exit_status
    print_table(rows, parsed.direction)
    if parsed.json:
        write_json(parsed.json, rows, parsed.direction)
    return 0


if __name__ == "__main__":
    sys.exit(main())
