"""What the stored predictions of probes say: accuracies of every test side by side, confusions, curves."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import Any

import numpy as np
import numpy.typing as npt

from phenoembed_dashboard import palette
from phenoembed_dashboard.catalogue import Catalogue
from phenoembed_dashboard.palette import FURTHER_TESTS
from phenoembed_store import Store

FEATURES = {
    "encoder": "trained encoder",
    "untrained": "untrained encoder",
    "intensity": "intensity statistics",
}
TESTS = ("new replicate", "known wells", "new compound")
Row = dict[str, Any]


@dataclass(frozen=True)
class Confusion:
    """How often groups of one class were called another."""

    label: str
    predicted: str
    n: int
    of: int  # groups with this label


def prediction_rows(store: Store, catalogue: Catalogue) -> list[Row]:
    """The predictions of probes on this encoder and on the encoders of the same family's other folds."""
    rows: list[Row] = store.predictions().to_pylist()
    known = {info.id: info.config.get("family") for info in store.encoders()}
    family = known.get(catalogue.encoder)
    alike = {name for name, other in known.items() if other is not None and other == family} | {catalogue.encoder}
    return [row for row in rows if row["encoder"] in alike]


def tasks_of(rows: Sequence[Row]) -> list[str]:
    order = {"compound": 0, "moa": 1, "treatment": 2}
    return sorted({row["task"] for row in rows}, key=lambda task: (order.get(task, 3), task))


def accuracy_rows(rows: Sequence[Row], figure: str) -> list[Row]:
    """A row a test and kind of features: the figure's mean and spread over folds, chance, how much was tested."""
    found = []
    n_classes = len({row["label"] for row in rows} | {row["predicted"] for row in rows})
    for split, test in tests_of(rows):
        for features, shown in FEATURES.items():
            folds: dict[int, list[Row]] = defaultdict(list)
            for row in select(rows, split, test, features):
                folds[row["fold"]].append(row)
            values = [figure_of(of_fold, figure) for of_fold in folds.values()]
            if values:
                mean, sd = float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else None
                found.append(
                    {
                        "test": test_label(split, test),
                        "features": shown,
                        "value": mean,
                        "sd": sd,
                        "label": f"{mean:.2f}" + (f" ± {sd:.2f}" if sd is not None else ""),
                        "folds": len(values),
                        "groups": sum(map(len, folds.values())),
                        "chance": chance(figure, n_classes),
                    }
                )
    return found


def tests_of(rows: Sequence[Row]) -> list[tuple[str, str]]:
    """Every (split, test), the honest ones first."""
    return sorted({(row["split"], row["test"]) for row in rows}, key=lambda pair: (_place(TESTS, pair[1]), pair[0]))


def test_label(split: str, test: str) -> str:
    return test if split in test or split == "replicate" else f"{test} ({split} split)"


def select(rows: Sequence[Row], split: str, test: str, features: str = "encoder") -> list[Row]:
    return [row for row in rows if (row["split"], row["test"], row["features"]) == (split, test, features)]


def figures_of(task: str) -> dict[str, str]:
    """Figures to choose from, by name."""
    plain = {
        "top1": "top-1 accuracy",
        "top5": "top-5 accuracy",
        "balanced": "balanced accuracy",
        "f1": "mean F1 of classes",
    }
    return {"balanced": plain["balanced"], "top1": plain["top1"], "f1": plain["f1"]} if task == "treatment" else plain


def figure_of(rows: Sequence[Row], figure: str) -> float:
    """One figure of these predictions."""
    if figure in ("top1", "top5"):
        return float(np.mean([row["rank_label"] <= int(figure[3:]) for row in rows]))
    if figure == "f1":
        return float(np.mean(list(f1_by_class(rows).values())))
    recalls = defaultdict(list)
    for row in rows:
        recalls[row["label"]].append(row["predicted"] == row["label"])
    return float(np.mean([np.mean(values) for values in recalls.values()]))


def chance(figure: str, n_classes: int) -> float | None:
    """What guessing reaches; not told for F1, which depends on how one guesses."""
    if figure == "f1":
        return None
    return min(1.0, (5 if figure == "top5" else 1) / max(1, n_classes))


