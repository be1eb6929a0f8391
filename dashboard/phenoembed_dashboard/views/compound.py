"""Compound: what looks like this one? Nearest neighbours as cards, beside the query and DMSO."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import streamlit as st

from phenoembed_dashboard import markup
from phenoembed_dashboard.catalogue import Catalogue, Rows
from phenoembed_dashboard.compare import compare_dialog
from phenoembed_dashboard.downloads import csv_button
from phenoembed_dashboard.effect import Effects, effects
from phenoembed_dashboard.links import adopt, publish, segmented, select
from phenoembed_dashboard.navigation import page_of
from phenoembed_dashboard.neighbours import Filters, Found, Neighbour, Query, control_similarity, find_neighbours
from phenoembed_dashboard.neighbours import query_rows as rows_of_query
from phenoembed_dashboard.opened import (
    cached,
    choose_compound,
    guarded,
    is_imported,
    nothing,
    the_catalogue,
    the_store,
)
from phenoembed_dashboard.pictures import load_pictures
from phenoembed_dashboard.plates import plate_rows
from phenoembed_dashboard.strips import Strip, compound_strip, control_strip, dose_label, time_label
from phenoembed_dashboard.structure import structure_svg
from phenoembed_dashboard.support import Replicates, Support, replicates, support
from phenoembed_dashboard.upload import embed_upload
from phenoembed_store.plate_layout import well_order

PER_PAGE = (6, 12, 24, 48)
PICTURES = "Each thumbnail is the centre of one field of view, in one contrast for its whole plate. "
PROFILES = "These are profiles without images: each square is a dose. "
FIGURES = (
    "The figure on it, 2.0×, is how far that dose and time lies from DMSO, in units of how far DMSO wells lie from "
    "each other; it is orange beyond what 95% of them do. Similarity is the cosine of the compounds' embeddings: 1 is "
    "the same look."
)
BY = ("Compound", "Well", "Image file")


def page() -> None:
    with guarded():
        catalogue = the_catalogue()
        if not catalogue.compounds:
            nothing("the store has no images", "phenoembed index PLATES")
            return
        query = _choose(catalogue)
        if query is None:
            return
        filters, k, field = _filters(catalogue, query)
        found: Found = cached(find_neighbours, query=query, filters=filters, k=k)
        _show(catalogue, query, filters, found, field)


def _choose(catalogue: Catalogue) -> Query | None:
    how, what = st.columns([1, 2], vertical_alignment="bottom")
    by = segmented("Find what looks like a", BY, "by", place=how)
    if by == "Image file":
        if is_imported(catalogue):
            nothing(
                "these embeddings were imported: an image needs an encoder that was trained here",
                "phenoembed train PLATES",
            )
            return None
        uploaded = what.file_uploader("A microscope image (TIFF or PNG, one channel)", type=["tif", "tiff", "png"])
        return None if uploaded is None else embed_upload(uploaded, catalogue.encoder)
    if by == "Well":
        return _choose_well(catalogue, what)
    label = "Compound (type a name, synonym, mechanism or InChIKey)"
    return Query(compound=choose_compound(catalogue, label, partial(_label, catalogue), what))


def _label(catalogue: Catalogue, name: str) -> str:
    compound = catalogue.compounds[name]
    parts = [markup.shortened(name, 80), compound.moa, *compound.known_as]
    return "  ·  ".join(part for part in parts if part)


def _choose_well(catalogue: Catalogue, place: "st.delta_generator.DeltaGenerator") -> Query:
    left, right = place.columns(2)
    plate = select("Plate", list(catalogue.plates), "plate", always=True, place=left)
    wells = sorted(set(catalogue.column("well")[plate_rows(catalogue, plate, None)].tolist()), key=well_order)
    well = select("Well", wells, "well", always=True, place=right)
    return Query(well=(plate, well))


def _filters(catalogue: Catalogue, query: Query) -> tuple[Filters, int, int | None]:
    doses = [dose for dose in catalogue.values("concentration_um") if dose > 0]
    lists: dict[str, tuple[str, list[Any], Callable[[Any], str]]] = {
        "dose": ("Doses", doses, dose_label),
        "time": ("Times", catalogue.values("time_h"), time_label),
        "on": ("Plates", list(catalogue.plates), str),
        "moa": ("Mechanism of the neighbours", list(catalogue.moas), str),
    }
    bar = st.container(horizontal=True, vertical_alignment="center")
    with bar.popover("Filters", icon=":material/tune:"):
        chosen: dict[str, tuple[Any, ...]] = {}
        for key, (label, options, form) in lists.items():
            if len(options) < 2:
                chosen[key] = ()
                continue
            adopt(key, options, many=True, default=[])
            chosen[key] = tuple(st.multiselect(label, options, key=key, format_func=form, placeholder="all"))
            publish(key, [])
        apart = False
        if len(catalogue.plates) > 1 and query.vector is None:
            adopt("apart", ("True", "False"), default=False)
            st.session_state["apart"] = str(st.session_state["apart"]) == "True"
            apart = st.toggle(
                "Compare across plates only",
                key="apart",
                help="Leaves out pairs on one plate: what looks alike then is not the plate.",
            )
            publish("apart", False)
        k = segmented("Neighbours", PER_PAGE, "k")
        fields = catalogue.values("field")
        field = select("Field of view shown", fields, "field") if len(fields) > 1 else None
    filters = Filters(chosen["dose"], chosen["time"], chosen["on"], chosen["moa"], apart)
    bar.html(f'<div class="pe">{markup.chips(_active(filters))}</div>')
    return filters, k, field


def _active(filters: Filters) -> list[str]:
    parts = [*map(dose_label, filters.doses), *map(time_label, filters.times), *filters.plates, *filters.moas]
    parts += ["across plates only"] if filters.other_plates_only else []
    return [markup.chip(part, "info") for part in parts] or [markup.chip("no filter: all doses, times and plates")]


@dataclass(frozen=True)
class View:
    """What the cards of a page have in common."""

    catalogue: Catalogue
    query: Query
    filters: Filters
    show: markup.Show
    everywhere: bool  # whether every neighbour shares a plate with the query

    def effects(self, rows: Rows) -> Effects:
        return effects(self.catalogue, rows[self.filters.passes(self.catalogue, rows)])

    def grid(self, strip: Strip, found: Effects | None) -> str:
        """Images with their effects."""
        return markup.strip_html(strip, self.show, size=84, note=None if found is None else found.note)


def _show(catalogue: Catalogue, query: Query, filters: Filters, found: Found, field: int | None) -> None:
    rows = rows_of_query(catalogue, query)
    mine = compound_strip(catalogue, rows, field=field, keep=filters.passes)
    plates = catalogue.plates_of(mine.records())
    width = max(2, len(mine.columns))
    controls = control_strip(catalogue, like=mine, field=field, n_columns=width, keep=filters.passes)
    strips = {
        hit.compound: (
            controls
            if hit.role == "control"
            else compound_strip(
                catalogue, catalogue.rows_of(hit.compound), field=field, plates=plates, keep=filters.passes
            )
        )
        for hit in found.neighbours
    }
    records = [record for strip in (mine, controls, *strips.values()) for record in strip.records()]
    shared = [bool(hit.same_plate) for hit in found.neighbours]
    view = View(
        catalogue, query, filters, load_pictures(the_store().path, catalogue, records), len(shared) > 1 and all(shared)
    )
    left, right = st.columns([5, 9], gap="medium")
    with left, st.container(key="query"):
        _query_card(view, rows, mine, controls)
    with right:
        sure = _support(query, filters)
        _heading(view, found, sure)
        for start in range(0, len(found.neighbours), 2):  # in rows, so that a narrow window keeps the order
            cards = st.columns(2, gap="small")
            for card, hit in zip(cards, found.neighbours[start : start + 2], strict=False):
                with card, st.container(border=True):
                    st.html(_card(view, hit, strips[hit.compound], sure))
                    _actions(catalogue, query, hit, filters)
        if not found.neighbours:
            nothing("nothing passes these filters but the query's own compound; take a filter off")
        csv_button(_table(found, sure), "neighbours.csv")
    st.caption((PICTURES if catalogue.pictured else PROFILES) + FIGURES)


def _support(query: Query, filters: Filters) -> Support:
    """How often each neighbour comes out again, replicate by replicate."""
    if query.compound is None:
        return Support({}, 0, 0, None)
    catalogue = the_catalogue()
    by_dose = Filters(filters.doses, filters.times, filters.plates)
    found: Replicates = cached(replicates, filters=by_dose)
    of_moa = {c.name for c in catalogue.compounds.values() if c.moa in filters.moas} if filters.moas else None
    return support(found, query.compound, of_moa)


def _table(found: Found, sure: Support) -> list[dict[str, Any]]:
    known = {"among_nearest_in": None, "replicates": sure.replicates or None}
    return [
        {**row, **known, "among_nearest_in": sure.found_in.get(row["compound"]) if sure.replicates else None}
        for row in found.rows
    ]


def _query_card(view: View, rows: Rows, mine: Strip, controls: Strip) -> None:
    catalogue, query = view.catalogue, view.query
    found = view.effects(rows) if len(rows) else None
    with st.container(border=True):
        if query.compound is not None:
            compound = catalogue.compounds[query.compound]
            title, parts = (
                query.compound,
                [markup.chip(compound.moa, "info", "mechanism of action")] if compound.moa else [],
            )
            parts.append(markup.chip(f"{compound.n_images:,} {'images' if catalogue.pictured else 'profiles'}"))
        else:
            title = "The image you chose" if query.well is None else f"{query.well[0]} · {query.well[1]}"
            of = sorted({record["compound"] for record in mine.records()})
            parts = [markup.chip(name, "info", "compound in this well") for name in of]
        treated = any(record["role"] == "treated" for record in mine.records())
        says = found.sentence(catalogue.timed) if found is not None and treated else ""
        quiet = found is not None and found.of and not found.clear()
        st.html(
            f'<div class="pe"><div class="pe-dim">you look for</div><div class="pe-head">{markup.name(title)}</div>'
            f'{markup.chips(parts)}<div class="pe-says {"warn" if quiet else ""}">{markup.text(says)}</div>'
            + (view.grid(mine, found) if query.vector is None else "")
            + "</div>"
        )
        if query.compound is not None and (svg := _structure(catalogue, query.compound)):
            source = markup.data_uri(svg.encode(), "image/svg+xml")
            st.html(f'<div class="pe pe-structure"><img src="{source}" alt="structure of the compound"></div>')
        if query.vector is None and controls.records() and catalogue.pictured:
            st.html(
                '<div class="pe"><div class="pe-dim">untreated (DMSO) on the same plate, a column a well</div>'
                f"{view.grid(controls, None)}</div>"
            )
        if query.compound is not None and treated and catalogue.pictured:
            st.page_link(
                page_of("evidence"),
                label="Which images make the call?",
                icon=":material/query_stats:",
                query_params={"compound": query.compound},
            )


def _heading(view: View, found: Found, sure: Support) -> None:
    n = len(found.neighbours)
    if not n:
        return
    context = [] if sure.typical is None else [f"A typical compound here has a similarity of {sure.typical:z.2f}"]
    rows = rows_of_query(view.catalogue, view.query)
    likeness = control_similarity(view.catalogue, rows) if len(rows) else None
    if likeness is not None:
        context.append(f"DMSO on its plates has {likeness:z.2f}" if context else f"DMSO has {likeness:z.2f}")
    said = f"{', '.join(context)}. " if context else ""
    if view.everywhere:
        said += "All of these share a plate with the query: the filter “across plates only” leaves such pairs out."
    st.html(
        f'<div class="pe"><b>{n} nearest compound{"" if n == 1 else "s"}</b>, the most alike first'
        f'<div class="pe-dim">{markup.text(said)}</div></div>'
    )


def _card(view: View, hit: Neighbour, strip: Strip, sure: Support) -> str:
    parts, moa = [], _moa(view.catalogue, view.query)
    if hit.role == "control":
        parts.append(markup.chip("untreated control", "info", "the query looks much like untreated cells"))
    if hit.moa:
        alike = moa is not None and hit.moa == moa
        parts.append(markup.chip(hit.moa, "same" if alike else "", "same mechanism as the query" if alike else hit.moa))
    if sure.replicates > 1:
        times = sure.found_in.get(hit.compound, 0)
        among = f"among the {sure.nearest} nearest" if sure.nearest > 1 else "nearest"
        parts.append(
            markup.chip(
                f"{among} in {times} of {sure.replicates} replicates",
                "same" if times == sure.replicates else "" if 2 * times >= sure.replicates else "warn",
                "each replicate of the query by itself, compared with the other replicates of the library",
            )
        )
    if hit.q_value is not None:
        parts.append(markup.chip(f"q = {hit.q_value:.2g}", "", "share of false finds expected among hits this good"))
    if hit.same_plate and not view.everywhere:
        parts.append(markup.chip("shares a plate", "warn", "imaged on a plate of the query: part may be the plate"))
    if hit.same_wells:
        wells = ", ".join(hit.same_wells)
        parts.append(markup.chip("same well position", "warn", f"{wells}: part of the likeness may be the position"))
    known = None if hit.role == "control" else view.effects(view.catalogue.rows_of(hit.compound))
    return (
        f'<div class="pe"><div class="pe-head"><span class="pe-rank">{hit.rank}</span>{markup.name(hit.compound)}'
        f'<span class="pe-score" title="cosine similarity">{hit.similarity:z.3f}</span></div>'
        f"{_bar(hit.similarity, sure)}{markup.chips(parts)}{view.grid(strip, known)}</div>"
    )


def _bar(similarity: float, sure: Support) -> str:
    """Full where it looks the same, empty where it looks as alike as a typical compound does."""
    if sure.typical is None or sure.typical >= 1:
        return markup.bar(similarity, "the similarity: full is the same look")
    share = (similarity - sure.typical) / (1 - sure.typical)
    return markup.bar(share, "empty: as alike as a typical compound; full: the same look")


def _actions(catalogue: Catalogue, query: Query, hit: Neighbour, filters: Filters) -> None:
    row = st.container(horizontal=True)
    row.button(
        "Look from here", key=f"go{hit.rank}", on_click=_go, args=(hit.compound,), icon=":material/my_location:",
        type="tertiary", help="Search for what looks like this compound.",
    )  # fmt: skip
    if query.vector is None and row.button(
        "Compare", key=f"compare{hit.rank}", icon=":material/compare:", type="tertiary",
        help="DMSO, the query and this compound side by side, larger.",
    ):  # fmt: skip
        compare_dialog(catalogue, rows_of_query(catalogue, query), hit.compound, filters)


def _go(compound: str) -> None:
    st.session_state["compound"] = compound
    st.session_state["by"] = BY[0]


def _moa(catalogue: Catalogue, query: Query) -> str | None:
    return catalogue.compounds[query.compound].moa if query.compound is not None else None


def _structure(catalogue: Catalogue, compound: str) -> str | None:
    if "smiles" not in catalogue.table.column_names:
        return None
    record = catalogue.records(catalogue.rows_of(compound)[:1], ["smiles"])[0]
    return structure_svg(str(record["smiles"])) if record.get("smiles") else None
