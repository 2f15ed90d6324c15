"""Schedules, optimizers, averages, windows and events, each against a computation of its own."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import pluggy
import pytest
import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from i2i import hookspecs
from i2i.augment import DeviceAugment
from i2i.engine.averaging import Averages
from i2i.engine.events import Events
from i2i.engine.graph import sequence_number, stale_parameter
from i2i.engine.optim import PlayerOptimizer, learning_rate
from i2i.engine.stage import StageRun
from i2i.engine.window import Played, Window
from i2i.errors import NonFiniteLoss
from i2i.hookspecs import hookimpl
from i2i.plugins import Plugins
from i2i.recipe import Player, Stage
from i2i.translator import Translator
from i2i.types import Batch, Fit, Inputs, Progress, Update


class Nothing(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Small(Translator):
    name, Options, Request = "small", Nothing, Nothing
    inputs, exported, fit = Inputs(("a",), paired=False), ("net",), Fit()

    def __init__(self, options: Any) -> None:
        super().__init__(options)
        self.net = nn.Sequential(nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1))
        self.judge = nn.Conv2d(1, 1, 1)

    def players(self, stage: str) -> Mapping[str, Iterable[nn.Parameter]]:
        return {"net": self.net.parameters()}

    def training_step(self, batch: Batch, now: Progress) -> Iterator[Update]:
        yield from ()

    def translate(self, images: Tensor, request: Any) -> Tensor:
        return images


def test_rate_rises_stays_and_falls_by_images() -> None:
    player = Player(learning_rate=0.1, warmup=10, decay_from=0.5, final=0.2)
    rates = [learning_rate(player, images, 100) for images in (0, 4, 9, 10, 50, 75, 100)]
    assert rates == pytest.approx([0.01, 0.05, 0.1, 0.1, 0.1, 0.06, 0.02])


def test_rate_without_a_schedule_never_moves() -> None:
    assert {learning_rate(Player(learning_rate=0.3), i, 10) for i in range(20)} == {0.3}


@pytest.mark.parametrize("kind", ["adam", "adamw", "sgd"])
def test_player_moves_as_its_optimizer_defines(kind: Any) -> None:
    options = Player(
        optimizer=kind, learning_rate=0.1, betas=(0.3, 0.9), momentum=0.7, weight_decay=0.05
    )
    ours, theirs = (nn.Parameter(torch.tensor([1.0, -2.0])) for _ in range(2))
    player = PlayerOptimizer("p", [ours], options, length=100)
    reference = {
        "adam": lambda: torch.optim.Adam([theirs], 0.1, (0.3, 0.9), weight_decay=0.05),
        "adamw": lambda: torch.optim.AdamW([theirs], 0.1, (0.3, 0.9), weight_decay=0.05),
        "sgd": lambda: torch.optim.SGD([theirs], 0.1, 0.7, weight_decay=0.05),
    }[kind]()
    for _ in range(3):
        for parameter in (ours, theirs):
            parameter.grad = parameter.detach() * 3
        player.step(0)
        reference.step()
    assert torch.allclose(ours, theirs, rtol=1e-6)


def test_clip_shrinks_a_gradient_to_its_limit_and_reports_what_it_was() -> None:
    parameter = nn.Parameter(torch.zeros(2))
    for limit, expected in ((1.0, [0.6, 0.8]), (None, [3.0, 4.0])):
        parameter.grad = torch.tensor([3.0, 4.0])
        player = PlayerOptimizer("p", [parameter], Player(clip=limit), length=1)
        assert float(player.clip()) == pytest.approx(5.0)
        assert parameter.grad.tolist() == pytest.approx(expected, rel=1e-5)


def test_shared_parameter_keeps_moments_for_each_player() -> None:
    parameter = nn.Parameter(torch.zeros(1))
    players = [PlayerOptimizer(n, [parameter], Player(), length=9) for n in ("one", "two")]
    parameter.grad = torch.ones(1)
    players[0].step(0)
    assert players[0].state_dict()["state"]
    assert not players[1].state_dict()["state"]


def test_average_halves_a_weight_after_its_half_life() -> None:
    family = Small(Nothing())
    averages = Averages(family, half_life=8)
    with torch.no_grad():
        family.net[0].weight.fill_(1.0)
        averages.tensors["net.0.weight"].fill_(0.0)
        family.net[1].running_mean.fill_(5.0)
    for _ in range(4):
        averages.update(num_images=2)
    assert averages.tensors["net.0.weight"].item() == pytest.approx(0.5)
    assert averages.tensors["net.1.running_mean"].item() == 5.0
    assert not any(name.startswith("judge") for name in averages.tensors)


def test_applied_averages_give_the_newest_weights_back() -> None:
    family = Small(Nothing())
    averages = Averages(family, half_life=1)
    before = {name: tensor.clone() for name, tensor in family.state_dict().items()}
    averages.tensors["net.0.weight"].fill_(7.0)
    with averages.applied():
        assert family.net[0].weight.item() == 7.0
    assert all(torch.equal(before[n], t) for n, t in family.state_dict().items())
    averages.adopt()
    assert family.net[0].weight.item() == 7.0


def test_without_a_half_life_the_average_is_the_newest_weights() -> None:
    family = Small(Nothing())
    averages = Averages(family, None)
    with torch.no_grad():
        family.net[0].weight.fill_(0.123)
    averages.update(1)
    assert torch.equal(averages.tensors["net.0.weight"], family.net[0].weight)


def test_line_averages_a_term_over_the_steps_that_had_it() -> None:
    window = Window()
    for step in range(4):
        terms = {"cycle": torch.tensor(float(step))}
        if step % 2 == 0:
            terms["identity"] = torch.tensor(10.0 + step)
        window.add("train", step, Played(terms, {}))
    kept = Window()
    kept.load(window.state())  # as a resume in the middle of a line would
    assert kept.line().terms == window.line().terms == {"cycle": 1.5, "identity": 11.0}
    assert window.line().terms == {}


def test_window_names_the_first_value_that_is_not_finite() -> None:
    window = Window()
    window.add("train", 6, Played({"fine": torch.tensor(1.0)}, {}))
    window.add("train", 7, Played({"fine": torch.tensor(1.0), "bad": torch.tensor(torch.inf)}, {}))
    with pytest.raises(NonFiniteLoss, match="step 7: 'bad' became inf"):
        window.line()


@pytest.mark.parametrize("made", ["plain", "spectral", "weight", "old spectral"])
@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_stale_parameter_is_found_through_what_was_made_of_it(
    made: str, precision: torch.dtype
) -> None:
    normalise = {
        "plain": lambda module: module,
        "spectral": parametrizations.spectral_norm,
        "weight": parametrizations.weight_norm,
        "old spectral": nn.utils.spectral_norm,
    }[made]
    game = nn.ModuleDict(
        {"maker": nn.Conv2d(3, 3, 3), "judge": normalise(nn.Conv2d(3, 4, 3, bias=False))}
    )
    names = {parameter: name for name, parameter in game.named_parameters()}
    judged = dict.fromkeys(game["judge"].parameters(), sequence_number())
    maker = list(game["maker"].parameters())

    def loss() -> Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == torch.bfloat16):
            return game["judge"](game["maker"](torch.rand(1, 3, 9, 9))).float().square().mean()

    stale = loss()
    later = dict.fromkeys(judged, sequence_number())
    assert stale_parameter(stale, maker, judged, names) is None
    assert stale_parameter(stale, maker, later, names) in judged
    assert stale_parameter(loss(), maker, later, names) is None


def test_picture_of_a_generator_that_moved_is_data_to_the_discriminator() -> None:
    game = nn.ModuleDict(
        {
            "maker": nn.Sequential(nn.Conv2d(3, 8, 3, bias=False), nn.Conv2d(8, 3, 3, bias=False)),
            "judge": nn.Conv2d(3, 1, 3, bias=False),
        }
    )
    names = {parameter: name for name, parameter in game.named_parameters()}
    loss = game["judge"](game["maker"](torch.rand(1, 3, 9, 9))).mean()
    moved = dict.fromkeys(game["maker"].parameters(), sequence_number())
    assert stale_parameter(loss, list(game["judge"].parameters()), moved, names) is None
    assert stale_parameter(loss, list(game["maker"].parameters()), moved, names) in moved


def make_plugins() -> Plugins:
    manager = pluggy.PluginManager("i2i")
    manager.add_hookspecs(hookspecs)
    return Plugins(manager)


def test_failing_plugin_is_named_once_and_the_run_goes_on() -> None:
    class Stranger:
        calls = 0

        @hookimpl
        def i2i_run_started(self) -> None:
            Stranger.calls += 1
            raise OSError("no server")

    plugins, warnings = make_plugins(), []
    plugins.manager.register(Stranger(), name="web-logger")
    events = Events(plugins, [], warnings.append)
    events.tell("i2i_run_started", run=None)
    events.tell("i2i_run_started", run=None)
    assert Stranger.calls == 1
    assert len(warnings) == 1
    assert "web-logger" in warnings[0]
    assert "no server" in warnings[0]


def test_own_observer_that_fails_ends_the_run_and_is_let_go() -> None:
    class Log:
        @hookimpl
        def i2i_run_started(self, run: Any) -> None:
            raise OSError("disk full")

    plugins, log = make_plugins(), Log()
    events = Events(plugins, [log], pytest.fail)
    with pytest.raises(OSError, match="disk full"):
        events.tell("i2i_run_started", run=None)
    events.close()
    assert not plugins.manager.is_registered(log)


class Follows(Small):
    """Keeps what ``after_step`` is given, and reads what it is told to."""

    wanted: tuple[str, ...] = ()

    def after_step(self, now: Progress, measured: Mapping[str, float]) -> None:
        self.given = measured
        self.found = {name: measured[name] for name in self.wanted}


def after(family: Follows, played: Played) -> Mapping[str, float]:
    """Give a family what a step played; return what it was given."""
    stage = Stage(images=4, players={"net": Player()}, compile=False)
    nothing = DeviceAugment((), family.inputs)
    run = StageRun("train", stage, family, seed=0, device=torch.device("cpu"), augment=nothing)
    run._after_step(Progress(0, "train", 0, 0), played)
    return family.given


def test_values_of_a_step_are_not_read_unless_they_are_wanted() -> None:
    """On a device the host waits for each; those of "meta" cannot be read at all."""
    family = Follows(Nothing())
    unreadable = {name: torch.empty((), device="meta") for name in ("loss", "mean")}
    given = after(family, Played({"loss": unreadable["loss"]}, {"mean": unreadable["mean"]}))
    assert list(given) == ["loss", "mean"]
    assert len(given) == 2
    family.wanted = ("mean",)
    with pytest.raises((RuntimeError, NotImplementedError)):
        after(family, Played({}, {"mean": unreadable["mean"]}))


def test_values_of_a_step_are_read_together_and_as_they_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    terms = {"loss": torch.tensor(0.1), "other": torch.tensor(1e-30)}
    measured = {"mean": torch.tensor(-3.7e20)}
    expected = {name: float(each) for name, each in (terms | measured).items()}
    reads = []
    for name in ("tolist", "item", "__float__"):
        read = getattr(Tensor, name)
        monkeypatch.setattr(
            Tensor, name, lambda self, read=read: reads.append(self.numel()) or read(self)
        )
    family = Follows(Nothing())
    family.wanted = ("mean", "loss", "mean")
    given = after(family, Played(terms, measured))
    assert reads == [3]
    assert dict(given) == expected
    assert given.get("nothing") is None
    assert reads == [3]
