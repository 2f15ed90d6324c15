"""Train on a hundred pairs with and without adaptive augmentation, and judge both on test pairs.

    python benchmarks/small_data.py --data ../shared/data/openmoji --out RUNS [--images 20000]
        [--policies none adaptive] [--pairs 100] [--width 16] [--speed N] [--seed 0] [--threads 1]

pix2pix learns line art to colour from pairs spread evenly over the training folder, once for each
policy of ``[model.game.augment]``; all else is equal: seed, order of pictures, length, bfloat16,
and no other augmentation. A run that is killed or interrupted goes on where its last checkpoint
was when the same command is given again, and one that is finished is not run again.

What is reported, and written to RUNS/table.json:

- by ``judge_pairs.py``, the models of four equally long parts of the run (averages of weights), and
  at the end the mean difference of each policy to the first, paired by picture, with its standard
  error over the test pictures (not over seeds);
- at twenty places of the run the mean sign of the discriminator's logits on all real training pairs
  and on real test pairs, both as they are, and the probability of the augmentations. A
  discriminator that learns its pictures by heart goes to 1 on the former and down on the latter
  (arXiv:2006.06676, section 2). The log's ``sign`` is what moves the probability: that on training
  pairs as the discriminator sees them, augmented.
"""

import argparse
import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from judge_pairs import (
    Measured,
    Pair,
    described,
    measure,
    open_layout,
    read_pairs,
    spread,
    translate_pairs,
)
from judge_pairs import row as judged_row

from i2i.engine.observers import Console, JsonLog
from i2i.engine.run import Run
from i2i.engine.trainer import Trainer
from i2i.errors import I2IError, UsageError
from i2i.files import write_atomically
from i2i.hookspecs import hookimpl
from i2i.imaging import to_tensor
from i2i.model_file import load_model
from i2i.plugins import Plugins, load_plugins
from i2i.recipe import Recipe, parse_recipe

NUM_PARTS = 4  # of a run, each judged
NUM_PROBES = 20  # of the discriminator, in a run
BATCH_SIZE = 4  # pictures a step
PROBED_TOGETHER = 10  # pairs
MEASURES = ("feature_distance", "l1", "psnr")

RECIPE = """
family = "pix2pix"
summary = "Line drawings become coloured ones, from few pairs"

[model]
widest = 4
num_halvings = 5
norm = "instance"
dropout = 0.0
upsampling = "resize"

[model.discriminator]
norm = "instance"

[data]
layout = "side_by_side"

[stages.train]
precision = "bfloat16"

[stages.train.players.generator]
learning_rate = 2e-4

[stages.train.players.discriminator]
learning_rate = 2e-4

[validate]
pictures = 0
snapshots = true
"""


class Probe:
    """Notes how the discriminator stands with each checkpoint, in ``trajectory.json`` of the run.

    It draws nothing and keeps nothing in the networks, so the run is the one it would be without.
    """

    def __init__(self, folder: Path, known: Sequence[Pair], unknown: Sequence[Pair]) -> None:
        self._path = folder / "trajectory.json"
        self._seen = {"sign_training_pairs": _seen(known), "sign_test_pairs": _seen(unknown)}

    @hookimpl
    def i2i_checkpoint_saving(self, run: Run) -> None:
        """Add, or write again, the entry of the present number of images."""
        adversary: Any = run.translator.adversary
        entry = {"probability": float(adversary.augment.probability)}
        with torch.no_grad(), torch.compiler.set_stance("force_eager"):
            for name, seen in self._seen.items():
                logits = [adversary(part)[0][-1] for part in seen.split(PROBED_TOGETHER)]
                entry[name] = float(torch.cat(logits).sign().mean())
        entries = read_trajectory(self._path) | {run.images: entry}
        text = json.dumps({str(images): entries[images] for images in sorted(entries)}, indent=1)
        write_atomically(self._path, text.encode())


def read_trajectory(path: Path) -> dict[int, dict[str, float]]:
    """Return the entries by images seen."""
    if not path.is_file():
        return {}
    return {int(images): entry for images, entry in json.loads(path.read_text()).items()}


def choose_pairs(data: Path, folder: Path, count: int) -> Path:
    """Copy ``count`` training pairs, spread evenly over their names, and all test pairs.

    A folder that is there from before is kept: it was renamed when it was complete.
    """
    if folder.exists():
        return folder
    part = folder.with_suffix(".part")
    shutil.rmtree(part, ignore_errors=True)
    for split in ("train", "test"):
        paths = sorted((data / split).iterdir())
        chosen = spread(count, len(paths)) if split == "train" else range(len(paths))
        (part / split).mkdir(parents=True)
        for index in chosen:
            shutil.copy(paths[index], part / split)
    part.rename(folder)
    return folder


