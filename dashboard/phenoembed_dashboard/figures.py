"""Figures as Altair charts: drawn in the visitor's browser from Streamlit's own files, saved there as PNG or SVG."""

from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import altair as alt
import pyarrow as pa
import streamlit as st

from phenoembed_dashboard.plates import Grid

# Okabe and Ito's colours, which people with any colour vision can tell apart
BLUE, ORANGE, GREEN, SKY, YELLOW, PINK, GREY = (
    "#0072b2",
    "#d55e00",
    "#009e73",
    "#56b4e9",
    "#e69f00",
    "#cc79a7",
    "#8c8c8c",
)
PALETTE = [BLUE, YELLOW, GREEN, PINK, SKY, ORANGE, "#f0e442", GREY]
SEQUENTIAL = alt.SchemeParams(name="viridis")
Figure = Any  # Altair's methods do not say what they return


def show(chart: Figure, key: str, alternative: str, **arguments: Any) -> Any:
    """Draw a chart over the whole width; its toolbar saves it as PNG and shows its data, a button saves it as SVG."""
    state = st.altair_chart(chart, key=key, alt=alternative, **arguments)
    if find_spec("vl_convert"):
        st.download_button(
            "Figure as SVG", lambda: to_svg(chart), f"{key.split(':')[0]}.svg", "image/svg+xml", key=f"svg:{key}",
            icon=":material/download:", type="tertiary", on_click="ignore",
        )  # fmt: skip
    return state


def to_svg(chart: Figure) -> str:
    """The chart as an SVG file, black on white; drawn here, without a network."""
    alt.data_transformers.disable_max_rows()
    words = {"labelColor": "#222", "titleColor": "#222"}
    drawn = chart.configure(background="white").configure_axis(**words).configure_legend(**words)
    svg: str = import_module("vl_convert").vegalite_to_svg(drawn.properties(width=640).to_json())
    return svg


def posterior_bars(rows: Sequence[dict[str, Any]], changed: bool) -> Figure:
    """Probability by class; with all images beside what is left, where something is switched off."""
    frame = pa.Table.from_pylist(list(rows))
    order = list(dict.fromkeys(row["class"] for row in rows))
    base = alt.Chart(frame).encode(
        y=alt.Y("class:N", sort=order, title=None, axis=alt.Axis(labelLimit=180)),
        x=alt.X("probability:Q", scale=alt.Scale(domain=[0, 1]), title="probability", axis=alt.Axis(format="%")),
        tooltip=["class:N", "images:N", alt.Tooltip("probability:Q", format=".4f")],
    )
    if not changed:
        return base.mark_bar(color=BLUE).properties(height=34 * len(order) + 40)
    colours = alt.Scale(domain=["all images", "images left on"], range=[GREY, BLUE])
    return (
        base.encode(
            yOffset=alt.YOffset("images:N", sort=["all images", "images left on"]),
            color=alt.Color("images:N", scale=colours, title=None, legend=alt.Legend(orient="top")),
        )
        .mark_bar()
        .properties(height=46 * len(order) + 70)
    )


def dose_lines(rows: Sequence[dict[str, Any]], title: str) -> Figure:
    """Probability of the call from one dose (or time) alone, and without it."""
    frame = pa.Table.from_pylist(list(rows))
    order = list(dict.fromkeys(row["value"] for row in rows))
    base = alt.Chart(frame).encode(
        x=alt.X("value:N", sort=order, title=title, axis=alt.Axis(labelAngle=0)),
        y=alt.Y(
            "probability:Q", scale=alt.Scale(domain=[0, 1]), axis=alt.Axis(format="%"), title="probability of the call"
        ),
        color=alt.Color(
            "images:N", title=None, legend=alt.Legend(orient="top"),
            scale=alt.Scale(domain=["it alone", "all but it"], range=[BLUE, YELLOW]),
        ),
        shape=alt.Shape("images:N", title=None),
        tooltip=["value:N", "images:N", alt.Tooltip("probability:Q", format=".3f")],
    )  # fmt: skip
    return (base.mark_line(strokeWidth=2) + base.mark_point(filled=True, size=80)).properties(height=260)


def accuracy_bars(rows: Sequence[dict[str, Any]], figure: str) -> Figure:
    """A figure by test, a bar for each kind of features, its spread over folds, chance as a tick."""
    frame = pa.Table.from_pylist(list(rows))
    tests, features = (
        list(dict.fromkeys(row["test"] for row in rows)),
        list(dict.fromkeys(row["features"] for row in rows)),
    )
    base = alt.Chart(frame).encode(
        y=alt.Y("test:N", sort=tests, title=None, axis=alt.Axis(labelLimit=240)),
        yOffset=alt.YOffset("features:N", sort=features),
        tooltip=["test:N", "features:N", alt.Tooltip("value:Q", format=".3f", title=figure), "folds:Q", "groups:Q"],
    )
    colours = alt.Scale(domain=features, range=[BLUE, GREY, YELLOW][: len(features)])
    bars = base.mark_bar().encode(
        x=alt.X("value:Q", scale=alt.Scale(domain=[0, 1]), title=figure, axis=alt.Axis(tickCount=5)),
        color=alt.Color(
            "features:N", sort=features, scale=colours, title=None, legend=alt.Legend(orient="top", labelLimit=260)
        ),
    )
    words = base.mark_text(align="left", dx=4, color=GREY).encode(x="value:Q", text="label:N")
    chance = base.mark_tick(color=ORANGE, thickness=3).encode(x="chance:Q")
    return (bars + chance + words).properties(height=84 * len(tests) + 70)


