"""An optimizer a player, with its schedule counted in images."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from i2i.recipe import Player


def learning_rate(player: Player, images: int, length: int) -> float:
    """Return the rate after ``images`` of a stage of ``length``: warmup, flat, then linear."""
    rate = player.learning_rate
    if images < player.warmup:
        rate *= (images + 1) / player.warmup
    start = player.decay_from * length
    if start < min(images, length):
        rate *= 1 + (player.final - 1) * min((images - start) / (length - start), 1)
    return rate


class PlayerOptimizer:
    """The parameters of one player, their optimizer and schedule."""

    def __init__(
        self, name: str, parameters: Iterable[nn.Parameter], options: Player, length: int
    ) -> None:
        self.name = name
        self.parameters = list(dict.fromkeys(parameters))
        self.options = options
        self.length = length  # images in the stage
        self._optimizer = _build(self.parameters, options)

    def clear(self) -> None:
        """Forget gradients."""
        self._optimizer.zero_grad(set_to_none=True)

    def clip(self) -> Tensor:
        """Return the norm of the gradient, after shrinking it to the recipe's limit if any."""
        limit = float("inf") if self.options.clip is None else self.options.clip
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        if limit != float("inf"):
            torch.nn.utils.clip_grads_with_norm_(self.parameters, limit, norm)
        return norm

    def step(self, images: int) -> None:
        """Move, at the rate that the schedule has after ``images``."""
        rate = learning_rate(self.options, images, self.length)
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        self._optimizer.step()

    def state_dict(self) -> dict[str, Any]:
        """Return the moments and counters."""
        return self._optimizer.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over moments and counters."""
        self._optimizer.load_state_dict(dict(state))


def _build(parameters: list[nn.Parameter], options: Player) -> torch.optim.Optimizer:
    decay = options.weight_decay
    rate = options.learning_rate
    match options.optimizer:
        case "adam":
            return torch.optim.Adam(
                parameters, rate, betas=options.betas, weight_decay=decay, fused=True
            )
        case "adamw":
            return torch.optim.AdamW(
                parameters, rate, betas=options.betas, weight_decay=decay, fused=True
            )
        case "sgd":
            return torch.optim.SGD(
                parameters, rate, momentum=options.momentum, weight_decay=decay, fused=True
            )
