"""Draws what ``superres.py`` measured: quality against seconds, by matplotlib."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg, RendererAgg
from matplotlib.figure import Figure
from matplotlib.text import Annotation
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from matplotlib.transforms import Bbox

PAPER, INK, FAINT = "#ffffff", "#1f2933", "#7b8794"  # the paper is opaque: dark pages show it too
GRID = "#e4e7eb"
COLOURS = {"i2i": "#0b6e99", "peer": "#c2571a", "pillow": "#7b8794"}
KINDS = {"i2i": "i2i, float32", "peer": "another program", "pillow": "a filter, no network"}
LOWERED = "i2i, bfloat16"
PLACES = (  # of a label about its point, in points of type: the first that is free is taken
    (8, 0, "left", "center"),
    (-8, 0, "right", "center"),
    (0, 8, "center", "bottom"),
    (0, -8, "center", "top"),
    (7, 7, "left", "bottom"),
    (7, -7, "left", "top"),
    (-7, 7, "right", "bottom"),
    (-7, -7, "right", "top"),
    (0, 20, "center", "bottom"),
    (0, -20, "center", "top"),
)


def draw(path: Path, content: Mapping[str, Any]) -> None:
    """Write the plot to a file whose name ends in .svg or .png."""
    rows = content["rows"]
    style = {"font.family": "DejaVu Sans", "font.size": 10, "svg.hashsalt": "i2i"}
    with mpl.rc_context(style):
        figure = Figure(figsize=(8, 4.8), dpi=160, facecolor=PAPER, layout="constrained")
        figure.get_layout_engine().set(w_pad=0.12, h_pad=0.1)  # inches
        axes = figure.add_subplot(facecolor=PAPER)
        _frame(axes, rows, content)
        _points(axes, rows)
        canvas = FigureCanvasAgg(figure)
        canvas.draw()  # settles where everything is, and so what labels would cover
        _labels(axes, rows, canvas.get_renderer())
        figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)


def _frame(axes: Axes, rows: Sequence[Mapping[str, Any]], content: Mapping[str, Any]) -> None:
    axes.set_xscale("log")
    seconds = [_seconds(row) for row in rows]
    axes.set_xlim(min(seconds) / 2, max(seconds) * 3)
    decibels = [row["psnr_y"] for row in rows]
    margin = 0.14 * max(max(decibels) - min(decibels), 0.5)
    axes.set_ylim(min(decibels) - margin, max(decibels) + margin)
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.grid(color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(FAINT)
    axes.tick_params(colors=FAINT, which="both", labelcolor=INK)
    threads = "one thread" if content["threads"] == 1 else f"{content['threads']} threads"
    axes.set_xlabel(
        f"processor seconds a megapixel written, whole job, {threads} (logarithmic)", color=INK
    )
    data = content["quality"].partition(",")[0]
    axes.set_ylabel(f"{data}, PSNR of the brightness in dB", color=INK)
    axes.set_title("Enlarging four times: up is better, left is faster", color=INK, loc="left")


def _points(axes: Axes, rows: Sequence[Mapping[str, Any]]) -> None:
    for group in dict.fromkeys(row["group"] for row in rows):
        members = [row for row in rows if row["group"] == group]
        places = [_place(row) for row in members]
        axes.plot(*zip(*places, strict=True), color=COLOURS[members[0]["kind"]], linewidth=1)
    named = set()
    for row in rows:
        lowered = row["precision"] == "bfloat16"
        label = LOWERED if lowered else KINDS[row["kind"]]
        colour = COLOURS[row["kind"]]
        axes.plot(
            *_place(row),
            "o",
            markersize=8,
            markeredgewidth=1.6,
            markeredgecolor=colour,
            markerfacecolor=PAPER if lowered else colour,
            label=None if label in named else label,
        )
        named.add(label)
    legend = axes.legend(loc="upper left", frameon=True, labelcolor=INK, fontsize=9)
    legend.get_frame().set(edgecolor=GRID, facecolor=PAPER, alpha=1)


def _labels(axes: Axes, rows: Sequence[Mapping[str, Any]], renderer: RendererAgg) -> None:
    """Name each group once, at the place about its points that covers the least."""
    taken = [_around(axes, row) for row in rows]
    legend = axes.get_legend()
    assert legend is not None
    taken.append(legend.get_window_extent(renderer))
    inside = axes.get_window_extent(renderer)
    for group in dict.fromkeys(row["group"] for row in rows):
        members = [row for row in rows if row["group"] == group]
        best: tuple[float, Annotation] | None = None
        for member in sorted(members, key=_seconds, reverse=True):
            for x, y, across, down in PLACES:
                label = axes.annotate(
                    group.replace(", ", "\n", 1),
                    _place(member),
                    xytext=(x, y),
                    textcoords="offset points",
                    ha=across,
                    va=down,
                    color=INK,
                    fontsize=9,
                    linespacing=1.1,
                )
                box = label.get_window_extent(renderer)
                covered = sum(_overlap(box, other) for other in taken)
                covered += box.width * box.height - _overlap(box, inside)
                if best is None or covered < best[0] - 1:
                    if best is not None:
                        best[1].remove()
                    best = covered, label
                else:
                    label.remove()
        assert best is not None
        taken.append(best[1].get_window_extent(renderer))


def _around(axes: Axes, row: Mapping[str, Any]) -> Any:
    """Return the box of a point, in pixels of the figure."""
    x, y = axes.transData.transform(_place(row))
    return Bbox.from_extents(x - 11, y - 11, x + 11, y + 11)


def _overlap(one: Any, other: Any) -> float:
    """Return the area that two boxes share."""
    width = min(one.x1, other.x1) - max(one.x0, other.x0)
    height = min(one.y1, other.y1) - max(one.y0, other.y0)
    return float(max(width, 0) * max(height, 0))


def _seconds(row: Mapping[str, Any]) -> float:
    return float(row["job"]["processor"])


def _place(row: Mapping[str, Any]) -> tuple[float, float]:
    return _seconds(row), float(row["psnr_y"])
