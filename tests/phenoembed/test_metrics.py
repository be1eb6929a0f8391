"""Figures of predictions against plain Python."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from phenoembed.metrics import (
    binary_metrics,
    expected_calibration_error,
    f1_by_class,
    majority_share,
    mean_and_sd,
    multiclass_metrics,
    rank_of_label,
    softmax,
    top_k_accuracy,
)


@given(arrays(float, (7, 4), elements=st.integers(-3, 3).map(float)), arrays(int, 7, elements=st.integers(0, 3)))
def test_rank_counts_the_classes_that_are_not_less_probable(scores: np.ndarray, labels: np.ndarray) -> None:
    """Ties count against us: the true class stands behind those it ties with."""
    expected = [
        1 + sum(s >= row[label] for j, s in enumerate(row) if j != label)
        for row, label in zip(scores, labels, strict=True)
    ]
    assert rank_of_label(scores, labels).tolist() == expected
    for k in (1, 2, 4):
        assert top_k_accuracy(scores, labels, k) == pytest.approx(sum(r <= k for r in expected) / 7)


def test_a_constant_score_is_never_right() -> None:
    """A model that says nothing does not score the first class."""
    assert top_k_accuracy(np.zeros((5, 3)), np.zeros(5, int), 1) == 0


def test_multiclass_figures() -> None:
    """top-k only where there are more classes than k; macro figures by hand."""
    scores = np.eye(3)[[0, 1, 2, 1]]
    figures = multiclass_metrics(scores, np.array([0, 1, 2, 2]))
    assert figures["top1"] == 0.75
    assert set(figures) == {"top1", "precision_macro", "recall_macro", "f1_macro", "ece"}
    assert figures["f1_macro"] == pytest.approx((1 + 2 / 3 + 2 / 3) / 3)
    assert set(multiclass_metrics(np.random.default_rng(0).random((4, 12)), np.arange(4))) == {
        "top1",
        "top5",
        "top10",
        "precision_macro",
        "recall_macro",
        "f1_macro",
        "ece",
    }
    assert figures["precision_macro"] == pytest.approx((1 + 1 / 2 + 1) / 3)
    assert figures["recall_macro"] == pytest.approx((1 + 1 + 1 / 2) / 3)


def test_f1_of_each_class() -> None:
    """Appendix A in counts, over two folds; a class that is never named has 0, one that is not tested is left out."""
    folds = [(["a", "b", "b"], ["a", "a", "b"]), (["b", "c"], ["b", "d"])]
    found = f1_by_class([(np.array(true, object), np.array(named, object)) for true, named in folds])
    assert found == pytest.approx({"a": 2 / 3, "b": 4 / 5, "c": 0})


@given(arrays(float, (30, 4), elements=st.floats(-5, 5)), arrays(int, 30, elements=st.integers(0, 3)))
def test_calibration_error_is_a_weighted_mean_of_gaps(scores: np.ndarray, labels: np.ndarray) -> None:
    """Bin by bin in plain Python: |accuracy - confidence| of fifteen bins, weighted by their size."""
    bins: dict[int, list[tuple[bool, float]]] = {}
    for row, label in zip(softmax(scores).tolist(), labels, strict=True):
        best = max(range(4), key=row.__getitem__)
        bins.setdefault(min(int(row[best] * 15), 14), []).append((best == label, row[best]))
    expected = sum(
        len(found) / 30 * abs(sum(hit for hit, _ in found) / len(found) - sum(p for _, p in found) / len(found))
        for found in bins.values()
    )
    assert expected_calibration_error(softmax(scores), labels) == pytest.approx(expected, abs=1e-9)


def test_a_model_that_is_as_sure_as_it_is_right_has_no_calibration_error() -> None:
    """Seven of ten right at 0.7; and always wrong at 1 is the worst there is."""
    probability = np.tile([0.7, 0.3], (10, 1))
    assert expected_calibration_error(probability, np.array([0] * 7 + [1] * 3)) == pytest.approx(0)
    assert expected_calibration_error(np.tile([1.0, 0.0], (4, 1)), np.ones(4, int)) == 1


def test_binary_figures() -> None:
    """Balanced accuracy and ROC AUC by counting pairs."""
    positive, labels = np.array([0.9, 0.8, 0.3, 0.6, 0.1]), np.array([1, 1, 1, 0, 0])
    figures = binary_metrics(positive, labels)
    assert figures["top1"] == pytest.approx(3 / 5)
    assert figures["balanced_accuracy"] == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert (figures["precision"], figures["recall"]) == (pytest.approx(2 / 3), pytest.approx(2 / 3))
    assert figures["false_positive_rate"] == 1 / 2
    pairs = [p > q for p in positive[labels == 1] for q in positive[labels == 0]]
    assert figures["roc_auc"] == pytest.approx(sum(pairs) / len(pairs))


def test_binary_figures_of_one_class_only() -> None:
    """A test part with treated groups alone has no ROC curve, and no warning either."""
    figures = binary_metrics(np.array([0.9, 0.2]), np.array([1, 1]))
    assert figures["balanced_accuracy"] == 0.5
    assert "roc_auc" not in figures


def test_majority_is_the_share_of_the_largest_class() -> None:
    """What naming the most frequent class always gets."""
    assert majority_share(np.array([2, 2, 0, 1])) == 0.5


def test_mean_and_sample_sd_over_folds() -> None:
    """Figures that every fold has; one fold has no spread."""
    mean, sd = mean_and_sd([{"top1": 0.2, "top5": 1.0}, {"top1": 0.4}])
    assert (mean, sd) == ({"top1": pytest.approx(0.3)}, {"top1": pytest.approx(math.sqrt(0.02))})
    assert mean_and_sd([{"top1": 0.2}]) == ({"top1": 0.2}, {"top1": None})
    assert mean_and_sd([]) == ({}, {})
