"""Three compounds side by side, larger: DMSO, the query, a neighbour."""

import streamlit as st

from phenoembed_dashboard import markup
from phenoembed_dashboard.catalogue import Catalogue, Rows
from phenoembed_dashboard.neighbours import Filters
from phenoembed_dashboard.opened import the_store
from phenoembed_dashboard.pictures import load_pictures
from phenoembed_dashboard.strips import compound_strip, control_strip


@st.dialog("Side by side", width="large")
def compare_dialog(catalogue: Catalogue, rows: Rows, neighbour: str, filters: Filters) -> None:
    """A line each, the doses in rising order; the same field of view throughout."""
    mine = compound_strip(catalogue, rows, keep=filters.passes)
    plates = catalogue.plates_of(mine.records())
    theirs = compound_strip(catalogue, catalogue.rows_of(neighbour), plates=plates, keep=filters.passes)
    controls = control_strip(catalogue, like=mine, n_columns=max(2, len(mine.columns)), keep=filters.passes)
    show = load_pictures(the_store().path, catalogue, [r for s in (mine, theirs, controls) for r in s.records()])
    query = ", ".join(sorted({record["compound"] for record in mine.records()}))
    for label, strip in ((query, mine), (neighbour, theirs), ("untreated (DMSO), a column a well", controls)):
        st.html(
            f'<div class="pe"><div class="pe-head">{markup.name(label)}</div>'
            f"{markup.strip_html(strip, show, size=160)}</div>"
        )
