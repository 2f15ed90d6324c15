"""Adversarial games: what a discriminator minimises, and what fools it.

In the formulas ``x`` is a real picture, ``G(z)`` a generator's, ``C`` the discriminator's raw logit
and ``D = sigmoid(C)`` the probability it gives; where a game has no probabilities, ``D`` is the
logit. ``E`` is a mean over all logits of a kind, patches included. Each player has a loss to
minimise, so what a paper maximises stands here with the opposite sign.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol

from torch import Tensor
from torch.nn.functional import logsigmoid, relu

from i2i.losses.precision import full

Form = Literal[
    "minimax", "non_saturating", "least_squares", "hinge", "wasserstein", "relativistic_average"
]


class AdversarialGame(Protocol):
    """Two losses over raw logits of any shape.

    ``needs_real`` is True where the generator's loss looks at the logits of real pictures too, and
    ``fool`` must be given them; elsewhere it does not read them.
    """

    needs_real: ClassVar[bool]

    def judge(self, real: Tensor, fake: Tensor) -> Tensor:
        """Return the discriminator's loss, a scalar, from raw logits of any shape."""

    def fool(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        """Return the generator's loss, a scalar, from the logits of its pictures."""

    def side(self, real: Tensor, fake: Tensor) -> Tensor:
        """Return on which side of the boundary each real logit is: 1 for real, -1, or 0 on it."""


def _cross_entropy(real: Tensor, fake: Tensor, real_label: float = 1.0) -> Tensor:
    """Return ``-E[a log D(x) + (1 - a) log(1 - D(x))] - E[log(1 - D(G(z)))]``.

    ``1 - sigmoid(C)`` is written ``sigmoid(-C)``: no logit is so large that a logarithm of zero,
    or a difference of near equals, is taken.
    """
    real, fake = full(real), full(fake)
    right = real_label * logsigmoid(real) + (1 - real_label) * logsigmoid(-real)
    return -right.mean() - logsigmoid(-fake).mean()


def _doubt(real_label: float) -> float:
    """Return the logit of a discriminator that cannot tell the kinds apart: D = a / 2."""
    return math.log(real_label / (2 - real_label))


@dataclass(frozen=True)
class Minimax:
    """The zero-sum game (arXiv:1406.2661, equation 1).

    ``min_G max_D  E[log D(x)] + E[log(1 - D(G(z)))]``. With ``real_label`` a < 1 the
    discriminator's first term becomes ``E[a log D(x) + (1 - a) log(1 - D(x))]``: one-sided label
    smoothing (arXiv:1606.03498, section 3.4). The generator's loss is the second term, which has
    next to no gradient where the discriminator is sure; it is negative.
    """

    needs_real: ClassVar[bool] = False
    real_label: float = 1.0

    def judge(self, real: Tensor, fake: Tensor) -> Tensor:
        """Return the discriminator's loss, a scalar, from raw logits of any shape."""
        return _cross_entropy(real, fake, self.real_label)

    def fool(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        """Return the generator's loss, a scalar, from the logits of its pictures."""
        return logsigmoid(-full(fake)).mean()

    def side(self, real: Tensor, fake: Tensor) -> Tensor:
        """Return on which side of the boundary each real logit is: 1 for real, -1, or 0 on it."""
        return (full(real).detach() - _doubt(self.real_label)).sign()


@dataclass(frozen=True)
class NonSaturating:
    """The zero-sum game with a generator that does not saturate (arXiv:1406.2661, section 3).

    ``max_D  E[log D(x)] + E[log(1 - D(G(z)))]`` and ``max_G  E[log D(G(z))]``. ``real_label``
    smooths as in the zero-sum game.
    """

    needs_real: ClassVar[bool] = False
    real_label: float = 1.0

    def judge(self, real: Tensor, fake: Tensor) -> Tensor:
        """Return the discriminator's loss, a scalar, from raw logits of any shape."""
        return _cross_entropy(real, fake, self.real_label)

    def fool(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        """Return the generator's loss, a scalar, from the logits of its pictures."""
        return -logsigmoid(full(fake)).mean()

    def side(self, real: Tensor, fake: Tensor) -> Tensor:
        """Return on which side of the boundary each real logit is: 1 for real, -1, or 0 on it."""
        return (full(real).detach() - _doubt(self.real_label)).sign()


@dataclass(frozen=True)
class LeastSquares:
    """The least-squares game (arXiv:1611.04076, equation 9 with a = 0, b = c = 1).

    ``min_D  E[(D(x) - 1)^2] + E[D(G(z))^2]`` and ``min_G  E[(D(G(z)) - 1)^2]``; the paper's factors
    of one half are left to the weights of the terms. ``real_label`` is b, the target of real
    pictures (one-sided label smoothing: arXiv:1606.03498, section 3.4); c stays 1.
    """

    needs_real: ClassVar[bool] = False
    real_label: float = 1.0

    def judge(self, real: Tensor, fake: Tensor) -> Tensor:
        """Return the discriminator's loss, a scalar, from raw logits of any shape."""
        return (full(real) - self.real_label).square().mean() + full(fake).square().mean()

    def fool(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        """Return the generator's loss, a scalar, from the logits of its pictures."""
        return (full(fake) - 1).square().mean()

    def side(self, real: Tensor, fake: Tensor) -> Tensor:
        """Return on which side each real logit is: labels are ``real_label`` and 0."""
        return (full(real).detach() - self.real_label / 2).sign()


@dataclass(frozen=True)
class Hinge:
    """The hinge game (arXiv:1705.02894; arXiv:1802.05957, equations 16 and 17).

    ``max_D  E[min(0, -1 + D(x))] + E[min(0, -1 - D(G(z)))]`` and ``max_G  E[D(G(z))]``.
    """

    needs_real: ClassVar[bool] = False

    def judge(self, real: Tensor, fake: Tensor) -> Tensor:
        """Return the discriminator's loss, a scalar, from raw logits of any shape."""
        return relu(1 - full(real)).mean() + relu(1 + full(fake)).mean()

    def fool(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        """Return the generator's loss, a scalar, from the logits of its pictures."""
        return -full(fake).mean()

    def side(self, real: Tensor, fake: Tensor) -> Tensor:
        """Return on which side of the boundary each real logit is: 1 for real, -1, or 0 on it."""
        return real.detach().sign()


@dataclass(frozen=True)
class Wasserstein:
    """The game for the Wasserstein distance (arXiv:1701.07875, equation 3 and algorithm 1).

    ``max_D  E[D(x)] - E[D(G(z))]`` and ``max_G  E[D(G(z))]``. The first has no bound of its own:
    it needs a Lipschitz discriminator, by a gradient penalty, clipped weights or spectral norm.
    """

    needs_real: ClassVar[bool] = False

    def judge(self, real: Tensor, fake: Tensor) -> Tensor:
        """Return the discriminator's loss, a scalar, from raw logits of any shape."""
        return full(fake).mean() - full(real).mean()

    def fool(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        """Return the generator's loss, a scalar, from the logits of its pictures."""
        return -full(fake).mean()

    def side(self, real: Tensor, fake: Tensor) -> Tensor:
        """Return which real logits are above the mean of the others; there is no other zero."""
        return (full(real) - full(fake).mean()).detach().sign()


@dataclass(frozen=True)
class RelativisticAverage:
    """The relativistic average game, RaSGAN (arXiv:1807.00734, section 4).

    ``D(x) = sigmoid(C(x) - E[C(G(z))])`` and ``D(G(z)) = sigmoid(C(G(z)) - E[C(x)])``:
    ``max_D  E[log D(x)] + E[log(1 - D(G(z)))]`` and ``max_G  E[log D(G(z))] + E[log(1 - D(x))]``.
    The inner means are over all logits of a kind in the micro-batch, patches included, so that
    micro-batches do not add up to the whole batch.
    """

    needs_real: ClassVar[bool] = True

    def judge(self, real: Tensor, fake: Tensor) -> Tensor:
        """Return the discriminator's loss, a scalar, from raw logits of any shape."""
        real, fake = full(real), full(fake)
        return _cross_entropy(real - fake.mean(), fake - real.mean())

    def fool(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        """Return the generator's loss, a scalar: the discriminator's with the kinds exchanged.

        Raises ValueError without the logits of real pictures.
        """
        if real is None:
            raise ValueError("the relativistic game compares: fool needs the logits of real too")
        return self.judge(fake, real)

    def side(self, real: Tensor, fake: Tensor) -> Tensor:
        """Return which real logits are above the mean of the others."""
        return (full(real) - full(fake).mean()).detach().sign()


_WITH_LABELS: Mapping[str, Callable[[float], AdversarialGame]] = {
    "minimax": Minimax,
    "non_saturating": NonSaturating,
    "least_squares": LeastSquares,
}
_WITHOUT_LABELS: Mapping[str, Callable[[], AdversarialGame]] = {
    "hinge": Hinge,
    "wasserstein": Wasserstein,
    "relativistic_average": RelativisticAverage,
}


def game(form: Form, real_label: float = 1.0) -> AdversarialGame:
    """Return the game named ``form``.

    ``real_label`` is what the discriminator should say of real pictures, above 0 and at most 1.
    Raises ValueError for another value, and for one other than 1 where ``form`` has no labels.
    """
    if not 0 < real_label <= 1:
        raise ValueError(f"real_label is {real_label}; it must lie above 0 and not above 1")
    if form in _WITH_LABELS:
        return _WITH_LABELS[form](real_label)
    if real_label != 1:
        smoothed = ", ".join(_WITH_LABELS)
        raise ValueError(f"{form} has no label to smooth with real_label; {smoothed} have one")
    return _WITHOUT_LABELS[form]()
