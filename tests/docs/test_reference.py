"""The reference page is what the code says."""

from pathlib import Path
from types import ModuleType

import pytest

from tests.scripts import load_script

ROOT = Path(__file__).parents[2]


@pytest.fixture
def reference() -> ModuleType:
    return load_script("tools", "reference")


def test_reference_page_is_current(reference: ModuleType) -> None:
    written = (ROOT / "docs" / "reference.md").read_text(encoding="utf-8")
    assert reference.page() == written, "run: python tools/reference.py"


def test_keys_are_required_only_where_a_recipe_without_them_is_refused(
    reference: ModuleType,
) -> None:
    (keys,) = (part for part in reference.page().split("\n\n") if "| `family` |" in part)
    required = {line.split("`")[1] for line in keys.splitlines() if "Required." in line}

    assert {key for key in required if "." not in key} == {"family", "summary"}
    assert "data.options" not in required
    assert "stages.NAME.images" in required
    assert "Undefined" not in keys
