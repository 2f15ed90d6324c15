"""Each rule of the contract, shown by a family that breaks it."""

import random

import numpy as np
import pytest
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import nn

from i2i import Fit, Inputs, NonFiniteLoss, PluginError, Progress, Translator
from i2i.engine.moves import Game
from i2i.engine.optim import PlayerOptimizer
from i2i.model_file import build
from i2i.recipe import Player
from i2i.testing import check_accumulation, check_translator, make_batch
from tests.contract import families
from tests.contract.families import Tiny, TinyOptions

LEGAL = [
    Tiny,
    families.GeneratorFirst,
    families.GradientPenalty,
    families.TupleMove,
    families.SharedParameters,
    families.Tiled,
]


def play(
    family: type[Translator],
    *,
    num_steps: int = 1,
    precision: torch.dtype = torch.float32,
    num_micro_batches: int = 1,
    optimizer: str = "adam",
) -> Translator:
    """Play steps of a family on a made batch by the engine's own classes."""
    translator = build(family, TinyOptions(), seed=0)
    player = Player(optimizer=optimizer)
    optimizers = {
        name: PlayerOptimizer(name, parameters, player, 1000)
        for name, parameters in translator.players("train").items()
    }
    game = Game(
        translator,
        optimizers,
        precision=precision,
        num_micro_batches=num_micro_batches,
        device=torch.device("cpu"),
    )
    batch = make_batch(family.inputs, batch_size=2, shapes={"a": (3, 8, 8), "b": (3, 8, 8)})
    batch.images["a"].copy_(
        torch.linspace(-1, 1, 2)[:, None, None, None].expand_as(batch.images["a"])
    )
    with torch.random.fork_rng(devices=[]):
        for step in range(num_steps):
            game.play(batch, Progress(0, "train", step, step))
    return translator


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("family", LEGAL)
def test_legal_orders_of_moves_are_played(family, precision):
    before = build(family, TinyOptions(), seed=0).state_dict()
    after = play(family, num_steps=3, precision=precision, num_micro_batches=2).state_dict()
    assert not any(torch.equal(before[name], after[name]) for name in before)


BROKEN_MOVES = [
    (families.NoMoves, ["yields no move", "at least one Update"]),
    (families.UnknownPlayer, ["unknown player 'generater'", "one of g, d"]),
    (families.NoTerm, ["moves g without a Term"]),
    (families.OneNameInOneMove, ["names two values 'fool'"]),
    (families.OneNameInTwoMoves, ["names two values 'judge'"]),
    (families.OneNameMeasuredTwice, ["names two values 'accuracy'"]),
    (families.MeasuredUnderATermsName, ["names two values 'fool'"]),
    (families.MeasuredNoTensor, ["the measurement 'accuracy' 0.5", "a scalar tensor"]),
    (families.NotScalar, ["the term 'fool' the shape (2, 3, 8, 8)", "a scalar"]),
    (families.NotAnUpdate, ["yields Term", "an Update"]),
    (families.InsideNoGrad, ["yields inside a 'with' block"]),
    (families.InsideAutocast, ["yields inside a 'with' block"]),
    (families.Detached, ["a move of g whose loss needs no gradient"]),
    (families.ReachesNone, ["a move of g that reaches none of its parameters"]),
    (families.ReachesOneOfTwo, ["a move of d that reaches none of its parameters"]),
]


@pytest.mark.parametrize(("family", "words"), BROKEN_MOVES)
def test_engine_refuses_a_broken_move_and_says_where(family, words):
    with pytest.raises(PluginError) as caught:
        play(family)
    for word in [*words, f"{family.__qualname__}.training_step", "stage 'train'"]:
        assert word in str(caught.value)


@pytest.mark.parametrize("family", [families.DataDecidesMoves, families.DataDecidesTerms])
def test_engine_refuses_micro_batches_that_yield_different_moves(family):
    with pytest.raises(PluginError, match="different moves on micro-batches"):
        play(family, num_micro_batches=2)


def test_engine_names_the_term_that_is_not_finite():
    with pytest.raises(NonFiniteLoss, match=r"'endless' became -?inf"):
        play(families.NotFinite)


