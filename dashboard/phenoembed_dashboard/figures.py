"""Figures as Altair charts. ``drawing.py`` makes pictures of them."""

import math
from collections.abc import Sequence
from typing import Any

import altair as alt
import numpy as np
import pyarrow as pa

from phenoembed_dashboard.drawing import Figure
from phenoembed_dashboard.palette import BLUE, FEATURES, GREY, ORANGE, PALETTE, YELLOW
from phenoembed_dashboard.plates import Grid

SEQUENTIAL = alt.SchemeParams(name="viridis")
WIDTH = 440  # of most figures, in pixels: a narrow window then shrinks their words little
SHARE = alt.Scale(domain=[0, 1])

Rows = Sequence[dict[str, Any]]


def posterior_bars(rows: Rows, changed: bool) -> Figure:
    """Probability by class; with all images beside what is left, where something is switched off."""
    order = list(dict.fromkeys(row["class"] for row in rows))
    series = ["all images", "images left on"] if changed else ["all images"]
    return _paired_bars(rows, "class", order, series, [GREY, BLUE] if changed else [BLUE], "probability")


def part_bars(rows: Rows, title: str) -> Figure:
    """Probability of the call from one dose or time alone, and from all but it."""
    order = list(dict.fromkeys(row["part"] for row in rows))
    return _paired_bars(rows, "part", order, ["it alone", "all but it"], [BLUE, YELLOW], title)


def _paired_bars(
    rows: Rows, name: str, order: Sequence[str], series: Sequence[str], colours: Sequence[str], title: str
) -> Figure:
    """Horizontal bars of ``probability``, a line for each ``name``, in it a bar for each of ``images``."""
    step = 30 if len(series) == 1 else 19
    base = alt.Chart(_table(rows)).encode(
        y=alt.Y(
            f"{name}:N", sort=list(order), title=None, axis=alt.Axis(labelLimit=150, ticks=False),
            scale=alt.Scale(paddingInner=0.25, paddingOuter=0.1),
        ),
        x=alt.X("probability:Q", scale=SHARE, title=title, axis=alt.Axis(format="%", tickCount=5)),
    )  # fmt: skip
    if len(series) > 1:
        base = base.encode(yOffset=alt.YOffset("images:N", sort=list(series)))
    legend = alt.Legend(orient="top") if len(series) > 1 else None
    bars = base.mark_bar(cornerRadiusEnd=2).encode(
        color=alt.Color(
            "images:N", scale=alt.Scale(domain=list(series), range=list(colours)), title=None, legend=legend
        )
    )
    words = base.mark_text(align="left", dx=4, fontSize=11).encode(text=alt.Text("probability:Q", format=".0%"))
    return (bars + words).properties(width=WIDTH - 150, height=step * len(series) * len(order))


def accuracy_bars(rows: Rows, figure: str) -> Figure:
    """A figure by test, a bar for each kind of features, its spread over folds, chance as a tick."""
    tests = list(dict.fromkeys(row["test"] for row in rows))
    features = list(dict.fromkeys(row["features"] for row in rows))
    base = alt.Chart(_table(rows)).encode(
        y=alt.Y("test:N", sort=tests, title=None, axis=alt.Axis(labelLimit=150, ticks=False)),
        yOffset=alt.YOffset("features:N", sort=features),
    )
    bars = base.mark_bar(cornerRadiusEnd=2).encode(
        x=alt.X("value:Q", scale=SHARE, title=figure, axis=alt.Axis(tickCount=5)),
        color=alt.Color(
            "features:N", sort=features, title=None, legend=alt.Legend(orient="top", labelLimit=260, columns=3),
            scale=alt.Scale(domain=features, range=[FEATURES[name] for name in features]),
        ),
    )  # fmt: skip
    words = base.mark_text(align="left", dx=5, fontSize=11).encode(x="value:Q", text="label:N")
    chance = base.mark_tick(color=ORANGE, thickness=3).encode(x="chance:Q")
    return (bars + chance + words).properties(width=WIDTH - 100, height=66 * len(tests))


