"""Frozen networks that look at faces: how old they are, and whose.

Each is an object that no model file, checkpoint or optimizer sees; its weights are read when it is
first asked, and gradients reach the faces.
"""

from copy import deepcopy
from importlib import resources
from typing import Any, Self

import torch
from safetensors.torch import load as read_safetensors
from torch import Tensor, nn
from torch.nn import functional as F

from i2i_face_aging.age_network import NUM_AGES, AgeNetwork, mean_age

_DEVIATION = 3.0  # years


class AgeJudge:
    """Reads ages from faces; trained on UTKFace by ``tools/train_age_judge.py``.

    It teaches, and estimates a face's own age at translation; what a model reached is measured by
    others.
    """

    def __init__(self) -> None:
        self._networks: dict[torch.device, nn.Module] = {}

    def estimate(self, faces: Tensor) -> Tensor:
        """Return the age (N,) in years of faces (N, 3, H, W) in [-1, 1]: no gradient.

        The mean of each face and its mirror image.
        """
        with torch.no_grad(), torch.autocast(faces.device.type, enabled=False):
            network = self._network(faces.device)
            both = network(faces.float()), network(faces.float().flip(3))
        return (mean_age(both[0]) + mean_age(both[1])) / 2

    def distance(self, faces: Tensor, ages: Tensor) -> Tensor:
        """Return how far faces are from ages (N,) in years: a float32 scalar, 0 at the least.

        ``KL(N(age, 3 years) || p(face))`` where ``p`` is the distribution that the network gives
        (arXiv:1611.01731, section 3.2).
        """
        logits = self._network(faces.device)(faces).float()
        years = torch.arange(NUM_AGES, device=faces.device)
        wanted = (-(years - ages[:, None].float()).square() / (2 * _DEVIATION**2)).log_softmax(1)
        return F.kl_div(logits.log_softmax(1), wanted, reduction="batchmean", log_target=True)

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self

    def __reduce__(self) -> tuple[type[Self], tuple[()]]:
        return (type(self), ())

    def _network(self, device: torch.device) -> nn.Module:
        if device not in self._networks:
            with torch.inference_mode(False):  # its weights may meet gradients later
                if not self._networks:
                    self._networks[torch.device("cpu")] = _read_age_network()
                made = deepcopy(next(iter(self._networks.values()))).to(device)
                self._networks.setdefault(device, made)
        return self._networks[device]


def posed(faces: Tensor, drawn: Tensor) -> Tensor:
    """Return faces (N, 3, H, W) moved, turned, sized and mirrored at random.

    ``drawn`` (N, 5) is uniform in [0, 1): within 5% of the side, 0.15 radians and 10% of the size.
    What pleases a judge in one place alone pleases it no more (arXiv:1707.07397, section 2).
    """
    across, down, turn, size, mirror = (2 * drawn - 1).to(faces.dtype).unbind(1)
    size, turn = 1 + 0.1 * size, 0.15 * turn
    flip = torch.where(mirror < 0, -1.0, 1.0)
    rows = [
        torch.stack([flip * size * turn.cos(), -size * turn.sin(), 0.1 * across], 1),
        torch.stack([flip * size * turn.sin(), size * turn.cos(), 0.1 * down], 1),
    ]
    grid = F.affine_grid(torch.stack(rows, 1), list(faces.shape), align_corners=False)
    return F.grid_sample(faces, grid, padding_mode="reflection", align_corners=False)


def _read_age_network() -> nn.Module:
    with torch.device("meta"):  # no draw from the generator of the training
        network = AgeNetwork()
    file = resources.files("i2i_face_aging") / "shipped" / "age.safetensors"
    state = {name: tensor.float() for name, tensor in read_safetensors(file.read_bytes()).items()}
    for name, buffer in network.named_buffers():
        if name.endswith("num_batches_tracked"):
            state[name] = torch.zeros_like(buffer, device="cpu")
    network.load_state_dict(state, assign=True)
    return network.eval().requires_grad_(False)
