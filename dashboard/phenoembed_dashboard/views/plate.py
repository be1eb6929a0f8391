"""Plate: the wells in their places, coloured by any column; a click shows a well's images."""

from typing import Any

import streamlit as st

from phenoembed_dashboard import figures, markup
from phenoembed_dashboard.catalogue import Catalogue
from phenoembed_dashboard.downloads import csv_button
from phenoembed_dashboard.links import segmented, select
from phenoembed_dashboard.navigation import page_of
from phenoembed_dashboard.opened import cached, guarded, nothing, store_path, the_catalogue
from phenoembed_dashboard.pictures import large_picture, load_pictures
from phenoembed_dashboard.plates import (
    DISTANCE,
    edge_effect,
    is_categorical,
    plate_grid,
    plate_rows,
    value_columns,
    well_rows,
)
from phenoembed_dashboard.strips import COLUMNS, time_label

MAX_IMAGES = 24


def page() -> None:
    with guarded():
        catalogue = the_catalogue()
        st.html(markup.STYLE)
        plate, time, column = _choose(catalogue)
        rows: list[dict[str, Any]] = cached(_wells, plate=plate, time=time, column=column)
        if not rows:
            nothing(
                f"no well of plate '{plate}' has a value of '{value_columns(catalogue)[column]}'"
                + (": the plate has no control wells" if column == DISTANCE else "")
            )
            return
        left, right = st.columns([3, 2], gap="large")
        with left:
            clicked = _heat_map(catalogue, plate, time, column, rows)
        with right:
            _well(catalogue, plate, time, clicked, rows)


def _wells(store: Any, catalogue: Catalogue, plate: str, time: float | None, column: str) -> list[dict[str, Any]]:
    return well_rows(catalogue, plate, time, column)


def _choose(catalogue: Catalogue) -> tuple[str, float | None, str]:
    first, second, third = st.columns([3, 3, 2], vertical_alignment="bottom")
    plate = select("Plate", catalogue.values("plate"), "plate", always=True, place=first)
    columns = value_columns(catalogue)
    column = select("Colour wells by", list(columns), "colour", form=lambda name: columns[name], place=second)
    times = sorted(set(catalogue.column("time_h")[plate_rows(catalogue, plate, None)].tolist()))
    if len(times) < 2:
        return plate, None, column
    time = segmented("Time", times, "at", form=time_label, default=times[-1], place=third)
    return plate, time, column


def _heat_map(
    catalogue: Catalogue, plate: str, time: float | None, column: str, rows: list[dict[str, Any]]
) -> str | None:
    label, categorical = value_columns(catalogue)[column], is_categorical(catalogue, column)
    grid = plate_grid(rows)
    chart = figures.plate_map(rows, grid, label, categorical=categorical)
    state = figures.show(
        chart, f"plate:{plate}:{column}:{time}", f"{label} of the wells of plate {plate}", on_select="rerun"
    )
    found = None if categorical else edge_effect(rows, grid)
    if found is not None:
        strong = abs(found.apart) > 0.5
        words = f"{'edge effect' if strong else 'no clear edge effect'}: the {found.n_rim} {found.of} at the rim differ"
        badge = markup.chip(
            f"{words} from those inside by {found.apart:+.2f} sd",
            "warn" if strong else "same",
            f"rim {found.rim:.4g}, inside {found.inside:.4g}",
        )
        st.html(f'<div class="pe">{markup.chips([badge])}</div>')
    st.caption("Click a well to see its images. Wells without images are outlines.")
    csv_button(rows, "plate.csv")
    chosen = (state or {}).get("selection", {}).get("well", [])
    return str(chosen[0]["well"]) if chosen else None


def _well(
    catalogue: Catalogue, plate: str, time: float | None, clicked: str | None, rows: list[dict[str, Any]]
) -> None:
    wells = [row["well"] for row in rows]
    if clicked in wells and clicked != st.session_state.get("_clicked"):
        st.session_state["well"] = clicked
    st.session_state["_clicked"] = clicked
    strongest = max(rows, key=lambda row: row["value"])["well"]
    well = select("Well", sorted(wells), "well", default=strongest)
    all_rows = plate_rows(catalogue, plate, time)
    mine = all_rows[catalogue.column("well")[all_rows] == well]
    records = catalogue.records(mine[:MAX_IMAGES], COLUMNS)
    row = next(row for row in rows if row["well"] == well)
    parts = [markup.chip(row["dose"])] + ([markup.chip(row["moa"], "info")] if row["moa"] else [])
    st.html(f'<div class="pe"><div class="pe-head">{markup.name(row["compound"])}</div>{markup.chips(parts)}</div>')
    st.html(markup.gallery(records, load_pictures(store_path(), catalogue, records)))
    if len(mine) > MAX_IMAGES:
        st.caption(f"{MAX_IMAGES} of {len(mine):,} images of this well.")
    fields = [record["field"] for record in records]
    with st.popover("A whole field, larger", icon=":material/zoom_in:"):
        number = st.selectbox(
            "Image",
            range(len(records)),
            key=f"large:{plate}:{well}:{time}",
            format_func=lambda i: f"field {fields[i]}, {time_label(records[i]['time_h'])}",
        )
        picture = large_picture(catalogue.picture(records[number]))
        if isinstance(picture, bytes):
            st.image(picture, alt=markup.caption_of(records[number]))
        else:
            st.html(f'<div class="pe pe-dim">{markup.text(picture)}</div>')
    if row["role"] == "treated":
        st.page_link(
            page_of("compound"), label="What looks like this compound?", icon=":material/biotech:",
            query_params={"compound": row["compound"]},
        )  # fmt: skip
