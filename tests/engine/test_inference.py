from typing import ClassVar

import pytest
import torch
from pydantic import BaseModel
from torch import Tensor, nn

from i2i.engine.device import choose_device
from i2i.engine.inference import (
    begin,
    forward,
    is_out_of_memory,
    resolve_work_size,
    size_of,
    translate_batch,
)
from i2i.engine.tiles import cut
from i2i.errors import PluginError, UsageError
from i2i.translator import Translator
from i2i.types import Fit, Inputs


class Nothing(BaseModel):
    pass


class Inverse(Translator):
    """Negates pictures, checks the sizes that its fit promised, and keeps what it saw."""

    name = "inverse"
    Options = Nothing
    Request = Nothing
    inputs = Inputs(images=("a",), paired=False)
    exported = ("dropout",)
    fit: ClassVar[Fit] = Fit()

    def __init__(self, fit: Fit) -> None:
        super().__init__(Nothing())
        type(self).fit = fit
        self.dropout = nn.Dropout(0.5)
        self.frozen = nn.Dropout(0.5).eval()
        self.seen: list[Tensor] = []

    def players(self, stage):
        return {}

    def training_step(self, batch, now):
        yield from ()

    def translate(self, images, request):
        for side in images.shape[2:]:
            assert side % self.fit.multiple == 0
            assert side >= self.fit.smallest
        assert images.min() >= -1
        assert images.max() <= 1
        self.seen.append(images)
        scaled = -images.repeat_interleave(self.fit.scale, 2).repeat_interleave(self.fit.scale, 3)
        return self.dropout(scaled).mean(1, keepdim=True).expand(-1, self.fit.channels_out, -1, -1)


class Convolved(Inverse):
    """A random convolution with instance norm: every pixel of a picture counts, no other's."""

    def __init__(self, fit: Fit) -> None:
        super().__init__(fit)
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.InstanceNorm2d(8))
        self.last = nn.Conv2d(8, 3, 3, padding=1)

    def translate(self, images, request):
        return self.last(self.net(images)).tanh()


