"""The bottom of Table 1: how well does one concentration, at all times, do beside all of them?"""

from collections import defaultdict
from typing import TYPE_CHECKING, Any

import numpy as np

from phenoembed.evaluation.held_out import Cell, HeldOut, Trials
from phenoembed.evaluation.outcome import Outcome, Table, data_of
from phenoembed.evaluation.paper import PAPER_FOLDS, TABLE_1_DOSES
from phenoembed.evaluation.tally import PAPER, TOP_NAMES, TOPS, Tally, spoken
from phenoembed.metrics import multiclass_metrics
from phenoembed.progress import Progress

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ALL = "all"


def compare_doses(trials: Trials, progress: Progress) -> Outcome:
    """Posteriors of sub-groups: the images of one concentration alone, from the same embeddings."""
    tally = Tally()
    doses: set[float] = set()
    for held in trials.held_out(progress):
        for dose, part in by_dose(held):
            figures = multiclass_metrics(part.scores(), part.labels) | {"n_test": len(part.labels)}
            tally.add(held.cell, dose, held.fold, figures)
            doses |= {dose} - {ALL}
    rows = []
    for method in trials.methods:
        for cell, trained in trials.cells(method):
            for dose in (*sorted(doses), ALL) if trained else ():
                ours = (tally.cell(cell, dose, name) for name in TOPS)
                rows.append((method, spoken(cell), _micromolar(dose), *ours, len(tally.folds(cell, dose))))
        if method == "baseline":  # the paper gives single concentrations of the baseline only
            rows += [(method, PAPER, f"{dose:g}", *found, PAPER_FOLDS) for dose, found in TABLE_1_DOSES.items()]
    table = Table(
        "Top-k accuracy from one concentration, all times",
        ("method", "test groups", "µM", *TOP_NAMES, "folds"),
        tuple(rows),
    )
    return Outcome(
        "doses",
        data_of(trials.screens),
        (table,),
        {"doses": tally.document()},
        lambda figure: _draw(figure, tally, sorted(doses)),
        trials.notes,
    )


def by_dose(held: HeldOut) -> list[tuple[Any, HeldOut]]:
    """The groups with the images of one concentration each, and with all of them."""
    concentration = held.column("concentration_um")
    parts: list[tuple[Any, HeldOut]] = [(ALL, held)]
    return parts + [(float(dose), held.chosen(concentration == dose)) for dose in np.unique(concentration)]


def _micromolar(dose: Any) -> str:
    return dose if dose == ALL else f"{dose:g}"


def _draw(figure: "Figure", tally: Tally, doses: list[float]) -> None:
    """Top-1 accuracy by concentration, a line a method, all doses together on the right; a panel a test."""
    cells: dict[tuple[str, str], list[Cell]] = defaultdict(list)
    for cell, variant in tally.figures:
        if variant == ALL:
            cells[cell[1:]].append(cell)
    axes = figure.subplots(1, len(cells), squeeze=False, sharey=True)[0]
    labels = [f"{dose:g} µM" for dose in doses] + [ALL]
    for axis, ((split, test), shown) in zip(axes, cells.items(), strict=True):
        for cell in shown:
            means = [100 * np.mean([f["top1"] for f in tally.folds(cell, dose)]) for dose in (*doses, ALL)]
            axis.plot(labels, means, marker="o", label=cell[0])
        axis.set_title(f"{split} split, {test}")
    axes[0].set(ylabel="top-1 accuracy [%]", ylim=(0, None))  # once all are drawn: a limit set earlier stays
    axes[0].legend(fontsize=8)
