"""The rules of ``translate``: sizes, range, independence, and what a model file must hold."""

import enum
import tempfile
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pluggy
import torch
from pydantic import BaseModel, ValidationError
from torch import Tensor

from i2i.engine.inference import begin, forward, translate_works
from i2i.engine.variants import variants_of
from i2i.model_file import Header, exported_state, load_model, save_model
from i2i.plugins import Plugins
from i2i.testing.subject import Subject, fault, untouched
from i2i.testing.training import difference
from i2i.translator import Translator
from i2i.types import Fit

TOLERANCE = 1e-5  # of float32 arithmetic in another order
TILE_TOLERANCE = 2 / 255  # of [-1, 1]


def check_translate(subject: Subject, translator: Translator) -> None:
    """Check every request that choices offer, on the smallest size and an oblong one."""
    translator.eval()
    translator.zero_grad(set_to_none=True)
    fit = translator.fit
    for request in requests(subject.family):
        for size in sizes(fit):
            images = pictures(fit, size)
            output = _translated(subject, translator, images, request)
            _check_output(subject, fit, images, output)
        _check_independence(subject, translator, images, request, output)


def check_variants(family: type[Translator]) -> None:
    """Check what every request that choices offer stands for: names, and requests by themselves."""
    for asked in _asked(family.Request):
        variants = variants_of(family, asked)
        if list(variants_of(family, asked).items()) != list(variants.items()):
            expected, remedy = "the same variants at each call", "let them follow from the request"
            raise fault(family, "variants", "differs from call to call", expected, remedy)
        for name, each in variants.items():
            if [*variants_of(family, each).values()] != [each]:
                wrong = f"names a variant {name!r} that stands for others than itself"
                expected = "variants that are a request for one translation each"
                remedy = "return {'': request} for a request for one translation"
                raise fault(family, "variants", wrong, expected, remedy)
            if not _is_valid(each):
                wrong = f"names a variant {name!r} that is no valid request"
                expected = "requests that the family's Request validates, from JSON too"
                remedy = "build each with Request.model_validate"
                raise fault(family, "variants", wrong, expected, remedy)


def _is_valid(request: BaseModel) -> bool:
    try:
        said = request.model_dump(mode="json", warnings=False)
        return type(request).model_validate(said) == request
    except ValidationError:
        return False


def requests(family: type[Translator]) -> Iterator[BaseModel]:
    """Yield what ``translate`` is given for every request that choices offer."""
    for asked in _asked(family.Request):
        yield from variants_of(family, asked).values()


def _asked(kind: type[BaseModel]) -> Iterator[BaseModel]:
    """Yield the empty request, and one for each choice that a field lists."""
    yield kind()
    for name, field in kind.model_fields.items():
        choices: tuple[object, ...] = ()
        if typing.get_origin(field.annotation) is typing.Literal:
            choices = typing.get_args(field.annotation)
        elif field.annotation is bool:
            choices = (True, False)
        elif isinstance(field.annotation, type) and issubclass(field.annotation, enum.Enum):
            choices = tuple(field.annotation)
        for choice in choices:
            if choice != field.get_default(call_default_factory=True):
                yield kind.model_validate({name: choice})


