"""Test groups with a dose that no training group had: a probe, the posterior and an evaluation say the same of them."""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from phenoembed.controls import Labelled, with_controls
from phenoembed.encoders import save_encoder
from phenoembed.evaluation.held_out import find_trials
from phenoembed.folds import keep_back, make_fold
from phenoembed.groups import Groups, group_images
from phenoembed.heads import FitSettings, fit_head, own_head, save_own_head
from phenoembed.indexing import index_screen
from phenoembed.linear_heads import METHODS as LINEAR
from phenoembed.methods import METHODS, GroupClassifier
from phenoembed.metrics import softmax
from phenoembed.model import Encoder
from phenoembed.probes import probe
from phenoembed.settings import Settings
from phenoembed.training import train
from tests.conftest import Trial, with_column
from tests.phenoembed.evaluation.conftest import DIM, write
from tests.phenoembed.networks import network_scores
from tests.phenoembed.quick import embed_here
from tests.phenoembed.screens import layout, table_of

import phenoembed_store
from phenoembed import indexing
from phenoembed.evaluation import evaluate
from phenoembed_store import Store

HEADS = [*((method, "paper") for method in METHODS), *((method, "linear") for method in LINEAR)]


@dataclass(frozen=True)
class Case:
    """A store with one encoder, whose first replicate, held out, has 100 micromolar where the others have 10."""

    method: str
    store: Store
    encoder: str
    head: GroupClassifier  # the encoder's own
    groups: Groups
    features: np.ndarray
    labelled: Labelled


def table_with_a_new_dose() -> pa.Table:
    rows = layout(compounds=4, doses=(1.0, 10.0), times=(24.0, 72.0), fields=4, controls=4)
    new = {("1", 10.0): {"concentration_um": 100.0}}
    return table_of([row | new.get((row["replicate"], row["concentration_um"]), {}) for row in rows])


def drawn_case(method: str, folder: Path) -> Case:
    """Embeddings in which compounds show a little, and the new dose as those of controls."""
    table, rng = table_with_a_new_dose(), np.random.default_rng(0)
    groups = group_images(table)
    shown = np.where(table.column("concentration_um").to_numpy() < 100, table.column("compound").to_numpy(), "DMSO")
    centre = {name: rng.normal(size=DIM) for name in sorted(set(shown))}
    features = (rng.normal(size=(len(shown), DIM)) + 0.1 * np.array([centre[n] for n in shown])).astype(np.float32)
    fold = keep_back(make_fold(groups.table, "replicate", 0), groups.table)
    every = groups.places(fold.train)
    train, classes = every[groups.roles[every] == "treated"], [f"c{i}" for i in range(4)]
    labels = np.searchsorted(classes, groups.compounds[train].astype(str))
    labelled = with_controls(method, groups, every, train, labels, 4)
    head = fit_head(features, groups, *labelled, method, FitSettings(epochs=8))
    config: dict[str, Any] = {
        **asdict(Settings(method, epochs=1)),
        "untrained": False,
        "family": "f",
        "classes": classes,
    }
    config |= {"screens": ["s"], "pixel_mean": 0.5, "pixel_sd": 0.1, "trained_at": "2026", "temperature": 1.3}
    config |= labelled.knowledge(table, groups)
    store = phenoembed_store.open(folder, create=True)
    encoder = save_encoder(folder, Encoder(), head, config, fold)
    save_own_head(folder, encoder, own_head(head, config))
    write(store, encoder, table, features)
    return Case(method, store, encoder, head, groups, features, labelled)


def probabilities(store: Store, head: str) -> dict[str, np.ndarray]:
    """By the posterior, of every group."""
    found = store.posterior(head, by=["group_id"]).select(["group_id", "probabilities"]).to_pylist()
    return {row["group_id"]: np.array(row["probabilities"]) for row in found}


@pytest.mark.parametrize(("method", "kind"), HEADS)
def test_a_probes_predictions_are_the_posteriors(
    method: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of both kinds of heads: what is stored of each tested group, and the report's figures."""
    monkeypatch.setattr("phenoembed.heads.FitSettings", lambda: FitSettings(epochs=8))
    case = drawn_case(method, tmp_path / "store")
    report = probe(case.store, "compound", head=kind)
    rows = case.store.sql("SELECT * FROM predictions WHERE features = 'encoder'").to_arrow_table().to_pylist()
    (name,) = {row["head"] for row in rows}
    expected = probabilities(case.store, name)
    classes = case.store.head(name).classes
    assert {row["test"] for row in rows} == {"new replicate", "known wells"}
    for row in rows:
        posterior = expected[row["group_id"]]
        assert row["p_label"] == pytest.approx(posterior[classes.index(row["label"])], abs=1e-6)
        assert row["top_probabilities"] == pytest.approx(sorted(posterior, reverse=True)[:5], abs=1e-6)
        assert row["predicted"] == classes[int(posterior.argmax())]
    for one in report.tested:
        mine = [row for row in rows if row["test"] == one.test]
        if one.features == "encoder":
            assert one.figures["top1"] == np.mean([row["predicted"] == row["label"] for row in mine])


@pytest.mark.parametrize("method", METHODS)
def test_an_evaluations_scores_are_the_posteriors(method: str, tmp_path: Path) -> None:
    """Of the encoder's own head; only `balanced` says something else than the network does, of the new dose alone."""
    case = drawn_case(method, tmp_path / "store")
    expected = probabilities(case.store, "compound")
    for held in find_trials(case.store, None).held_out():
        found = softmax(held.scores() / held.head.temperature)
        np.testing.assert_allclose(found, [expected[name] for name in held.group_ids], atol=1e-6)
        network = network_scores(case.head, case.features, case.groups, case.groups.places(held.group_ids))
        doubted = np.abs(found - softmax(network / 1.3)).max() > 0.01
        assert doubted == (method == "balanced" and held.test == "new replicate")


def test_a_trainings_figures_are_the_evaluations(trial: Trial, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a network trained with `balanced`: the same accuracy and calibration error, and the same temperature."""
    table = trial.screen.table
    new = pc.and_(pc.equal(table.column("replicate"), "R1"), pc.equal(table.column("concentration_um"), 5.0))
    dose = pc.if_else(new, 500.0, table.column("concentration_um"))
    screen = replace(trial.screen, table=with_column(table, "concentration_um", dose))
    trained = train(screen, tmp_path / "store", replace(trial.settings, method="balanced", epochs=2))
    store = phenoembed_store.open(tmp_path / "store")
    monkeypatch.setattr(indexing, "embed_batches", embed_here)
    index_screen(screen, store, baseline=False)
    figures = {row["test"]: row["folds"][0] for row in evaluate(store, "methods").document()["methods"]}
    for found, test in ((trained.test, "new replicate"), (trained.test_known_wells, "known wells")):
        assert found is not None
        assert {name: figures[test][name] for name in found} == pytest.approx(found, abs=1e-5)
