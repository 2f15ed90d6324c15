"""The rules of ``locate``, for the families that have one."""

import torch

from i2i.engine.regions import check_regions
from i2i.errors import I2IError, PluginError
from i2i.testing.subject import Subject, fault, untouched
from i2i.testing.translation import pictures, requests
from i2i.translator import Translator
from i2i.types import Region

_SIZE = 97, 131  # of a photograph, which need not fit


def check_locate(subject: Subject, translator: Translator) -> None:
    """Check what a family locates in made photographs, for every request that choices offer.

    That it finds nothing in them, and says so by an I2IError, is well.
    """
    family = subject.family
    if family.locate is Translator.locate:
        return
    translator.eval()
    for image in pictures(translator.fit, _SIZE):
        for request in filter(translator.locates, requests(family)):
            found = [_located(subject, translator, image, request) for _ in range(2)]
            if found[0] != found[1]:
                expected, remedy = "equal pictures to give equal regions", "seed what is random"
                raise fault(family, "locate", "differs from call to call", expected, remedy)


def _located(
    subject: Subject, translator: Translator, image: torch.Tensor, request: object
) -> tuple[Region, ...] | None:
    """Locate as the engine does, and refuse what must not happen on the way."""
    family, given = subject.family, image.clone()
    with untouched(family, "locate", torchs=True), torch.no_grad():
        try:
            found = translator.locate(given, request)
        except I2IError:
            found = None
        except Exception as error:
            wrong = f"raises {type(error).__name__} on {tuple(image.shape)} ({error})"
            expected, remedy = "regions, None, or ImageError where there are none", "correct it"
            raise fault(family, "locate", wrong, expected, remedy) from error
    if not torch.equal(given, image):
        raise fault(
            family, "locate", "changes its input", "its input left as it is", "work on a copy"
        )
    if found is None:
        return None
    try:
        return check_regions(found, _SIZE, translator.fit, family.name)
    except PluginError as error:
        wrong = error.wrong.removeprefix("locate ")
        raise fault(family, "locate", wrong, error.expected, error.remedy) from error