def grey(height: int, width: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (torch.rand(1, height, width, generator=generator) * 2 - 1).expand(3, -1, -1).clone()


def smooth(height: int, width: int) -> Tensor:
    rows = torch.linspace(-0.9, 0.9, height)[:, None]
    columns = torch.linspace(-0.5, 0.5, width)[None]
    return (rows * columns).expand(3, -1, -1).clone()


def padded(image: Tensor, fit: Fit) -> Tensor:
    work = begin(image, fit, None, True)
    (window,) = work.frame.windows(None, fit)
    return cut(work.source, work.frame, window, 3)


@pytest.mark.parametrize("height", range(1, 18))
@pytest.mark.parametrize("width", [1, 2, 3, 8, 13, 17, 70])
def test_any_size_comes_back_pixel_for_pixel(height, width):
    image = grey(height, width)
    (output,) = translate_batch(Inverse(Fit(multiple=4, smallest=8)), [image], Nothing())
    torch.testing.assert_close(output, -image, atol=1e-6, rtol=0)


@pytest.mark.parametrize("size", [(1, 1), (2, 5), (7, 9)])
def test_a_scale_enlarges_the_picture_and_not_its_padding(size):
    image = grey(*size)
    (output,) = translate_batch(Inverse(Fit(multiple=8, scale=4)), [image], Nothing())
    expected = -image.repeat_interleave(4, 1).repeat_interleave(4, 2)
    torch.testing.assert_close(output, expected, atol=1e-6, rtol=0)


def test_padding_repeats_reflection_on_both_sides():
    line = torch.tensor([0.0, 0.1, 0.2]).view(1, 1, 3)
    seen = padded(line, Fit(multiple=11))
    expected = [0.0, 0.1, 0.2, 0.1, 0.0, 0.1, 0.2, 0.1, 0.0, 0.1, 0.2]
    torch.testing.assert_close(seen[0, 0], torch.tensor(expected))


def test_a_side_of_one_pixel_repeats_it():
    seen = padded(torch.full((3, 1, 2), 0.3), Fit(multiple=4))
    assert seen.shape == (3, 4, 4)
    assert (seen == 0.3).all()


def test_an_exact_size_is_resized_to_and_back():
    translator = Inverse(Fit(exact_size=(16, 24)))
    image = smooth(50, 31)
    (output,) = translate_batch(translator, [image], Nothing())
    assert translator.seen[0].shape == (1, 3, 16, 24)
    torch.testing.assert_close(output, -image, atol=0.02, rtol=0)


@pytest.mark.parametrize(
    ("size", "work"), [((100, 60), (67, 40)), ((60, 100), (40, 67)), ((40, 90), (40, 90))]
)
def test_the_short_side_is_reduced_and_never_enlarged(size, work):
    assert size_of(begin(smooth(*size), Fit(), 40, True).source) == work
    assert size_of(begin(smooth(20, 30), Fit(), 40, True).source) == (20, 30)


def test_reduction_does_not_alias():
    # a mean of 4 x 4 pixels of noise has a quarter of its deviation; picking neighbours has 0.65
    noise = grey(160, 160)
    assert begin(noise, Fit(), 40, True).source.std() < 0.4 * noise.std()


@pytest.mark.parametrize("restore", ["detail", "resize"])
def test_a_reduced_picture_comes_back_to_its_size_if_asked(restore):
    image = smooth(101, 67)
    translator = Inverse(Fit(multiple=4))
    small, back = (
        translate_batch(
            translator, [image], Nothing(), work_size=32, restore_size=asked, restore=restore
        )[0]
        for asked in (False, True)
    )
    assert small.shape == (3, 48, 32)
    torch.testing.assert_close(back, -image, atol=0.02, rtol=0)


def test_detail_leaves_what_translation_did_not_change_as_sharp_as_it_was():
    class Same(Inverse):
        def translate(self, images, request):
            return images

    image = grey(90, 70)
    detailed, resized = (
        translate_batch(Same(Fit()), [image], Nothing(), work_size=20, restore=restore)[0]
        for restore in ("detail", "resize")
    )
    torch.testing.assert_close(detailed, image)
    assert (resized - image).abs().mean() > 0.1


def test_detail_gives_way_where_input_and_output_cannot_be_subtracted():
    image = smooth(60, 40)
    (output,) = translate_batch(
        Inverse(Fit(multiple=4, scale=2, channels_out=1)), [image], Nothing(), work_size=20
    )
    torch.testing.assert_close(output[:, ::2, ::2], -image[:1], atol=0.05, rtol=0)
    assert output.shape == (1, 120, 80)


def test_no_result_depends_on_its_batch():
    translator = Convolved(Fit(multiple=4))
    images = [grey(17, 20, seed) for seed in range(5)] + [grey(9, 9, 9)]
    together = translate_batch(translator, images, Nothing(), batch_size=8)
    for image, output in zip(images, together, strict=True):
        (alone,) = translate_batch(translator, [image], Nothing())
        torch.testing.assert_close(output, alone, atol=1e-5, rtol=0)


def test_pictures_of_one_padded_size_share_batches_and_keep_their_order():
    translator = Inverse(Fit(multiple=4))
    images = [grey(*size, seed=k) for k, size in enumerate([(8, 8), (5, 5), (12, 8), (8, 7)])]
    outputs = translate_batch(translator, images, Nothing(), batch_size=2)
    assert [seen.shape[0] for seen in translator.seen] == [2, 1, 1]
    for image, output in zip(images, outputs, strict=True):
        torch.testing.assert_close(output, -image, atol=1e-6, rtol=0)


def test_translation_runs_in_evaluation_mode_without_gradients_and_leaves_modes_alone():
    translator = Inverse(Fit())
    translator.train()
    translator.frozen.eval()
    output = forward(translator, grey(4, 4)[None], Nothing())
    torch.testing.assert_close(output[0], -grey(4, 4))
    assert translator.dropout.training
    assert translator.training
    assert not translator.frozen.training
    probe = Convolved(Fit())
    assert not forward(probe, grey(4, 4)[None], Nothing()).requires_grad


def test_bfloat16_is_close_and_comes_back_as_float32():
    translator = Convolved(Fit())
    exact = forward(translator, grey(16, 16)[None], Nothing())
    lowered = forward(translator, grey(16, 16)[None], Nothing(), precision="bfloat16")
    assert lowered.dtype == torch.float32
    assert not torch.equal(exact, lowered)
    torch.testing.assert_close(exact, lowered, atol=0.05, rtol=0)


def test_a_result_of_the_wrong_shape_names_the_family_and_its_fit():
    class Shrinking(Inverse):
        def translate(self, images, request):
            return images[:, :, 1:]

    with pytest.raises(PluginError, match=r"family 'inverse'.*\(1, 3, 8, 8\), as its fit says"):
        translate_batch(Shrinking(Fit()), [grey(8, 8)], Nothing())


def test_results_are_kept_in_range():
    class Loud(Inverse):
        def translate(self, images, request):
            return images * 9

    assert forward(Loud(Fit()), grey(5, 5)[None], Nothing()).abs().max() <= 1
    for work_size in (3, "native"):
        (output,) = translate_batch(Loud(Fit()), [grey(5, 5)], Nothing(), work_size=work_size)
        assert output.abs().max() <= 1


def test_trained_is_what_the_family_says_and_an_error_where_it_says_nothing():
    assert resolve_work_size("trained", Fit(trained_size=128)) == 128
    assert resolve_work_size("native", Fit(trained_size=128)) is None
    assert resolve_work_size(99, Fit()) == 99
    with pytest.raises(UsageError, match="--work-size trained"):
        resolve_work_size("trained", Fit())


@pytest.mark.parametrize("size", [0, -5])
def test_a_work_size_below_one_is_refused(size):
    with pytest.raises(UsageError, match=f"work size {size}: .*pixels from 1"):
        resolve_work_size(size, Fit(trained_size=128))


@pytest.mark.parametrize("name", ["meta", "cpu:0", "cuda:x", "xla", ""])
def test_a_device_that_translates_nothing_is_no_device(name):
    with pytest.raises(UsageError, match="there is no device"):
        choose_device(name)
    assert choose_device("cpu").type == "cpu"


def test_allocation_failures_are_told_from_other_errors():
    assert is_out_of_memory(MemoryError())
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60, dtype=torch.uint8)
    assert is_out_of_memory(caught.value)
    assert not is_out_of_memory(RuntimeError("shapes do not fit"))
    assert not is_out_of_memory(ValueError("out of memory"))
