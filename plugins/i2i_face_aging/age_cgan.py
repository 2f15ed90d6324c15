"""Age-cGAN: faces from latents, and the latent that keeps a person (arXiv:1702.01983)."""

import hashlib
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Literal, Self

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from i2i.adversary import Adversary, GameOptions
from i2i.errors import RecipeError
from i2i.losses import l2
from i2i.losses.precision import without_autocast
from i2i.translator import Translator
from i2i.types import Batch, Fit, Inputs, Progress, Region, Term, Update, derive_seed
from i2i_face_aging.ages import AgeRequest, group_of
from i2i_face_aging.embedding import EmbeddingName, FaceEmbedding
from i2i_face_aging.faces import Finder
from i2i_face_aging.judges import AgeJudge
from i2i_face_aging.latent_networks import (
    NUM_GROUPS,
    LatentDiscriminator,
    LatentEncoder,
    LatentGenerator,
)

ADVERSARIAL, ENCODER = "adversarial", "encoder"
_JITTER = 0.3  # standard deviation of what a seed adds to the first estimate of a latent
_REMEMBERED = 1024  # faces
_EVALUATIONS = 25  # that one step's line search may take


class AgeCGANOptions(BaseModel):
    """Architecture; the defaults are DCGAN's at 64 pixels."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    side: int = Field(
        64, ge=64, description="Pixels a side of the faces it makes: 64, 128 and so on, doubled."
    )
    latent_size: int = Field(100, ge=1, description="Numbers that a face is made from.")
    width: int = Field(64, ge=1, description="Channels of the generator's largest features.")
    discriminator_width: int = Field(
        64, ge=1, description="Channels after the discriminator's first convolution."
    )
    encoder_width: int = Field(
        32, ge=1, description="Channels after the encoder's first convolution."
    )
    encoder_hidden: int = Field(
        4096, ge=1, description="Numbers between the encoder's two linear layers."
    )
    keep: Literal["identity", "pixels"] = Field(
        "identity",
        description="What the refinement of a latent keeps of a face: what the embedding network "
        "sees, or its pixels.",
    )
    embedding: EmbeddingName = Field(
        "mobileface",
        description="The network that sees whose face it is: mobileface ships with i2i; facenet is "
        "fetched once by 'i2i models fetch facenet-vggface2', with 112 MB.",
    )
    game: GameOptions = Field(GameOptions(), description="How it is played.")

    @model_validator(mode="after")
    def _check_used(self) -> Self:
        """Refuse what cannot be, or would have no effect; a default may stand."""
        if self.side & (self.side - 1):
            raise ValueError(f"side {self.side} is no power of two, as halving it needs")
        if self.embedding != "mobileface" and self.keep != "identity":
            raise ValueError(f"no embedding {self.embedding} where pixels are kept")
        return self


class AgeCGANRequest(AgeRequest):
    """What may be asked of a face that is made anew from a latent."""

    refine_steps: int = Field(
        20, ge=0, description="Steps of L-BFGS from the encoder's latent to one that keeps more."
    )
    seed: int = Field(
        0, ge=0, description="Where the refinement starts: 0 is the encoder's latent, others near."
    )


class AgeCGAN(Translator):
    """A generator of faces of an age group, an encoder, and a search for the latent of a face.

    A face ``x`` of group ``y0`` becomes ``G(z*, y)``, where ``z* = argmin |FR(x) - FR(G(z, y0))|``
    is searched from ``z0 = E(x)`` by L-BFGS (section 2.3; the distance is squared here, for slopes
    that vanish at the end). The encoder learns from pairs ``z, G(z, y)`` (section 2.2).
    """

    name = "age-cgan"
    Options = AgeCGANOptions
    Request = AgeCGANRequest
    inputs = Inputs(images=("face",), paired=False, labels=("age",))
    exported = ("generator", "encoder")
    options: AgeCGANOptions

    def __init__(self, options: AgeCGANOptions) -> None:
        super().__init__(options)
        o = options
        self.generator = LatentGenerator(o.side, o.latent_size, o.width)
        self.encoder = LatentEncoder(o.side, o.latent_size, o.encoder_width, o.encoder_hidden)
        network = LatentDiscriminator(o.side, o.discriminator_width)
        self.adversary = Adversary(network, o.game, self.generator.parameters())
        self.age_judge = AgeJudge()
        self.finder = Finder()
        self.embedding = FaceEmbedding(o.embedding)
        self._remembered: OrderedDict[bytes, Tensor] = OrderedDict()

    @property
    def stages(self) -> tuple[str, ...]:
        """First the game, then the encoder."""
        return (ADVERSARIAL, ENCODER)

    @property
    def fit(self) -> Fit:
        """One size: the generator's."""
        side = self.options.side
        return Fit(exact_size=(side, side), trained_size=side)

    def grow(self, stage: str, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Allocate the adversary's pool; raises RecipeError for faces of another size."""
        height, width = shapes["face"][1:]
        side = self.options.side
        if (height, width) != (side, side):
            raise RecipeError(
                f"faces are {width}x{height}",
                where="augment",
                expected=f"{side}x{side}, as model.side says",
                remedy="resize them in [augment], or change model.side",
            )
        if stage == ADVERSARIAL:
            self.adversary.grow(shapes["face"], NUM_GROUPS)

    def players(self, stage: str) -> Mapping[str, Iterable[nn.Parameter]]:
        """Name the two of the game, or the encoder, as soon as previews can be made."""
        if self.options.keep == "identity":
            self.embedding.load()
        if stage == ENCODER:
            return {"encoder": self.encoder.parameters()}
        return {
            "generator": self.generator.parameters(),
            "discriminator": self.adversary.parameters(),
        }

    def training_step(self, batch: Batch, now: Progress) -> Iterator[Update]:
        """Move the discriminator and the generator, or the encoder."""
        latents = now.normal(batch, "latent", self.options.latent_size)
        if now.stage == ENCODER:
            if len(batch) == 1:
                raise RecipeError(
                    "a batch of one face has no statistics to normalise by",
                    where=f"stages.{ENCODER}",
                    expected="two faces or more at once",
                    remedy="raise batch_size, or lower micro_batches",
                )
            drawn = now.uniform(batch, "group", 1)[:, 0]
            made = self._made(latents, _one_hot((drawn * NUM_GROUPS).long()))
            yield Update("encoder", Term("latent", l2(self.encoder(made), latents)))
            return

        faces = batch.images["face"]
        groups = _one_hot(_groups(batch.labels["age"]))
        its_turn = now.every(self.options.game.discriminator_steps)
        with torch.set_grad_enabled(its_turn):
            made = self.generator(latents, groups)
        conditions = groups, groups
        judged = self.adversary.judge(faces, made, batch, now, conditions)
        yield Update("discriminator", *judged.terms, **judged.measured)

        if its_turn:
            yield Update("generator", *self.adversary.fool(made, faces, batch, now, conditions))

    def after_step(self, now: Progress, measured: Mapping[str, float]) -> None:
        """Let the adversary follow."""
        if now.stage == ADVERSARIAL:
            self.adversary.after_step(now, measured)

    @classmethod
    def variants(cls, request: AgeCGANRequest) -> Mapping[str, AgeCGANRequest]:
        """Return a request an age group where all are asked for."""
        return request.variants()

    def check_request(self, request: AgeCGANRequest) -> None:
        """Have at hand what the search looks through; raises DownloadError."""
        if self.options.keep == "identity" and request.refine_steps:
            self.embedding.load()

    def locates(self, request: AgeCGANRequest) -> bool:
        """Faces are looked for where the request says so."""
        return request.face == "detect"

    def locate(self, image: Tensor, request: AgeCGANRequest) -> Sequence[Region]:
        """Return the faces of a photograph; raises ImageError where is none."""
        return self.finder(image)

    def translate(self, images: Tensor, request: AgeCGANRequest) -> Tensor:
        """Find the latent of each face alone, and make it a face of the age group asked for."""
        ages = (
            self.age_judge.estimate(images)
            if request.source_age is None
            else images.new_full((len(images),), request.source_age)
        )
        own = _one_hot(_groups(ages))
        with without_autocast(images):
            weights = self._weights()
            latents = [
                self._latent(face, group, request, weights)
                for face, group in zip(images.float()[:, None], own[:, None], strict=True)
            ]
            target = _groups(torch.full_like(ages, request.target))
            return self._made(torch.cat(latents), _one_hot(target))

    @torch.no_grad()
    def _made(self, latents: Tensor, groups: Tensor) -> Tensor:
        """Generate by the statistics kept in training: no face depends on another."""
        made: Tensor = self.generator(latents, groups, running=True)
        return made

    def _weights(self) -> bytes:
        """Return a digest of what a latent depends on beside the face."""
        digest = hashlib.sha256()
        for module in (self.generator, self.encoder):
            for tensor in module.state_dict().values():
                digest.update(tensor.cpu().numpy().tobytes())
        return digest.digest()

    def _latent(
        self, face: Tensor, group: Tensor, request: AgeCGANRequest, weights: bytes
    ) -> Tensor:
        """Return the latent (1, Z) of one face; the last few are remembered.

        A face that is asked for in several ages has one latent, and the search takes the time.
        """
        asked = f"{request.refine_steps} {request.seed}".encode() + weights
        seen = face.cpu().numpy().tobytes() + group.cpu().numpy().tobytes() + asked
        key = hashlib.sha256(seen).digest()
        if key not in self._remembered:
            self._remembered[key] = self._found(face, group, request)
            while len(self._remembered) > _REMEMBERED:
                self._remembered.popitem(last=False)
        return self._remembered[key].to(face.device)

    def _found(self, face: Tensor, group: Tensor, request: AgeCGANRequest) -> Tensor:
        """Search for the latent from the encoder's estimate on."""
        latent: Tensor = self.encoder(face, running=True)
        if request.seed:
            number = derive_seed(request.seed, face.cpu().numpy().tobytes())
            noise = torch.randn(latent.shape, generator=torch.Generator().manual_seed(number))
            latent = latent + _JITTER * noise.to(latent)
        if not request.refine_steps:
            return latent.detach()
        with torch.no_grad():
            wanted = self._kept(face)
        latent = latent.detach().requires_grad_()
        search = torch.optim.LBFGS(
            [latent],
            max_iter=request.refine_steps,
            max_eval=_EVALUATIONS * request.refine_steps,
            tolerance_grad=0,
            tolerance_change=0,  # the distance is small to begin with
            line_search_fn="strong_wolfe",
        )

        def distance() -> Tensor:
            made = self.generator(latent, group, running=True)
            value = (self._kept(made) - wanted).square().sum()
            (latent.grad,) = torch.autograd.grad(value, [latent])
            return value

        with torch.enable_grad():
            search.step(distance)  # type: ignore[no-untyped-call] # torch leaves it so
        return latent.detach()

    def _kept(self, faces: Tensor) -> Tensor:
        return self.embedding(faces) if self.options.keep == "identity" else faces


def _groups(ages: Tensor) -> Tensor:
    return torch.tensor([group_of(age) for age in ages.tolist()], device=ages.device)


def _one_hot(groups: Tensor) -> Tensor:
    return F.one_hot(groups, NUM_GROUPS).float()
