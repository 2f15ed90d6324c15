"""What a file says of the model that made it: written into pictures, and read back.

The kind of source is the IPTC's property ``Iptc4xmpExt:DigitalSourceType`` with an address from
its vocabulary http://cv.iptc.org/newscodes/digitalsourcetype (IPTC Photo Metadata Standard,
Extension schema); the rest are properties of a namespace of ours. Nothing here holds a time: equal
jobs give equal bytes.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from types import MappingProxyType

from i2i.imaging import xmp
from i2i.imaging.picture import Metadata

TRAINED = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
"""A model computed every pixel."""

COMPOSITE = "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia"
"""Pixels of the input remain beside those of a model."""

KEYWORD = "i2i"
"""The text chunk of a PNG that holds the same as JSON: some programs drop XMP and keep this."""

_SOURCE_TYPE = f"{{{xmp.IPTC_EXTENSION}}}DigitalSourceType"
_NAMES: Mapping[str, str] = MappingProxyType(
    {
        "digital_source_type": _SOURCE_TYPE,
        "recipe": f"{{{xmp.OWN}}}Recipe",
        "family": f"{{{xmp.OWN}}}Family",
        "version": f"{{{xmp.OWN}}}Version",
        "model_sha256": f"{{{xmp.OWN}}}ModelSHA256",
        "request": f"{{{xmp.OWN}}}Request",
        "input_sha256": f"{{{xmp.OWN}}}InputSHA256",
    }
)


@dataclass(frozen=True)
class Provenance:
    """How a picture came to be; a field that another program removed is empty."""

    digital_source_type: str  # TRAINED or COMPOSITE
    recipe: str
    family: str
    version: str  # the family's distribution with its version: "i2i-gan 0.1.0"
    model_sha256: str
    request: str  # JSON of every option that changes the output
    input_sha256: str

    def to_json(self) -> str:
        """Return the fields as one line of ASCII."""
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))


def stamp(metadata: Metadata, provenance: Provenance | None) -> Metadata:
    """Return the metadata with ``provenance`` in its XMP and text, and no earlier one.

    None leaves none: what was true of the input is not true of what was made from it. Raises
    DamagedXmp, unless the packet went through ``xmp.carry_over`` before.
    """
    text = {key: value for key, value in metadata.text.items() if key != KEYWORD}
    properties = {}
    if provenance is not None:
        properties = {_NAMES[name]: value for name, value in asdict(provenance).items()}
        text[KEYWORD] = provenance.to_json()
    elif metadata.xmp is None:
        return replace(metadata, text=text)
    return replace(metadata, xmp=xmp.merge(metadata.xmp, properties), text=text)


def read_provenance(metadata: Metadata) -> Provenance | None:
    """Return what a picture says of the model of ours that made it, from its XMP or its text.

    None where it says nothing. Damaged metadata says nothing.
    """
    found = _properties(metadata.xmp)
    if any(name.startswith(f"{{{xmp.OWN}}}") for name in found):
        return Provenance(**{field: found.get(name, "") for field, name in _NAMES.items()})
    try:
        told = json.loads(metadata.text.get(KEYWORD, ""))
        return Provenance(**{field: str(told.get(field, "")) for field in _NAMES})
    except (ValueError, AttributeError):  # no JSON, or not an object
        return None


def source_type(metadata: Metadata) -> str | None:
    """Return the IPTC's digital source type that a picture names, whoever wrote it."""
    return _properties(metadata.xmp).get(_SOURCE_TYPE)


def _properties(packet: bytes | None) -> Mapping[str, str]:
    try:
        return {} if packet is None else xmp.read(packet)
    except xmp.DamagedXmp:
        return {}