def sizes(fit: Fit) -> list[tuple[int, int]]:
    """Return heights and widths that ``fit`` allows: its only one, or the smallest and another."""
    if fit.exact_size is not None:
        return [fit.exact_size]
    side = -(-fit.smallest // fit.multiple) * fit.multiple
    return [(side, side), (side + fit.multiple, side)]


def pictures(fit: Fit, size: tuple[int, int]) -> Tensor:
    """Return three different pictures: noise, saturated noise, and a flat white one."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.rand(2, fit.channels_in, *size, generator=generator) * 2 - 1
    return torch.stack([noise[0], noise[1].sign(), torch.ones_like(noise[0])])


def check_tiles(subject: Subject, translator: Translator) -> None:
    """Check that a picture in tiles equals the picture whole, where ``fit`` allows tiles."""
    fit = translator.fit
    if not fit.tiles:
        return
    translator.eval()
    side = max(fit.smallest, 2 * fit.halo + 8 * fit.multiple)
    image = pictures(fit, (2 * side + 1, 3 * side + fit.multiple + 1))[0]
    for request in requests(subject.family):
        whole, tiled = (_in_tiles(translator, image, request, tile) for tile in (None, side))
        apart = float((whole - tiled).abs().max())
        if apart > TILE_TOLERANCE:
            raise fault(
                subject.family,
                "fit",
                f"allows tiles, but tiles with its halo of {fit.halo} pixels differ by "
                f"{apart * 127.5:.1f}/255 from the whole picture",
                "tiles that leave no trace: at most 1/255",
                "enlarge 'halo', or set tiles=False where a normalisation sees the whole picture",
            )


def _in_tiles(
    translator: Translator, image: Tensor, request: BaseModel, tile: int | None
) -> Tensor:
    def run(batch: Tensor) -> Tensor:
        return forward(translator, batch, request)

    fit = translator.fit
    work = begin(image, fit, None, restore_size=True)
    (output,) = translate_works([work], run, fit, tile, 8, [None])
    assert isinstance(output, Tensor)
    return output


def _translated(
    subject: Subject, translator: Translator, images: Tensor, request: BaseModel
) -> Tensor:
    """Translate as the engine does, and refuse what must not happen on the way."""
    family = subject.family
    given = images.clone()
    before = {name: each.clone() for name, each in translator.state_dict().items()}
    with untouched(family, "translate", torchs=True), torch.no_grad():
        try:
            output = translator.translate(given, request)
        except Exception as error:
            wrong = f"raises {type(error).__name__} on {tuple(images.shape)} ({error})"
            expected = "every size that fit allows to be translated"
            raise fault(family, "translate", wrong, expected, "correct it, or 'fit'") from error
    if not torch.equal(given, images):
        expected, remedy = "its input left as it is", "work on a copy"
        raise fault(family, "translate", "changes its input", expected, remedy)
    if name := difference(before, translator.state_dict()):
        expected, remedy = "parameters and buffers left as they are", "work on copies"
        raise fault(family, "translate", f"changes {name!r}", expected, remedy)
    if any(parameter.grad is not None for parameter in translator.parameters()):
        expected, remedy = "no gradients left in parameters", "use backward(inputs=[latent])"
        raise fault(family, "translate", "gives parameters a gradient", expected, remedy)
    return output


def _check_output(subject: Subject, fit: Fit, images: Tensor, output: Tensor) -> None:
    height, width = images.shape[2] * fit.scale, images.shape[3] * fit.scale
    shape = (len(images), fit.channels_out, height, width)
    wrong = ""
    if not isinstance(output, Tensor):
        wrong = f"returns {type(output).__name__}"
    elif tuple(output.shape) != shape:
        wrong = f"returns {tuple(output.shape)} for {tuple(images.shape)}"
    elif output.dtype != torch.float32:
        wrong = f"returns {str(output.dtype).removeprefix('torch.')}"
    elif output.requires_grad:
        wrong = "returns a tensor with a gradient"
    elif not torch.isfinite(output).all():
        wrong = "returns values that are not finite"
    elif output.abs().max() > 1 + 1e-6:
        wrong = f"leaves [-1, 1]: it returns {float(output.min()):.3g} to {float(output.max()):.3g}"
    if wrong:
        expected = f"float32 in [-1, 1], shape {shape} as fit says, without a gradient"
        remedy = "correct 'fit', clamp, detach or cast the result"
        raise fault(subject.family, "translate", wrong, expected, remedy)


def _check_independence(
    subject: Subject, translator: Translator, images: Tensor, request: BaseModel, together: Tensor
) -> None:
    again = _translated(subject, translator, images, request)
    if not torch.equal(again, together):
        expected, remedy = "equal pictures to give equal results", "seed what is random in it"
        raise fault(subject.family, "translate", "differs from call to call", expected, remedy)
    for index in range(len(images)):
        alone = _translated(subject, translator, images[index : index + 1], request)
        apart = float((alone[0] - together[index]).abs().max())
        if apart > TOLERANCE:
            raise fault(
                subject.family,
                "translate",
                f"depends on batch-mates: picture {index} differs by {apart:.2g} when alone",
                f"each picture translated as if it were alone, within {TOLERANCE:g}",
                "take statistics and noise of each picture by itself",
            )


@dataclass
class OneFamily(Plugins):
    """Plugins that offer the family under test and nothing else."""

    offered: type[Translator] | None = None

    def family(self, name: str) -> type[Translator]:
        """Return the family, whatever it is asked for."""
        assert self.offered is not None
        return self.offered


def check_model_file(subject: Subject, translator: Translator) -> None:
    """Check that a saved and loaded model translates as its weights in 16-bit floats do."""
    family = subject.family
    header = Header(
        family=family.name,
        distribution="under test",
        options=subject.options.model_dump(mode="json"),
        request=family.Request().model_dump(mode="json"),
        stages=dict.fromkeys(translator.stages, subject.shapes),
    )
    plugins = OneFamily(pluggy.PluginManager("i2i"), offered=family)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        save_model(path, translator, header)
        loaded = load_model(path, plugins).translator
    if loaded.fit != translator.fit:
        wrong = f"is {loaded.fit} once loaded and was {translator.fit}"
        expected, remedy = "what options and shapes determine", "set it in __init__ or grow"
        raise fault(family, "fit", wrong, expected, remedy)
    with torch.no_grad():
        for tensor in exported_state(translator).values():
            if tensor.is_floating_point():
                tensor.copy_(tensor.half())  # what the file holds
    images = pictures(translator.fit, sizes(translator.fit)[0])
    for request in requests(family):
        results = [_translated(subject, each, images, request) for each in (translator, loaded)]
        apart = float((results[0] - results[1]).abs().max())
        if apart > TOLERANCE:
            raise fault(
                family,
                "exported",
                f"does not name all that translate needs: a loaded model differs by {apart:.2g}",
                "a model file that translates as the trained model does",
                "export every submodule that translate uses",
            )
