"""A tiny family that keeps the contract, and one for each way of breaking it."""

import random
from collections.abc import Iterable, Iterator, Mapping
from contextlib import nullcontext

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from i2i import Batch, Fit, Inputs, Progress, Term, Translator, Update


class TinyOptions(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    width: int = Field(2, description="Channels between the two convolutions.")


class TinyRequest(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    strong: bool = Field(False, description="Translate twice.")


class Tiny(Translator):
    """Keeps the contract: D on the detached fake, then G through D computed anew."""

    name = "tiny"
    Options = TinyOptions
    Request = TinyRequest
    inputs = Inputs(images=("a", "b"), paired=False)
    exported = ("generator",)

    def __init__(self, options: TinyOptions) -> None:
        super().__init__(options)
        self.generator = nn.Sequential(
            nn.Conv2d(3, options.width, 1), nn.Tanh(), nn.Conv2d(options.width, 3, 1), nn.Tanh()
        )
        self.judge = nn.Sequential(nn.Conv2d(3, 2, 3, padding=1), nn.Tanh(), nn.Conv2d(2, 1, 1))

    @property
    def fit(self) -> Fit:
        return Fit(multiple=2)

    def players(self, stage: str) -> Mapping[str, Iterable[nn.Parameter]]:
        return {"g": self.generator.parameters(), "d": self.judge.parameters()}

    def training_step(self, batch: Batch, now: Progress) -> Iterator[Update]:
        fake = self.generator(batch.images["a"])
        yield self.judged(batch, fake)
        yield self.fooled(self.judge(fake))

    def judged(self, batch: Batch, fake: Tensor) -> Update:
        real, seen = self.judge(batch.images["b"]).float(), self.judge(fake.detach()).float()
        return Update("d", Term("judge", (real - 1).square().mean() + seen.square().mean()))

    def fooled(self, logits: Tensor, *players: str) -> Update:
        return Update(players or "g", Term("fool", (logits.float() - 1).square().mean(), 0.5))

    def translate(self, images: Tensor, request: TinyRequest) -> Tensor:
        translated: Tensor = self.generator(images)
        return self.generator(translated) if request.strong else translated


# Legal orders


class GeneratorFirst(Tiny):
    def training_step(self, batch, now):
        fake = self.generator(batch.images["a"])
        yield self.fooled(self.judge(fake))
        yield self.judged(batch, fake)


class GradientPenalty(Tiny):
    """WGAN-GP's penalty needs gradients of gradients, and may be taken on some steps only."""

    def training_step(self, batch, now):
        fake = self.generator(batch.images["a"])
        terms = list(self.judged(batch, fake).terms)
        if now.every(2):
            share = now.uniform(batch, "mix", 1, 1, 1)
            mixed = (share * batch.images["b"] + (1 - share) * fake.detach()).requires_grad_()
            (slope,) = torch.autograd.grad(self.judge(mixed).sum(), mixed, create_graph=True)
            norms = slope.float().flatten(1).norm(dim=1)
            terms.append(Term("penalty", (norms - 1).square().mean(), 10.0))
        yield Update("d", *terms)
        yield self.fooled(self.judge(fake))


class TupleMove(Tiny):
    def training_step(self, batch, now):
        yield self.fooled(self.judge(self.generator(batch.images["a"])), "g", "d")


class SharedParameters(Tiny):
    def players(self, stage):
        return {"g": self.generator.parameters(), "d": self.parameters()}


class TwoStages(Tiny):
    """Grows a critic of its own, with a buffer, for the second stage."""

    stages = ("first", "second")

    def grow(self, stage, shapes):
        if stage == "second":
            self.extra = nn.Conv2d(3, 1, 1)
            self.register_buffer("seen", torch.zeros(shapes["a"][1:]))

    def training_step(self, batch, now):
        yield from super().training_step(batch, now)
        if now.stage == "second":
            self.seen += batch.images["a"].mean(1).sum(0)
            yield Update("d", Term("extra", self.extra(batch.images["a"]).square().float().mean()))

    def players(self, stage):
        judges = [*self.judge.parameters(), *(self.extra.parameters() if stage != "first" else ())]
        return {"g": self.generator.parameters(), "d": judges}


# Broken moves


class NoMoves(Tiny):
    def training_step(self, batch, now):
        yield from ()


class UnknownPlayer(Tiny):
    def training_step(self, batch, now):
        yield self.fooled(self.judge(self.generator(batch.images["a"])), "generater")


class NoTerm(Tiny):
    def training_step(self, batch, now):
        yield Update("g", seen=batch.images["a"].mean())


class OneNameInOneMove(Tiny):
    def training_step(self, batch, now):
        terms = self.fooled(self.judge(self.generator(batch.images["a"]))).terms
        yield Update("g", *terms, *terms)


class OneNameInTwoMoves(Tiny):
    def training_step(self, batch, now):
        yield self.judged(batch, batch.images["a"])
        yield self.judged(batch, batch.images["a"])


class OneNameMeasuredTwice(Tiny):
    def training_step(self, batch, now):
        for value in (torch.zeros(()), torch.ones(())):
            term = self.fooled(self.judge(self.generator(batch.images["a"]))).terms[0]
            yield Update("g", Term(f"fool{int(value)}", term.value), accuracy=value)


class MeasuredUnderATermsName(Tiny):
    def training_step(self, batch, now):
        term = self.fooled(self.judge(self.generator(batch.images["a"]))).terms[0]
        yield Update("g", term, **{term.name: torch.ones(())})


class MeasuredNoTensor(Tiny):
    def training_step(self, batch, now):
        term = self.fooled(self.judge(self.generator(batch.images["a"]))).terms[0]
        yield Update("g", term, accuracy=0.5)


class NotScalar(Tiny):
    def training_step(self, batch, now):
        yield Update("g", Term("fool", self.generator(batch.images["a"]).square()))


class NotAnUpdate(Tiny):
    def training_step(self, batch, now):
        yield self.fooled(self.judge(self.generator(batch.images["a"]))).terms[0]


class NotFinite(Tiny):
    def training_step(self, batch, now):
        loss = self.generator(batch.images["a"]).mean()
        yield Update("g", Term("fine", loss), Term("endless", loss / 0))


class InsideNoGrad(Tiny):
    def training_step(self, batch, now):
        loss = self.judge(self.generator(batch.images["a"]))
        with torch.no_grad():
            yield self.fooled(loss)


class InsideAutocast(Tiny):
    def training_step(self, batch, now):
        loss = self.judge(self.generator(batch.images["a"]))
        with torch.autocast("cpu", torch.bfloat16):
            yield self.fooled(loss)


class InsideHarmlessWith(Tiny):
    """Nothing at run time shows this one: the kit reads the source."""

    def training_step(self, batch, now):
        with nullcontext():
            yield self.fooled(self.judge(self.generator(batch.images["a"])))


class DataDecidesMoves(Tiny):
    def training_step(self, batch, now):
        fake = self.generator(batch.images["a"])
        if batch.images["a"].mean() > 0:
            yield self.judged(batch, fake)
        yield self.fooled(self.judge(fake))


class DataDecidesTerms(Tiny):
    def training_step(self, batch, now):
        name = "bright" if batch.images["a"].mean() > 0.3 else "dark"
        yield Update("g", Term(name, self.generator(batch.images["a"]).mean()))


class Detached(Tiny):
    def training_step(self, batch, now):
        yield self.fooled(self.judge(self.generator(batch.images["a"])).detach())


class ReachesNone(Tiny):
    def training_step(self, batch, now):
        yield self.fooled(self.judge(batch.images["a"]))


class ReachesOneOfTwo(Tiny):
    def training_step(self, batch, now):
        yield self.fooled(self.generator(batch.images["a"]), "g", "d")


# Stale graphs


class StaleLogits(Tiny):
    def training_step(self, batch, now):
        fake = self.generator(batch.images["a"])
        logits = self.judge(fake)
        yield self.judged(batch, fake)
        yield self.fooled(logits)


class OneFakeForTwoMoves(Tiny):
    def training_step(self, batch, now):
        fake = self.generator(batch.images["a"])
        yield self.fooled(self.judge(fake))
        yield Update("g", Term("again", (self.judge(fake).float() - 1).square().mean()))


class CheckpointAcrossYield(Tiny):
    """The forward would be computed again with parameters that have moved."""

    def training_step(self, batch, now):
        fake = self.generator(batch.images["a"])
        logits = checkpoint(self.judge, fake, use_reentrant=False)
        yield self.judged(batch, fake)
        yield self.fooled(logits)


class StaleOnSomeSteps(Tiny):
    """Legal until a term joins, whose graph is an old one."""

    def training_step(self, batch, now):
        fake = self.generator(batch.images["a"])
        logits = self.judge(fake)
        yield self.judged(batch, fake)
        terms = self.fooled(self.judge(fake)).terms
        late = () if now.step < 2 else (Term("late", logits.float().mean()),)
        yield Update("g", *terms, *late)


class StaleUnderAKnownName(Tiny):
    """Legal when the engine looks, on the first step; autograd's own check is what is left."""

    def training_step(self, batch, now):
        fake = self.generator(batch.images["a"])
        logits = self.judge(fake)
        yield self.judged(batch, fake)
        yield self.fooled(self.judge(fake) if now.step == 0 else logits)


# State and chance


class HiddenAttribute(Tiny):
    """Remembers in a plain attribute, which no checkpoint holds."""

    def training_step(self, batch, now):
        self.count = getattr(self, "count", 0) + 1
        yield Update("g", Term("g", self.generator(batch.images["a"]).float().mean() / self.count))


class HiddenBuffer(Tiny):
    def __init__(self, options):
        super().__init__(options)
        self.register_buffer("count", torch.ones(()), persistent=False)

    def training_step(self, batch, now):
        self.count += 1
        yield Update("g", Term("g", self.generator(batch.images["a"]).float().mean() / self.count))


class HiddenBehindBuffer(Tiny):
    """No term shows it, only a buffer that follows from it."""

    def __init__(self, options):
        super().__init__(options)
        self.count = 0
        self.register_buffer("trace", torch.zeros(()))

    def after_step(self, now, measured):
        self.count += 1
        self.trace += self.count


class HiddenInAfterStep(Tiny):
    weight = 1.0

    def training_step(self, batch, now):
        loss = self.generator(batch.images["a"]).float().mean() * self.weight
        yield Update("g", Term("g", loss), level=loss)

    def after_step(self, now, measured):
        self.weight *= 1.5 + measured["level"]


class NumpyChance(Tiny):
    def training_step(self, batch, now):
        noise = float(np.random.default_rng().normal())
        yield Update("g", Term("g", self.generator(batch.images["a"]).float().mean() * noise))


class PythonChance(Tiny):
    def training_step(self, batch, now):
        loss = self.generator(batch.images["a"]).float().mean()
        yield Update("g", Term("g", loss * random.random()))


class GlobalNoise(Tiny):
    """Repeats, but not where the batch is computed in parts: noise must follow the sample."""

    def training_step(self, batch, now):
        a = batch.images["a"]
        yield Update("g", Term("g", (self.generator(a) * torch.randn_like(a)).float().mean()))


class SumOverSamples(Tiny):
    def training_step(self, batch, now):
        yield Update(
            "g", Term("g", self.generator(batch.images["a"]).float().mean((1, 2, 3)).sum())
        )


class SumsBatchMeans(Tiny):
    """Its terms are right, and a buffer counts every micro-batch as if it were a batch."""

    def __init__(self, options):
        super().__init__(options)
        self.register_buffer("level", torch.zeros(()))

    def training_step(self, batch, now):
        self.level += batch.images["a"].mean()
        yield from super().training_step(batch, now)


class GrowDrawsDifferently(Tiny):
    def grow(self, stage, shapes):
        self.register_buffer("code", torch.tensor(np.random.default_rng().normal()))


class GrowDrawsFromNumpy(Tiny):
    def grow(self, stage, shapes):
        self.register_buffer("code", torch.tensor(np.random.normal()))


class InitDrawsDifferently(Tiny):
    def __init__(self, options):
        super().__init__(options)
        self.register_buffer("code", torch.tensor(np.random.default_rng().normal()))


class LowPrecisionLoss(Tiny):
    def training_step(self, batch, now):
        yield Update("g", Term("rough", self.generator(batch.images["a"]).mean()))


# Translation


class SeesBatchMates(Tiny):
    def translate(self, images, request):
        return torch.tanh(images - images.mean(0, keepdim=True))


class NoiseByPlace(Tiny):
    """Repeats, but a picture's noise depends on where it stands in the batch."""

    def translate(self, images, request):
        noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(0))
        return torch.tanh(images + noise)


class GlobalNoiseInTranslate(Tiny):
    def translate(self, images, request):
        return torch.tanh(images + torch.randn_like(images))


class LeavesRange(Tiny):
    def translate(self, images, request):
        return images * 1.01


class ChangesInput(Tiny):
    def translate(self, images, request):
        return images.mul_(0.5)


class ChangesBuffer(Tiny):
    def __init__(self, options):
        super().__init__(options)
        self.register_buffer("calls", torch.zeros(()))

    def translate(self, images, request):
        self.calls += 1
        return images


class WrongShape(Tiny):
    def translate(self, images, request):
        return images[:, :, ::2]


class WrongChoice(Tiny):
    """Right by default, wrong where a choice of the request is taken."""

    def translate(self, images, request):
        return images.double() if request.strong else images


class KeepsGradient(Tiny):
    def translate(self, images, request):
        with torch.enable_grad():
            return self.generator(images)


class LeavesGradients(Tiny):
    """Optimises a latent, and fills the parameters' gradients on the way."""

    def translate(self, images, request):
        with torch.enable_grad():
            self.generator(images).mean().backward()
        return images


class FitPromisesTooMuch(Tiny):
    """Reflection by three pixels needs four, and fit allows one."""

    @property
    def fit(self):
        return Fit()

    def translate(self, images, request):
        nn.functional.pad(images, (3, 3, 3, 3), mode="reflect")
        return images


class ExportsTooLittle(Tiny):
    def translate(self, images, request):
        return torch.tanh(self.judge(images) + images)


class FitForgotten(Tiny):
    """Learns its size from pictures, which loading a model file does not show it."""

    size = None

    @property
    def fit(self):
        return Fit(multiple=2, trained_size=self.size)

    def training_step(self, batch, now):
        self.size = batch.images["a"].shape[-1]
        yield from super().training_step(batch, now)


class Tiled(Tiny):
    """Sees two pixels around each, four where it is strong, and says so."""

    halo = 4

    def __init__(self, options):
        super().__init__(options)
        layers = [nn.Conv2d(3, 4, 3, padding=1), nn.Tanh(), nn.Conv2d(4, 3, 3, padding=1)]
        self.generator = nn.Sequential(*layers, nn.Tanh())

    @property
    def fit(self):
        return Fit(multiple=2, tiles=True, halo=self.halo)


class HaloTooSmall(Tiled):
    halo = 0


class TilesUnderANormalisation(Tiled):
    def translate(self, images, request):
        normal = nn.functional.instance_norm(images)
        return super().translate(normal.clamp(-1, 1), request)
