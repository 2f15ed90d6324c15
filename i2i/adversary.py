"""The other player: a discriminator with all that may be done to what it sees and how it learns.

Families share it, so a switch of ``[model.game]`` means the same in each. A family's step reads::

    judged = self.adversary.judge(real, fake, batch, now)
    yield Update("discriminator", *judged.terms, **judged.measured)
    if now.every(options.game.discriminator_steps):
        yield Update("generator", *self.adversary.fool(fake, real, batch, now), ...)

and its ``after_step`` calls ``self.adversary.after_step(now, measured)``.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Self

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn

from i2i.augment import DiscriminatorAugment, DiscriminatorAugmentOptions
from i2i.counts import Images
from i2i.errors import PluginError
from i2i.losses import Form, game, penalties
from i2i.losses.precision import full
from i2i.nn import HistoricalAverage, ImagePool
from i2i.types import Batch, Progress, Term

Scales = tuple[tuple[Tensor, ...], ...]
"""What a discriminator says: for each of its scales the outputs of its layers, logits last."""

Conditions = tuple[Tensor, Tensor]
"""What real and what made pictures are judged under, each (N, D): an age, a class."""

_NEEDS = {
    "penalty_every": ("wgan_gp_weight", "r1_weight", "r2_weight"),
    "lecam_decay": ("lecam_weight",),
    "instance_noise_images": ("instance_noise",),
}
"""The keys that have no effect unless one of others is set."""


class GameOptions(BaseModel):
    """A family's ``[model.game]``; a family that starts elsewhere subclasses it with its defaults.

    Weights of 0 switch a term off, and nothing is computed for it. Architecture, such as spectral
    normalisation, is the discriminator's; learning rates (two time scales) and the averaging of
    weights are the stage's.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True
    )

    form: Form = Field("non_saturating", description="What the players minimise.")
    real_label: float = Field(
        1.0,
        gt=0.5,
        le=1,
        description="What the discriminator shall say of real pictures; 0.9 smooths labels.",
    )
    adversarial_weight: float = Field(
        1.0, gt=0, description="The weight of the generator's adversarial term."
    )
    discriminator_weight: float = Field(
        1.0, gt=0, description="The weight of the discriminator's loss; penalties have their own."
    )
    discriminator_steps: int = Field(
        1, ge=1, description="Moves of the discriminator for one of the generator."
    )
    pool_size: int = Field(
        0, ge=0, description="Older translations that the discriminator sees half of the time."
    )
    feature_matching_weight: float = Field(
        0.0, ge=0, description="Draws the discriminator's features of both kinds together."
    )
    wgan_gp_weight: float = Field(
        0.0, ge=0, description="Slopes of 1 between real and translated pictures; 10 in the paper."
    )
    r1_weight: float = Field(0.0, ge=0, description="Flat slopes at real pictures.")
    r2_weight: float = Field(0.0, ge=0, description="Flat slopes at translated pictures.")
    penalty_every: int = Field(
        1,
        ge=1,
        description="Steps from one gradient penalty to the next, which weighs as many times more.",
    )
    lecam_weight: float = Field(
        0.0, ge=0, description="Draws logits to the running mean of the other kind; for few data."
    )
    lecam_decay: float = Field(0.99, ge=0, lt=1, description="Of these means, a step.")
    weight_limit: float | None = Field(
        None, gt=0, description="Clip the discriminator's weights to this; 0.01 in the paper."
    )
    orthogonal_weight: float = Field(
        0.0,
        ge=0,
        description="Keeps the discriminator's filters orthogonal; the paper has it in the "
        "generator, at 1e-4.",
    )
    historical_average_weight: float = Field(
        0.0, ge=0, description="Draws both players' weights to their mean over the run."
    )
    instance_noise: float = Field(
        0.0,
        ge=0,
        description="Standard deviation of the noise on all that the discriminator sees; it is "
        "drawn on the processor.",
    )
    instance_noise_images: Images | None = Field(
        None, description="Images over which the noise fades to none; it stays if unset."
    )
    augment: DiscriminatorAugmentOptions = Field(
        DiscriminatorAugmentOptions(), description="How all that the discriminator sees is changed."
    )

    @model_validator(mode="after")
    def _check_used(self) -> Self:
        """Refuse what would have no effect; a default may stand, for a run's recipe has all."""
        for key, needed in _NEEDS.items():
            is_default = getattr(self, key) == type(self).model_fields[key].default
            if not is_default and not any(getattr(self, each) for each in needed):
                raise ValueError(f"no {key} without {' or '.join(needed)}")
        if self.augment.target is not None and self.form == "wasserstein":
            raise ValueError("no augment.target beside wasserstein: its logits have no zero")
        game(self.form, self.real_label)
        return self


