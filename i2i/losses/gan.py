"""Adversarial games: what a discriminator minimises, and what fools it."""

from torch import Tensor


class LeastSquares:
    """The least-squares game (arXiv:1611.04076, equation 9 with a = 0, b = c = 1).

    ``min_D  E[(D(x) - 1)^2] + E[D(G(z))^2]`` and ``min_G  E[(D(G(z)) - 1)^2]``; the paper's factors
    of one half are left to the weights of the terms.
    """

    def judge(self, real: Tensor, fake: Tensor) -> Tensor:
        """Return the discriminator's loss, a scalar, from raw logits of any shape."""
        return (real.float() - 1).square().mean() + fake.float().square().mean()

    def fool(self, fake: Tensor) -> Tensor:
        """Return the generator's loss, a scalar, from the logits of its pictures."""
        return (fake.float() - 1).square().mean()
