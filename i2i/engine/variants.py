"""Which requests one request stands for, and under which names."""

import re
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from i2i.errors import PluginError, UsageError
from i2i.translator import Translator

_NAME = re.compile(r"[A-Za-z0-9_+-]([A-Za-z0-9_.+-]{0,62}[A-Za-z0-9_+-])?")


def variants_of(family: type[Translator], request: BaseModel) -> dict[str, BaseModel]:
    """Return what ``family`` makes of a request: a request a variant, by name.

    Raises PluginError where a name cannot be part of a file's name on every system, where two are
    one for a file system that ignores case, or where a variant is no request of the family.
    """
    found: Any = family.variants(request)
    if not isinstance(found, Mapping) or not found:
        raise _fault(family, f"returned {found!r}", "a request for each name, at least one")
    seen: set[str] = set()
    for name, each in found.items():
        if not isinstance(name, str) or (name and not _NAME.fullmatch(name)):
            wanted = "up to 64 letters (a to z), digits, '_', '+', '-' and, within, '.'"
            raise _fault(family, f"names a variant {name!r}", wanted)
        if name.lower() in seen:
            expected = "names that differ in more than case"
            raise _fault(family, f"names two variants {name!r}", expected)
        seen.add(name.lower())
        if not isinstance(each, family.Request):
            raise _fault(family, f"returned {each!r} for {name!r}", "its own Request")
    return dict(found)


def only_request(family: type[Translator], request: BaseModel) -> BaseModel:
    """Return the one request that ``request`` stands for; raises UsageError for several."""
    requests = variants_of(family, request)
    if len(requests) > 1:
        raise UsageError(
            f"the request stands for {len(requests)} variants ({', '.join(requests)})",
            where=f"family {family.name!r}",
            expected="a request for one translation of each picture",
            remedy="ask for one of them with --set",
        )
    return next(iter(requests.values()))


def _fault(family: type[Translator], wrong: str, expected: str) -> PluginError:
    return PluginError(
        wrong,
        where=f"{family.__module__}.{family.__qualname__}.variants",
        expected=expected,
        remedy="correct the family's variants",
    )
