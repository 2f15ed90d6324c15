"""Image-conditional face ageing: a generator that sees the face and says what to change."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn

from i2i.adversary import Adversary
from i2i.errors import RecipeError
from i2i.losses import l1
from i2i.translator import Translator
from i2i.types import Batch, Fit, Inputs, Progress, Region, Term, Update
from i2i_face_aging.ages import AGE_GROUPS, AgeRequest, span_of
from i2i_face_aging.embedding import FaceEmbedding
from i2i_face_aging.faces import Finder
from i2i_face_aging.judges import AgeJudge, posed
from i2i_face_aging.networks import (
    NUM_FEATURES,
    AgeDiscriminator,
    AgingGenerator,
    age_features,
)
from i2i_face_aging.options import AgingOptions


class FaceAging(Translator):
    """Adds to a face what makes it another age, and as little else as it can.

    The generator returns a difference, as that of Zoss et al. (ACM Transactions on Graphics 41(6),
    2022); what it is asked for is that of Alaluf et al. (arXiv:2102.02754, section 3.3): an age
    that a judge reads, a face that another takes for the same, a way back to where it came from,
    and little change; beside an adversarial term under the age asked for (arXiv:1702.01983).
    """

    name = "face-aging"
    Options = AgingOptions
    Request = AgeRequest
    inputs = Inputs(images=("face",), paired=False, labels=("age",))
    exported = ("generator",)
    options: AgingOptions

    def __init__(self, options: AgingOptions) -> None:
        super().__init__(options)
        self.generator = AgingGenerator(options.width, options.num_blocks)
        network = AgeDiscriminator(options.discriminator_width)
        self.adversary = Adversary(network, options.game, self.generator.parameters())
        self.age_judge = AgeJudge()
        self.finder = Finder()
        self.embedding = FaceEmbedding(options.embedding)
        self.trained_size: int | None = None

    @property
    def fit(self) -> Fit:
        """Normalisations see the whole face."""
        multiple = AgingGenerator.multiple
        return Fit(multiple=multiple, smallest=2 * multiple, trained_size=self.trained_size)

    def grow(self, stage: str, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Allocate the adversary's pool; raises RecipeError for faces of another size."""
        height, width = shapes["face"][1:]
        multiple = max(AgeDiscriminator.multiple, AgingGenerator.multiple)
        if height != width or height % multiple or height < 4 * multiple:
            raise RecipeError(
                f"faces are {width}x{height}",
                where="augment",
                expected=f"squares of multiples of {multiple} pixels, at least {4 * multiple}",
                remedy="resize them in [augment]",
            )
        self.adversary.grow(shapes["face"], NUM_FEATURES)
        self.trained_size = height

    def players(self, stage: str) -> Mapping[str, Iterable[nn.Parameter]]:
        """Name the two, as soon as what the identity is seen by is at hand."""
        if self.options.identity_weight:
            self.embedding.load()
        return {
            "generator": self.generator.parameters(),
            "discriminator": self.adversary.parameters(),
        }

    def training_step(self, batch: Batch, now: Progress) -> Iterator[Update]:
        """Move the discriminator, then the generator."""
        options = self.options
        faces, source = batch.images["face"], batch.labels["age"].float()
        target, same = self._targets(batch, now, source)
        its_turn = now.every(options.game.discriminator_steps)
        with torch.set_grad_enabled(its_turn):
            change = self.generator(faces, source, target)
        made = faces + change
        conditions = age_features(source), age_features(target)
        judged = self.adversary.judge(faces, made, batch, now, conditions)
        yield Update("discriminator", *judged.terms, **judged.measured)

        if its_turn:
            terms = [*self.adversary.fool(made, faces, batch, now, conditions)]
            terms += self._changes(change, same)
            if options.age_weight:
                value = self.age_judge.distance(self._disturbed(made, batch, now), target)
                terms.append(Term("age", value, options.age_weight))
            if options.identity_weight:
                with torch.no_grad():
                    own = self.embedding(faces)
                value = 1 - (self.embedding(made) * own).sum(1).mean()
                terms.append(Term("identity", value, options.identity_weight))
            turns = options.game.discriminator_steps
            if options.cycle_weight and now.every(turns * options.cycle_every):
                back = made + self.generator(made, target, source)
                weight = options.cycle_weight * options.cycle_every
                terms.append(Term("cycle", l1(back, faces), weight))
            yield Update("generator", *terms)

    def after_step(self, now: Progress, measured: Mapping[str, float]) -> None:
        """Let the adversary follow."""
        self.adversary.after_step(now, measured)

    @classmethod
    def variants(cls, request: AgeRequest) -> Mapping[str, AgeRequest]:
        """Return a request an age group where all are asked for."""
        return request.variants()

    def locates(self, request: AgeRequest) -> bool:
        """Faces are looked for where the request says so."""
        return request.face == "detect"

    def locate(self, image: Tensor, request: AgeRequest) -> Sequence[Region]:
        """Return the faces of a photograph; raises ImageError where is none."""
        return self.finder(image)

    def translate(self, images: Tensor, request: AgeRequest) -> Tensor:
        """Add what makes each face the age asked for; its own age is estimated unless given."""
        target = images.new_full((len(images),), request.target)
        source = (
            self.age_judge.estimate(images)
            if request.source_age is None
            else torch.full_like(target, request.source_age)
        )
        change: Tensor = self.generator(images, source, target)
        return (images + change).clamp(-1, 1)

    def _targets(self, batch: Batch, now: Progress, source: Tensor) -> tuple[Tensor, Tensor]:
        """Return the ages to become, (N,), and which faces keep theirs, (N,) of 0 and 1.

        Groups come equally often, and within one all ages.
        """
        drawn = now.uniform(batch, "target", 3)
        spans = torch.tensor([span_of(group) for group in range(len(AGE_GROUPS))]).to(drawn)
        start, end = spans[(drawn[:, 0] * len(spans)).long()].unbind(1)
        same = drawn[:, 2] < self.options.reconstruction_share
        return torch.where(same, source, start + drawn[:, 1] * (end - start)), same.float()

    def _disturbed(self, faces: Tensor, batch: Batch, now: Progress) -> Tensor:
        """Return what the age judge sees: faces moved, turned, sized, mirrored, under noise."""
        seen = posed(faces, now.uniform(batch, "pose", 5))
        deviation = self.options.judge_noise
        if not deviation:
            return seen
        return seen + deviation * now.normal(batch, "judge_noise", *faces.shape[1:])

    def _changes(self, change: Tensor, same: Tensor) -> list[Term]:
        """Return what keeps changes small: of those who keep their age, and of the others."""
        options = self.options
        sizes = change.float().abs().mean((1, 2, 3))
        terms = []
        if options.reconstruction_share and options.reconstruction_weight:
            value = (sizes * same).mean()
            terms.append(Term("reconstruction", value, options.reconstruction_weight))
        if options.sparsity_weight:
            value = (sizes * (1 - same)).mean()
            terms.append(Term("sparsity", value, options.sparsity_weight))
        return terms
