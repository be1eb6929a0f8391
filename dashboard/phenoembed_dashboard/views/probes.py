"""Probes: how much the frozen features know, on new replicates and on known wells side by side."""

from typing import Any

import streamlit as st

from phenoembed_dashboard import figures, markup
from phenoembed_dashboard.catalogue import Catalogue
from phenoembed_dashboard.downloads import csv_button
from phenoembed_dashboard.drawing import figure as draw
from phenoembed_dashboard.links import segmented
from phenoembed_dashboard.opened import cached, guarded, no_probe, nothing, the_catalogue, the_store
from phenoembed_dashboard.pictures import load_pictures
from phenoembed_dashboard.probing import (
    FEATURES,
    Confusion,
    accuracy_rows,
    class_scores,
    confusions,
    f1_by_class,
    figures_of,
    pr_points,
    prediction_rows,
    roc_points,
    select,
    tasks_of,
    test_label,
    tests_of,
    top_k_rows,
)
from phenoembed_dashboard.strips import Strip, compound_strip, control_strip

TITLES = {"compound": "Which compound?", "moa": "Which mechanism?", "treatment": "Treated or not?"}


def page() -> None:
    with guarded():
        catalogue = the_catalogue()
        every: list[dict[str, Any]] = cached(prediction_rows)
        if not every:
            no_probe(catalogue, "nothing was probed with this encoder yet")
            return
        tasks = tasks_of(every)
        task = segmented("Asked", tasks, "task", form=lambda name: TITLES.get(name, name))
        rows = [row for row in every if row["task"] == task]
        _accuracy(rows, task)
        split, test = _choose_test(rows)
        tested = select(rows, split, test)
        if not tested:
            nothing("this test has no predictions of the trained encoder")
            return
        left, right = st.columns(2, gap="large")
        with left:
            _top_k_or_roc(rows, tested, task)
        with right:
            _f1(tested, task)
        _confusions(catalogue, tested, task)
        csv_button(tested, f"predictions-{task}.csv", "These predictions as CSV")


def _accuracy(rows: list[dict[str, Any]], task: str) -> None:
    names = figures_of(task)
    figure = segmented("Measure", list(names), "figure", form=lambda name: names[name])
    table = accuracy_rows(rows, figure)
    says = f"{names[figure]} by test and features"
    draw(figures.accuracy_bars, table, names[figure], key="accuracy", says=says, rows=table)
    tests = {row["test"] for row in table}
    sizes = {row["test"]: row["groups"] for row in table if row["features"] == FEATURES["encoder"]}
    tested = ", ".join(f"{n:,} groups ({test})" for test, n in sizes.items())
    st.caption(
        "Each bar is the mean over folds (± sd where there are several); the orange tick is chance. "
        "A new replicate was never seen in training; known wells are other fields of wells that were seen, so that "
        f"their figures are too good for new plates.{f' Tested: {tested}.' if tested else ''}"
    )
    with st.expander("The same as a table"):
        st.dataframe(
            [{k: row[k] for k in ("test", "features", "value", "sd", "chance", "folds", "groups")} for row in table],
            hide_index=True,
        )
    if len(tests) == 1:
        st.caption(
            "Only one kind of test was made; other splits: phenoembed train PLATES --split field, then index and probe."
        )


def _choose_test(rows: list[dict[str, Any]]) -> tuple[str, str]:
    tests = tests_of(rows)
    by_text = {test_label(*pair): pair for pair in tests}
    chosen = segmented("Look closer at", list(by_text), "test")
    return by_text[chosen]


