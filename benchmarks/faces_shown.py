"""What people see of judged faces: the table, and sheets of strips."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from faces_statistics import Face, Originals, Pixels, Results
from PIL import Image, ImageDraw

from i2i_face_aging.ages import AGE_GROUPS

GAP, CAPTION = 4, 14  # pixels of a sheet


def print_originals(said: Mapping[str, Any]) -> None:
    """Print the protocol, and what the judges say of real faces."""
    found = said["originals"]
    print(f"protocol {said['protocol']}: {said['num_faces']} faces of {said['data']}")
    for name, text in said["measures"].items():
        print(f"  {name}: {text}")
    print(
        f"age judge on them: correlation {found['age_correlation']:.3f}, "
        f"off by {found['age_error']:.2f} years, on average by {found['age_bias']:+.2f}; "
        f"{100 * found['age_near_real']:.1f}% within 10 years of their group's mean"
    )
    print(
        f"similarity below which 95% of pairs are: any two {found['threshold_any_two']:.3f}, "
        f"two of one gender and age group {found['threshold_two_alike']:.3f}"
    )
    print(f"{'':26}" + "".join(f"{name:>8}" for name in AGE_GROUPS))
    print(_line("real faces look", found["age"], ".1f"))


def print_row(found: Mapping[str, Any]) -> None:
    """Print what is said of one model."""
    print(f"{found['name']}: reached {100 * found['reached']:.1f}%")
    for title, key, form in (
        ("results look", "age", ".1f"),
        ("change", "age_change", "+.1f"),
        ("within 10 years of real", "age_near_real", ".0%"),
        ("identity, mean", "identity", ".3f"),
        ("5th percentile", "identity_5_percent", ".3f"),
        ("above 95% of any two", "identity_above_any_two", ".1%"),
        ("above 95% of two alike", "identity_above_two_alike", ".1%"),
        ("nearest to itself of all", "identity_nearest", ".1%"),
    ):
        print(_line(title, found[key], form))
    increasing = "strictly increasing" if found["strictly_increasing"] else "NOT increasing"
    print(
        f"  {increasing}, span {found['span']:.1f} years; smallest step "
        f"{found['smallest_step']:.1f} years ({found['smallest_step_in_errors']:.1f} errors)"
    )
    for key, title in (
        ("reconstruction", "told its age"),
        ("reconstruction_estimated", "not told"),
    ):
        same = found[key]
        print(
            f"  same age, {title}: PSNR {same['psnr']:.2f} dB, L1 {same['l1']:.4f}, looks "
            f"{same['age_change']:+.2f} years older ({same['age_moved']:.2f} either way), identity "
            f"{same['identity']:.3f} (5th percentile {same['identity_5_percent']:.3f})"
        )
    print(f"  {'':18}faces  is look" + "".join(f"{name:>7}" for name in AGE_GROUPS), end="")
    print("   span  identity  above alike  own 95%  above own")
    for part in found["subgroups"]:
        ages = "".join(f"{part['age'][name]:7.1f}" for name in AGE_GROUPS)
        print(
            f"  {part['name']:18}{part['num_faces']:5} {part['label']:3.0f}{part['original']:5.0f}"
            f"{ages}{part['span']:7.1f}{part['identity_mean']:10.3f}"
            f"{part['identity_above_two_alike']:13.1%}{part['threshold_own']:9.3f}"
            f"{part['identity_above_own']:11.1%}"
        )


def write_sheet(
    path: Path,
    originals: Originals,
    results: Results,
    shown: Sequence[Sequence[Pixels]],
    count: int,
) -> None:
    """Write some faces beside what was made of them, with estimated ages and similarities."""
    chosen = spread(originals.faces, count)
    side = max(max(originals.faces[index].pixels.shape[:2]) for index in chosen)
    across, down = side + GAP, side + GAP + CAPTION
    sheet = Image.new(
        "RGB", (across * (len(AGE_GROUPS) + 1), down * len(chosen) + CAPTION), "white"
    )
    draw = ImageDraw.Draw(sheet)
    for column, title in enumerate(("source", *AGE_GROUPS)):
        draw.text((column * across + 2, 1), title, "black")
    for line, index in enumerate(chosen):
        face, top = originals.faces[index], line * down + CAPTION
        captions = [f"is {face.age:.0f}, looks {originals.ages[index]:.0f}"]
        captions += [
            f"{age:.0f}   {same:.2f}"
            for age, same in zip(
                results.ages[:, index], results.similarities[:, index], strict=True
            )
        ]
        strip = [face.pixels, *(made[index] for made in shown)]
        for column, (pixels, caption) in enumerate(zip(strip, captions, strict=True)):
            sheet.paste(Image.fromarray(pixels), (column * across, top))
            draw.text((column * across + 2, top + side + 1), caption, "black")
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path)


def spread(faces: Sequence[Face], count: int, seed: int = 0) -> list[int]:
    """Return the places of ``count`` faces, evenly over source age groups, the youngest first."""
    order = np.random.default_rng(seed).permutation(len(faces))
    groups = [[int(place) for place in order if faces[place].group == group] for group in range(6)]
    turns = [group[turn] for turn in range(len(faces)) for group in groups if turn < len(group)]
    return sorted(turns[:count], key=lambda place: (faces[place].age, faces[place].name))


def _line(title: str, values: Mapping[str, float], form: str) -> str:
    return f"  {title:24}" + "".join(f"{format(values[name], form):>8}" for name in AGE_GROUPS)
