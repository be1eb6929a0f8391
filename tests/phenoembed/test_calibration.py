"""One temperature, against a grid and against a truth that is known."""

import numpy as np
import pytest
from phenoembed.calibration import fit_temperature
from phenoembed.metrics import expected_calibration_error, softmax


def over_confident(n: int, factor: float) -> tuple[np.ndarray, np.ndarray]:
    """Scores ``factor`` times those whose softmax the labels were drawn from."""
    rng = np.random.default_rng(0)
    honest = rng.normal(scale=2, size=(n, 6))
    labels = np.array([rng.choice(6, p=row) for row in softmax(honest)])
    return factor * honest, labels


@pytest.mark.parametrize("factor", [0.3, 1.0, 6.0])
def test_the_temperature_is_what_the_scores_are_too_large_by(factor: float) -> None:
    """Labels drawn from softmax(s), scores handed over as 6 s: T is 6, and the calibration error vanishes."""
    scores, labels = over_confident(4000, factor)
    found = fit_temperature(scores, labels)
    assert found == pytest.approx(factor, rel=0.06)
    assert expected_calibration_error(softmax(scores / found), labels) < 0.03


def test_no_temperature_of_a_grid_is_better() -> None:
    """The minimum of the negative log-likelihood with its prior, searched by brute force."""
    scores, labels = over_confident(20, 3.0)

    def cost(t: float) -> float:
        q = softmax(scores / t)[np.arange(20), labels]
        return float(-np.log(q).sum() + np.log(t) ** 2 / 2)

    found = fit_temperature(scores, labels)
    assert cost(found) <= min(map(cost, np.exp(np.linspace(-4, 4, 801)))) + 1e-6


def test_few_groups_that_are_all_right_do_not_make_it_sure() -> None:
    """Where the likelihood would let T fall to 0, the prior holds it."""
    scores = 3 * np.eye(4)
    assert 0.1 < fit_temperature(scores, np.arange(4)) < 1
    assert fit_temperature(np.zeros((0, 4)), np.zeros(0, int)) == 1.0


def test_the_order_of_classes_stays() -> None:
    """A temperature changes no ranking."""
    scores, labels = over_confident(50, 5.0)
    order = np.argsort(scores / fit_temperature(scores, labels), axis=1)
    assert (order == np.argsort(scores, axis=1)).all()
