"""Map: every group of images as a point, near those that look alike; a click or a drawn line shows who they are."""

from collections import Counter
from typing import Any, NamedTuple

import streamlit as st

from phenoembed_dashboard import clickable, figures, markup
from phenoembed_dashboard.catalogue import Catalogue
from phenoembed_dashboard.drawing import downloads, drawn
from phenoembed_dashboard.effect import effects
from phenoembed_dashboard.links import adopt, publish, segmented, select
from phenoembed_dashboard.maps import POINTS, Map, colouring, make_map, methods, point_data
from phenoembed_dashboard.navigation import page_of
from phenoembed_dashboard.opened import cached, guarded, nothing, the_catalogue, the_store
from phenoembed_dashboard.pictures import load_pictures
from phenoembed_dashboard.strips import compound_strip
from phenoembed_store import Store

BY = {
    "moa": "mechanism",
    "compound": "compound",
    "dose": "dose",
    "plate": "plate",
    "replicate": "replicate",
    "role": "treated or control",
}
MAX_SHOWN = 6


def page() -> None:
    with guarded():
        catalogue = the_catalogue()
        first, second, third, fourth = st.columns([2, 3, 3, 3], vertical_alignment="bottom")
        method = segmented("Laid out by", methods(), "method", place=first)
        point = select("A point is", list(POINTS), "point", form=lambda name: POINTS[name], place=second)
        patience = "; the first UMAP takes a minute or two" if method == "UMAP" else ""
        with st.spinner(f"Laying out the map, which is kept in the store{patience}…"):
            found: Map = cached(make_map, method=method, point=point)
        there = [name for name in BY if (name != "moa" or catalogue.moas) and (name != "dose" or point == "dose")]
        by = select("Coloured by", there, "colour", form=lambda name: BY[name], place=third)
        _find(catalogue, fourth)
        _draw(catalogue, found, method, point, by)


def _find(catalogue: Catalogue, place: Any) -> None:
    names = list(catalogue.compounds)
    adopt("compound", names, default=None)
    place.selectbox(
        "Point out a compound", names, index=None, key="compound", placeholder="none", filter_mode="contains"
    )
    publish("compound")


class Points(NamedTuple):
    """A map in its colours. rows: its points with the category of each; data: what the browser draws."""

    rows: list[dict[str, Any]]
    order: list[str]
    palette: list[str]
    data: dict[str, Any]


def _points(store: Store, catalogue: Catalogue, method: str, point: str, by: str, named: str | None) -> Points:
    found: Map = cached(make_map, method=method, point=point)
    values, order, palette = colouring(found.rows, by, named)
    rows = [{**row, "colour": value} for row, value in zip(found.rows, values, strict=True)]
    return Points(rows, order, palette, point_data(found.rows, values, order, palette))


def _draw(catalogue: Catalogue, found: Map, method: str, point: str, by: str) -> None:
    named = st.session_state.get("compound")
    drawn_points: Points = cached(_points, method=method, point=point, by=by, named=named)
    left, right = st.columns([3, 2], gap="large")
    with left:
        st.html(markup.legend(drawn_points.order, drawn_points.palette, named or BY[by]))
        says = f"{method} map, a point {POINTS[point]}, coloured by {named or BY[by]}; arrow keys walk over the points"
        chosen = clickable.points(drawn_points.data, says, f"map:{method}:{point}")
        st.html(f'<div class="pe pe-dim" style="text-align:center">{found.axes[0]} → · {found.axes[1]} ↑</div>')
        n = len(found.rows)
        st.caption(
            (f"{n:,} of {found.n:,} points are drawn, picked at random. " if n < found.n else f"{n:,} points. ")
            + "Near points look alike; crosses are controls. "
            "Click a point, walk with the arrow keys, or draw a line around some."
        )
        rows = drawn_points.rows
        downloads(
            lambda: drawn(figures.group_map, rows, *found.axes, BY[by], drawn_points.order, drawn_points.palette),
            "map",
            rows,
        )
    with right:
        _chosen(catalogue, [found.rows[place] for place in chosen], found, named)


def _chosen(catalogue: Catalogue, chosen: list[dict[str, Any]], found: Map, named: str | None) -> None:
    counts = Counter(row["compound"] for row in chosen)
    if named and not counts:
        counts[named] = sum(row["compound"] == named for row in found.rows)
    if not counts:
        nothing("click a point or draw a line around some: the compounds there appear here")
        return
    n = sum(counts.values())
    st.html(
        f'<div class="pe"><b>{n:,} {"point" if n == 1 else "points"}</b> of {len(counts):,} '
        f"{'compound' if len(counts) == 1 else 'compounds'}</div>"
    )
    names = [name for name, _ in counts.most_common(MAX_SHOWN)]
    strips = {name: compound_strip(catalogue, catalogue.rows_of(name)) for name in names}
    show = load_pictures(the_store().path, catalogue, [r for strip in strips.values() for r in strip.records()])
    for name in names:
        compound = catalogue.compounds[name]
        parts = [markup.chip(f"{counts[name]:,} here")] + ([markup.chip(compound.moa, "info")] if compound.moa else [])
        with st.container(border=True):
            st.html(
                f'<div class="pe"><div class="pe-head">{markup.name(name)}</div>{markup.chips(parts)}'
                f"{markup.strip_html(strips[name], show, note=effects(catalogue, catalogue.rows_of(name)).note)}</div>"
            )
            st.page_link(
                page_of("compound"), label="What looks like it?", icon=":material/biotech:",
                query_params={"compound": name},
            )  # fmt: skip
    if len(counts) > MAX_SHOWN:
        st.caption(f"and {len(counts) - MAX_SHOWN:,} more compounds")
