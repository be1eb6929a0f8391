"""Figures in the page, and two that answer: a plate whose wells are chosen, a map whose points are drawn around.

Their scripts lie in ``browser/``. What they show of a store goes in as text, never as markup: names stand in SVGs as
attributes that the drawing library escapes, and elsewhere as ``textContent``.
"""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import streamlit as st

SCRIPTS = Path(__file__).with_name("browser")
FIGURE_STYLE = """
figure { margin: 0; max-width: 560px; color: var(--st-text-color); }
figure svg { width: 100%; height: auto; display: block; }
"""
PLATE_STYLE = """
.plate { color: var(--st-text-color); }
.plate svg { width: 100%; height: auto; max-width: 820px; outline-offset: 4px; }
.plate path[aria-roledescription='rect mark'] { cursor: pointer; }
.plate path.chosen { stroke: #d55e00; stroke-width: 3; filter: drop-shadow(0 0 1.5px currentColor); }
"""
MAP_STYLE = """
.map { position: relative; color: var(--st-text-color); height: min(560px, 100vw); border-radius: 8px;
       border: 1px solid color-mix(in srgb, currentColor 14%, transparent); }
.map canvas { position: absolute; inset: 0; width: 100%; height: 100%; touch-action: none; cursor: crosshair; }
.map .tip { position: absolute; pointer-events: none; white-space: pre-line; font-size: .8rem; padding: .25rem .5rem;
            max-width: 20rem; overflow-wrap: anywhere; border-radius: 6px; color: #fff; background: rgba(0,0,0,.8); }
"""


def picture(svg: str, says: str, key: str) -> None:
    """A drawn figure. ``says``: what it is, for those who cannot see it."""
    _picture()(data={"svg": svg, "says": says}, key=key)


def plate(
    svg: str, wells: Sequence[str], places: Sequence[tuple[int, int]], chosen: str, says: str, key: str
) -> str | None:
    """The well that a visitor chose on a drawn plate.

    wells: those drawn, in the drawing's order; places: column and row of each; says: what the figure is.
    """
    data = {
        "svg": svg,
        "wells": list(wells),
        "places": [list(place) for place in places],
        "chosen": chosen,
        "says": says,
    }
    found = _plate()(data=data, key=key, on_well_change=_nothing)
    well: str | None = found.get("well")
    return well


def points(data: dict[str, Any], says: str, key: str) -> list[int]:
    """The places of the points that a visitor clicked or drew a line around. says: what the figure is."""
    found = _points()(data={**data, "says": says}, key=key, on_chosen_change=_nothing)
    return [int(place) for place in found.get("chosen") or () if 0 <= int(place) < len(data["x"])]


def _nothing() -> None:
    """Streamlit keeps the state of components that have a callback."""


@cache
def _picture() -> Any:
    script = (SCRIPTS / "figure.js").read_text()
    return st.components.v2.component(
        "phenoembed_figure", html='<figure role="img"></figure>', css=FIGURE_STYLE, js=script
    )


@cache
def _plate() -> Any:
    script = (SCRIPTS / "plate.js").read_text()
    return st.components.v2.component("phenoembed_plate", html='<div class="plate"></div>', css=PLATE_STYLE, js=script)


@cache
def _points() -> Any:
    script = (SCRIPTS / "map.js").read_text()
    html = '<div class="map"><canvas tabindex="0" role="application"></canvas><div class="tip" hidden></div></div>'
    return st.components.v2.component("phenoembed_map", html=html, css=MAP_STYLE, js=script)
