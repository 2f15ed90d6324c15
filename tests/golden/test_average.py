"""The mean of snapshots is their mean, and its header says of which."""

from pathlib import Path

import torch

from i2i.model_file import Header, build, exported_state, load_model, read_header, save_model
from i2i.plugins import load_plugins
from tests.scripts import load_script

ROOT = Path(__file__).parents[2]


def test_mean_of_snapshots_is_their_mean_and_names_them(tmp_path: Path) -> None:
    plugins = load_plugins()
    family = plugins.family("cyclegan")
    options = family.Options(width=2, num_blocks=1, discriminator={"width": 2})
    paths = []
    for seed in range(3):
        header = Header(
            family="cyclegan",
            distribution="i2i-gan",
            options=options.model_dump(mode="json"),
            request={},
            training={"images": 1000 * seed},
        )
        paths.append(tmp_path / f"{seed}.safetensors")
        save_model(paths[-1], build(family, options, seed), header)
    average = load_script("tools", "average")
    out = tmp_path / "mean.safetensors"
    average.main([str(out), *map(str, paths)])

    assert read_header(out).training["averaged"] == [0, 1000, 2000]
    states = [exported_state(load_model(path, plugins).translator) for path in [out, *paths]]
    for name, mean in states[0].items():
        expected = (states[1][name] + states[2][name] + states[3][name]) / 3
        assert torch.allclose(mean, expected, atol=1e-4), name
