"""The reference page is what the code says."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def reference() -> ModuleType:
    spec = importlib.util.spec_from_file_location("reference", ROOT / "tools" / "reference.py")
    assert spec is not None
    assert spec.loader is not None
    reference = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(reference)
    return reference


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
