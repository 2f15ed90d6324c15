"""What holds a discriminator back, and what its features teach.

A ``score`` takes pictures (N, C, H, W) and returns one number a picture, (N,): the mean of its
patch logits. It must judge each picture on its own, without batch statistics, or the gradients are
not those of one picture. All compute in float32 at least, with autocast off, and return scalars;
weights (lambda, gamma, beta in the papers) are the caller's.
"""

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from i2i.losses.precision import full, without_autocast

Score = Callable[[Tensor], Tensor]


def _slopes(score: Score, images: Tensor) -> Tensor:
    """Return the gradient of each picture's score by its pixels, (N, C * H * W), differentiable.

    The pictures are cut off from what drew them: a penalty moves the discriminator alone.
    """
    images = full(images).detach().requires_grad_()
    (gradient,) = torch.autograd.grad(score(images).sum(), images, create_graph=True)
    return gradient.flatten(1)


def wgan_gp(score: Score, real: Tensor, fake: Tensor, mix: Tensor) -> Tensor:
    """Return ``E[(||grad D(x_hat)||_2 - 1)^2]`` at ``x_hat = mix x + (1 - mix) G(z)``.

    ``real`` and ``fake`` are (N, C, H, W), ``mix`` is (N, 1, 1, 1), uniform in [0, 1]: the caller
    draws it, one number a pair. Raises ValueError for other shapes. arXiv:1704.00028, equation 3
    and algorithm 1.
    """
    if fake.shape != real.shape or mix.shape != (len(real), *[1] * (real.dim() - 1)):
        shapes = f"{tuple(real.shape)}, {tuple(fake.shape)} and {tuple(mix.shape)}"
        raise ValueError(f"real, fake and mix are {shapes}: mix holds one number a pair")
    with without_autocast(real):
        between = full(mix) * full(real) + (1 - full(mix)) * full(fake)
        norms: Tensor = torch.linalg.vector_norm(_slopes(score, between), dim=1)
        return (norms - 1).square().mean()


def r1(score: Score, real: Tensor) -> Tensor:
    """Return ``1/2 E[||grad D(x)||^2]`` at real pictures, (N, C, H, W).

    arXiv:1801.04406, equation 9, without its gamma.
    """
    with without_autocast(real):
        return _slopes(score, real).square().sum(dim=1).mean() / 2


def r2(score: Score, fake: Tensor) -> Tensor:
    """Return ``1/2 E[||grad D(G(z))||^2]`` at a generator's pictures, (N, C, H, W).

    arXiv:1801.04406, the equation after R1's, without its gamma.
    """
    return r1(score, fake)


def lecam(real: Tensor, fake: Tensor, mean_real: Tensor, mean_fake: Tensor) -> Tensor:
    """Return ``E[||D(x) - alpha_F||^2] + E[||D(G(z)) - alpha_R||^2]`` from logits of any shape.

    ``mean_real`` is alpha_R, ``mean_fake`` alpha_F: scalars, the running means of the logits of
    each kind, which are taken as constants. Each kind is drawn to the mean of the other.
    arXiv:2104.03310, section 3. The authors' code counts only logits beyond the other kind's mean;
    the paper's formula, which is here, counts all.
    """
    to_fake = full(real) - full(mean_fake).detach()
    to_real = full(fake) - full(mean_real).detach()
    return to_fake.square().mean() + to_real.square().mean()


def orthogonal(weights: Iterable[Tensor]) -> Tensor:
    """Return the sum over weights of ``||W^T W * (1 - I)||_F^2``, whose columns are the filters.

    A weight is (out, in, ...), each of its ``out`` filters flattened to a column of W: the Gram
    matrix is (out, out), the products of filters with one another, and their norms stay free.
    Raises ValueError for no weights, and for one of fewer than two dimensions. arXiv:1809.11096,
    equation 3, without its beta.
    """
    total: Tensor | None = None
    for weight in weights:
        if weight.dim() < 2:
            raise ValueError(f"a weight is {tuple(weight.shape)}: it has no filters to compare")
        with without_autocast(weight):  # which would multiply in 16 bits
            filters = full(weight).flatten(1)
            gram = filters @ filters.T
            apart = (gram - gram.diag().diag()).square().sum()
        total = apart if total is None else total + apart
    if total is None:
        raise ValueError("there are no weights to keep orthogonal")
    return total


@torch.no_grad()
def clip_weights_(parameters: Iterable[nn.Parameter], limit: float) -> None:
    """Clip every parameter to [-limit, limit] in place, after the discriminator's move.

    Raises ValueError for a limit that is not positive. arXiv:1701.07875, algorithm 1.
    """
    if not limit > 0:
        raise ValueError(f"limit is {limit}: it must be positive")
    for parameter in parameters:
        parameter.clamp_(-limit, limit)


def feature_matching(
    real_features: Sequence[Sequence[Tensor]], fake_features: Sequence[Sequence[Tensor]]
) -> Tensor:
    """Return the mean over scales k and layers i of ``||D_k^(i)(x) - D_k^(i)(G(s))||_1 / N_i``.

    Takes what a discriminator returns: for each scale the outputs of its layers, of equal shapes on
    both sides, the logits last; these are left out. Real features are constants. Raises
    ValueError where sides differ, or there are only logits. arXiv:1711.11585, section 3.2. One
    deviation: the paper adds layers and scales up; a mean lets a weight outlive a change of depth.
    """
    pairs = [
        (real, fake)
        for reals, fakes in zip(real_features, fake_features, strict=True)
        for real, fake in zip(reals[:-1], fakes[:-1], strict=True)
    ]
    if not pairs:
        raise ValueError("there are logits only: feature matching needs outputs of earlier layers")
    for real, fake in pairs:
        if real.shape != fake.shape:  # which torch would stretch to fit, with a warning
            shapes = f"{tuple(real.shape)} and {tuple(fake.shape)}"
            raise ValueError(f"real and fake features are {shapes}: they must be of one layer")
    distances = [functional.l1_loss(full(fake), full(real).detach()) for real, fake in pairs]
    return torch.stack(distances).mean()
