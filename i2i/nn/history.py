"""The history of a player's parameters."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn


class HistoricalAverage(nn.Module):
    """Holds a player near where it has been (arXiv:1606.03498, section 3.2).

    ``|| theta - 1/t sum_i theta[i] ||^2``, a term of the player's own cost. ``parameters`` stay
    those of their networks and are not registered again; the mean is a buffer, float32. Call
    ``update`` once a step, in ``after_step``.
    """

    mean: Tensor
    num_updates: Tensor

    def __init__(self, parameters: Iterable[nn.Parameter]) -> None:
        super().__init__()
        self._parameters_seen = tuple(parameters)
        values = self._values().detach()
        self.register_buffer("mean", torch.zeros_like(values))
        self.register_buffer("num_updates", torch.zeros((), dtype=torch.int64))

    def distance(self) -> Tensor:
        """Return the squared distance from the mean, a float32 scalar; 0 before an update."""
        squared = (self._values() - self.mean).square().sum()
        return squared * (self.num_updates > 0)

    @torch.no_grad()
    def update(self) -> None:
        """Take the parameters as they are into the mean."""
        self.num_updates += 1
        self.mean += (self._values() - self.mean) / self.num_updates

    def _values(self) -> Tensor:
        values = [each.float().flatten() for each in self._parameters_seen]
        return torch.cat(values) if values else torch.zeros(0)
