"""Families on a made batch, and beside them what their adversaries see, for the plain torch."""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from i2i import Batch, Progress, Translator, load_plugins
from i2i.adversary import Adversary
from i2i.model_file import build, grow
from i2i.testing import make_batch
from i2i.testing.batches import shapes_for
from i2i.types import derive_seed
from tests.contract.plain import Plain
from tests.contract.plain_faces import PlainAges, PlainGroups, features, one_hot, targets_of
from tests.contract.plain_srgan import PlainUNet, PlainVGG

GAME = {
    "form": "non_saturating",
    "adversarial_weight": 1.0,
    "discriminator_weight": 1.0,
    "pool_size": 0,
}
SHARED = {"width": 4, "patch": 16, "norm": "instance"}
JUDGES = {"srgan": {"width": 4, "architecture": "unet"}}  # the others have the shared one
ALONE: dict[str, dict[str, Any]] = {
    "cyclegan": {"width": 2, "num_blocks": 1, "cycle_weight": 0.0, "identity_weight": 0.0},
    "pix2pix": {
        "width": 2,
        "num_halvings": 2,
        "norm": "instance",
        "dropout": 0.0,
        "l1_weight": 0.0,
    },
    "srgan": {
        "scale": 2,
        "generator": {"architecture": "compact", "width": 2, "num_blocks": 1},
        "perceptual": {"weight": 0.0},
    },
    "face-aging": {
        "width": 2,
        "num_blocks": 1,
        "discriminator_width": 2,
        "age_weight": 0.0,
        "identity_weight": 0.0,
        "cycle_weight": 0.0,
        "sparsity_weight": 0.0,
        "reconstruction_weight": 0.0,
    },
    "age-cgan": {"latent_size": 5, "width": 2, "discriminator_width": 2},
}
"""Options that leave nothing but the game; dropout would draw from another generator."""

OWN_GAME: dict[str, dict[str, Any]] = {"face-aging": {"r1_weight": 0.0}}
"""What is switched off where it is on by default."""

SIDES = {"face-aging": 64, "age-cgan": 64}  # pixels, where 16 are not enough

PENALTIES = ("r1_weight", "r2_weight", "wgan_gp_weight")

Gradients = dict[str, dict[str, Tensor]]  # by player and parameter


@dataclass(frozen=True)
class Duel:
    """What one adversary meets in one step; its weights and the generator's are leaves."""

    label: str
    plain: Plain
    taught: Mapping[str, Tensor]
    real: Tensor
    fake: Tensor  # a function of ``taught``
    batch: Batch
    now: Progress
    past: Sequence["Duel"] = ()
    conditions: tuple[Tensor, Tensor] | None = None  # of real and of fake, (N, D)

    @property
    def on_real(self) -> Plain:
        """What judges real pictures."""
        return self.plain.under(self.conditions and self.conditions[0])

    @property
    def on_fake(self) -> Plain:
        """What judges fake ones."""
        return self.plain.under(self.conditions and self.conditions[1])

    def between(self, mix: Tensor) -> Plain:
        """What judges pictures between the two, this much of each real."""
        if self.conditions is None:
            return self.plain
        real, fake = self.conditions
        share = mix.reshape(-1, 1)
        return self.plain.under(share * real + (1 - share) * fake)

    def made(self) -> list[tuple[Tensor, Tensor | None]]:
        """What pools keep: each fake picture, and its condition."""
        conditions = self.conditions[1] if self.conditions else [None] * len(self.fake)
        return [*zip(self.fake.detach(), conditions, strict=True)]

    def normal(self, name: str) -> Tensor:
        """Return a draw in the shape of the pictures."""
        return self.now.normal(self.batch, f"{name}{self.label}", *self.real.shape[1:]).double()

    def said(self) -> tuple[list[Tensor], list[Tensor]]:
        """Return the logits of real and fake, a scale each."""
        return self.on_real.logits(self.real), self.on_fake.logits(self.fake)


def made(
    name: str,
    changed: Mapping[str, Any] | None = None,
    *,
    size: int | None = None,
    seed: int = 3,
    still: bool = True,
) -> Translator:
    """Build a family from one seed, with larger weights than at the start, so that errors show.

    ``changed`` are options of the game, and those of the discriminator under "discriminator". What
    srgan's discriminator divides its weights by moves on at every forward unless it is ``still``.
    """
    changed = dict(changed or {})
    options = {**ALONE[name]}
    if name not in SIDES:
        options["discriminator"] = JUDGES.get(name, SHARED) | changed.pop("discriminator", {})
    if name in OWN_GAME and any(changed.get(each) for each in PENALTIES):
        changed = {"penalty_every": 1} | changed  # as it is elsewhere by default
    options["game"] = GAME | OWN_GAME.get(name, {}) | changed
    family = load_plugins().family(name)
    translator = build(family, family.Options.model_validate(options), seed)
    shapes = shapes_of(translator, size)
    for stage in translator.stages:
        grow(translator, stage, shapes, seed)
    nudge(translator, 0, 0.15)
    translator.train()
    if name == "srgan" and still:
        with torch.no_grad():
            for _ in range(9):  # until it divides by the weights' norms
                translator.adversary.network(torch.zeros(1, *shapes["high"]))
            translator.adversary.network.network.last.weight *= 8  # or its slopes hardly matter
        translator.adversary.network.eval()
    if name == "age-cgan":
        translator.adversary.network.eval()  # each picture by its own statistics
    return translator


