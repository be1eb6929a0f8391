"""Table 1 and Fig. 6: how often each method recognises a compound, and which compounds."""

from collections import defaultdict
from typing import TYPE_CHECKING, Any

import numpy as np

from phenoembed.evaluation.held_out import Cell, Trials
from phenoembed.evaluation.outcome import Outcome, Table, data_of
from phenoembed.evaluation.paper import PAPER_FOLDS, TABLE_1
from phenoembed.evaluation.tally import TOP_NAMES, TOPS, Tally, method_rows
from phenoembed.methods import METHODS
from phenoembed.metrics import calibrated_metrics, f1_by_class, rank_of_label
from phenoembed.progress import Progress

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHOWN = (*TOPS, "f1_macro", "ece_uncalibrated", "ece")


def compare_methods(trials: Trials, progress: Progress) -> Outcome:
    """Top-k accuracy, macro F1 and calibration error of every method on groups that its encoder never saw."""
    tally = Tally()
    ranks: dict[Cell, list[np.ndarray]] = defaultdict(list)
    named: dict[Cell, list[tuple[np.ndarray, np.ndarray]]] = defaultdict(list)
    classes: dict[Cell, int] = {}
    for held in trials.held_out(progress):
        scores = held.scores()
        figures = calibrated_metrics(scores, held.labels, held.head.temperature)
        tally.add(held.cell, None, held.fold, figures | {"n_test": len(held.labels)})
        ranks[held.cell].append(rank_of_label(scores, held.labels))
        named[held.cell].append(held.named(scores))
        classes[held.cell] = scores.shape[1]

    def row(cell: Cell) -> tuple[Any, ...]:
        return *(tally.cell(cell, None, name) for name in SHOWN), len(tally.folds(cell))

    def paper(method: str) -> tuple[Any, ...] | None:
        return (*TABLE_1[method], "", "", "", PAPER_FOLDS) if method in TABLE_1 else None

    columns = (*TOP_NAMES, "F1 %", "ECE % before", "ECE %", "folds")
    table = Table(
        "Top-k accuracy, macro F1 and expected calibration error (before and after the temperature)",
        ("method", "test groups", *columns),
        method_rows(trials, list(METHODS), row, paper),
    )
    top_k = {cell: _top_k_curve(np.concatenate(found), classes[cell]) for cell, found in ranks.items()}
    per_class = {cell: np.array(list(f1_by_class(found).values())) for cell, found in named.items()}
    return Outcome(
        "methods",
        data_of(trials.screens),
        (table,),
        {"methods": tally.document()},
        lambda figure: _draw(figure, top_k, per_class),
        trials.notes,
    )


def _top_k_curve(ranks: np.ndarray, n_classes: int) -> np.ndarray:
    """Share of groups with the true class among the first k, for k = 1..classes."""
    return np.cumsum(np.bincount(ranks, minlength=n_classes + 1)[1:]) / len(ranks)


def _draw(figure: "Figure", top_k: dict[Cell, np.ndarray], f1: dict[Cell, np.ndarray]) -> None:
    """Fig. 6: (a) top-k accuracy over k, (b) histogram of F1 by class; of the honest test where there is one."""
    from matplotlib.ticker import MaxNLocator

    tests = [(split, test) for _, split, test in top_k]
    wanted = ("replicate", "new replicate") if ("replicate", "new replicate") in tests else tests[0]
    left, right = figure.subplots(1, 2)
    bins = np.linspace(0, 1, 11)
    shown = [cell for cell in top_k if cell[1:] == wanted]
    for number, cell in enumerate(shown):
        curve = top_k[cell]
        left.plot(np.arange(1, len(curve) + 1), 100 * curve, label=cell[0], lw=1.6)
        heights, _ = np.histogram(f1[cell], bins)
        width = 0.1 / (len(shown) + 1)
        right.bar(bins[:-1] + (number + 1) * width, heights, width, label=cell[0])
    left.set(xlabel="k", ylabel="top-k accuracy [%]", title=f"(a) {wanted[0]} split, {wanted[1]}", ylim=(0, 102))
    if len(top_k[shown[0]]) > 50:
        left.set_xscale("log")
    left.legend(fontsize=8)
    right.set(xlabel="F1 of a compound", ylabel="compounds", title="(b) the same groups: F1", xlim=(0, 1.02))
    right.yaxis.set_major_locator(MaxNLocator(integer=True))