@dataclass(frozen=True)
class Judged:
    """The discriminator's loss in terms, and what ``after_step`` wants to know."""

    terms: tuple[Term, ...]
    measured: Mapping[str, Tensor] = field(default_factory=dict)


class Adversary(nn.Module):
    """A discriminator and the game that is played with it.

    ``network`` maps (N, C, H, W) to ``Scales`` or to logits alone. ``label``, such as "_a", ends
    the names of terms, measurements and draws where a family has several. ``generator`` are the
    parameters of the player that it teaches. What it sees, real or not, has one shape and 3 k
    channels: the picture, and beside it whatever pictures it is conditioned on. A condition that is
    no picture, (N, D), goes to ``network`` as a second argument, untouched by augmentation; moves
    that give one must all do so.
    """

    mean_real: Tensor
    mean_fake: Tensor
    adapted_at: Tensor

    def __init__(
        self,
        network: nn.Module,
        options: GameOptions,
        generator: Iterable[nn.Parameter],
        label: str = "",
    ) -> None:
        super().__init__()
        self.network = network
        self.options = options
        self.label = label
        self.game = game(options.form, options.real_label)
        self.augment = DiscriminatorAugment(options.augment)
        self.pool: ImagePool | None = None
        if options.historical_average_weight:
            self.own_history = HistoricalAverage(network.parameters())
            self.generator_history = HistoricalAverage(generator)
        if options.lecam_weight:
            self.register_buffer("mean_real", torch.zeros(()))
            self.register_buffer("mean_fake", torch.zeros(()))
        self.register_buffer("adapted_at", torch.zeros((), dtype=torch.int64))  # images

    def grow(self, shape: tuple[int, ...], condition_size: int = 0) -> None:
        """Allocate the pool for what it sees, (C, H, W): call it from the family's ``grow``.

        ``condition_size`` is D where pictures are judged under a condition.
        """
        if self.options.pool_size:
            shape = (shape[0] + condition_size, *shape[1:])
            self.pool = ImagePool(f"pool{self.label}", self.options.pool_size, shape)

    def forward(self, seen: Tensor, condition: Tensor | None = None) -> Scales:
        """Return what the discriminator says of (N, C, H, W), as it is, under a condition."""
        return self._said(seen, condition)

    def fool(
        self,
        fake: Tensor,
        real: Tensor,
        batch: Batch,
        now: Progress,
        conditions: Conditions | None = None,
    ) -> tuple[Term, ...]:
        """Return the generator's terms; gradients reach ``fake`` alone. Both (N, C, H, W)."""
        options, label = self.options, self.label
        real_condition, condition = conditions or (None, None)
        self._clip()  # it has just moved
        said = self(self._shown(fake, batch, now, "fooling"), condition)
        terms = []
        reference: Scales = ()
        if self.game.needs_real or options.feature_matching_weight:
            with torch.no_grad():  # real pictures teach the generator nothing by themselves
                # The same draws: features are compared place by place.
                reference = self(self._shown(real, batch, now, "fooling"), real_condition)
        losses = [
            self.game.fool(each[-1], reference[scale][-1] if self.game.needs_real else None)
            for scale, each in enumerate(said)
        ]
        terms.append(Term(f"adversarial{label}", _sum(losses), options.adversarial_weight))
        if options.feature_matching_weight:
            value = penalties.feature_matching(reference, said)
            terms.append(Term(f"features{label}", value, options.feature_matching_weight))
        if options.historical_average_weight:
            value = self.generator_history.distance()
            terms.append(Term(f"history{label}", value, options.historical_average_weight))
        return tuple(terms)

    def judge(
        self,
        real: Tensor,
        fake: Tensor,
        batch: Batch,
        now: Progress,
        conditions: Conditions | None = None,
    ) -> Judged:
        """Return the discriminator's terms. Both (N, C, H, W); no gradient reaches the pictures."""
        options, label = self.options, self.label
        real_condition, condition = conditions or (None, None)
        fake, condition = self._pooled(fake, condition, batch, now)
        real = real.detach()
        shown_real = self._shown(real, batch, now, "real")
        said_real = self(shown_real, real_condition)
        said_fake = self(self._shown(fake, batch, now, "fake"), condition)
        losses = [
            self.game.judge(ours[-1], theirs[-1])
            for ours, theirs in zip(said_real, said_fake, strict=True)
        ]
        terms = [Term(f"judge{label}", _sum(losses), options.discriminator_weight)]
        terms += self._slopes(fake, real, batch, now, real_condition, condition)
        if options.lecam_weight:
            logits = _logits(said_real), _logits(said_fake)
            value = penalties.lecam(*logits, self.mean_real, self.mean_fake)
            terms.append(Term(f"lecam{label}", value, options.lecam_weight))
        if options.orthogonal_weight:
            filters = [each for each in self.network.parameters() if each.dim() > 1]
            value = penalties.orthogonal(filters)
            terms.append(Term(f"orthogonal{label}", value, options.orthogonal_weight))
        if options.historical_average_weight:
            value = self.own_history.distance()
            terms.append(Term(f"own_history{label}", value, options.historical_average_weight))
        return Judged(tuple(terms), self._measured(said_real, said_fake))

    @torch.no_grad()
    def after_step(self, now: Progress, measured: Mapping[str, float]) -> None:
        """Move all that follows from a step: call it from the family's ``after_step``."""
        options, label = self.options, self.label
        if options.augment.target is not None:
            # The step's own images are known at the next one.
            self.augment.adapt(measured[f"sign{label}"], max(now.images - int(self.adapted_at), 0))
            self.adapted_at.fill_(now.images)
        if options.lecam_weight:
            for mean, name in ((self.mean_real, "mean_real"), (self.mean_fake, "mean_fake")):
                mean.lerp_(
                    torch.tensor(measured[f"{name}{label}"]).to(mean), 1 - options.lecam_decay
                )
        self._clip()
        if options.historical_average_weight:
            self.own_history.update()
            self.generator_history.update()

    def _pooled(
        self, fake: Tensor, condition: Tensor | None, batch: Batch, now: Progress
    ) -> tuple[Tensor, Tensor | None]:
        """Return made pictures, some of them older, each with the condition it was made under."""
        if not self.options.pool_size:
            return fake.detach().float(), condition
        if self.pool is None:
            raise PluginError(
                "the pool has no size yet",
                where=f"i2i.adversary.Adversary{self.label}",
                expected="grow() called with the (C, H, W) of what the discriminator sees",
                remedy="call it from the family's grow",
            )
        if condition is None:
            return self.pool(fake, batch, now), None
        planes = condition[:, :, None, None].expand(-1, -1, *fake.shape[2:])
        pooled = self.pool(torch.cat([fake.float(), planes], 1), batch, now)
        num_channels = fake.shape[1]
        return pooled[:, :num_channels], pooled[:, num_channels:, 0, 0]

    @torch.no_grad()
    def _clip(self) -> None:
        if self.options.weight_limit is not None:
            penalties.clip_weights_(self.network.parameters(), self.options.weight_limit)

    def _shown(self, images: Tensor, batch: Batch, now: Progress, kind: str) -> Tensor:
        """Return what the discriminator sees of pictures: augmented, and under noise."""
        images = self.augment(images, batch, now, f"{kind}{self.label}")
        deviation = self._deviation(now)
        if not deviation:
            return images
        noise = now.normal(batch, f"noise_{kind}{self.label}", *images.shape[1:])
        return images + deviation * noise

    def _deviation(self, now: Progress) -> float:
        """Return the standard deviation of the noise at present: arXiv:1610.04490, section 3."""
        length = self.options.instance_noise_images
        left = 1.0 if length is None else max(1 - now.images / length, 0.0)
        return self.options.instance_noise * left

    def _slopes(
        self,
        fake: Tensor,
        real: Tensor,
        batch: Batch,
        now: Progress,
        real_condition: Tensor | None,
        condition: Tensor | None,
    ) -> list[Term]:
        """Return the gradient penalties that are due."""
        options, label = self.options, self.label
        if not now.every(options.penalty_every):
            return []
        terms = []

        def score(kind: str, given: Tensor | None) -> penalties.Score:
            """Through augmentation and noise, as the discriminator sees pictures of this kind."""
            return lambda images: _means(self._said(self._shown(images, batch, now, kind), given))

        if options.wgan_gp_weight:
            mix = now.uniform(batch, f"mix{label}", 1, 1, 1)
            between = real_condition
            if real_condition is not None and condition is not None:  # as the pictures are mixed
                between = torch.lerp(condition, real_condition, mix.flatten(1))
            value = penalties.wgan_gp(score("real", between), real, fake, mix)
            terms.append(Term(f"wgan_gp{label}", value, options.wgan_gp_weight))
        if options.r1_weight:
            value = penalties.r1(score("real", real_condition), real)
            terms.append(Term(f"r1{label}", value, options.r1_weight))
        if options.r2_weight:
            value = penalties.r2(score("fake", condition), fake)
            terms.append(Term(f"r2{label}", value, options.r2_weight))
        return [Term(t.name, t.value, t.weight * options.penalty_every) for t in terms]

    def _said(self, seen: Tensor, condition: Tensor | None) -> Scales:
        """Return what ``forward`` does, never compiled: a penalty differentiates it twice."""
        return _scales(self.network(seen) if condition is None else self.network(seen, condition))

    def _measured(self, real: Scales, fake: Scales) -> dict[str, Tensor]:
        """Return the scalars that ``after_step`` needs, and no others."""
        measured = {}
        if self.options.augment.target is not None:
            sides = [
                self.game.side(ours[-1], theirs[-1]).flatten()
                for ours, theirs in zip(real, fake, strict=True)
            ]
            measured[f"sign{self.label}"] = torch.cat(sides).mean()
            measured[f"probability{self.label}"] = self.augment.probability.clone()
        if self.options.lecam_weight:
            measured[f"mean_real{self.label}"] = _logits(real).detach().mean()
            measured[f"mean_fake{self.label}"] = _logits(fake).detach().mean()
        return measured


def _scales(said: Tensor | Scales) -> Scales:
    """Return what a discriminator said in full; one that returns logits has one layer."""
    if isinstance(said, Tensor):
        return ((said,),)
    if isinstance(said, tuple) and said and all(isinstance(each, tuple) and each for each in said):
        return said
    raise PluginError(
        f"a discriminator returns {type(said).__name__}",
        where="i2i.adversary",
        expected="logits, or a tuple a scale of the outputs of its layers, logits last",
        remedy="return one of these",
    )


def _logits(said: Scales) -> Tensor:
    """Return all logits of each picture, (N, P) float32, of every scale."""
    return torch.cat([full(each[-1]).flatten(1) for each in said], dim=1)


def _means(said: Scales) -> Tensor:
    """Return the score of each picture, (N,): the mean logit of a scale, added over scales."""
    return torch.stack([full(each[-1]).flatten(1).mean(dim=1) for each in said]).sum(dim=0)


def _sum(losses: list[Tensor]) -> Tensor:
    """Add the losses of all scales (arXiv:1711.11585, section 3.2)."""
    return losses[0] if len(losses) == 1 else torch.stack(losses).sum()
