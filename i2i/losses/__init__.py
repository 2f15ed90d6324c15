"""Losses that families share: they take raw logits and images, and compute in float32."""

from i2i.losses.gan import (
    AdversarialGame,
    Form,
    Hinge,
    LeastSquares,
    Minimax,
    NonSaturating,
    RelativisticAverage,
    Wasserstein,
    game,
)
from i2i.losses.penalties import (
    clip_weights_,
    feature_matching,
    lecam,
    orthogonal,
    r1,
    r2,
    wgan_gp,
)
from i2i.losses.pixel import l1, l2

__all__ = [
    "AdversarialGame",
    "Form",
    "Hinge",
    "LeastSquares",
    "Minimax",
    "NonSaturating",
    "RelativisticAverage",
    "Wasserstein",
    "clip_weights_",
    "feature_matching",
    "game",
    "l1",
    "l2",
    "lecam",
    "orthogonal",
    "r1",
    "r2",
    "wgan_gp",
]
