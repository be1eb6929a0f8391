"""One temperature brings a head's probabilities in line with how often it is right. Pure functions over arrays."""

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

PRIOR_SD = 1.0  # of log T: where every held-out group is right, the likelihood alone would let T fall to 0
BOUNDS = (-5.0, 5.0)  # of log T


def fit_temperature(scores: NDArray[np.floating], labels: NDArray[np.integer]) -> float:
    """T that makes softmax(scores / T) most probable (Guo et al., 2017, Section 4.2); 1.0 where there is no group.

    ``scores``: (groups, classes) of groups that trained neither encoder nor head; ``labels``: (groups,) class numbers.
    A product of many images' probabilities is over-confident: T is above 1 there. log T has a normal prior around 0.
    """
    if not len(labels):
        return 1.0
    exact, rows = np.asarray(scores, np.float64), np.arange(len(labels))

    def cost(log_t: float) -> float:
        log_q = log_softmax(exact / np.exp(log_t), axis=1)[rows, labels]
        return float(-log_q.sum() + 0.5 * (log_t / PRIOR_SD) ** 2)

    return float(np.exp(minimize_scalar(cost, bounds=BOUNDS, method="bounded").x))
