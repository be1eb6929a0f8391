"""Map: every group of images as a point, near those that look alike; a click or a dragged box shows who they are."""

from collections import Counter
from typing import Any

import streamlit as st

from phenoembed_dashboard import figures, markup
from phenoembed_dashboard.catalogue import Catalogue
from phenoembed_dashboard.downloads import csv_button
from phenoembed_dashboard.links import adopt, publish, segmented, select
from phenoembed_dashboard.maps import MAX_POINTS, colours, map_rows, methods
from phenoembed_dashboard.navigation import page_of
from phenoembed_dashboard.opened import cached, guarded, nothing, store_path, the_catalogue
from phenoembed_dashboard.pictures import load_pictures
from phenoembed_dashboard.strips import compound_strip

BY = {
    "moa": "mechanism",
    "compound": "compound",
    "replicate": "replicate",
    "plates": "plate",
    "role": "treated or control",
}
MAX_SHOWN = 6


def page() -> None:
    with guarded():
        catalogue = the_catalogue()
        st.html(markup.STYLE)
        first, second, third = st.columns([2, 3, 3], vertical_alignment="bottom")
        method = segmented("Laid out by", methods(), "method", place=first)
        with st.spinner("Laying out the map; it is kept in the store…"):
            rows, n_groups, axes = cached(map_rows, method=method)
        by = _colour(catalogue, rows, second)
        _find(catalogue, third)
        _draw(catalogue, rows, n_groups, axes, by)


def _colour(catalogue: Catalogue, rows: list[dict[str, Any]], place: Any) -> str:
    there = [name for name in BY if name != "moa" or catalogue.moas]
    return select("Coloured by", there, "colour", form=lambda name: BY[name], place=place)


def _find(catalogue: Catalogue, place: Any) -> None:
    names = list(catalogue.compounds)
    adopt("compound", names, default=None)
    place.selectbox(
        "Point out a compound", names, index=None, key="compound", placeholder="none", filter_mode="contains"
    )
    publish("compound")


def _draw(catalogue: Catalogue, rows: list[dict[str, Any]], n_groups: int, axes: tuple[str, str], by: str) -> None:
    named = st.session_state.get("compound")
    if named:
        values, order = ["other" if row["compound"] != named else named for row in rows], [named, "other"]
        drawn = sorted(zip(rows, values, strict=True), key=lambda pair: pair[1] == named)
    else:
        values, order = colours(rows, by)
        drawn = list(zip(rows, values, strict=True))
    points = [{**row, "colour": value} for row, value in drawn]
    left, right = st.columns([3, 2], gap="large")
    with left:
        chart = figures.group_map(points, *axes, BY[by], order=order)
        state = figures.show(chart, "map", "map of groups of images", on_select="rerun")
        capped = f"{len(rows):,} of {n_groups:,} groups are drawn, picked evenly" if n_groups > MAX_POINTS else ""
        st.caption(
            (f"{capped}. " if capped else f"{n_groups:,} groups of images. ")
            + "Near points look alike. Crosses are controls. Click a point, or drag a box around some."
        )
        csv_button(rows, "map.csv")
    with right:
        _chosen(catalogue, rows, state, named)


def _chosen(catalogue: Catalogue, rows: list[dict[str, Any]], state: Any, named: str | None) -> None:
    counts = Counter(row["compound"] for row in _selected(rows, state))
    if named and not counts:
        counts[named] = sum(row["compound"] == named for row in rows)
    if not counts:
        nothing("click a point or drag a box: the compounds there appear here, with their images")
        return
    n = sum(counts.values())
    st.html(
        f'<div class="pe"><b>{n:,} {"group" if n == 1 else "groups"}</b> of {len(counts):,} '
        f"{'compound' if len(counts) == 1 else 'compounds'}</div>"
    )
    names = [name for name, _ in counts.most_common(MAX_SHOWN)]
    strips = {name: compound_strip(catalogue, catalogue.rows_of(name)) for name in names}
    show = load_pictures(store_path(), catalogue, [r for strip in strips.values() for r in strip.records()])
    for name in names:
        compound = catalogue.compounds[name]
        parts = [markup.chip(f"{counts[name]:,} groups here")] + (
            [markup.chip(compound.moa, "info")] if compound.moa else []
        )
        with st.container(border=True):
            st.html(
                f'<div class="pe"><div class="pe-head">{markup.name(name)}</div>{markup.chips(parts)}'
                f"{markup.strip_html(strips[name], show)}</div>"
            )
            st.page_link(
                page_of("compound"), label="What looks like it?", icon=":material/biotech:",
                query_params={"compound": name},
            )  # fmt: skip
    if len(counts) > MAX_SHOWN:
        st.caption(f"and {len(counts) - MAX_SHOWN:,} more compounds")


def _selected(rows: list[dict[str, Any]], state: Any) -> list[dict[str, Any]]:
    selection = (state or {}).get("selection", {})
    groups = {point["group"] for point in selection.get("point", [])}
    if groups:
        return [row for row in rows if row["group"] in groups]
    box = selection.get("box") or {}
    if "x" not in box or "y" not in box:
        return []
    (left, right), (bottom, top) = sorted(box["x"]), sorted(box["y"])
    return [row for row in rows if left <= row["x"] <= right and bottom <= row["y"] <= top]
