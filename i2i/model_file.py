"""Self-describing model files: one ``.safetensors`` that loads by its path alone.

Tensors are 16-bit floats on disk (an imported model keeps the precision it came in) and float32 in
use. The one metadata key, ``i2i``, holds a ``Header`` as canonical JSON, so equal models give equal
bytes; the model's hash is the file's.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes
from torch import Tensor

from i2i.errors import ModelFileError, PluginError, UsageError
from i2i.files import write_atomically
from i2i.plugins import Plugins
from i2i.translator import Translator
from i2i.types import derive_seed

FORMAT = 1


class _Format(BaseModel):
    """The one key that a header of any format has: read first, for the others may be strange."""

    format: int = FORMAT


class Header(BaseModel):
    """What a model file says of itself."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: int = FORMAT
    family: str
    distribution: str = Field(description="Of the plugin that trained it, with its version.")
    options: Mapping[str, Any] = Field(description="The family's options.")
    request: Mapping[str, Any] = Field(description="The request that translation starts from.")
    translate: Mapping[str, Any] = Field({}, description="The recipe's [translate].")
    stages: Mapping[str, Mapping[str, tuple[int, ...]]] = Field(
        {}, description="Stages begun, each with the (C, H, W) of the roles it saw."
    )
    recipe: str = Field("", description="The recipe, as TOML.")
    training: Mapping[str, Any] = Field({}, description="Data, images seen, seed and the like.")
    metrics: tuple[Mapping[str, Any], ...] = Field((), description="Each with its protocol.")
    licence: str = Field("", description="The terms the weights may be used under.")


@dataclass(frozen=True)
class Model:
    """A model in use: the family with its weights, what the file said, and the file's hash."""

    translator: Translator
    header: Header
    sha256: str


def build(family: type[Translator], options: BaseModel, seed: int) -> Translator:
    """Build a family's networks under a generator seeded by ``seed``, the global one untouched."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, "build"))
        return family(options)


def grow(
    translator: Translator, stage: str, shapes: Mapping[str, tuple[int, ...]], seed: int
) -> None:
    """Let a family build what ``stage`` needs, under a generator seeded by (seed, stage)."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, "grow", stage))
        translator.grow(stage, shapes)


def exported_state(translator: Translator) -> dict[str, Tensor]:
    """Return the tensors of the exported submodules, by their names in the translator."""
    prefixes = tuple(f"{name}." for name in translator.exported)
    return {
        name: tensor
        for name, tensor in translator.state_dict().items()
        if name.startswith(prefixes)
    }


def save_model(
    path: Path, translator: Translator, header: Header, dtype: torch.dtype = torch.float16
) -> None:
    """Write the exported submodules beside ``path`` and rename: there is never half a file.

    Floating-point tensors are stored as ``dtype``. Raises ModelFileError for one that does not fit.
    """
    tensors = {
        name: (tensor.to(dtype) if tensor.is_floating_point() else tensor).cpu().contiguous()
        for name, tensor in exported_state(translator).items()
    }
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise ModelFileError(
                f"the tensor {name!r} does not fit {dtype.itemsize * 8}-bit floats",
                where=str(path),
                expected=f"finite weights up to {torch.finfo(dtype).max:,.6g}",
                remedy="look for a training that diverged",
            )
    text = json.dumps(header.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
    write_atomically(path, to_bytes(tensors, metadata={"i2i": text}))


def read_header(path: Path) -> Header:
    """Read what a model file says of itself, without its weights; raises ModelFileError."""
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
    except (OSError, SafetensorError) as error:
        raise _unusable(path, f"cannot be read ({error})") from error
    if "i2i" not in metadata:
        raise _unusable(path, "holds no i2i header")
    try:
        number = _Format.model_validate_json(metadata["i2i"]).format
        if number > FORMAT:
            wrong = f"has format {number}, and this i2i reads up to {FORMAT}"
            raise _unusable(path, wrong, "upgrade i2i")
        if number < 1:
            raise _unusable(path, f"has format {number}, and the first one is 1")
        return Header.model_validate_json(metadata["i2i"])
    except ValidationError as error:
        fault = error.errors()[0]
        wrong = f"its header does not validate ({fault['loc']}: {fault['msg']})"
        raise _unusable(path, wrong) from error


def load_model(path: Path, plugins: Plugins) -> Model:
    """Load a model file by its path alone, ready to translate on the CPU in float32.

    Raises ModelFileError for a file that is damaged, or does not fit the family installed here.
    """
    header = read_header(path)
    try:
        family = plugins.family(header.family)
        options = family.Options.model_validate(family.upgrade(header.options))
    except (PluginError, UsageError) as error:
        wrong = f"needs the family {header.family!r} of {header.distribution}, but {error.wrong}"
        raise _unusable(path, wrong, f"install {header.distribution}") from error
    except ValidationError as error:
        fault = error.errors()[0]
        wrong = f"its options do not fit {header.family!r} ({fault['loc']}: {fault['msg']})"
        raise _unusable(path, wrong, f"install {header.distribution}") from error
    translator = _rebuilt(path, header, family, options)
    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no dict
    wanted = exported_state(translator)
    if differing := sorted(
        name
        for name in {*wanted, *tensors}
        if name not in wanted or name not in tensors or wanted[name].shape != tensors[name].shape
    ):
        wrong = f"{len(differing)} tensors do not fit its header, first {differing[0]!r}"
        raise _unusable(path, wrong)
    for name, target in wanted.items():
        target.copy_(tensors[name])
    translator.eval().requires_grad_(False)
    return Model(translator, header, hashlib.sha256(path.read_bytes()).hexdigest())


def _rebuilt(
    path: Path, header: Header, family: type[Translator], options: BaseModel
) -> Translator:
    """Build the networks that a header describes; raises ModelFileError where it is damaged."""
    try:
        translator = build(family, options, seed=0)
        for stage, shapes in header.stages.items():
            grow(translator, stage, shapes, seed=0)
    except Exception as error:  # of a family, given shapes that it would never have written
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        wrong = f"{header.family!r} cannot be built from its header ({reason})"
        remedy = f"check that it is complete, and that {header.distribution} is installed"
        raise _unusable(path, wrong, remedy) from error
    return translator


def _unusable(path: Path, wrong: str, remedy: str = "check that it is complete") -> ModelFileError:
    return ModelFileError(
        wrong, where=str(path), expected="a model file written by i2i", remedy=remedy
    )