def test_modes_are_as_before_after_a_yield_inside_no_grad():
    with pytest.raises(PluginError):
        play(families.InsideNoGrad)
    assert torch.is_grad_enabled()


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd"])
@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize(
    ("family", "player", "stale"),
    [
        (families.StaleLogits, "moves g", "judge."),
        (families.OneFakeForTwoMoves, "moves g", "generator."),
        (families.CheckpointAcrossYield, "moves g", "judge."),
    ],
)
def test_stale_graph_is_refused_and_its_parameter_named(
    family, player, stale, precision, optimizer
):
    with pytest.raises(PluginError) as caught:
        play(family, precision=precision, optimizer=optimizer)
    assert player in caught.value.wrong
    assert f"computed with '{stale}" in caught.value.wrong
    assert "before that parameter moved" in caught.value.wrong


def test_stale_graph_is_found_when_a_term_joins_on_a_later_step():
    play(families.StaleOnSomeSteps, num_steps=2)
    with pytest.raises(PluginError, match=r"'judge\.\d.\w+' before that parameter moved"):
        play(families.StaleOnSomeSteps, num_steps=3)


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd"])
def test_fused_optimizers_leave_autograds_own_check_working(optimizer):
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        play(families.StaleUnderAKnownName, num_steps=2, optimizer=optimizer)


# The kit


@pytest.mark.parametrize("family", [*LEGAL, families.TwoStages])
def test_kit_passes_families_that_keep_the_contract(family):
    check_translator(family)


@pytest.mark.parametrize("family", [Tiny, families.GradientPenalty, families.TwoStages])
def test_kit_finds_accumulation_equal_for_means_over_samples(family):
    check_accumulation(family)


@pytest.mark.parametrize(
    ("family", "words"),
    [
        (families.SumOverSamples, "gives 'g' .* on a batch and .* on its parts"),
        (families.GlobalNoise, "gives 'g' .* on a batch and .* on its parts"),
        (families.SumsBatchMeans, "moves 'level' by .* on its parts"),
    ],
)
def test_kit_finds_accumulation_unequal(family, words):
    check_translator(family)
    with pytest.raises(PluginError, match=f"{words} when the batch is split.*means over samples"):
        check_accumulation(family)


BROKEN_FAMILIES = [
    *(
        (family, "training_step", words)
        for family, words in BROKEN_MOVES
        if family not in (families.NotScalar, families.InsideNoGrad, families.InsideAutocast)
    ),
    (families.NotScalar, "training_step", ["the term 'fool' the shape (3, 3, 32, 32)"]),
    (families.InsideNoGrad, "training_step", ["inside a 'with' block", "line 4"]),
    (families.InsideAutocast, "training_step", ["inside a 'with' block", "line 4"]),
    (families.InsideHarmlessWith, "training_step", ["inside a 'with' block", "line 3"]),
    (families.StaleLogits, "training_step", ["computed with 'judge.", "before that parameter"]),
    (families.DataDecidesMoves, "training_step", ["on some pictures", "on others", "'now'"]),
    (families.DataDecidesTerms, "training_step", ["on some pictures", "'bright'", "'dark'"]),
    (families.HiddenAttribute, "training_step", ["'g'", "resumed", "register_buffer"]),
    (families.HiddenBuffer, "training_step", ["'g'", "resumed", "(persistent)"]),
    (families.HiddenBehindBuffer, "training_step", ["ends with another 'trace' when resumed"]),
    (families.HiddenInAfterStep, "training_step", ["'g'", "resumed", "register_buffer"]),
    (families.NumpyChance, "training_step", ["run again", "now.normal"]),
    (families.PythonChance, "training_step", ["Python's global generator", "now.uniform"]),
    (families.GrowDrawsDifferently, "grow", ["'code' another value when run again"]),
    (families.GrowDrawsFromNumpy, "grow", ["NumPy's global generator"]),
    (families.InitDrawsDifferently, "__init__", ["'code' another value when run again"]),
    (families.LowPrecisionLoss, "training_step", ["'rough' in bfloat16", ".float()"]),
    (families.SeesBatchMates, "translate", ["depends on batch-mates: picture 0"]),
    (families.NoiseByPlace, "translate", ["depends on batch-mates: picture"]),
    (families.GlobalNoiseInTranslate, "translate", ["torch's global generator"]),
    (families.LeavesRange, "translate", ["leaves [-1, 1]", "-1.01 to 1.01"]),
    (families.ChangesInput, "translate", ["changes its input"]),
    (families.ChangesBuffer, "translate", ["changes 'calls'"]),
    (families.WrongShape, "translate", ["returns (3, 3, 1, 2) for (3, 3, 2, 2)"]),
    (families.WrongChoice, "translate", ["returns float64"]),
    (families.KeepsGradient, "translate", ["with a gradient"]),
    (families.LeavesGradients, "translate", ["gives parameters a gradient"]),
    (families.FitPromisesTooMuch, "translate", ["raises RuntimeError on (3, 3, 1, 1)", "'fit'"]),
    (families.HaloTooSmall, "fit", ["its halo of 0 pixels differ by", "enlarge 'halo'"]),
    (families.TilesUnderANormalisation, "fit", ["its halo of 4 pixels", "tiles=False"]),
    (families.ExportsTooLittle, "exported", ["does not name all that translate needs"]),
    (families.FitForgotten, "fit", ["trained_size=32", "trained_size=None"]),
]


