"""Three compounds side by side, larger: the query, a neighbour, DMSO."""

import streamlit as st

from phenoembed_dashboard import markup
from phenoembed_dashboard.catalogue import Catalogue, Rows
from phenoembed_dashboard.effect import effects
from phenoembed_dashboard.neighbours import Filters
from phenoembed_dashboard.opened import the_store
from phenoembed_dashboard.pictures import load_pictures
from phenoembed_dashboard.strips import compound_strip, control_strip


@st.dialog("Side by side", width="large")
def compare_dialog(catalogue: Catalogue, rows: Rows, neighbour: str, filters: Filters) -> None:
    """A line each, the doses in rising order, how far each lies from DMSO; the same field of view throughout."""
    others = catalogue.rows_of(neighbour)
    mine = compound_strip(catalogue, rows, keep=filters.passes)
    theirs = compound_strip(catalogue, others, plates=catalogue.plates_of(mine.records()), keep=filters.passes)
    controls = control_strip(catalogue, like=mine, n_columns=max(2, len(mine.columns)), keep=filters.passes)
    lines = [(", ".join(sorted({record["compound"] for record in mine.records()})), mine, rows)]
    lines.append((neighbour, theirs, others))
    if catalogue.pictured:
        lines.append(("untreated (DMSO), a column a well", controls, rows[:0]))
    show = load_pictures(the_store().path, catalogue, [r for _, strip, _ in lines for r in strip.records()])
    for label, strip, of in lines:
        note = effects(catalogue, of[filters.passes(catalogue, of)]).note
        st.html(
            f'<div class="pe"><div class="pe-head">{markup.name(label)}</div>'
            f"{markup.strip_html(strip, show, size=160, note=note)}</div>"
        )
