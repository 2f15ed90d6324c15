"""Names of a package that are imported when they are first used."""

import importlib
from collections.abc import Mapping
from typing import Any


def resolve(package: str, homes: Mapping[str, str], name: str) -> Any:
    """Return ``name`` from the module of ``package`` that is its home; a ``__getattr__``'s body."""
    if name not in homes:
        raise AttributeError(f"module {package!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{package}.{homes[name]}"), name)