@pytest.mark.parametrize(("family", "place", "words"), BROKEN_FAMILIES)
def test_kit_refuses_a_broken_family_and_says_where(family, place, words):
    with pytest.raises(PluginError) as caught:
        check_translator(family)
    assert f"families.{family.__qualname__}.{place}" in caught.value.where
    for word in words:
        assert word in str(caught.value)


class Loose(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Open(BaseModel):
    model_config = ConfigDict(frozen=True)


class Mute(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    width: int = 2


class Demanding(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    age: int = Field(description="Years.")


class Nesting(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    game: Mute = Field(Mute(), description="Shared.")


@pytest.mark.parametrize(
    ("attribute", "value", "words"),
    [
        ("name", "two words", "is called 'two words'"),
        ("Options", Loose, "Options: it is not frozen"),
        ("Options", Open, "Options: it is not strict about unknown keys"),
        ("Options", Mute, "Options: it does not describe 'width'"),
        ("Options", Nesting, r"Options\.game: it does not describe 'width'"),
        ("Options", Demanding, "refuses these options"),
        ("Request", Loose, "Request: it is not frozen"),
        ("Request", Demanding, "Request: it has no default for 'age'"),
        ("inputs", ("a", "b"), r"inputs: it declares \('a', 'b'\)"),
        ("inputs", Inputs(images=(), paired=False), "inputs: .*an image role"),
        ("inputs", Inputs(images=("a", "a"), paired=False), "inputs: .*once"),
        ("exported", "generator", "exported: it declares 'generator'"),
        ("exported", ("generater",), "'generater', which is no submodule.*generator, judge"),
        ("stages", (), r"stages: it is \(\)"),
        ("stages", ("one", "one"), "stages: .*different names"),
        ("fit", 4, "fit: it is 4"),
        ("fit", Fit(multiple=0), "fit: it has multiple = 0"),
        ("training_step", lambda self, batch, now: [], "training_step: it yields nothing"),
        ("players", lambda self, stage: {}, "players: it returns {}"),
        ("players", lambda self, stage: {"g": []}, "gives the player 'g' no parameters"),
        (
            "players",
            lambda self, stage: {"g": nn.Linear(1, 1).parameters()},
            "'g' a parameter that the translator does not hold",
        ),
        (
            "players",
            lambda self, stage: {"g": self.generator.requires_grad_(False).parameters()},
            "'g' a parameter that takes no gradient",
        ),
    ],
)
def test_kit_refuses_a_broken_declaration(attribute, value, words):
    family = type("Broken", (Tiny,), {attribute: value})
    with pytest.raises(PluginError, match=words):
        check_translator(family)


def test_kit_refuses_an_incomplete_family():
    class Incomplete(Translator):
        name = "incomplete"

    with pytest.raises(PluginError, match=r"lacks Options, .*training_step"):
        check_translator(Incomplete)


def test_kit_leaves_every_global_generator_alone():
    random.seed(3)
    np.random.seed(3)
    torch.manual_seed(3)
    states = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    check_translator(Tiny)
    assert random.getstate() == states[0]
    assert np.random.get_state()[1].tolist() == states[1]
    assert torch.get_rng_state().tolist() == states[2]


def test_made_batches_depend_on_the_seed_alone():
    inputs = Inputs(images=("low", "high"), paired=True, labels=("age",))
    shapes = {"low": (3, 8, 8), "high": (3, 32, 32)}
    one, same, other = (
        make_batch(inputs, shapes=shapes, classes={"age": 6}, seed=seed) for seed in (1, 1, 2)
    )
    assert one.images["low"].shape == (3, 3, 8, 8)
    assert one.images["high"].shape == (3, 3, 32, 32)
    assert one.labels["age"].dtype == torch.int64
    assert torch.equal(one.images["high"], same.images["high"])
    assert torch.equal(one.keys, same.keys)
    assert not torch.equal(one.images["high"], other.images["high"])
    assert not set(one.keys.tolist()) & set(other.keys.tolist())
