"""Put a judged snapshot of a run into the place that a recipe's [weights] names.

``python tools/ship.py SNAPSHOT RECIPE.toml TABLE.json [TABLE.json ...]``: the header takes over the
recipe's [translate] and licence, and what the tables say of this snapshot: a judge's rows of its
name, or the scores of an 'i2i evaluate --report'. A file that is there is replaced only by one that
is at least as good in the measure that decides: the first score of a report, or ``deciding`` of a
judge's table, where ``higher`` or ``lower`` is better (``better``).
"""

import argparse
import hashlib
import json
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tomli_w

from i2i.metrics import Score, better_than
from i2i.model_file import load_model, read_header, save_model
from i2i.plugins import load_plugins
from i2i.recipe import load_recipe


def main() -> None:
    """Write the model file."""
    parser = argparse.ArgumentParser(description=__doc__, prog="ship.py")
    parser.add_argument("snapshot", type=Path)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("tables", type=Path, nargs="+", metavar="TABLE.json")
    parser.add_argument("--data", help="what it was trained on, where the folder's name says less")
    given = parser.parse_args()
    plugins = load_plugins()
    recipe = load_recipe(given.recipe, plugins)
    if recipe.weights is None or recipe.weights.file is None:
        parser.error(f"{given.recipe} has no file in [weights]")
    target = given.recipe.parent / recipe.weights.file
    metrics = [row for table in given.tables for row in measured(table, given.snapshot)]
    if not metrics:
        parser.error(f"no table has a row for {given.snapshot.name}")
    if target.exists() and (reason := worse(metrics[0], read_header(target).metrics)):
        parser.error(f"{target} stays: {reason}")
    model = load_model(given.snapshot, plugins)
    header = model.header.model_copy(
        update={
            "translate": recipe.translate.model_dump(mode="json"),
            "licence": recipe.licence,
            "recipe": tomli_w.dumps(
                tomllib.loads(model.header.recipe) | {"licence": recipe.licence}
            ),
            "metrics": tuple(metrics),
            "training": {**model.header.training, **({"data": given.data} if given.data else {})},
        }
    )
    save_model(target, model.translator, header)


def worse(now: Mapping[str, Any], before: Sequence[Mapping[str, Any]]) -> str:
    """Return why a model of measures ``now`` may not replace one of ``before``; empty if it may.

    The first row of ``before`` is compared; one of another protocol, data or direction is no ground
    to replace a file.
    """
    if not before:
        return ""
    if "value" in now and "value" in before[0]:
        ours, theirs = Score.from_dict(now), Score.from_dict(before[0])
        if better_than(theirs, ours):
            return f"its {theirs.name} on {theirs.data} is {theirs.value}, this one's {ours.value}"
        return ""
    if "deciding" not in now:
        return "the table does not say which measure decides, judge it again"
    for key in ("protocol", "data", "direction"):
        if now.get(key) != before[0].get(key):
            return f"its first measure has the {key} {before[0].get(key)}, this one {now.get(key)}"
    name = now["deciding"]
    values = now[name], before[0][name]
    better = {"higher": values[0] >= values[1], "lower": values[0] <= values[1]}
    if better[now["better"]]:
        return ""
    return f"it has a {name} of {values[1]}, this one {values[0]}, and {now['better']} is better"


def measured(table: Path, snapshot: Path) -> list[Mapping[str, Any]]:
    """Return what a table says of a model: a judge's rows with their protocol, or scores.

    A report of another model has none.
    """
    content = json.loads(table.read_text(encoding="utf-8"))
    if "scores" in content:
        same = content["model"]["sha256"] == hashlib.sha256(snapshot.read_bytes()).hexdigest()
        return content["scores"]["model"] if same else []
    common = {key: value for key, value in content.items() if key != "rows"}
    return [common | row for row in content["rows"] if row["name"] == snapshot.name]


if __name__ == "__main__":
    main()
