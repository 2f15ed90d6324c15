"""The practical degradation's options: probabilities, ranges, defaults, and no idle knob."""

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from i2i.augment import Degradation, DegradationOptions, degradation
from tests.unit.degraded import NOTHING, PLAIN, degraded, levels


@pytest.mark.parametrize(
    "first", [{"blur": 0.3}, {"noise": 0.3}, {"jpeg": 0.3}, {"enlarge": 0.3}, {"reduce": 0.3}, {}]
)
def test_a_step_happens_as_often_as_its_probability_says(first):
    options = PLAIN | {"first": NOTHING | first, "final_sinc": 0 if first else 0.3}
    picture = levels(1, 16, 16) / 127.5 - 1
    high = picture.expand(500, -1, -1, -1)
    changed = (degraded(high, 1, **options) - high).abs().amax((1, 2, 3)) > 1e-3
    assert float(changed.float().mean()) == pytest.approx(0.3, abs=4 * (0.21 / 500) ** 0.5)


def test_sizes_on_the_way_stay_in_their_ranges_and_fill_them(monkeypatch):
    """The first order's sizes are relative to the picture, the second's to the low resolution."""
    seen: dict[int, list[float]] = {200: [], 100: []}
    real = Degradation._resized

    def watched(self, x, base, *rest):
        resized = real(self, x, base, *rest)
        seen[base[0]].append(resized.shape[2] / base[0])
        return resized

    monkeypatch.setattr(Degradation, "_resized", watched)
    still = {"blur": 0, "noise": 0, "jpeg": 0}
    first, second = ({**still, "enlarge": 0.5, "reduce": 0.5} for _ in range(2))
    low = degraded(torch.zeros(100, 3, 200, 300), 2, first=first, second=second, final_sinc=0)
    assert low.shape[2:] == (100, 150)
    for sizes, least, most in ((seen[200], 0.15, 1.5), (seen[100], 0.3, 1.2)):
        assert len(sizes) == 100
        assert least - 0.01 <= min(sizes) < least + 0.1
        assert most - 0.1 < max(sizes) <= most
        assert 35 < sum(size < 1 for size in sizes) < 65


def test_quality_and_strength_fill_their_ranges(monkeypatch):
    seen = []
    monkeypatch.setattr(degradation, "compress", lambda x, quality: seen.append(quality) or x)
    first = NOTHING | {"jpeg": 1, "quality": (30, 33)}
    degraded(torch.zeros(200, 3, 4, 4), 1, **PLAIN | {"first": first})
    assert {*seen} == {30, 31, 32, 33}


def test_the_last_compression_comes_before_the_final_resize_or_behind_it(monkeypatch):
    seen = []
    monkeypatch.setattr(degradation, "compress", lambda x, _: seen.append(tuple(x.shape[2:])) or x)
    high = torch.zeros(200, 3, 8, 12)
    degraded(high, 2, **PLAIN | {"first": NOTHING | {"jpeg": 1}})
    assert {*seen} == {(8, 12), (4, 6)}
    assert seen.count((4, 6)) == pytest.approx(100, abs=4 * 50**0.5)
    seen.clear()
    degraded(high, 2, first=NOTHING | {"jpeg": 1}, second=NOTHING, final_sinc=0)
    assert seen == [(8, 12)] * 200  # the first order's is not moved


def test_defaults_are_the_published_options():
    """Those of Real-ESRGAN's train_realesrgan_x4plus.yml, and sections 3.2 to 4.1 of its paper."""
    made = DegradationOptions()
    one, two = made.first, made.second
    assert made.order == 2
    assert (one.blur, two.blur, made.final_sinc) == (1.0, 0.8, 0.8)
    assert one.shapes.weights == two.shapes.weights == [0.45, 0.25, 0.12, 0.03, 0.12, 0.03]
    assert (one.sinc, two.sinc) == (0.1, 0.1)
    assert (one.sigma, two.sigma) == ((0.2, 3.0), (0.2, 1.5))
    assert one.generalized == two.generalized == (0.5, 4.0)
    assert one.plateau == two.plateau == (1.0, 2.0)
    assert one.kernel_size == two.kernel_size == made.final_kernel_size == (7, 21)
    assert (one.enlarge, one.reduce, one.reduce_to, one.enlarge_to) == (0.2, 0.7, 0.15, 1.5)
    assert (two.enlarge, two.reduce, two.reduce_to, two.enlarge_to) == (0.3, 0.4, 0.3, 1.2)
    assert (one.gaussian, two.gaussian, one.grey, two.grey) == (0.5, 0.5, 0.4, 0.4)
    assert (one.gaussian_sigma, two.gaussian_sigma) == ((1, 30), (1, 25))
    assert (one.poisson_scale, two.poisson_scale) == ((0.05, 3.0), (0.05, 2.5))
    assert (one.jpeg, two.jpeg, one.quality, two.quality) == (1, 1, (30, 95), (30, 95))


