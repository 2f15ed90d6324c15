"""What observers see of a training run."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from i2i.engine.window import Line
from i2i.recipe import Recipe
from i2i.translator import Translator


@dataclass
class Run:
    """One training run: its folder, its recipe, and how far it is."""

    folder: Path
    recipe: Recipe
    translator: Translator
    stage: str = ""
    step: int = 0  # steps done in the stage
    images: int = 0  # images seen in the stage
    length: int = 0  # images in the stage
    total_step: int = 0  # steps done in all stages


@dataclass(frozen=True)
class StepReport:
    """One finished step; ``line`` holds the means since the last line where one is due."""

    rates: Mapping[str, float]  # learning rate a player
    line: Line | None
