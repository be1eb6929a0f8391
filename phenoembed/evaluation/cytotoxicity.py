"""Table 2 and Fig. 7: are compounds that kill recognised more easily? Nothing is trained again."""

import itertools
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from phenoembed.evaluation.doses import ALL, by_dose
from phenoembed.evaluation.held_out import Cell, HeldOut, Trials, annotation
from phenoembed.evaluation.outcome import Outcome, Table, data_of, percent
from phenoembed.evaluation.paper import PAPER_FOLDS, TABLE_2, TABLE_2_DOSES
from phenoembed.evaluation.tally import PAPER, TOP_NAMES, TOPS, Tally, spoken
from phenoembed.metrics import f1_by_class, multiclass_metrics
from phenoembed.progress import Progress
from phenoembed_store.errors import TrainingError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

YES, NO = {"true", "yes", "1", "1.0", "cytotoxic"}, {"false", "no", "0", "0.0", "non-cytotoxic"}
N_MECHANISMS = 4  # of Fig. 7b
DRAWN = ("viability_lfc", "moa")  # annotations that Fig. 7 shows


def compare_cytotoxicity(trials: Trials, progress: Progress) -> Outcome:
    """Restrict the classes to the (non-)cytotoxic compounds by giving the others probability 0 (Section 5.3).

    Needs the annotation ``cytotoxic``; Fig. 7 needs ``viability_lfc`` too. Doses are those of the baseline, as in the
    paper, where it is trained.
    """
    tally = Tally()
    of_doses = "baseline" if "baseline" in trials.methods else trials.best_method()
    named: dict[Cell, list[tuple[Any, Any]]] = defaultdict(list)
    said: dict[str, Mapping[str, Any]] = {}
    counts = {True: 0, False: 0}
    for held in trials.held_out(progress):
        flags = cytotoxic(held)
        counts = {flag: int((flags == flag).sum()) for flag in (True, False)}
        for dose, part in by_dose(held) if held.method == of_doses else [(ALL, held)]:
            for flag in (True, False):
                figures = _restricted(part, flags == flag)
                if figures:
                    tally.add(held.cell, (dose, flag), held.fold, figures)
        if held.method == trials.best_method():
            named[held.cell].append(held.named(held.scores()))
            there = set(DRAWN) & set(held.images.column_names)
            said = {name: annotation(held, name, "") if name in there else {} for name in DRAWN}
    table = Table(
        f"Top-k accuracy on {counts[True]} cytotoxic and {counts[False]} other compounds",
        ("method", "test groups", "µM", "compounds", *TOP_NAMES, "folds"),
        tuple(_rows(trials, tally)),
    )
    points = {cell: _points(f1_by_class(found), said) for cell, found in named.items()}
    notes = trials.notes
    if not any(row["viability_lfc"] is not None for found in points.values() for row in found):
        notes += ("no column 'viability_lfc' (log2 fold change of viability): Fig. 7 is not drawn",)
    document = {"cytotoxicity": [{**row, "variant": _variant(row["variant"])} for row in tally.document()]}
    return Outcome(
        "cytotoxicity",
        data_of(trials.screens),
        (table,),
        {**document, "compounds": [{"split": c[1], "test": c[2], "f1": found} for c, found in points.items()]},
        lambda figure: _draw(figure, points),
        notes,
    )


def cytotoxic(held: HeldOut) -> NDArray[np.object_]:
    """(classes,) True, False, or None where a compound has no annotation. Raises TrainingError on other words."""
    values = annotation(held, "cytotoxic", "true or false")
    return np.array([_flag(values.get(name)) for name in held.head.classes], dtype=object)


def _flag(value: Any) -> bool | None:
    if value is None:
        return None
    text = str(value).strip().lower()
    if text not in YES | NO:
        raise TrainingError(f"cytotoxic is {value!r}; true or false is expected")
    return text in YES


def _restricted(held: HeldOut, classes: NDArray[np.bool_]) -> dict[str, float] | None:
    """Figures of the groups of these classes, every other class having probability 0; None without a group."""
    mine = classes[held.labels]
    if not mine.any():
        return None
    scores = held.scores()[mine][:, classes]
    number = np.cumsum(classes) - 1
    return multiclass_metrics(scores, number[held.labels[mine]]) | {"n_test": int(mine.sum())}


def _rows(trials: Trials, tally: Tally) -> Iterator[tuple[Any, ...]]:
    for method in trials.methods:
        for cell, _ in trials.cells(method):
            variants = [variant for found, variant in tally.figures if found == cell]
            doses = sorted({dose for dose, _ in variants if dose != ALL})
            for dose, flag in itertools.product((ALL, *doses), (True, False)):
                folds = tally.folds(cell, (dose, flag))
                if folds:
                    yield (
                        method,
                        spoken(cell),
                        *_kind(dose, flag),
                        *(percent(folds, name) for name in TOPS),
                        len(folds),
                    )
        for flag in (True, False):
            if (method, flag) in TABLE_2:
                yield (method, PAPER, *_kind(ALL, flag), *TABLE_2[method, flag], PAPER_FOLDS)
        if method == "baseline":
            for (dose, flag), found in TABLE_2_DOSES.items():
                yield (method, PAPER, *_kind(dose, flag), *found, PAPER_FOLDS)


def _kind(dose: Any, flag: bool) -> tuple[str, str]:
    return dose if dose == ALL else f"{dose:g}", "cytotoxic" if flag else "non-cytotoxic"


def _variant(variant: Any) -> dict[str, Any]:
    return {"concentration_um": variant[0], "cytotoxic": variant[1]}


def _points(f1: Mapping[str, float], said: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """F1 of every compound over the folds together, beside its viability and mechanism."""
    viability, moa = (said[name] for name in DRAWN)
    return [
        {
            "compound": name,
            "f1": value,
            "viability_lfc": float(viability[name]) if name in viability else None,
            "moa": moa.get(name),
        }
        for name, value in f1.items()
    ]


def _draw(figure: "Figure", points: dict[Cell, list[dict[str, Any]]]) -> None:
    """Fig. 7: F1 against the log2 fold change of viability, (a) all compounds, (b) the commonest mechanisms."""
    cell = next((c for c in points if c[2] == "new replicate"), next(iter(points)))
    found = [row for row in points[cell] if row["viability_lfc"] is not None]
    left, right = figure.subplots(1, 2, sharey=True, sharex=True)
    left.scatter([row["viability_lfc"] for row in found], [row["f1"] for row in found], s=14, alpha=0.6)
    left.set(ylabel="F1", xlabel="log2 fold change of viability", title=f"(a) {cell[0]}, {cell[1]} split, {cell[2]}")
    by_moa: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in found:
        if row["moa"]:
            by_moa[row["moa"]].append(row)
    for moa in sorted(by_moa, key=lambda name: -len(by_moa[name]))[:N_MECHANISMS]:
        rows = by_moa[moa]
        right.scatter([row["viability_lfc"] for row in rows], [row["f1"] for row in rows], s=18, label=moa)
    right.set(xlabel="log2 fold change of viability", title="(b) by mechanism", ylim=(-0.02, 1.02))
    if by_moa:
        right.legend(fontsize=7)
    if not found:
        left.text(0.5, 0.5, "no compound has a viability_lfc", ha="center", transform=left.transAxes)