@pytest.fixture(scope="module")
def unchanged() -> Tensor:
    """What the defaults make of 16 samples."""
    return degraded(levels(1, 16, 16).expand(16, -1, -1, -1) / 127.5 - 1, 2)


CHANGES = {
    "blur": 0.2,
    "sinc": 0.9,
    "shapes": {"plateau_anisotropic": 9},
    "kernel_size": (3, 3),
    "sigma": (5, 6),
    "generalized": (0.1, 0.2),
    "plateau": (6, 7),
    "enlarge": 0.05,
    "enlarge_to": 4.0,
    "reduce": 0.1,
    "reduce_to": 0.9,
    "noise": 0.1,
    "gaussian": 0.9,
    "grey": 0.9,
    "gaussian_sigma": (90, 99),
    "poisson_scale": (9, 10),
    "jpeg": 0.1,
    "quality": (5, 6),
}
WHOLE = {"order": 1, "interpolations": ["area"], "final_sinc": 0.1, "final_kernel_size": (3, 3)}


@pytest.mark.parametrize(
    "changed",
    [
        *(
            {order: {name: value}}
            for order in ("first", "second")
            for name, value in CHANGES.items()
        ),
        *({name: value} for name, value in WHOLE.items()),
    ],
    ids=str,
)
def test_every_option_changes_pictures(changed, unchanged):
    assert {*CHANGES} == {*degradation.FirstOrder.model_fields}
    assert {*WHOLE} | {"first", "second"} == {*DegradationOptions.model_fields}
    high = levels(1, 16, 16).expand(16, -1, -1, -1) / 127.5 - 1
    assert not torch.equal(degraded(high, 2, **changed), unchanged)


@pytest.mark.parametrize(
    ("first", "said"),
    [
        ({"blur": 0, "sigma": (1, 2)}, "no sigma where blur is 0"),
        ({"blur": 0, "kernel_size": (7, 9)}, "no kernel_size where blur is 0"),
        ({"sinc": 1, "plateau": (1, 3)}, "no plateau where sinc is 1"),
        (
            {
                "shapes": {"plateau_isotropic": 0, "plateau_anisotropic": 0},
                "plateau": (1, 3),
            },
            "no plateau where no shape is a plateau",
        ),
        (
            {
                "shapes": {"generalized_isotropic": 0, "generalized_anisotropic": 0},
                "generalized": (1, 3),
            },
            "no generalized where no shape is generalized",
        ),
        ({"enlarge": 0, "enlarge_to": 2}, "no enlarge_to where enlarge is 0"),
        ({"reduce": 0, "reduce_to": 0.5}, "no reduce_to where reduce is 0"),
        ({"noise": 0, "grey": 0.1}, "no grey where noise is 0"),
        ({"gaussian": 0, "gaussian_sigma": (1, 2)}, "no gaussian_sigma where gaussian is 0"),
        ({"gaussian": 1, "poisson_scale": (1, 2)}, "no poisson_scale where gaussian is 1"),
        ({"jpeg": 0, "quality": (1, 2)}, "no quality where jpeg is 0"),
        ({"enlarge": 0.5, "reduce": 0.6}, "1 at most together"),
        ({"sigma": (2, 1)}, "the smaller number first"),
        ({"kernel_size": (7, 10)}, "odd numbers"),
        ({"quality": (0, 10)}, "greater than or equal to 1"),
        ({"shapes": dict.fromkeys(degradation.KernelShapes.model_fields, 0)}, "one shape above 0"),
        ({"blurr": 1}, "Extra inputs are not permitted"),
    ],
)
def test_what_would_change_nothing_or_cannot_be_is_refused(first, said):
    with pytest.raises(ValidationError, match=said):
        DegradationOptions(first=first)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"order": 1, "second": {"blur": 0.1}}, "no second where order is 1"),
        ({"final_sinc": 0, "final_kernel_size": (7, 7)}, "no final_kernel_size where final_sinc"),
        ({"interpolations": []}, "at least one"),
        ({"interpolations": ["area", "area"]}, "each once"),
        ({"order": 3}, "order"),
    ],
)
def test_the_whole_refuses_what_would_change_nothing(options, said):
    with pytest.raises(ValidationError, match=said):
        DegradationOptions(**options)


def test_options_survive_being_written_out_in_full():
    made = DegradationOptions(**PLAIN)
    assert DegradationOptions(**made.model_dump(mode="json")) == made
