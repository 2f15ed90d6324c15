"""Write the mean of several snapshots of one run as a model file.

``python tools/average.py OUT.safetensors SNAPSHOT [SNAPSHOT ...]``: a longer average than the run's
own, after the fact. The header is the last snapshot's, and names the images of all.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch

from i2i.model_file import exported_state, load_model, save_model
from i2i.plugins import load_plugins


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the model file."""
    parser = argparse.ArgumentParser(description=__doc__, prog="average.py")
    parser.add_argument("out", type=Path)
    parser.add_argument("snapshots", type=Path, nargs="+")
    given = parser.parse_args(arguments)
    plugins = load_plugins()
    models = [load_model(path, plugins) for path in given.snapshots]
    last = models[-1]
    if any(model.header.options != last.header.options for model in models):
        parser.error("the snapshots are not of one architecture")
    states = [exported_state(model.translator) for model in models]
    for name, target in exported_state(last.translator).items():
        if target.is_floating_point():
            target.copy_(torch.stack([state[name] for state in states]).mean(0))
    averaged = [model.header.training["images"] for model in models]
    training = dict(last.header.training) | {"averaged": averaged}
    save_model(given.out, last.translator, last.header.model_copy(update={"training": training}))


if __name__ == "__main__":
    main()
