"""How good predictions are: pure functions over arrays, from group probabilities and true classes (Appendix A)."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

Floats = NDArray[np.floating]
Ints = NDArray[np.integer]


def rank_of_label(scores: Floats, labels: Ints) -> Ints:
    """Rank of the true class of each group, (groups,) int from 1; ties count against us, so a constant score is worst.

    ``scores``: (groups, classes), higher is more probable. ``labels``: (groups,) class numbers.
    """
    own = scores[np.arange(len(labels)), labels]  # (groups,)
    ranks: Ints = (scores >= own[:, None]).sum(axis=1)
    return ranks


def top_k_accuracy(scores: Floats, labels: Ints, k: int) -> float:
    """Share of groups whose true class is among the k most probable."""
    return float((rank_of_label(scores, labels) <= k).mean()) if len(labels) else float("nan")


def multiclass_metrics(scores: Floats, labels: Ints) -> dict[str, float]:
    """``top1, top5, top10, f1_macro`` of (groups, classes) scores."""
    figures = {f"top{k}": top_k_accuracy(scores, labels, k) for k in (1, 5, 10) if k < scores.shape[1] or k == 1}
    figures["f1_macro"] = float(f1_score(labels, scores.argmax(axis=1), average="macro", zero_division=0.0))
    return figures


def binary_metrics(positive: Floats, labels: Ints) -> dict[str, float]:
    """``top1, balanced_accuracy, roc_auc, average_precision`` of the positive class's probability, (groups,)."""
    called = (positive >= 0.5).astype(int)
    figures = {
        "top1": float((called == labels).mean()),
        # over the classes that are there: scikit-learn warns where a test part has one class only
        "balanced_accuracy": float(np.mean([(called[labels == one] == one).mean() for one in np.unique(labels)])),
    }
    if len(np.unique(labels)) == 2:
        figures["roc_auc"] = float(roc_auc_score(labels, positive))
        figures["average_precision"] = float(average_precision_score(labels, positive))
    return figures


def majority_share(labels: Ints) -> float:
    """Accuracy of always naming the most frequent class."""
    return float(np.bincount(labels).max() / len(labels))


def mean_and_sd(folds: Sequence[dict[str, float]]) -> tuple[dict[str, float], dict[str, float | None]]:
    """Mean and sample standard deviation over folds of every figure; the deviation of a single fold is None."""
    names = [name for name in folds[0] if all(name in fold for fold in folds)] if folds else []
    values = {name: np.array([fold[name] for fold in folds]) for name in names}
    mean = {name: float(found.mean()) for name, found in values.items()}
    sd = {name: float(found.std(ddof=1)) if len(found) > 1 else None for name, found in values.items()}
    return mean, sd
