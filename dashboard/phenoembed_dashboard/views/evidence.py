"""Evidence: which dose, time or image made the call, and what is left of it when they are switched off."""

from typing import Any

import numpy as np
import streamlit as st

from phenoembed_dashboard import figures, markup
from phenoembed_dashboard.catalogue import Catalogue
from phenoembed_dashboard.downloads import csv_button
from phenoembed_dashboard.drawing import figure
from phenoembed_dashboard.evidence import (
    GroupChoice,
    GroupEvidence,
    dose_of,
    group_choices,
    group_compound,
    group_evidence,
    top_classes,
    usable_heads,
)
from phenoembed_dashboard.links import select
from phenoembed_dashboard.opened import (
    cached,
    choose_compound,
    guarded,
    no_probe,
    nothing,
    the_catalogue,
    the_store,
)
from phenoembed_dashboard.pictures import load_pictures
from phenoembed_dashboard.strips import Record, Strip, dose_label, time_label


def page() -> None:
    with guarded():
        catalogue = the_catalogue()
        heads: dict[str, str] = usable_heads(the_store(), catalogue)
        if not heads:
            no_probe(catalogue, "no head can be asked yet")
            return
        chosen = _choose(catalogue, heads)
        if chosen is None:
            return
        compound, group, head_id = chosen
        head = the_store().head(head_id)
        _show(catalogue, group_evidence(catalogue, head, group.group_id, compound), group, head_id)


def _choose(catalogue: Catalogue, heads: dict[str, str]) -> tuple[str, GroupChoice, str] | None:
    first, second, third = st.columns([2, 3, 3], vertical_alignment="bottom")
    compound = choose_compound(catalogue, "Compound", lambda name: markup.shortened(name, 80), first)
    groups: list[GroupChoice] = cached(group_choices, compound=compound)
    if not groups:
        nothing(f"the images of '{compound}' are of no group (empty or spare control wells)")
        return None
    by_id = {group.group_id: group for group in groups}
    chosen = select(
        "Group of images", list(by_id), "group", form=lambda name: _describe(by_id[name]), always=True, place=second
    )
    head = select("Asked for its", list(heads), "head", form=lambda name: heads[name], place=third)
    return compound, by_id[chosen], head


def _describe(group: GroupChoice) -> str:
    several = f", set {group.set + 1}" if group.set else ""
    seen = f"unseen ({group.unseen})" if group.unseen else "may have been trained on"
    where = ", ".join(part for part in (group.screen, group.replicate) if part)
    return f"{where}, field {group.field}{several}: {seen}"


def _show(catalogue: Catalogue, evidence: GroupEvidence, group: GroupChoice, head: str) -> None:
    records = evidence.records
    doses = list(dict.fromkeys(dose_of(record) for record in records))
    times = sorted({record["time_h"] for record in records})
    label = _column_label(records)
    kept = _switches(records, doses, times, label, f"{group.group_id}:{head}")
    before, after = evidence.posterior(), evidence.posterior(kept)
    called = int(before.argmax())
    st.html(_sentence(evidence, before, after, called, kept, group))
    left, right = st.columns([1, 1], gap="large")
    with left:
        _images(catalogue, evidence, kept, called, before, label)
    with right:
        st.html('<div class="pe"><b>What it is called</b></div>')
        rows = _bars(evidence, before, after, bool(kept.all()))
        figure(figures.posterior_bars, rows, not kept.all(), key="posterior", says="probability of classes", rows=rows)
        parts = [
            *_parts(evidence, called, "well" if _column(records) == "well" else "concentration_um", label),
            *_parts(evidence, called, "time_h", time_label),
        ]
        if parts:
            what = f"What each {_column(records)} and time says by itself, and what is left without it"
            st.html(f'<div class="pe"><b>{what}</b></div>')
            title = f"probability of {markup.shortened(evidence.classes[called], 40)}"
            figure(figures.part_bars, parts, title, key="parts", says="probability of the call by part", rows=parts)


def _images(catalogue: Catalogue, evidence: GroupEvidence, kept: Any, called: int, before: Any, label: Any) -> None:
    """The group's images, each with what it does for the call."""
    records = evidence.records
    rival = int(np.argsort(-before, kind="stable")[1]) if len(before) > 1 else called
    odds = evidence.log_odds(called, rival, kept)
    share = dict(zip(map(id, records), odds, strict=True))
    on = dict(zip(map(id, records), kept, strict=True))
    reach = max(1e-9, float(np.abs(odds).max()))
    doses = list(dict.fromkeys(dose_of(record) for record in records))
    strip = _grid(records, doses, sorted({record["time_h"] for record in records}), label)
    names = [markup.text(evidence.classes[i]) for i in (called, rival)]
    st.html(
        '<div class="pe"><b>The images, and what each does for the call</b>'
        f'<div class="pe-dim">log-odds of {names[0]} against {names[1]} that are lost without it; above 0 it speaks '
        "for the call</div>"
        + markup.strip_html(
            strip,
            load_pictures(the_store().path, catalogue, records),
            size=128,
            off=lambda r: not on[id(r)],
            note=lambda r: _note(share[id(r)], on[id(r)], reach),
        )
        + "</div>"
    )
    if not evidence.adds:
        st.caption(
            f"With the method '{evidence.head.method}' evidence does not add: whatever is switched off, the "
            "probabilities are worked out anew from the embeddings that are left; these figures do not sum up."
        )
    if 0 < evidence.new.sum() < len(records):
        places = dict.fromkeys(
            f"{label(dose_of(record))}, {time_label(record['time_h'])}"
            for record, new in zip(records, evidence.new, strict=True)
            if new
        )
        st.caption(f"Doubted, for no training group had this dose and time: {'; '.join(places)}.")
    rows = [
        {
            "dose": label(dose_of(record)), "time": time_label(record["time_h"]), "well": record["well"],
            "plate": record["plate"], "field": record["field"], "switched_on": bool(flag), "does": float(value),
        }
        for record, flag, value in zip(records, kept, odds, strict=True)
    ]  # fmt: skip
    csv_button(rows, "evidence.csv")


