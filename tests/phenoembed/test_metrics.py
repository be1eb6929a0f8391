"""Figures of predictions against plain Python."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from phenoembed.metrics import (
    binary_metrics,
    majority_share,
    mean_and_sd,
    multiclass_metrics,
    rank_of_label,
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
    """top-k only where there are more classes than k; macro F1 by hand."""
    scores = np.eye(3)[[0, 1, 2, 1]]
    figures = multiclass_metrics(scores, np.array([0, 1, 2, 2]))
    assert figures["top1"] == 0.75
    assert set(figures) == {"top1", "f1_macro"}
    assert figures["f1_macro"] == pytest.approx((1 + 2 / 3 + 2 / 3) / 3)
    assert set(multiclass_metrics(np.random.default_rng(0).random((4, 12)), np.arange(4))) == {
        "top1",
        "top5",
        "top10",
        "f1_macro",
    }


def test_binary_figures() -> None:
    """Balanced accuracy and ROC AUC by counting pairs."""
    positive, labels = np.array([0.9, 0.8, 0.3, 0.6, 0.1]), np.array([1, 1, 1, 0, 0])
    figures = binary_metrics(positive, labels)
    assert figures["top1"] == pytest.approx(3 / 5)
    assert figures["balanced_accuracy"] == pytest.approx((2 / 3 + 1 / 2) / 2)
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
