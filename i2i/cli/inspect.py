"""``i2i inspect``: what a file is, and what it says of the model that made it."""

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from i2i.errors import I2IError, ModelFileError

_TRAINING = {"format", "stage", "step", "finished", "modules", "optimizers", "environment"}
_PATH = click.Path(path_type=Path)
_NOTHING = "says nothing of a model"


@click.command("inspect")
@click.argument(
    "files", metavar="FILE...", nargs=-1, required=True, type=click.Path(path_type=Path)
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a file, a line each.")
@click.pass_context
def command(context: click.Context, files: tuple[Path, ...], as_json: bool) -> None:
    """Say what is in pictures, model files and training checkpoints.

    Of a picture: its format, and the recipe, model and request that it was made with, which i2i
    writes into each output. Of a model file or a checkpoint: what it holds and how it was trained;
    nothing inside is run.

    The status is 0 when every file could be read, whatever it says, and 1 otherwise.
    """
    failed = False
    gap = ""
    for path in files:
        try:
            found = inspect(path)
        except I2IError as error:
            failed = True
            click.echo(f"Error: {error}", err=True)
            found = {"file": str(path), "error": str(error)}
            if not as_json:
                continue
        if as_json:
            click.echo(json.dumps(found))
            continue
        click.echo(gap + "\n".join(_lines(found)))
        gap = "\n"
    if failed:
        context.exit(1)


def inspect(path: Path) -> dict[str, Any]:
    """Return what a file is and says: plain values that JSON can hold; raises an I2IError."""
    head = _head(path)
    if head.startswith((b"PK", b"\x80")):
        found = _of_checkpoint(path)
    elif head[8:9] == b"{":
        found = _of_safetensors(path)
    else:
        found = _of_picture(path)
    return {"file": str(path)} | found


def _head(path: Path) -> bytes:
    """Return a file's first bytes; none of what is not there, or not a file: that is said later."""
    with suppress(OSError):
        if path.is_file():
            with path.open("rb") as file:
                return file.read(9)
    return b""


def _of_picture(path: Path) -> dict[str, Any]:
    from i2i.imaging import read_bytes
    from i2i.imaging.describe import describe, profile_name
    from i2i.provenance import read_provenance, source_type

    content = read_bytes(path)
    said = describe(content, str(path))
    metadata = said.metadata
    made = read_provenance(metadata)
    height, width = said.size
    profile = None if metadata.profile is None else profile_name(metadata.profile) or "damaged"
    return {
        "kind": "picture",
        "format": said.kind,
        "width": width,
        "height": height,
        "depth": said.depth,
        "colours": said.colours,
        "alpha": said.has_alpha,
        "profile": profile,
        "xmp": _state_of_xmp(metadata.xmp),
        "digital_source_type": source_type(metadata),
        "provenance": None if made is None else asdict(made) | {"request": _parsed(made.request)},
        "signature": _signature(content, said.kind),
    }


def _state_of_xmp(packet: bytes | None) -> str | None:
    from i2i.imaging import xmp

    if packet is None:
        return None
    try:
        xmp.read(packet)
    except xmp.DamagedXmp as error:
        return f"damaged ({error})"
    return f"{len(packet)} bytes"


def _signature(content: bytes, kind: str) -> str | None:
    """Return what a C2PA signature says; whether there is one is known without its library."""
    from i2i.errors import UsageError
    from i2i.signing import read_signature

    try:
        found = read_signature(content, kind)
    except UsageError:
        there = b"jumdc2pa" in content
        return 'not checked: pip install "i2i-gan[c2pa]"' if there else None
    return None if found is None else str(found)


def _of_safetensors(path: Path) -> dict[str, Any]:
    from i2i.downloads import sha256_of
    from i2i.model_file import read_header

    try:
        header = read_header(path)
    except ModelFileError as error:
        if error.wrong != "holds no i2i header":
            raise
        return _of_foreign(path)
    said = header.model_dump(mode="json", exclude={"recipe"})
    return {"kind": "model", "sha256": sha256_of(path)} | said


def _of_checkpoint(path: Path) -> dict[str, Any]:
    import torch

    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception:  # whatever a damaged or malicious file does to the reader
        return _of_foreign(path)  # says what is wrong
    if not isinstance(content, dict) or not content.keys() >= _TRAINING:
        return _of_foreign(path)
    recipe = _recipe_beside(path)
    stages = recipe.get("stages", {})
    batch_size = stages.get(content["stage"], {}).get("batch_size")
    return {
        "kind": "training checkpoint",
        "family": recipe.get("family"),
        "stage": content["stage"],
        "step": content["step"],
        "images": None if batch_size is None else content["step"] * batch_size,
        "finished": content["finished"],
        "stages_begun": list(content["stages"]),
        "parameters": _num_values(content["modules"]),
        "versions": dict(content["environment"]),
    }


def _of_foreign(path: Path) -> dict[str, Any]:
    """Describe a checkpoint of another program; raises ModelFileError for what is none."""
    from i2i.foreign import read_checkpoint

    tensors = read_checkpoint(path)
    return {
        "kind": "foreign checkpoint",
        "tensors": len(tensors),
        "parameters": _num_values(tensors),
        "advice": f"i2i models import {path} -o NAME.safetensors",
    }


def _recipe_beside(path: Path) -> dict[str, Any]:
    """Return a run's recipe, for a checkpoint does not repeat it; empty where it is not there."""
    import tomllib

    try:
        return tomllib.loads((path.parent / "recipe.toml").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def _num_values(tensors: Mapping[str, Any]) -> int:
    return sum(each.numel() for each in tensors.values())


def _parsed(request: str) -> Any:
    try:
        return json.loads(request)
    except ValueError:
        return request


def _lines(found: Mapping[str, Any]) -> Iterator[str]:
    """Yield a line a field, those of a table indented below it."""
    from i2i.imaging import printable

    for key, value in found.items():
        if key == "provenance" and value is None:
            yield f"provenance: {_NOTHING}{_other_maker(found)}"
        elif isinstance(value, Mapping) and value:
            yield f"{key}:"
            yield from (f"  {line}" for line in _lines(value))
        elif isinstance(value, list) and value and isinstance(value[0], Mapping):
            yield f"{key}:"
            yield from (f"  - {_compact(each)}" for each in value)
        elif value not in (None, "", [], {}):
            yield f"{key}: {printable(_compact(value))}"


def _other_maker(found: Mapping[str, Any]) -> str:
    kind = str(found["digital_source_type"] or "").rpartition("/")[2]
    return f" of i2i, but calls itself {kind}" if kind else ""


def _compact(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
