"""What a folder job is asked for, and what it says of each picture and of all."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import torch
from pydantic import BaseModel

from i2i.engine.inference import Precision, Restore, WorkSize
from i2i.engine.resample import Size
from i2i.imaging import MAX_PIXELS
from i2i.signing import Signing

Tile = int | Literal["auto", "off"]


@dataclass(frozen=True)
class Settings:
    """How a job translates. What ``options`` returns decides the outputs' bytes, the rest may not.

    (Batch and tile sum in another order: the last bit of a pixel may differ.)
    """

    request: BaseModel  # which may stand for several: see Translator.variants
    work_size: WorkSize = "native"
    restore_size: bool = True
    restore: Restore = "resize"
    ensemble: bool = False  # the mean of eight results, see ``ensembled``
    box: Size | None = None  # that results are reduced to fit in, where they exceed it
    background: Literal["keep", "white"] = "keep"
    precision: Precision = "float32"
    keep_profile: bool = False
    strip_gps: bool = False
    provenance: bool = True
    recipe: str | None = None  # as the provenance names it
    signing: Signing | None = None  # signed outputs differ from job to job
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    batch_size: int = 1
    tile: Tile = "auto"  # longest side of what the family sees at once, where it allows tiles
    num_workers: int = 2  # threads that decode, and as many that encode
    max_pixels: int = MAX_PIXELS
    frames: Literal["first", "error"] = "first"
    overwrite: bool = False
    fail_fast: bool = False

    def options(self) -> dict[str, Any]:
        """Return what, beside the request and the model, decides the outputs' bytes."""
        names = (
            *("work_size", "restore_size", "restore", "ensemble", "background", "precision"),
            *("keep_profile", "strip_gps", "provenance", "recipe"),
        )
        signed = None if self.signing is None else hashlib.sha256(self.signing.chain).hexdigest()
        to = None if self.box is None else "{1}x{0}".format(*self.box)
        return {name: getattr(self, name) for name in names} | {"to": to, "signed": signed}


@dataclass(frozen=True)
class Result:
    """The record of one picture, or a variant of it: for manifest, report and plugins.

    "kept" is one that an earlier job had done: same input, model, request and options, and an
    output that still has its hash.
    """

    name: str  # of the planned output, relative to the output folder
    input: str
    input_sha256: str | None
    output: str | None
    output_sha256: str | None
    model_sha256: str
    request: Mapping[str, Any]
    options: Mapping[str, Any]
    status: Literal["done", "kept", "failed"]
    error: str | None
    notes: tuple[str, ...]  # what of the picture could not be kept or was changed
    seconds: float  # of work on this picture, waiting left out
    variant: str = ""  # of those that were asked for

    def to_json(self) -> str:
        """Return the record as one line of ASCII: names that are no UTF-8 come back from it."""
        return json.dumps(asdict(self), sort_keys=True)


@dataclass(frozen=True)
class Summary:
    """What became of a job."""

    num_done: int
    num_kept: int
    num_failed: int
    num_skipped: int
    num_left: int  # not begun, as the job was stopped
    seconds: float
    notes: Mapping[str, int]  # each with the number of pictures it was said of
