"""Plate: the wells in their places, coloured by any column; a click shows a well's images."""

from typing import Any

import streamlit as st

from phenoembed_dashboard import clickable, figures, markup
from phenoembed_dashboard.catalogue import Catalogue
from phenoembed_dashboard.drawing import downloads, drawn
from phenoembed_dashboard.links import adopt, segmented, select
from phenoembed_dashboard.maps import colouring
from phenoembed_dashboard.navigation import page_of
from phenoembed_dashboard.opened import cached, guarded, nothing, the_catalogue, the_store
from phenoembed_dashboard.pictures import large_picture, load_pictures
from phenoembed_dashboard.plates import (
    DISTANCE,
    Calls,
    Grid,
    calls,
    is_categorical,
    plate_grid,
    plate_rows,
    rim_effect,
    value_columns,
    well_rows,
)
from phenoembed_dashboard.strips import COLUMNS, Record, time_label
from phenoembed_store import Store
from phenoembed_store.plate_layout import well_order

MAX_IMAGES = 24


def page() -> None:
    with guarded():
        catalogue = the_catalogue()
        called: Calls = cached(calls)
        plate, time, column = _choose(catalogue, called)
        label = value_columns(catalogue, called)[column]
        rows: list[dict[str, Any]] = cached(_wells, plate=plate, time=time, column=column)
        if not rows:
            nothing(
                f"no well of plate '{plate}' has a value of '{label}'"
                + (": the plate has no control wells" if column == DISTANCE else "")
            )
            return
        left, right = st.columns([3, 2], gap="large")
        with left:
            _heat_map(catalogue, plate, time, column, label, rows)
        with right:
            _well(catalogue, plate, time, rows)


def _wells(store: Store, catalogue: Catalogue, plate: str, time: float | None, column: str) -> list[dict[str, Any]]:
    rows = well_rows(catalogue, plate, time, column, calls(store, catalogue))
    for row in rows:
        value = row["value"] if isinstance(row["value"], str) else f"{row['value']:.4g}"
        what = ", ".join(part for part in (row["compound"], row["dose"], row["moa"]) if part)
        row["says"] = f"{row['well']}: {what}: {value}"
    return rows


def _choose(catalogue: Catalogue, called: Calls) -> tuple[str, float | None, str]:
    """Plate, time (where there are several), and column."""
    first, second, third = st.columns([3, 3, 2], vertical_alignment="bottom")
    plate = select("Plate", list(catalogue.plates), "plate", always=True, place=first)
    columns = value_columns(catalogue, called)
    column = select("Colour wells by", list(columns), "colour", form=lambda name: columns[name], place=second)
    times = sorted(set(catalogue.column("time_h")[plate_rows(catalogue, plate, None)].tolist()))
    if len(times) < 2:
        return plate, None, column
    return plate, segmented("Time", times, "at", form=time_label, default=times[-1], place=third), column


def _heat_map(
    catalogue: Catalogue,
    plate: str,
    time: float | None,
    column: str,
    label: str,
    rows: list[dict[str, Any]],
) -> None:
    """The plate; a click on a well is what the page shows next."""
    categorical, grid = is_categorical(catalogue, column), plate_grid(rows)
    wells = [row["well"] for row in rows]
    adopt("well", wells, default=_strongest(rows))
    svg = _svg(rows, grid, label, categorical)
    places = [(row["column"], grid[0].index(row["row"])) for row in rows]
    says = f"{label} of the wells of plate {plate}; arrow keys walk over them"
    key = f"plate:{plate}:{column}:{time}"
    clicked = clickable.plate(svg, wells, places, st.session_state["well"], says, key)
    if clicked in wells:
        st.session_state["well"] = clicked
    if (found := None if categorical else rim_effect(rows, grid)) is not None:
        words = f"{'Edge effect' if found.clear else 'No clear edge effect'}: the {found.n_rim} {found.of} at the rim"
        says = f"{words} differ from the {found.n_inside} inside by {found.apart:+.2f} sd"
        says += f" (mean {found.rim:.3g} and {found.inside:.3g})."
        st.html(f'<div class="pe pe-says {"warn" if found.clear else ""}">{markup.text(says)}</div>')
    unit = "1 is how far DMSO wells of the plate lie from each other. " if column == DISTANCE else ""
    what = "its images" if catalogue.pictured else "what is in it"
    st.caption(f"{unit}Click a well, or walk with the arrow keys, to see {what}. Wells without a value are outlines.")
    downloads(svg, key, rows)


def _svg(rows: list[dict[str, Any]], grid: Grid, label: str, categorical: bool) -> str:
    if not categorical:
        return drawn(figures.plate_map, rows, grid, label)
    values, order, palette = colouring(rows, "value")
    coloured = [{**row, "colour": value} for row, value in zip(rows, values, strict=True)]
    return drawn(figures.plate_map, coloured, grid, label, order, palette)


def _strongest(rows: list[dict[str, Any]]) -> str:
    return str(max(rows, key=lambda row: row["value"])["well"])


def _well(catalogue: Catalogue, plate: str, time: float | None, rows: list[dict[str, Any]]) -> None:
    well = select("Well", sorted((row["well"] for row in rows), key=well_order), "well", default=_strongest(rows))
    all_rows = plate_rows(catalogue, plate, time)
    mine = all_rows[catalogue.column("well")[all_rows] == well]
    records = catalogue.records(mine[:MAX_IMAGES], COLUMNS)
    row = next(row for row in rows if row["well"] == well)
    parts = [markup.chip(row["dose"])] + ([markup.chip(row["moa"], "info")] if row["moa"] else [])
    st.html(f'<div class="pe"><div class="pe-head">{markup.name(row["compound"])}</div>{markup.chips(parts)}</div>')
    if catalogue.pictured:
        st.html(markup.gallery(records, load_pictures(the_store().path, catalogue, records)))
    if len(mine) > MAX_IMAGES:
        st.caption(f"{MAX_IMAGES} of {len(mine):,} images of this well.")
    if records and catalogue.pictured and st.button("A whole field, larger", icon=":material/zoom_in:"):
        _whole_field(catalogue, records)
    if row["role"] == "treated":
        st.page_link(
            page_of("compound"), label="What looks like this compound?", icon=":material/biotech:",
            query_params={"compound": row["compound"]},
        )  # fmt: skip


@st.dialog("A whole field", width="large")
def _whole_field(catalogue: Catalogue, records: list[Record]) -> None:
    """One image whole, read from its file."""
    number = st.selectbox(
        "Image",
        range(len(records)),
        format_func=lambda i: f"field {records[i]['field']}, {time_label(records[i]['time_h'])}",
    )
    picture = large_picture(catalogue.picture(records[number]))
    if isinstance(picture, bytes):
        st.image(picture, caption=markup.caption_of(records[number]), alt=markup.caption_of(records[number]))
    else:
        st.html(f'<div class="pe pe-dim">{markup.text(picture)}</div>')