def _switches(records: tuple[Record, ...], doses: list[Any], times: list[Any], label: Any, scope: str) -> Any:
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        kept_doses = set(
            st.pills(
                f"{_column(records).capitalize()}s in use",
                doses,
                selection_mode="multi",
                default=doses,
                format_func=label,
                key=f"d:{scope}",
            )
        )
        kept_times = set(
            st.pills(
                "Times in use", times, selection_mode="multi", default=times, format_func=time_label, key=f"t:{scope}"
            )
        )
        numbers = list(range(len(records)))

        def named(i: int) -> str:
            record = records[i]
            return f"{label(dose_of(record))}, {time_label(record['time_h'])}, {record['well']}"

        off = set(
            st.multiselect(
                "Single images to switch off",
                numbers,
                format_func=named,
                key=f"i:{scope}",
                placeholder="none",
                width=320,
            )
        )
    return np.array(
        [dose_of(r) in kept_doses and r["time_h"] in kept_times and i not in off for i, r in enumerate(records)],
        np.bool_,
    )


def _sentence(evidence: GroupEvidence, before: Any, after: Any, called: int, kept: Any, group: GroupChoice) -> str:
    name = evidence.classes[called]
    parts = [
        f"<b>All {len(kept)} images</b>: called <b><bdi>{markup.text(name)}</bdi></b>, "
        f"probability {before[called]:.2f}."
    ]
    truth = group_compound(evidence)
    if truth in evidence.classes and truth != name:
        rank = 1 + int((before > before[evidence.classes.index(truth)]).sum())
        parts.append(f"It is {markup.text(truth)}, which comes as number {rank}.")
    if not kept.any():
        parts.append("With every image switched off nothing is known: all classes are equally probable.")
    elif not kept.all():
        now = int(after.argmax())
        what = "still called" if now == called else "now called"
        parts.append(
            f"<b>{int(kept.sum())} left on</b>: {what} <b><bdi>{markup.text(evidence.classes[now])}</bdi></b>, "
            f"probability {after[now]:.2f}"
            + ("." if now == called else f" ({markup.text(name)}: {after[called]:.2f}).")
        )
    warn = "" if group.unseen else markup.chip(
        "the head may have been trained on this group", "warn", "probabilities of such groups are too high"
    )  # fmt: skip
    return f'<div class="pe">{" ".join(parts)} {warn}</div>'


def _bars(evidence: GroupEvidence, before: Any, after: Any, whole: bool) -> list[dict[str, Any]]:
    rows = []
    for i in top_classes(before, after):
        name = evidence.classes[i]
        rows.append({"class": name, "images": "all images", "probability": float(before[i])})
        if not whole:
            rows.append({"class": name, "images": "images left on", "probability": float(after[i])})
    return rows


def _note(share: float, on: bool, reach: float) -> markup.Note:
    return markup.Note(f"{share:+z.1f}", max(0.0, share) / reach) if on else markup.Note("off")


def _parts(evidence: GroupEvidence, called: int, column: str, label: Any) -> list[dict[str, Any]]:
    """The probability of the call from each value of a column alone and without it; nothing where it has but one."""
    rows = evidence.without(called, column)
    return [
        {"part": label(row[column]), "images": images, "probability": row[key], "n_images": row["n_images"]}
        for row in (rows if len(rows) > 1 else [])
        for images, key in (("it alone", "p_alone"), ("all but it", "p_without"))
    ]


def _grid(records: tuple[Record, ...], doses: list[Any], times: list[Any], label: Any) -> Strip:
    place = {(dose_of(record), record["time_h"]): record for record in records}
    cells = tuple(tuple(place.get((dose, time)) for dose in doses) for time in times)
    return Strip(tuple(label(dose) for dose in doses), tuple(map(time_label, times)), cells)


def _column(records: tuple[Record, ...]) -> str:
    """What the columns of images are: doses, or the wells of controls."""
    return "well" if records[0]["role"] == "control" else "dose"


def _column_label(records: tuple[Record, ...]) -> Any:
    return str if _column(records) == "well" else dose_label
