"""The simplest thing that could work: logistic regression on eight intensity statistics of each image."""

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from phenoembed.groups import Groups


def intensity_scores(
    statistics: NDArray[np.floating],
    groups: Groups,
    train: np.ndarray,
    labels: np.ndarray,
    test: np.ndarray,
    n_classes: int,
) -> NDArray[np.float64]:
    """Log-scores (test groups, classes): per-image logistic regression, multiplied over a group's images as Eq. (2).

    ``statistics``: (images, 8). ``train``, ``test``: places of groups; ``labels``: (train,) class numbers.
    """
    rows = np.concatenate([groups.rows[place] for place in train])
    image_labels = np.repeat(labels, [len(groups.rows[place]) for place in train])
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
    model.fit(statistics[rows], image_labels)
    scores = np.full((len(test), n_classes), -np.inf)
    known = model.classes_.astype(int)
    for i, place in enumerate(test):
        scores[i, known] = model.predict_log_proba(statistics[groups.rows[place]]).sum(axis=0)
    return scores
