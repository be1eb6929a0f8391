"""Which groups a head is fitted on, and what it keeps of them."""

import numpy as np
import pytest
from phenoembed.controls import Labelled, with_controls
from phenoembed.groups import Groups, group_images
from phenoembed.heads import FitSettings, fit_head, to_store_head
from phenoembed.linear_heads import fit_linear_head
from tests.phenoembed.screens import layout, table_of

from phenoembed_store.doubt import new_configurations
from phenoembed_store.posterior import group_scores

ROWS = layout(compounds=4, doses=(1.0, 10.0), times=(24.0, 72.0), fields=2, controls=4)
TABLE = table_of(ROWS)


@pytest.fixture(scope="module")
def groups() -> Groups:
    return group_images(TABLE)


def labelled(groups: Groups, method: str) -> Labelled:
    every = np.arange(len(groups.rows))
    treated = every[groups.roles == "treated"]
    names = sorted(set(groups.compounds[treated]))
    labels = np.searchsorted(names, groups.compounds[treated]).astype(np.int64)
    return with_controls(method, groups, every, treated, labels, len(names))


def test_only_a_method_that_learns_controls_is_given_them(groups: Groups) -> None:
    product, balanced = labelled(groups, "product"), labelled(groups, "balanced")
    n_controls = int((groups.roles == "control").sum())
    assert n_controls > 0
    assert (groups.roles[product.places] == "treated").all()
    assert not product.controls
    assert product.knowledge(TABLE, groups) == {}
    assert len(balanced.places) == len(product.places) + n_controls
    assert (groups.roles[balanced.places[balanced.labels == 4]] == "control").all()


def test_controls_that_are_a_class_already_are_not_given_twice(groups: Groups) -> None:
    """As in the tasks ``treatment`` and ``jump``."""
    every = np.arange(len(groups.rows))
    labels = (groups.roles == "treated").astype(np.int64)
    found = with_controls("balanced", groups, every, every, labels, 2)
    np.testing.assert_array_equal(found.places, every)
    assert not found.controls


def test_a_head_keeps_the_doses_and_times_of_its_training(groups: Groups) -> None:
    """Those of treated images, counted by hand, and how much commoner controls were than a class."""
    found = labelled(groups, "balanced")
    knowledge = found.knowledge(TABLE, groups)
    assert knowledge["configurations"] == [[1.0, 24.0], [1.0, 72.0], [10.0, 24.0], [10.0, 72.0]]
    n_controls = int((groups.roles == "control").sum())
    assert knowledge["control_odds"] == pytest.approx(n_controls / ((len(groups.rows) - n_controls) / 4))


@pytest.mark.parametrize("kind", ["paper", "linear"])
def test_doses_that_do_nothing_leave_a_fitted_head_alone(groups: Groups, kind: str) -> None:
    """Features of four compounds along axes of their own, controls at the origin: with six images of controls put
    into every group for each of its own, about as many are recognised as before; undoubted, weak ones take over."""
    found = labelled(groups, "balanced")
    rng = np.random.default_rng(0)
    strength = {"c0": 3.0, "c1": 2.0, "c2": 2.0, "c3": 0.5, "DMSO": 0.0}
    features = rng.normal(size=(TABLE.num_rows, 32)).astype(np.float32)
    for row, name in enumerate(TABLE.column("compound").to_pylist()):
        features[row, int(name[1:]) if name != "DMSO" else 4] += strength[name]
    asked = (features, groups, *found, "balanced")
    fitted = fit_head(*asked, FitSettings(epochs=30)) if kind == "paper" else fit_linear_head(*asked)
    config = {"method": "balanced", **found.knowledge(TABLE, groups)}
    head = to_store_head("compound", tuple(sorted(set(strength) - {"DMSO"})), fitted, config)
    assert head.knows_controls
    treated, labels = found.places[found.labels < 4], found.labels[found.labels < 4]
    n = len(treated)
    rows = np.concatenate([groups.rows[place] for place in treated])
    control = np.flatnonzero(np.array(TABLE.column("role").to_pylist()) == "control")
    more = rng.choice(control, 24 * n)
    both = np.concatenate([rows, more])
    group = np.concatenate([np.repeat(np.arange(n), 4), np.repeat(np.arange(n), 24)])
    configuration = np.concatenate([np.tile(np.arange(4), n), np.tile(np.arange(4, 28), n)])
    dose, time = (TABLE.column(name).to_numpy()[both] for name in ("concentration_um", "time_h"))
    new = new_configurations(head, dose, time, np.isin(both, control))
    assert new.sum() == 24 * n

    def right(images: np.ndarray, flags: np.ndarray) -> float:
        chosen = (features[both], group, configuration, flags)
        scores = group_scores(head, *(values[images] for values in chosen))
        return float((scores.argmax(1) == labels).mean())

    every, clean = np.ones(len(both), np.bool_), np.arange(len(both)) < len(rows)
    assert right(every, new) >= 0.9 * right(clean, new)
    assert right(every, ~every) < 0.8 * right(clean, new)
