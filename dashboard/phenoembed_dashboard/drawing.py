"""Figures as SVG, drawn here once and shown as they are: the browser needs no plotting library and answers at once."""

import json
from collections.abc import Callable, Sequence
from functools import lru_cache
from importlib import import_module
from typing import Any

import streamlit as st

from phenoembed_dashboard import clickable
from phenoembed_dashboard.downloads import to_csv

INK = "currentColor"
"""In the page a figure's words have the colour of the page's, light or dark; a file has them black on white."""

CONFIG: dict[str, Any] = {
    "background": "transparent",
    "font": "Source Sans, Source Sans Pro, sans-serif",
    "view": {"stroke": None},
    "text": {"color": INK},
    "axis": {
        "labelColor": INK, "titleColor": INK, "labelOpacity": 0.8, "titleOpacity": 0.8, "labelFontSize": 12,
        "titleFontSize": 12, "titleFontWeight": "normal", "gridColor": "#888", "gridOpacity": 0.2,
        "domainColor": "#888", "domainOpacity": 0.5, "tickColor": "#888", "tickOpacity": 0.5,
    },
    "legend": {"labelColor": INK, "titleColor": INK, "labelFontSize": 12, "titleFontWeight": "normal"},
}  # fmt: skip
PNG_SCALE = 3.0

Figure = Any  # Altair's methods do not say what they return
Rows = Sequence[dict[str, Any]]


def figure(make: Callable[..., Figure], *data: Any, key: str, says: str, rows: Rows = (), **options: Any) -> None:
    """Draw ``make(*data, **options)`` over the width of its column, and offer it as SVG and PNG, ``rows`` as CSV.

    says: what the figure is, for those who cannot see it.
    """
    svg = drawn(make, *data, **options)
    clickable.picture(svg, says, f"figure:{key}")
    downloads(svg, key, rows)


def drawn(make: Callable[..., Figure], *data: Any, **options: Any) -> str:
    """The figure as an SVG; the same data is drawn once."""
    return _drawn(make.__module__, make.__qualname__, json.dumps([data, options]))


@lru_cache(maxsize=128)
def _drawn(module: str, name: str, given: str) -> str:
    data, options = json.loads(given)
    return to_svg(getattr(import_module(module), name)(*data, **options))


def to_svg(chart: Figure) -> str:
    """A chart as an SVG that fills its place; nothing is asked of a network."""
    import altair

    altair.data_transformers.disable_max_rows()
    spec = {**chart.to_dict(validate=False), "config": CONFIG}
    svg: str = import_module("vl_convert").vegalite_to_svg(spec)
    return svg


def downloads(svg: str | Callable[[], str], key: str, rows: Rows = ()) -> None:
    """A figure (or what makes it) as SVG and PNG files, and its rows as CSV: made when they are asked for."""
    name = key.split(":")[0]

    def file() -> str:
        return to_file(svg if isinstance(svg, str) else svg())

    with st.container(horizontal=True, gap="small", key=f"files-{key}"):
        _button("SVG", file, f"{name}.svg", "image/svg+xml", key)
        _button("PNG", lambda: to_png(file()), f"{name}.png", "image/png", key)
        if rows:
            _button("CSV", lambda: to_csv(rows), f"{name}.csv", "text/csv", key)


def to_file(svg: str) -> str:
    """A figure of the page as a file of its own: black on white."""
    start = svg.index(">", svg.index("<svg")) + 1
    return (svg[:start] + '<rect width="100%" height="100%" fill="white"/>' + svg[start:]).replace(INK, "#222")


def to_png(svg: str) -> bytes:
    data: bytes = import_module("vl_convert").svg_to_png(svg, scale=PNG_SCALE)
    return data


def _button(label: str, data: Callable[[], str | bytes], file: str, kind: str, key: str) -> None:
    st.download_button(
        label, data, file, kind, key=f"{label}:{key}", icon=":material/download:", type="tertiary", on_click="ignore",
        help=f"{file}",
    )  # fmt: skip
