"""Section 5.6, Figs. 10 and 11: was a group treated at all? From a frozen encoder."""

from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from phenoembed.evaluation.held_out import Trials
from phenoembed.evaluation.outcome import Outcome, Table, data_of, percent
from phenoembed.evaluation.paper import TREATMENT, TREATMENT_FALSE_NEGATIVES
from phenoembed.evaluation.probed import predictions_of, probe_rows
from phenoembed.outcomes import Report
from phenoembed.probes import probe
from phenoembed.progress import Progress

if TYPE_CHECKING:
    from matplotlib.figure import Figure

AREAS = ("roc_auc", "average_precision")
SHOWN = (
    "top1",
    "balanced_accuracy",
    *AREAS,
    "precision",
    "recall",
    "false_positive_rate",
    "ece",
)
Test = tuple[str, str]  # split, test


def compare_treatment(trials: Trials, progress: Progress) -> Outcome:
    """Accuracy, areas under the ROC and precision-recall curves, and false negatives of every compound."""
    report = probe(trials.store, "treatment", encoder=trials.encoder, where=trials.where, progress=progress)
    predicted = predictions(trials)
    paper = ", ".join(f"{value} {name}" for name, value in TREATMENT.items())
    table = Table(
        "Treated or control [%]",
        ("split", "test groups", *(name.replace("_", " ") for name in SHOWN), "majority", "folds", "paper"),
        tuple(probe_rows(report, lambda split, test: _row(report, split, test), [paper])),
    )
    missed = {test: false_negatives(rows) for test, rows in predicted.items()}
    of_misses = Table(
        "Compounds by the groups of theirs that were called control",
        ("split", "test groups", "compounds", "none", "1 or 2", "3 to 5", "more", "most"),
        tuple((*test, *_histogram(list(found.values()))) for test, found in missed.items()),
    )
    document = {
        "treatment": {split: report.document(split) for split in dict.fromkeys(one.split for one in report.tested)},
        "false_negatives": [{"split": t[0], "test": t[1], "compounds": found} for t, found in missed.items()],
    }
    note = f"false negatives in the paper: {TREATMENT_FALSE_NEGATIVES}"
    return Outcome(
        "treatment",
        data_of(trials.screens),
        (table, of_misses),
        document,
        lambda figure: _draw(figure, predicted, missed),
        (*report.notes, note),
    )


def predictions(trials: Trials) -> dict[Test, pa.Table]:
    """What the probe wrote, by split and test."""
    found: dict[Test, list[dict[str, Any]]] = defaultdict(list)
    for row in predictions_of(trials, ["treatment"]):
        found[row["split"], row["test"]].append(row)
    return {test: pa.Table.from_pylist(rows) for test, rows in sorted(found.items())}


def p_treated(rows: pa.Table) -> tuple[np.ndarray, np.ndarray]:
    """(groups,) probability of having been treated, and whether it was."""
    treated = np.array(rows.column("label").to_pylist()) == "treated"
    p_label = rows.column("p_label").to_numpy()
    return np.where(treated, p_label, 1 - p_label), treated


def false_negatives(rows: pa.Table) -> dict[str, int]:
    """Compound -> how many of its tested groups were called control."""
    missed: Counter[str] = Counter()
    for row in rows.to_pylist():
        if row["label"] == "treated":
            missed[row["compound"]] += row["predicted"] != "treated"
    return dict(missed)


def _row(report: Report, split: Any, test: str) -> tuple[Any, ...]:
    found = report.select(split, test, "encoder")
    folds = [one.figures for one in found]
    return (
        *(percent(folds, name) for name in SHOWN),
        f"{100 * np.mean([one.majority for one in found]):.2f}",
        len(found),
    )


def _histogram(counts: list[int]) -> tuple[int, ...]:
    kinds = [(0, 0), (1, 2), (3, 5), (6, 10**9)]
    return (len(counts), *(sum(low <= n <= high for n in counts) for low, high in kinds), max(counts, default=0))


def _draw(figure: "Figure", predicted: dict[Test, pa.Table], missed: dict[Test, dict[str, int]]) -> None:
    """Fig. 10: ROC and precision-recall, the point at probability 1/2 marked; Fig. 11: false negatives a compound."""
    from matplotlib.ticker import MaxNLocator
    from sklearn.metrics import precision_recall_curve, roc_curve

    roc, pr, histogram = figure.subplots(1, 3)
    roc.plot([0, 1], [0, 1], color="0.7", lw=0.8, ls="--", label="chance")
    for place, (test, rows) in enumerate(predicted.items()):
        probability, treated = p_treated(rows)
        if len(set(treated.tolist())) < 2:
            continue
        called = probability >= 0.5
        fpr, tpr, _ = roc_curve(treated, probability)
        precision, recall, _ = precision_recall_curve(treated, probability)
        (line,) = roc.plot(fpr, tpr, label=" split, ".join(test))
        pr.plot(recall, precision, color=line.get_color())
        hits = (called & treated).sum()
        roc.plot((called & ~treated).sum() / (~treated).sum(), hits / treated.sum(), "o", color=line.get_color())
        pr.plot(hits / treated.sum(), hits / max(called.sum(), 1), "o", color=line.get_color())
        counts = Counter(missed[test].values())
        width = 0.8 / len(predicted)
        left = [n + width * place - 0.4 for n in counts]
        histogram.bar(left, list(counts.values()), width, align="edge", color=line.get_color())
    roc.set(xlabel="false positive rate", ylabel="true positive rate", title="ROC", ylim=(0, 1.02))
    pr.set(xlabel="recall", ylabel="precision", title="precision-recall", ylim=(0, 1.02))
    histogram.set(xlabel="groups called control", ylabel="compounds", title="false negatives of a compound")
    for axis in (histogram.xaxis, histogram.yaxis):
        axis.set_major_locator(MaxNLocator(integer=True))
    roc.legend(fontsize=7)