def _top_k_or_roc(rows: list[dict[str, Any]], tested: list[dict[str, Any]], task: str) -> None:
    classes = sorted({row["label"] for row in tested})
    n_classes = len({row["label"] for row in rows} | {row["predicted"] for row in rows})
    curves = ["ROC", "Precision and recall"] if n_classes == 2 else ["Top-k", "ROC", "Precision and recall"]
    kind = segmented("Curve", curves, "curve")
    if kind == "Top-k":
        st.markdown("**Is the right class among the k most probable?**")
        lines = top_k_rows(rows, n_classes)
        colours = list({row["series"]: row["colour"] for row in lines}.values())
        shown = [{name: value for name, value in row.items() if name != "colour"} for row in lines]
        draw(
            figures.curve, shown, "k most probable classes", "share of groups", points=True, colours=colours,
            key="top-k", says="top-k", rows=shown,
        )  # fmt: skip
        return
    first = classes.index("treated") if "treated" in classes else 0
    name = st.selectbox("One class against the rest", classes, index=first, key=f"class:{task}")
    truth, scores = class_scores(tested, name)
    points, area = roc_points(truth, scores) if kind == "ROC" else pr_points(truth, scores)
    series = f"area {area:.3f}" if kind == "ROC" else f"average precision {area:.3f}"
    lines = [{"series": series, "x": x, "y": y, "order": i} for i, (x, y) in enumerate(points)]
    axes = ("false positive rate", "true positive rate") if kind == "ROC" else ("recall", "precision")
    says = f"{kind} of {name}"
    draw(figures.curve, lines, *axes, diagonal=kind == "ROC", key="roc-pr", says=says, rows=lines)
    st.caption(
        f"{int(truth.sum())} groups of this class among {len(truth)}."
        + (" Classes beyond a group's five most probable count as 0." if n_classes > 5 else "")
    )


def _f1(tested: list[dict[str, Any]], task: str) -> None:
    values = f1_by_class(tested)
    st.markdown("**How well is each class found?**")
    worst = [{"class": name, "F1": value} for name, value in sorted(values.items(), key=lambda pair: pair[1])]
    draw(figures.histogram, list(values.values()), "F1 of a class", key="f1", says="histogram of F1", rows=worst)
    with st.expander(f"F1 of each of the {len(values)} classes"):
        st.dataframe(worst, hide_index=True)


def _confusions(catalogue: Catalogue, tested: list[dict[str, Any]], task: str) -> None:
    pairs = confusions(tested)
    st.markdown("**What is taken for what**")
    if not pairs:
        st.caption("Nothing: every tested group was called what it is.")
        return
    strips = [
        (pair, _strip(catalogue, tested, pair.label), _strip(catalogue, tested, pair.predicted)) for pair in pairs
    ]
    records = [r for _, a, b in strips for strip in (a, b) if strip is not None for r in strip.records()]
    show = load_pictures(the_store().path, catalogue, records)
    for start in range(0, len(strips), 2):
        columns = st.columns(2, gap="small")
        for column, (pair, a, b) in zip(columns, strips[start : start + 2], strict=False):
            with column, st.container(border=True):
                st.html(_pair(pair, a, b, show))


def _strip(catalogue: Catalogue, tested: list[dict[str, Any]], name: str) -> Strip | None:
    """Images of a class: of the compound itself, or of a compound of this mechanism."""
    compounds = [name] if name in catalogue.compounds else [row["compound"] for row in tested if row["label"] == name]
    there = [compound for compound in compounds if compound in catalogue.compounds]
    if not there:
        return None
    if catalogue.compounds[there[0]].role == "control":
        like = compound_strip(catalogue, catalogue.rows_of(catalogue.treated[0])) if catalogue.treated else None
        return None if like is None else control_strip(catalogue, like=like)
    return compound_strip(catalogue, catalogue.rows_of(there[0]))


def _pair(pair: Confusion, a: Strip | None, b: Strip | None, show: markup.Show) -> str:
    sides, groups = [], "group" if pair.of == 1 else "groups"
    for title, name, strip in ((f"{pair.n} of {pair.of} {groups} of", pair.label, a), ("called", pair.predicted, b)):
        grid = "" if strip is None else markup.strip_html(strip, show, size=64)
        sides.append(
            f'<div style="flex:1 1 200px;min-width:0"><div class="pe-dim">{title}</div>'
            f'<div class="pe-head">{markup.name(name)}</div>{grid}</div>'
        )
    return f'<div class="pe" style="display:flex;flex-wrap:wrap;gap:1rem">{"".join(sides)}</div>'