def curve(rows: Sequence[dict[str, Any]], x: str, y: str, *, points: bool = False, diagonal: bool = False) -> Figure:
    """Lines, one a series, over columns ``x`` and ``y``; ``diagonal``: what chance would give."""
    frame = pa.Table.from_pylist(list(rows))
    series = list(dict.fromkeys(row["series"] for row in rows))
    colours = alt.Scale(domain=series, range=(PALETTE * 4)[: len(series)])
    whole = max(row["x"] for row in rows) > 1.001
    lines = (
        alt.Chart(frame)
        .mark_line(strokeWidth=2, point=points, interpolate="linear" if whole else "step-after")
        .encode(
            x=alt.X("x:Q", title=x, axis=alt.Axis(tickMinStep=1) if whole else alt.Axis()),
            y=alt.Y("y:Q", title=y, scale=alt.Scale(domain=[0, 1])),
            color=alt.Color(
                "series:N",
                sort=series,
                scale=colours,
                title=None,
                legend=alt.Legend(orient="top", labelLimit=300, columns=1),
            ),
            strokeDash=alt.StrokeDash("series:N", sort=series, title=None),
            order="order:Q",
            tooltip=["series:N", alt.Tooltip("x:Q", format=".3f", title=x), alt.Tooltip("y:Q", format=".3f", title=y)],
        )
    )
    if diagonal:
        line = alt.Chart(pa.table({"x": [0, 1], "y": [0, 1]})).mark_line(color=GREY, strokeDash=[2, 4])
        return (line.encode(x="x:Q", y="y:Q") + lines).properties(height=320)
    return alt.layer(lines).properties(height=300 + 22 * len(series))


def histogram(values: Sequence[float], title: str) -> Figure:
    """How many classes reach which figure."""
    return (
        alt.Chart(pa.table({"value": list(values)}))
        .mark_bar(color=BLUE)
        .encode(
            x=alt.X("value:Q", bin=alt.Bin(extent=[0, 1], step=0.1), title=title),
            y=alt.Y("count():Q", title="classes", axis=alt.Axis(tickMinStep=1)),
            tooltip=[alt.Tooltip("count():Q", title="classes")],
        )
        .properties(height=320)
    )


def plate_map(rows: Sequence[dict[str, Any]], grid: Grid, label: str, *, categorical: bool) -> Figure:
    """The wells of a plate in their places, empty ones as outlines; a click chooses one."""
    letters, numbers = grid
    bare: Any = {"title": None, "axis": alt.Axis(labelAngle=0, ticks=False, domain=False, labelOverlap=True)}
    x = alt.X("column:O", scale=alt.Scale(domain=numbers, padding=0.08), **bare)
    y = alt.Y("row:O", scale=alt.Scale(domain=letters, padding=0.08), **bare)
    blank = [{"row": letter, "column": number} for letter in letters for number in numbers]
    outlines = alt.Chart(pa.Table.from_pylist(blank)).mark_rect(cornerRadius=2, filled=False, stroke=GREY, opacity=0.25)
    chosen = alt.selection_point(name="well", fields=["well"], on="click", empty=False)
    few = len({row["value"] for row in rows}) <= 20
    legend = alt.Legend(title=None, orient="right", labelLimit=160) if few or not categorical else None
    colour = (
        alt.Color("value:N", scale=alt.Scale(range=PALETTE * 3), legend=legend)
        if categorical
        else alt.Color("value:Q", scale=alt.Scale(scheme=SEQUENTIAL), legend=legend)
    )
    shown = alt.Tooltip("value:N", title=label) if categorical else alt.Tooltip("value:Q", title=label, format=".4g")
    wells = (
        alt.Chart(pa.Table.from_pylist(list(rows)))
        .mark_rect(cornerRadius=2, cursor="pointer")
        .encode(
            color=colour,
            stroke=alt.condition(chosen, alt.value(ORANGE), alt.value("transparent")),
            strokeWidth=alt.condition(chosen, alt.value(3), alt.value(0)),
            tooltip=["well:N", "compound:N", "dose:N", alt.Tooltip("moa:N", title="MoA"), shown],
        )
        .add_params(chosen)
    )
    return (outlines.encode(x=x, y=y) + wells.encode(x=x, y=y)).properties(height=max(220, 28 * len(letters) + 40))


def group_map(rows: Sequence[dict[str, Any]], x: str, y: str, label: str, *, order: Sequence[str]) -> Figure:
    """Groups as points; a click or a dragged box chooses some."""
    frame = pa.Table.from_pylist(list(rows))
    rest = order[-1] in ("other", "unknown")
    range_ = [*PALETTE[: len(order) - 1], "#a8a8a8"] if rest else (PALETTE * 4)[: len(order)]
    colour = alt.Color(
        "colour:N", sort=list(order), title=label, scale=alt.Scale(domain=list(order), range=range_),
        legend=alt.Legend(orient="top", columns=4, labelLimit=200, symbolLimit=20),
    )  # fmt: skip
    box = alt.selection_interval(name="box")
    point = alt.selection_point(name="point", fields=["group"], on="click", empty=False)
    return (
        alt.Chart(frame)
        .mark_point(filled=True, size=46, opacity=0.85)
        .encode(
            x=alt.X("x:Q", title=x, scale=alt.Scale(zero=False), axis=alt.Axis(labels=False, ticks=False, grid=False)),
            y=alt.Y("y:Q", title=y, scale=alt.Scale(zero=False), axis=alt.Axis(labels=False, ticks=False, grid=False)),
            color=colour,
            shape=alt.Shape(
                "role:N", legend=None, scale=alt.Scale(domain=["treated", "control"], range=["circle", "cross"])
            ),
            tooltip=["compound:N", "moa:N", "replicate:N", "field:Q", "plates:N"],
        )
        .properties(height=560, usermeta={"embedOptions": {"renderer": "canvas"}})  # thousands of points
        .add_params(box, point)
    )