def curve(
    rows: Rows, x: str, y: str, *, points: bool = False, diagonal: bool = False, colours: Sequence[str] = PALETTE * 4
) -> Figure:
    """Lines, one a series, over columns ``x`` and ``y``; ``diagonal``: what chance would give."""
    series = list(dict.fromkeys(row["series"] for row in rows))
    whole = max(row["x"] for row in rows) > 1.001
    form: Any = "linear" if whole else "step-after"
    lines = (
        alt.Chart(_table(rows))
        .mark_line(strokeWidth=2, point={"size": 28} if points else False, interpolate=form)
        .encode(
            x=alt.X("x:Q", title=x, axis=alt.Axis(tickMinStep=1) if whole else alt.Axis(), scale=_span(rows, whole)),
            y=alt.Y("y:Q", title=y, scale=SHARE),
            color=alt.Color(
                "series:N", sort=series, scale=alt.Scale(domain=series, range=list(colours[: len(series)])), title=None,
                legend=alt.Legend(orient="bottom", labelLimit=320, columns=1, symbolStrokeWidth=3, symbolType="stroke"),
            ),
            strokeDash=alt.StrokeDash("series:N", sort=series, legend=None),
            order="order:Q",
        )
    )  # fmt: skip
    size = {"width": WIDTH - 60, "height": 250}
    if diagonal:
        line = alt.Chart(pa.table({"x": [0, 1], "y": [0, 1]})).mark_line(color=GREY, strokeDash=[2, 4])
        return (line.encode(x="x:Q", y="y:Q") + lines).properties(**size)
    return alt.layer(lines).properties(**size)


def _span(rows: Rows, whole: bool) -> alt.Scale:
    return alt.Scale(domain=[1, max(2, max(row["x"] for row in rows))], nice=False) if whole else SHARE


def histogram(values: Sequence[float], title: str) -> Figure:
    """How many classes reach which figure."""
    top = int(np.histogram(values, np.linspace(0, 1, 11))[0].max(initial=1))
    ticks = list(range(0, top + 1, max(1, math.ceil(top / 6))))
    return (
        alt.Chart(pa.table({"value": list(values)}))
        .mark_bar(color=BLUE)
        .encode(
            x=alt.X("value:Q", bin=alt.Bin(extent=[0, 1], step=0.1), title=title),
            y=alt.Y("count():Q", title="classes", axis=alt.Axis(values=ticks, format="d")),
        )
        .properties(width=WIDTH - 60, height=250)
    )


def plate_map(rows: Rows, grid: Grid, label: str, order: Sequence[str] = (), palette: Sequence[str] = ()) -> Figure:
    """The wells of a plate in their places, empty ones as outlines. The filled wells are drawn in the rows' order.

    order: the categories of ``colour``, ``palette`` theirs; none where wells are coloured by the size of ``value``.
    """
    letters, numbers = grid
    side = max(6, min(46, 620 // len(numbers)))
    bare: Any = {"title": None, "axis": alt.Axis(labelAngle=0, ticks=False, domain=False, labelOverlap=True)}
    x = alt.X("column:O", scale=alt.Scale(domain=numbers, padding=0.08), **bare)
    y = alt.Y("row:O", scale=alt.Scale(domain=letters, padding=0.08), **bare)
    blank = [{"row": letter, "column": number} for letter in letters for number in numbers]
    outlines = alt.Chart(_table(blank)).mark_rect(filled=False, stroke=GREY, opacity=0.3, aria=False)
    if order:
        scale = alt.Scale(domain=list(order), range=list(palette))
        legend = alt.Legend(title=label, titleLimit=400, orient="bottom", labelLimit=150, columns=4)
        colour = alt.Color("colour:N", scale=scale, legend=legend)
    else:
        legend = alt.Legend(title=label, titleLimit=400, orient="bottom", gradientLength=260, direction="horizontal")
        colour = alt.Color("value:Q", scale=alt.Scale(scheme=SEQUENTIAL), legend=legend)
    wells = alt.Chart(_table(rows)).mark_rect().encode(color=colour, description="says:N")
    drawn = outlines.encode(x=x, y=y) + wells.encode(x=x, y=y)
    return drawn.properties(width=side * len(numbers), height=side * len(letters))


def group_map(rows: Rows, x: str, y: str, label: str, order: Sequence[str], palette: Sequence[str]) -> Figure:
    """Groups as points, controls as crosses."""
    blank = alt.Axis(labels=False, ticks=False, grid=False)
    return (
        alt.Chart(_table(rows))
        .mark_point(filled=True, size=36, opacity=0.85, aria=False)
        .encode(
            x=alt.X("x:Q", title=x, scale=alt.Scale(zero=False), axis=blank),
            y=alt.Y("y:Q", title=y, scale=alt.Scale(zero=False), axis=blank),
            color=alt.Color(
                "colour:N", sort=list(order), title=label, scale=alt.Scale(domain=list(order), range=list(palette)),
                legend=alt.Legend(orient="bottom", columns=4, labelLimit=200, symbolLimit=20),
            ),
            shape=alt.Shape(
                "role:N", legend=None, scale=alt.Scale(domain=["treated", "control"], range=["circle", "cross"])
            ),
        )
        .properties(width=640, height=520)
    )  # fmt: skip


def _table(rows: Rows) -> pa.Table:
    return pa.Table.from_pylist(list(rows))
