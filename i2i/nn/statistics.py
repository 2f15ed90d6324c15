"""What a discriminator may know of a batch beyond its single pictures."""

import torch
from torch import Tensor, nn


class MinibatchStandardDeviation(nn.Module):
    """Appends how much the pictures of a batch differ (arXiv:1710.10196, section 3).

    (N, C, H, W) to (N, C + 1, H, W). The last channel holds one number everywhere: the standard
    deviation over the batch, of each feature at each place, averaged over features and places. It
    is computed in float32 or more, with 1e-8 under the root so that equal pictures have a gradient,
    zero; a batch of one picture gives 1e-4. It is over the whole batch that is passed in:
    micro-batches and processes each see their own.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Append the channel."""
        values = x.to(torch.promote_types(x.dtype, torch.float32))
        variance = (values - values.mean(0, keepdim=True)).square().mean(0)
        spread = (variance + 1e-8).sqrt().mean().to(x.dtype)
        return torch.cat([x, spread.expand(len(x), 1, *x.shape[2:])], dim=1)