def shapes_of(translator: Translator, size: int | None) -> dict[str, tuple[int, ...]]:
    """Return the shapes of roles where discriminators see ``size`` pixels a side."""
    fit = translator.fit
    size = size or SIDES.get(translator.name, 16)
    return shapes_for(translator.inputs, fit, (size // fit.scale, size // fit.scale))


@torch.no_grad()
def nudge(translator: Translator, step: int, by: float = 0.03) -> None:
    """Move every parameter by what follows from its name: as an optimizer would, but alike."""
    for name, parameter in translator.named_parameters():
        generator = torch.Generator().manual_seed(derive_seed("nudge", step, plain_name(name)))
        parameter += by * torch.randn(parameter.shape, generator=generator)


def plain_name(name: str) -> str:
    return name.replace("parametrizations.weight.original", "weight")


def make(translator: Translator, step: int = 0, size: int | None = None) -> tuple[Batch, Progress]:
    """Return the batch of a step, two samples of its own, and where training stands."""
    shapes = shapes_of(translator, size)
    batch = make_batch(translator.inputs, batch_size=2, shapes=shapes, seed=step)
    if "age" in batch.labels:
        batch = replace(batch, labels={"age": torch.tensor([4.5, 37.0]) + 9 * step})
    stages = translator.stages
    stage = "adversarial" if "adversarial" in stages else stages[-1]
    return batch, Progress(5, stage, step, 2 * step)


def play(translator: Translator, batch: Batch, now: Progress) -> tuple[Gradients, dict[str, float]]:
    """Advance one step without moving anything; return gradients and all values by name."""
    gradients: Gradients = {}
    values: dict[str, float] = {}
    owners = {name: [*each] for name, each in translator.players(now.stage).items()}
    names = {parameter: name for name, parameter in translator.named_parameters()}
    for update in translator.training_step(batch, now):
        (player,) = update.players
        loss = torch.stack([term.weight * term.value for term in update.terms]).sum()
        found = torch.autograd.grad(loss, owners[player], allow_unused=True, retain_graph=True)
        gradients[player] = {
            names[parameter]: torch.zeros_like(parameter) if each is None else each
            for parameter, each in zip(owners[player], found, strict=True)
        }
        values |= {term.name: float(term.value.detach()) for term in update.terms}
        values |= {name: float(each) for name, each in update.measured.items()}
    return gradients, values


def duels(
    translator: Translator, batch: Batch, now: Progress, past: Sequence[Sequence[Duel]] = ()
) -> list[Duel]:
    """Return what the adversaries meet in a step, before it is played."""
    met = _met(translator, batch, now)
    return [
        replace(each, past=[earlier[index] for earlier in past]) for index, each in enumerate(met)
    ]


def plain(adversary: Adversary, options: Any) -> Plain:
    """Return an adversary's discriminator once more."""
    weights = _leaves(adversary.network)
    vectors = {
        name.partition(".parametrizations")[0]: (
            each.detach().double(),
            adversary.network.state_dict()[f"{name[:-2]}_v"].double(),
        )
        for name, each in adversary.network.state_dict().items()
        if name.endswith("._u")
    }
    is_still = not adversary.network.training
    if hasattr(options, "architecture"):
        kind = PlainVGG if options.architecture == "vgg" else PlainUNet
        return kind(weights, vectors=vectors, is_still=is_still)
    blur = options.downsampling == "blur"
    return Plain(weights, options.norm, options.patch, blur, vectors, is_still)


def _met(translator: Translator, batch: Batch, now: Progress) -> list[Duel]:
    if translator.name in SIDES:
        return [_met_faces(translator, batch, now)]
    options = translator.options.discriminator
    a, b = (image.double() for image in batch.images.values())
    if translator.name == "cyclegan":
        to_a, to_b = _leaves(translator.b2a), _leaves(translator.a2b)
        fake_a, fake_b = _run(translator.b2a, to_a, b), _run(translator.a2b, to_b, a)
        return [
            Duel("_a", plain(translator.judge_a, options), to_a, a, fake_a, batch, now),
            Duel("_b", plain(translator.judge_b, options), to_b, b, fake_b, batch, now),
        ]
    weights, judge = _leaves(translator.generator), plain(translator.adversary, options)
    if translator.name == "srgan":
        fake = 2 * _run(translator.generator, weights, a / 2 + 0.5) - 1
        return [Duel("", judge, weights, b, fake, batch, now)]
    fake = torch.cat([a, _run(translator.generator, weights, a)], 1)
    return [Duel("", judge, weights, torch.cat([a, b], 1), fake, batch, now)]


def _met_faces(translator: Translator, batch: Batch, now: Progress) -> Duel:
    """Families whose discriminators judge under a condition."""
    faces, ages = batch.images["face"].double(), batch.labels["age"].tolist()
    network, weights = translator.adversary.network, _leaves(translator.generator)
    if translator.name == "age-cgan":
        latents = now.normal(batch, "latent", translator.options.latent_size).double()
        groups = one_hot(ages)
        fake = _run(translator.generator, weights, latents, groups)
        judge = PlainGroups(_leaves(network), is_still=not network.training)
        return Duel("", judge, weights, faces, fake, batch, now, conditions=(groups, groups))
    targets = targets_of(batch, now, translator.options.reconstruction_share)
    given = torch.tensor(ages), torch.tensor(targets)
    fake = faces + _run(translator.generator, weights, faces, *given)
    conditions = features(ages), features(targets)
    return Duel("", PlainAges(_leaves(network)), weights, faces, fake, batch, now, (), conditions)


def lead(translator: Translator, num_steps: int, size: int | None = None) -> list[list[Duel]]:
    """Play steps, each with its ``after_step``, and move on; return what was met in them."""
    past = []
    for step in range(num_steps):
        batch, now = make(translator, step, size)
        past.append(duels(translator, batch, now))
        _, values = play(translator, batch, now)
        translator.after_step(now, values)
        nudge(translator, step + 1)
    return past


Loss = Callable[[Duel], Tensor]


def gradients_of(
    translator: Translator, met: Sequence[Duel], judging: Loss | None, fooling: Loss | None
) -> Gradients:
    """Differentiate losses by the leaves, and name the results as the family's players do.

    Losses are computed in the order of the family's moves, which spectral normalisation notices.
    """
    discriminator, generator = (
        ("discriminators", "generators")
        if translator.name == "cyclegan"
        else ("discriminator", "generator")
    )
    prefixes = {"_a": ("judge_a", "b2a"), "_b": ("judge_b", "a2b"), "": ("adversary", "generator")}
    results: Gradients = {discriminator: {}, generator: {}}
    for duel in met:
        judge, taught = prefixes[duel.label]
        moves = [
            (discriminator, f"{judge}.network", duel.plain.weights, judging),
            (generator, taught, duel.taught, fooling),
        ]
        for player, prefix, leaves, loss in reversed(moves) if duel.label else moves:
            values = [torch.zeros_like(leaf) for leaf in leaves.values()]
            if loss is not None:
                found = torch.autograd.grad(
                    loss(duel), [*leaves.values()], allow_unused=True, retain_graph=True
                )
                values = [v if f is None else f for v, f in zip(values, found, strict=True)]
            for name, value in zip(leaves, values, strict=True):
                results[player][f"{prefix}.{name}"] = value
    return results


def assert_equal(found: Gradients, expected: Gradients, tolerance: float = 2e-4) -> None:
    """Assert that gradients agree, as parts of the largest of their player."""
    assert found.keys() <= expected.keys()
    for player, gradients in found.items():
        assert gradients.keys() == expected[player].keys()
        largest = max(float(each.abs().max()) for each in expected[player].values())
        for name, gradient in gradients.items():
            apart = float((gradient.double() - expected[player][name]).abs().max())
            assert apart <= tolerance * largest + 1e-6, f"{name}: {apart:.3g} of {largest:.3g}"


def less(on: Gradients, off: Gradients) -> Gradients:
    """Return what a switch adds."""
    return {
        player: {name: each.double() - off[player][name].double() for name, each in found.items()}
        for player, found in on.items()
    }


def norm(gradients: Mapping[str, Tensor]) -> float:
    """Return the length of all gradients of a player together."""
    squares = [each.double().square().sum() for each in gradients.values()]
    return float(torch.stack(squares).sum().sqrt())


def _leaves(module: nn.Module) -> dict[str, Tensor]:
    return {
        name: parameter.detach().double().requires_grad_()
        for name, parameter in module.named_parameters()
    }


def _run(generator: nn.Module, weights: Mapping[str, Tensor], *given: Tensor) -> Tensor:
    generator = copy.deepcopy(generator).double()
    if hasattr(generator, "embed"):  # of ages, whose waves are float32
        generator.embed.register_forward_pre_hook(lambda _, waves: (waves[0].double(),))
    return functional_call(generator, dict(weights), given)
