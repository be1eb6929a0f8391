"""Doses that a head was not fitted on, against the formula in plain Python floats."""

import math
from dataclasses import replace

import numpy as np
import pytest
from tests.store.test_posterior import image_logits, make_head, softmax

from phenoembed_store import Head, Store, posterior
from phenoembed_store.doubt import SHOWS, new_configurations
from phenoembed_store.errors import StoreError


def knowing_head(configurations: list[list[float]], temperature: float = 1.0) -> Head:
    """A balanced head that knows controls, fitted at these (concentration, time)."""
    head = make_head("balanced", temperature)
    draw = np.random.default_rng(8)
    control = {"control_w": 0.3 * draw.normal(size=16), "control_b": np.array([0.2])}
    config = {**head.config, "configurations": configurations, "control_odds": 3.0}
    return replace(head, config=config, extra={name: array.astype(np.float32) for name, array in control.items()})


def control_logit(head: Head, vector: np.ndarray) -> float:
    as_class = replace(head, w2=np.stack([head.extra["control_w"]] * 4), b2=np.repeat(head.extra["control_b"], 4))
    return image_logits(as_class, vector)[0]


def doubted_by_hand(head: Head, vectors: list[np.ndarray]) -> list[float]:
    """Of the mean scores of some images: log(1 - SHOWS + SHOWS p(x given y) / p(x given control))."""
    means = [sum(column) / len(vectors) for column in zip(*(image_logits(head, v) for v in vectors), strict=True)]
    control = sum(control_logit(head, v) for v in vectors) / len(vectors)
    return [math.log(1 - SHOWS + SHOWS * math.exp(z - control)) for z in means]


def by_dose(store: Store, where: str) -> dict[float, list[np.ndarray]]:
    table, vectors = store.vectors(where)
    found: dict[float, list[np.ndarray]] = {}
    for dose, vector in zip(table.column("concentration_um").to_pylist(), vectors, strict=True):
        found.setdefault(dose, []).append(vector)
    return found


def test_a_dose_that_was_never_seen_is_doubted(store: Store) -> None:
    """Known doses add their mean scores, the new one the logarithm of the mixture."""
    doses = by_dose(store, "compound = 'taxol'")
    time = store.vectors("compound = 'taxol'")[0].column("time_h")[0].as_py()
    new, *known = sorted(doses)
    head = knowing_head([[dose, time] for dose in known], temperature=0.7)
    scores = doubted_by_hand(head, doses[new])
    for dose in known:
        means = np.mean([image_logits(head, v) for v in doses[dose]], axis=0)
        scores = [a + b for a, b in zip(scores, means, strict=True)]
    (row,) = store.posterior(head, where="compound = 'taxol'").to_pylist()
    assert row["probabilities"] == pytest.approx(softmax([s / 0.7 for s in scores]), abs=1e-5)


def test_another_time_is_another_configuration(store: Store) -> None:
    """A known dose at a time that was not trained on is as new as a new dose; within a twentieth, it is the same."""
    doses = by_dose(store, "compound = 'taxol'")
    time = store.vectors("compound = 'taxol'")[0].column("time_h")[0].as_py()
    everywhere = [[dose, time] for dose in sorted(doses)]
    whole = store.posterior(knowing_head(everywhere), where="compound = 'taxol'").column("probabilities")
    nearly = [[1.04 * dose, 0.97 * when] for dose, when in everywhere]
    assert store.posterior(knowing_head(nearly), where="compound = 'taxol'").column("probabilities") == whole
    other = [[dose, when + 24 * (dose == min(doses))] for dose, when in everywhere]
    assert store.posterior(knowing_head(other), where="compound = 'taxol'").column("probabilities") != whole


@pytest.mark.parametrize("configurations", [[], [[123.0, 1.0]]])
def test_where_nothing_is_known_nothing_is_doubted(store: Store, configurations: list[list[float]]) -> None:
    """Groups of new doses alone are taken at their word, and so is every group of a head that says no doses."""
    found = store.posterior(knowing_head(configurations), where="role = 'treated'", by=["compound"])
    plain = store.posterior(make_head("balanced"), where="role = 'treated'", by=["compound"])
    for ours, theirs in zip(*(one.column("probabilities").to_pylist() for one in (found, plain)), strict=True):
        assert ours == pytest.approx(theirs, abs=1e-9)


def test_a_control_among_doses_is_doubted_whatever_its_concentration() -> None:
    head = knowing_head([[1.0, 24.0], [0.0, 24.0]])
    asked = (head, np.array([0.0]), np.array([24.0]))
    assert new_configurations(*asked, np.ones(1, np.bool_)).all()
    assert not new_configurations(*asked, np.zeros(1, np.bool_)).any()


def test_an_image_like_a_control_changes_little_and_one_unlike_it_much() -> None:
    """The odds of two classes move by (1 + SHOWS) at most where neither is likelier than the control, and by all that
    the image says, nearly, where both are far likelier."""
    head = knowing_head([[1.0, 24.0]])
    one_hot = np.zeros((4, 16), np.float32)
    one_hot[:, 0], one_hot[0, 1] = 1, 0.5  # the first activation: unlike the control; the second: the first class
    head = replace(
        head,
        w1=np.eye(16, 8, dtype=np.float32), b1=np.zeros(16, np.float32),
        w2=one_hot, b2=np.zeros(4, np.float32),
        extra={"control_w": np.zeros(16, np.float32), "control_b": np.zeros(1, np.float32)},
    )  # fmt: skip
    known = np.zeros(8, np.float32)
    for unlike, largest in ((0.0, 1 + SHOWS), (20.0, math.e * (1 + 1e-6))):
        image = np.array([unlike, 2.0, 0, 0, 0, 0, 0, 0], np.float32)
        image[1] = 2.0 if unlike else 0.0
        vectors, new = np.stack([known, image]), np.array([False, True])
        found = posterior.group_posteriors(head, vectors, np.zeros(2, np.int64), np.arange(2), new)[0]
        assert 1 <= found[0] / found[1] <= largest
        if unlike:
            assert found[0] / found[1] == pytest.approx(math.e, rel=1e-4)


def test_what_is_known_of_controls_is_saved_with_the_head(store: Store) -> None:
    head = knowing_head([[1.0, 24.0]])
    loaded = store.head(store.save_head(head))
    assert loaded.knows_controls
    assert loaded.config["configurations"] == [[1.0, 24.0]]
    np.testing.assert_array_equal(loaded.extra["control_w"], head.extra["control_w"])
    with pytest.raises(StoreError, match="control_b has the shape"):
        replace(head, extra={"control_w": head.extra["control_w"]})


def test_many_doubted_configurations_go_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    head = knowing_head([[1.0, 24.0]])
    draw = np.random.default_rng(5)
    vectors = draw.normal(size=(60, 8)).astype(np.float32)
    group, configuration = np.sort(draw.integers(0, 9, 60)), np.arange(60)
    group[:9] = np.arange(9)
    new = draw.random(60) < 0.5
    whole = posterior.group_scores(head, vectors, group, configuration, new)
    monkeypatch.setattr(posterior, "BLOCK", 7)
    np.testing.assert_allclose(posterior.group_scores(head, vectors, group, configuration, new), whole, atol=1e-12)
