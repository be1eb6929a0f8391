"""How good predictions are: pure functions over arrays, from group probabilities and true classes (Appendix A)."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax as scipy_softmax
from sklearn.metrics import average_precision_score, precision_recall_fscore_support, roc_auc_score

N_BINS = 15  # of confidence; Guo et al. (2017), Section 4

Floats = NDArray[np.floating]
Ints = NDArray[np.integer]
Names = NDArray[np.object_]


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


def softmax(scores: Floats) -> NDArray[np.float64]:
    """(groups, classes) scores -> probabilities, in double precision."""
    probability: NDArray[np.float64] = scipy_softmax(np.asarray(scores, np.float64), axis=1)
    return probability


def expected_calibration_error(probability: Floats, labels: Ints) -> float:
    """How far confidence is from accuracy, weighted over 15 bins of confidence (Guo et al., 2017, Eq. 3).

    ``probability``: (groups, classes).
    """
    confidence = probability.max(axis=1)
    right = probability.argmax(axis=1) == labels
    bins = np.minimum((confidence * N_BINS).astype(int), N_BINS - 1)
    gaps = [abs(right[bins == one].sum() - confidence[bins == one].sum()) for one in np.unique(bins)]
    return float(np.sum(gaps) / len(labels))


def f1_by_class(found: Sequence[tuple[Names, Names]]) -> dict[str, float]:
    """F1 of every class that was tested, over folds together; 0 for one that is never named.

    ``found``: of each fold the true and the predicted classes, (groups,) names each; folds may know other classes.
    """
    labels, predicted = (np.concatenate(part).astype(str) for part in zip(*found, strict=True))
    names = np.unique(labels)
    f1 = precision_recall_fscore_support(labels, predicted, labels=names, zero_division=0.0)[2]
    return dict(zip(names.tolist(), f1.tolist(), strict=True))


def multiclass_metrics(scores: Floats, labels: Ints) -> dict[str, float]:
    """``top1, top5, top10``, ``precision_macro, recall_macro, f1_macro`` and ``ece`` of (groups, classes) scores.

    Macro figures are over the classes that are there or were named, as scikit-learn's are.
    """
    figures = {f"top{k}": top_k_accuracy(scores, labels, k) for k in (1, 5, 10) if k < scores.shape[1] or k == 1}
    macro = precision_recall_fscore_support(labels, scores.argmax(axis=1), average="macro", zero_division=0.0)
    figures |= {f"{name}_macro": float(macro[i]) for i, name in enumerate(("precision", "recall", "f1"))}
    figures["ece"] = expected_calibration_error(softmax(scores), labels)
    return figures


def calibrated_metrics(scores: Floats, labels: Ints, temperature: float) -> dict[str, float]:
    """``multiclass_metrics`` of scores / temperature, and ``ece_uncalibrated`` beside ``ece``."""
    figures = multiclass_metrics(np.asarray(scores, np.float64) / temperature, labels)
    return figures | {"ece_uncalibrated": expected_calibration_error(softmax(scores), labels)}


def binary_metrics(positive: Floats, labels: Ints) -> dict[str, float]:
    """Figures of the positive class's probability, (groups,), called from 1/2 on (Appendix A).

    ``top1, balanced_accuracy, precision, recall, f1, ece``, and where both classes are there ``roc_auc,
    average_precision, false_positive_rate``.
    """
    called = (positive >= 0.5).astype(int)
    precision, recall, f1, _ = precision_recall_fscore_support(labels, called, average="binary", zero_division=0.0)
    figures = {
        "top1": float((called == labels).mean()),
        # over the classes that are there: scikit-learn warns where a test part has one class only
        "balanced_accuracy": float(np.mean([(called[labels == one] == one).mean() for one in np.unique(labels)])),
        "precision": float(precision),
        "recall": float(recall),
        "f1": float(f1),
        "ece": expected_calibration_error(np.column_stack([1 - positive, positive]), labels),
    }
    if len(np.unique(labels)) == 2:
        figures["roc_auc"] = float(roc_auc_score(labels, positive))
        figures["average_precision"] = float(average_precision_score(labels, positive))
        figures["false_positive_rate"] = float(called[labels == 0].mean())
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
