"""One bilinear warp a picture, differentiable twice with respect to the picture."""

from typing import Any

import torch
from torch import Tensor

_BILINEAR, _REFLECTION = 0, 2  # as torch's kernels number them


def warp(images: Tensor, matrices: Tensor) -> Tensor:
    """Return each picture seen through its own affine map.

    ``images`` are (N, C, H, W), the result as well. ``matrices`` (N, 3, 3) map (x, y, 1) of the
    result to (x, y, 1) of the picture: in pixels, from the picture's centre, x to the right and y
    down. What lies beyond the edges is the picture's reflection, edge values repeated. A picture
    whose matrix is the identity comes back as it is, bit by bit. No gradient reaches the matrices.
    """
    height, width = images.shape[2:]
    half = images.new_tensor([width / 2, height / 2, 1.0])
    # grid_sample measures from -1 to 1 on both axes, whatever the picture's sides.
    theta = matrices.to(images.dtype) * half / half[:, None]
    grid = torch.nn.functional.affine_grid(
        theta[:, :2], [len(images), 1, height, width], align_corners=False
    )
    still = (matrices == torch.eye(3, device=matrices.device)).all(dim=(1, 2))
    return torch.where(still[:, None, None, None], images, _sample(images, grid))


# Sampling at fixed places is linear, so each of these is the other's derivative. torch's own
# grid_sample has no second derivative, which penalties on gradients need.


@torch.library.custom_op("i2i::sample", mutates_args=())
def _sample(images: Tensor, grid: Tensor) -> Tensor:
    return torch.grid_sampler_2d(images, grid, _BILINEAR, _REFLECTION, False)


@torch.library.custom_op("i2i::spread", mutates_args=())
def _spread(gradient: Tensor, grid: Tensor) -> Tensor:
    # Of the picture only the size is looked at, and it is the gradient's.
    result: tuple[Tensor, Tensor] = torch.ops.aten.grid_sampler_2d_backward(
        gradient.contiguous(), gradient, grid, _BILINEAR, _REFLECTION, False, [True, False]
    )
    return result[0]


def _keep_grid(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
    ctx.save_for_backward(inputs[1])


def _back_through_sample(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
    return _spread(gradient, *ctx.saved_tensors), None


def _back_through_spread(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
    return _sample(gradient, *ctx.saved_tensors), None


def _same_shape(images: Tensor, _: Tensor) -> Tensor:
    return torch.empty_like(images, memory_format=torch.contiguous_format)


for _operation, _back in ((_sample, _back_through_sample), (_spread, _back_through_spread)):
    _operation.register_fake(_same_shape)
    _operation.register_autograd(_back, setup_context=_keep_grid)
