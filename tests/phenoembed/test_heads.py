"""Heads fitted on frozen features, and the plain matrices that the store keeps of them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from phenoembed.baselines import fit_intensity
from phenoembed.groups import Groups, group_images
from phenoembed.heads import FitSettings, fit_head, to_store_head
from phenoembed.linear_heads import METHODS as LINEAR
from phenoembed.linear_heads import C, fit_linear_head
from phenoembed.methods import METHODS, GroupClassifier
from phenoembed.metrics import softmax
from phenoembed.tasks import TASKS, with_two_compounds
from sklearn.linear_model import LogisticRegression
from tests.phenoembed.networks import network_scores
from tests.phenoembed.screens import image, layout, table_of

from phenoembed_store import open as open_store
from phenoembed_store.errors import TrainingError
from phenoembed_store.posterior import group_posteriors

DIM = 12
QUICK = FitSettings(epochs=30)


@pytest.fixture(scope="module")
def groups() -> Groups:
    rows = layout(compounds=4, controls=4, moa=2)
    return group_images(table_of([row for i, row in enumerate(rows) if i % 5]))  # ragged


def labels_of(groups: Groups) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Places of treated groups, their compounds' numbers, and the compounds' names."""
    places = np.flatnonzero(groups.roles == "treated")
    names = sorted(set(groups.compounds[places]))
    return places, np.array([names.index(name) for name in groups.compounds[places]]), names


def features_of(groups: Groups, spread: float) -> np.ndarray:
    """Random features, on an offset and scale of their own, ``spread`` apart between compounds."""
    rng = np.random.default_rng(0)
    n_images = 1 + max(int(rows.max()) for rows in groups.rows)
    features = rng.normal(size=(n_images, DIM))
    for name, rows in zip(groups.compounds, groups.rows, strict=True):
        features[rows] += spread * np.random.default_rng(sum(map(ord, name))).normal(size=DIM)
    return (100 + 30 * features).astype(np.float32)


@pytest.mark.parametrize("method", METHODS)
def test_a_head_learns_what_is_there(groups: Groups, method: str) -> None:
    """With every method compounds far apart are told apart; features of any scale will do."""
    places, labels, names = labels_of(groups)
    features = features_of(groups, 2.0)
    head = fit_head(features, groups, places, labels, len(names), method, QUICK)
    assert not head.training
    assert (network_scores(head, features, groups, places).argmax(1) == labels).mean() > 0.9


def test_the_same_seed_fits_the_same_head(groups: Groups) -> None:
    """Bit by bit; and another seed another one."""
    places, labels, names = labels_of(groups)
    features = features_of(groups, 1.0)
    heads = [
        fit_head(features, groups, places, labels, len(names), settings=FitSettings(epochs=3, seed=seed))
        for seed in (0, 0, 1)
    ]
    first, same, other = (head.classifier[1].weight for head in heads)
    assert torch.equal(first, same)
    assert not torch.equal(first, other)


def test_groups_of_one_image_and_a_single_group_left_over_can_be_fitted() -> None:
    """Batch normalisation needs two rows; no batch has one."""
    groups = group_images(
        table_of([image(compound=c, field=f) for c in "ab" for f in range(1, 14)] + [image(compound="b", field=99)])
    )
    places, labels, _ = labels_of(groups)
    features = features_of(groups, 1.0)
    for batch_groups in (2, 13, 26):
        head = fit_head(features, groups, places, labels, 2, settings=FitSettings(epochs=2, batch_groups=batch_groups))
        assert np.isfinite(network_scores(head, features, groups, places)).all()


@pytest.mark.parametrize("method", METHODS)
def test_the_stores_matrices_say_what_the_head_says(groups: Groups, method: str, tmp_path: Path) -> None:
    """Of every method: saved as plain arrays and read again, the same posterior of every ragged group, some of them
    with several images of one configuration."""
    places, labels, names = labels_of(groups)
    features = features_of(groups, 1.0)
    head = fit_head(features, groups, places, labels, len(names), method, QUICK)
    check_the_stores_matrices(head, features, groups, method, tmp_path)


@pytest.mark.parametrize("method", LINEAR)
def test_a_linear_head_is_stored_like_any_other(groups: Groups, method: str, tmp_path: Path) -> None:
    """Its posterior too follows from four arrays."""
    places, labels, names = labels_of(groups)
    features = features_of(groups, 1.0)
    head = fit_linear_head(features, groups, places, labels, len(names), method)
    check_the_stores_matrices(head, features, groups, method, tmp_path)


