"""Numbers of images, as recipes write them."""

import re
from decimal import Decimal
from typing import Annotated

from pydantic import BeforeValidator, Field

_UNITS = {"": 1, "k": 1_000, "M": 1_000_000}


def _count(value: object) -> object:
    """Read "400k" or "1.5M" as a number of images."""
    if isinstance(value, int):
        return value
    text = value if isinstance(value, str) else ""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([kM]?)", text, re.ASCII)
    number = Decimal(found[1]) * _UNITS[found[2]] if found else Decimal("0.5")
    if number != int(number):
        raise ValueError('a whole number of images, such as 400000, "400k" or "1.5M"')
    return int(number)


Images = Annotated[
    int, BeforeValidator(_count, json_schema_input_type=int | str), Field(gt=0, lt=10**12)
]
"""A number of images: an integer, or text such as "400k" and "1.5M"."""