def recipe_for(policy: str, data: Path, given: argparse.Namespace, plugins: Plugins) -> Recipe:
    """Return the recipe of one policy."""
    overrides = {
        "data.root": str(data.resolve()),
        "model.width": given.width,
        "model.discriminator.width": given.width,
        "model.game.augment.policy": policy,
        "stages.train.images": given.images,
        "stages.train.batch_size": BATCH_SIZE,
        "stages.train.average_half_life": max(given.images // 40, 1),
        "stages.train.compile": str(given.compile).lower(),
        "validate.every": -(-given.images // NUM_PARTS),
        "run.checkpoint_every": -(-given.images // NUM_PROBES),
        "run.seed": given.seed,
    }
    if policy == "adaptive":
        overrides["model.game.augment.target"] = 0.6
        overrides["model.game.augment.speed"] = given.speed or max(given.images // 4, 1)
    texts = [f"{key}={value}" for key, value in overrides.items()]
    return parse_recipe(RECIPE, "benchmarks/small_data.py", plugins, texts)


def train(recipe: Recipe, folder: Path, plugins: Plugins, probe: Probe) -> bool:
    """Train, or go on; whether the run is finished. Raises UsageError for a run of another kind."""
    wanted, path = recipe.to_toml().encode(), folder / "recipe.toml"
    folder.mkdir(parents=True, exist_ok=True)
    if path.exists() and path.read_bytes() != wanted:
        raise UsageError(
            "the run in it has other settings",
            where=str(folder),
            expected="a new folder, or the same command as before",
            remedy="choose another --out",
        )
    write_atomically(path, wanted)
    trainer = Trainer(
        recipe,
        folder,
        plugins,
        observers=[JsonLog(), Console(), probe],
        warn=lambda text: print(f"Warning: {text}", file=sys.stderr),
    )
    return trainer.train() == "finished"


def judge(folder: Path, pairs: Sequence[Pair], plugins: Plugins) -> list[tuple[int, Measured]]:
    """Measure the models of each part of a run: images seen, and what was measured."""
    found = []
    for path in sorted((folder / "snapshots").iterdir()):
        model = load_model(path, plugins)
        answers = translate_pairs(model, pairs, "a2b")
        found.append((int(model.header.training["images"]), measure(answers, pairs)))
    return found


def differences(first: Measured, other: Measured) -> dict[str, tuple[float, float]]:
    """Return mean and standard error of the paired differences, ``other`` minus ``first``.

    Pictures that one of the two answers exactly have no PSNR to subtract, and are left out.
    """
    found = {}
    for name in MEASURES:
        with np.errstate(invalid="ignore"):
            apart = getattr(other, name) - getattr(first, name)
        apart = apart[np.isfinite(apart)]
        found[name] = float(apart.mean()), float(apart.std(ddof=1) / np.sqrt(len(apart)))
    return found


def report(
    judged: Mapping[str, list[tuple[int, Measured]]],
    trajectories: Mapping[str, Mapping[int, Mapping[str, float]]],
) -> dict[str, Any]:
    """Print what came out, and return it for the JSON file."""
    rows = [
        {"policy": policy} | asdict(judged_row(f"{policy} {images}", measured, images=images))
        for policy, models in judged.items()
        for images, measured in models
    ]
    print("policy        images  feature distance      L1  PSNR dB")
    for each in rows:
        psnr = "-" if each["psnr"] is None else f"{each['psnr']:.2f}"
        print(
            f"{each['policy']:11} {each['images']:8}  {each['feature_distance']:16.4f}  "
            f"{each['l1']:.4f}  {psnr:>7}"
        )
    first, *others = judged
    apart = {policy: differences(judged[first][-1][1], judged[policy][-1][1]) for policy in others}
    for policy, values in apart.items():
        said = [f"{name} {mean:+.4f} ± {error:.4f}" for name, (mean, error) in values.items()]
        print(f"{policy} minus {first} at the end: {', '.join(said)}")
    print("policy        images  probability  sign on training pairs  sign on test pairs")
    for policy, entries in trajectories.items():
        for images, entry in entries.items():
            print(
                f"{policy:11} {images:8}  {entry['probability']:11.3f}  "
                f"{entry['sign_training_pairs']:+22.3f}  {entry['sign_test_pairs']:+18.3f}"
            )
    return {"rows": rows, "differences": apart, "trajectories": trajectories}


def run(given: argparse.Namespace) -> int:
    """Train what is not trained yet, then judge; returns the exit status."""
    plugins = load_plugins()
    data = choose_pairs(given.data, given.out / f"pairs-{given.pairs}", given.pairs)
    known, pairs = (
        read_pairs(open_layout(plugins, "side_by_side", data, {}, split), "a2b")
        for split in ("train", "test")
    )
    folders = {policy: given.out / policy for policy in given.policies}
    for policy, folder in folders.items():
        print(f"{policy}: {folder}")
        recipe = recipe_for(policy, data, given, plugins)
        if not train(recipe, folder, plugins, Probe(folder, known, pairs)):
            return 130
    content = report(
        {policy: judge(folder, pairs, plugins) for policy, folder in folders.items()},
        {policy: read_trajectory(each / "trajectory.json") for policy, each in folders.items()},
    )
    settings = {
        name: getattr(given, name) for name in ("images", "pairs", "width", "seed", "threads")
    }
    said = described(given.data.resolve().name, "a2b", pairs) | {"settings": settings}
    write_atomically(given.out / "table.json", json.dumps(said | content, indent=2).encode())
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="pairs side by side")
    parser.add_argument("--out", type=Path, required=True, help="where the runs are, or shall be")
    parser.add_argument("--images", type=int, default=20_000, help="length of each run")
    policies = ("none", "adaptive", "diffaugment")
    parser.add_argument("--policies", nargs="+", choices=policies, default=["none", "adaptive"])
    parser.add_argument("--pairs", type=int, default=100, help="training pairs")
    parser.add_argument("--width", type=int, default=16, help="of both networks")
    speed_help = "images in which the probability can rise to 1; a quarter of --images"
    parser.add_argument("--speed", type=int, help=speed_help)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--compile", action="store_true", help="compile the networks")
    given = parser.parse_args(arguments)
    torch.set_num_threads(given.threads)
    try:
        return run(given)
    except I2IError as error:
        print(error, file=sys.stderr)
        return error.exit_status


def _seen(pairs: Sequence[Pair]) -> torch.Tensor:
    """Return real pairs as the discriminator sees them: (N, 6, H, W)."""
    return torch.stack([torch.cat([to_tensor(p.source), to_tensor(p.target)]) for p in pairs])


if __name__ == "__main__":
    sys.exit(main())