def check_the_stores_matrices(
    head: GroupClassifier, features: np.ndarray, groups: Groups, method: str, folder: Path
) -> None:
    places, _, names = labels_of(groups)
    store = open_store(folder, create=True)
    stored = store.head(store.save_head(to_store_head("compound", tuple(names), head, {"method": method})))
    doubled = replace(groups, configurations=tuple(found // 2 for found in groups.configurations))
    rows = np.concatenate([groups.rows[place] for place in places])
    unit = np.repeat(np.arange(len(places)), [len(groups.rows[place]) for place in places])
    configuration = np.concatenate([doubled.configurations[place] for place in places])
    found = group_posteriors(stored, features[rows], unit, configuration)
    np.testing.assert_allclose(found, softmax(network_scores(head, features, doubled, places)), atol=1e-5)


def summed(method: str, features: np.ndarray, configurations: np.ndarray) -> np.ndarray:
    """What the method makes of one group's features (images, dim), by loops: (dim + 1,), the last a count."""
    ones = np.column_stack([features, np.ones(len(features))])
    if method == "product":
        return ones.sum(0)
    if method == "embedding-mean":
        return ones.mean(0)
    return sum(ones[configurations == one].mean(0) for one in set(configurations.tolist()))  # type: ignore[no-any-return]


@pytest.mark.parametrize("method", LINEAR)
@pytest.mark.parametrize("n_classes", [2, 4])
def test_a_linear_head_is_where_the_penalised_likelihood_is_flat(groups: Groups, method: str, n_classes: int) -> None:
    """There the weights are C times the sum over groups of (label - posterior) times what the method makes of a group,
    standardised: ragged groups, several images a configuration, two classes or more."""
    groups = replace(groups, configurations=tuple(found // 2 for found in groups.configurations))
    places, labels, _ = labels_of(groups)
    chosen = labels < n_classes
    places, labels = places[chosen], labels[chosen]
    features = features_of(groups, 0.3)
    scores = network_scores(
        fit_linear_head(features, groups, places, labels, n_classes, method), features, groups, places
    )
    own = features[np.concatenate([groups.rows[place] for place in places])].astype(float)
    standard = (features - own.mean(0)) / own.std(0)
    rows = np.array([summed(method, standard[groups.rows[p]], groups.configurations[p]) for p in places])
    rows /= rows[:, :-1].std()
    missing = np.eye(n_classes)[labels] - softmax(scores)
    # of two classes scikit-learn penalises the difference of their weights, not both
    weights = (C if n_classes > 2 else C / 2) * missing.T @ rows
    centred = scores - scores.mean(1, keepdims=True)
    np.testing.assert_allclose(rows @ weights.T, centred, atol=0.02 * centred.std())


def test_what_is_not_linear_has_no_linear_head(groups: Groups) -> None:
    places, labels, names = labels_of(groups)
    with pytest.raises(TrainingError, match=r"needs a method that adds or averages .*, not 'attention'"):
        fit_linear_head(features_of(groups, 1.0), groups, places, labels, len(names), "attention")


def test_the_intensity_baseline_multiplies_per_image_logistic_regressions(groups: Groups) -> None:
    """Scikit-learn on standardised statistics, image by image, log-probabilities summed by a loop."""
    places, labels, names = labels_of(groups)
    train, test = places[::2], places[1::2]
    statistics = features_of(groups, 1.0)[:, :8].astype(float)
    found = fit_intensity(statistics, groups, train, labels[::2], len(names))(test)
    rows = [row for place in train for row in groups.rows[place]]
    owner = [labels[places.tolist().index(place)] for place in train for _ in groups.rows[place]]
    mean, sd = statistics[rows].mean(0), statistics[rows].std(0)
    model = LogisticRegression(max_iter=2000).fit((statistics[rows] - mean) / sd, owner)
    for scores, place in zip(found, test, strict=True):
        expected = sum(model.predict_log_proba((statistics[[row]] - mean) / sd)[0] for row in groups.rows[place])
        np.testing.assert_allclose(scores, expected, atol=1e-4)


def test_a_class_without_training_groups_is_never_named(groups: Groups) -> None:
    """Its score is minus infinity, its probability 0."""
    places, labels, names = labels_of(groups)
    train = places[labels != 1]
    fitted = fit_intensity(features_of(groups, 1.0)[:, :8], groups, train, labels[labels != 1], len(names))
    scores = fitted(places)
    assert (scores[:, 1] == -np.inf).all()
    assert (softmax(scores)[:, 1] == 0).all()


def test_controls_are_no_class_but_of_the_treatment_task(groups: Groups) -> None:
    """The compound and moa tasks have no label for control groups; treatment tells them apart."""
    control = groups.roles == "control"
    assert control.any()
    assert set(TASKS["compound"].labels(groups)[control]) == {None}
    assert set(TASKS["moa"].labels(groups)[control]) == {None}
    assert set(TASKS["moa"].labels(groups)[~control]) == {"m0", "m1"}
    assert TASKS["treatment"].labels(groups).tolist() == groups.roles.tolist()


def test_a_mechanism_is_a_name_whatever_its_type() -> None:
    """Numbers are names too, the empty text is none, and a screen without the column has no labels."""
    table = table_of([image(compound=c) for c in "abc"])
    import pyarrow as pa

    numbered = group_images(table.append_column("moa", pa.array([0, 7, None])))
    assert TASKS["moa"].labels(numbered).tolist() == ["0", "7", None]
    named = group_images(table.append_column("moa", pa.array(["", "tubulin", None])))
    assert TASKS["moa"].labels(named).tolist() == [None, "tubulin", None]
    assert TASKS["moa"].labels(group_images(table)).tolist() == [None] * 3


def test_mechanisms_of_one_compound_cannot_be_held_out() -> None:
    """With whole compounds held out, a class needs two of them."""
    labels = np.array(["a", "a", "b", "b", None], dtype=object)
    compounds = np.array(["x", "y", "z", "z", "w"], dtype=object)
    assert with_two_compounds(labels, compounds).tolist() == ["a", "a", None, None, None]
