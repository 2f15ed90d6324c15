"""What a recipe's ``[model]`` says of image-conditional ageing."""

from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from i2i.adversary import GameOptions
from i2i_face_aging.embedding import EmbeddingName

_NEEDS = {
    "judge_noise": "age_weight",
    "embedding": "identity_weight",
    "cycle_every": "cycle_weight",
    "reconstruction_weight": "reconstruction_share",
}
"""The keys that have no effect unless another is set."""


class AgingGame(GameOptions):
    """A discriminator without normalisation, kept smooth by flat slopes at real faces."""

    adversarial_weight: float = Field(
        2.0, gt=0, description="The weight of the generator's adversarial term."
    )
    r1_weight: float = Field(0.1, ge=0, description="Flat slopes at real pictures.")
    penalty_every: int = Field(
        8,
        ge=1,
        description="Steps from one gradient penalty to the next, which weighs as many times more.",
    )


class AgingOptions(BaseModel):
    """Architecture and loss weights of image-conditional ageing."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    width: int = Field(32, ge=1, description="Channels of the generator's largest features.")
    num_blocks: int = Field(4, ge=0, description="Residual blocks at an eighth of the face's size.")
    discriminator_width: int = Field(
        48, ge=1, description="Channels after the discriminator's first convolution."
    )
    age_weight: float = Field(
        1.0, ge=0, description="Draws the age that a judge reads to the one asked for."
    )
    judge_noise: float = Field(
        0.05,
        ge=0,
        description="Standard deviation of the noise on what that judge sees: patterns that please "
        "it and nobody else do not survive it.",
    )
    identity_weight: float = Field(
        1.5, ge=0, description="Keeps the face's embedding: whose face it is."
    )
    embedding: EmbeddingName = Field(
        "mobileface",
        description="The network that sees whose face it is: mobileface ships with i2i; facenet is "
        "fetched once by 'i2i models fetch facenet-vggface2', with 112 MB.",
    )
    cycle_weight: float = Field(
        2.0, ge=0, description="Draws a face that comes back to its own age to what it was."
    )
    cycle_every: int = Field(
        2,
        ge=1,
        description="Moves of the generator from one cycle to the next, which weighs as many times "
        "more.",
    )
    sparsity_weight: float = Field(
        0.2, ge=0, description="Keeps small what is added to a face that changes its age."
    )
    reconstruction_weight: float = Field(
        5.0, ge=0, description="Keeps small what is added to a face that keeps its age."
    )
    reconstruction_share: float = Field(
        0.2, ge=0, lt=1, description="The part of the faces that are asked to keep their age."
    )
    game: AgingGame = Field(AgingGame(), description="How it is played.")

    @model_validator(mode="after")
    def _check_used(self) -> Self:
        """Refuse what would have no effect; a default may stand, for a run's recipe has all."""
        for key, needed in _NEEDS.items():
            value = getattr(self, key)
            is_default = value == type(self).model_fields[key].default
            if value and not is_default and not getattr(self, needed):
                raise ValueError(f"no {key} {value} without {needed}")
        return self