def f1_by_class(rows: Sequence[Row]) -> dict[str, float]:
    """F1 of every class that was tested."""
    truth, called = Counter(row["label"] for row in rows), Counter(row["predicted"] for row in rows)
    right = Counter(row["label"] for row in rows if row["label"] == row["predicted"])
    return {name: 2 * right[name] / (truth[name] + called[name]) for name in sorted(truth)}


def confusions(rows: Sequence[Row], n: int = 8) -> list[Confusion]:
    """The most frequent pairs of a class and what it was called instead."""
    truth = Counter(row["label"] for row in rows)
    pairs = Counter((row["label"], row["predicted"]) for row in rows if row["label"] != row["predicted"])
    ranked = sorted(pairs.items(), key=lambda pair: (-pair[1], -pair[1] / truth[pair[0][0]], pair[0]))
    return [Confusion(label, predicted, count, truth[label]) for (label, predicted), count in ranked[:n]]


def top_k_rows(rows: Sequence[Row], n_classes: int, limit: int = 25) -> list[Row]:
    """Share of groups whose class is among the k most probable, for each test, the baselines and chance.

    ``colour``: that of the features in the figure of accuracies; further tests of the encoder have others.
    """
    found, further = [], iter(cycle(FURTHER_TESTS))
    ks = range(1, min(limit, n_classes) + 1)
    for split, test in tests_of(rows):
        for features, shown in FEATURES.items():
            ranks = np.array([row["rank_label"] for row in select(rows, split, test, features)])
            if len(ranks) and (features == "encoder" or test == tests_of(rows)[0][1]):
                series = f"{shown}: {test_label(split, test)}"
                colour = palette.FEATURES[shown] if test == tests_of(rows)[0][1] else next(further)
                shares = [(k, float((ranks <= k).mean())) for k in ks]
                found += [{"series": series, "x": k, "y": y, "order": k, "colour": colour} for k, y in shares]
    return found + [{"series": "chance", "x": k, "y": k / n_classes, "order": k, "colour": palette.ORANGE} for k in ks]


def class_scores(rows: Sequence[Row], name: str) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.float64]]:
    """Of each tested group whether it is of this class, and the probability it was given (0 beyond its five best)."""
    truth = np.array([row["label"] == name for row in rows], np.bool_)
    scores = [
        dict(zip(row["top_classes"], row["top_probabilities"], strict=True)).get(name, 0.0)
        if row["predicted"] != name
        else row["p_predicted"]
        for row in rows
    ]
    return truth, np.array(scores, np.float64)


def roc_points(
    truth: npt.NDArray[np.bool_], scores: npt.NDArray[np.float64]
) -> tuple[list[tuple[float, float]], float]:
    """(false positive rate, true positive rate) by falling threshold, and the area under them (ties count half)."""
    order = np.argsort(-scores, kind="stable")
    last = np.flatnonzero(np.diff(scores[order], append=-np.inf))
    hits, misses = np.cumsum(truth[order])[last], np.cumsum(~truth[order])[last]
    x = np.concatenate([[0], misses / max(1, (~truth).sum())])
    y = np.concatenate([[0], hits / max(1, truth.sum())])
    return list(zip(x.tolist(), y.tolist(), strict=True)), float(np.trapezoid(y, x))


def pr_points(truth: npt.NDArray[np.bool_], scores: npt.NDArray[np.float64]) -> tuple[list[tuple[float, float]], float]:
    """(recall, precision) by falling threshold, and the average precision."""
    order = np.argsort(-scores, kind="stable")
    last = np.flatnonzero(np.diff(scores[order], append=-np.inf))
    hits = np.cumsum(truth[order])[last]
    precision, recall = hits / (last + 1), hits / max(1, truth.sum())
    average = float((np.diff(recall, prepend=0) * precision).sum())
    return list(zip(recall.tolist(), precision.tolist(), strict=True)), average


def _place(order: Sequence[str], name: str) -> int:
    return order.index(name) if name in order else len(order)
