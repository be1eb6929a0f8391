"""The simplest thing that could work: logistic regression on eight intensity statistics of each image."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from phenoembed.groups import Groups

Scorer = Callable[[np.ndarray], NDArray[np.floating]]
"""Places of groups -> (groups, classes) scores."""


def fit_intensity(
    statistics: NDArray[np.floating], groups: Groups, train: np.ndarray, labels: np.ndarray, n_classes: int
) -> Scorer:
    """Log-scores by a per-image logistic regression, multiplied over a group's images as Eq. (2).

    ``statistics``: (images, 8). ``train``: places of groups; ``labels``: (train,) class numbers.
    """
    rows = np.concatenate([groups.rows[place] for place in train])
    image_labels = np.repeat(labels, [len(groups.rows[place]) for place in train])
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
    model.fit(statistics[rows], image_labels)
    known = model.classes_.astype(int)

    def scores_of(places: np.ndarray) -> NDArray[np.float64]:
        scores = np.full((len(places), n_classes), -np.inf)
        for i, place in enumerate(places):
            scores[i, known] = model.predict_log_proba(statistics[groups.rows[place]]).sum(axis=0)
        return scores

    return scores_of
