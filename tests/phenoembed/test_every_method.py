"""Every method through the whole chain: train, go on, index, probe, and the posterior from stored embeddings."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from phenoembed.batches import GroupBatches
from phenoembed.cache import open_cache, sources_of
from phenoembed.encoders import load_classifier, load_encoder, load_fold, save_encoder
from phenoembed.groups import group_images
from phenoembed.indexing import index_screen
from phenoembed.methods import METHODS
from phenoembed.metrics import softmax
from phenoembed.probes import probe
from phenoembed.progress import Progress
from phenoembed.training import Trained, train
from tests.conftest import Trial
from tests.phenoembed.networks import batch_scores
from tests.phenoembed.quick import embed_here

import phenoembed_store
from phenoembed import indexing
from phenoembed_store import Store


@dataclass(frozen=True)
class Run:
    """One method's encoder, trained for two epochs, and the store that holds it and every image."""

    method: str
    trained: Trained
    store: Store


@pytest.fixture(scope="module", params=METHODS)
def run(request: pytest.FixtureRequest, trial: Trial, tmp_path_factory: pytest.TempPathFactory) -> Run:
    path: Path = tmp_path_factory.mktemp(request.param) / "store"
    trained = train(trial.screen, path, replace(trial.settings, method=request.param, epochs=2))
    store = phenoembed_store.open(path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(indexing, "embed_batches", embed_here)
        index_screen(trial.screen, store, baseline=False)
    return Run(request.param, trained, store)


def test_the_posterior_from_the_store_is_the_networks(run: Run, trial: Trial) -> None:
    """From stored embeddings and the encoder's own head, every group's probabilities as the network gives them from
    pixels, to 1e-5, the temperature included."""
    encoder, head = (
        load_encoder(run.store.path, run.trained.encoder),
        load_classifier(run.store.path, run.trained.encoder),
    )
    cache = open_cache(run.store.path / "cache", sources_of(trial.screen), None)
    groups = group_images(trial.screen.table)
    places = np.flatnonzero(groups.roles == "treated")
    batches = GroupBatches(cache.pixels, groups, places, places, 24)
    pixels = (encoder.config["pixel_mean"], encoder.config["pixel_sd"], cache.scale)
    scores = np.concatenate([batch_scores(encoder.encoder, head, batch, *pixels).numpy() for batch in batches])
    expected = softmax(scores / encoder.config["temperature"])
    found = run.store.posterior("compound", where="role = 'treated'", by=["group_id"])
    assert found.column("group_id").to_pylist() == groups.table.column("group_id").take(places).to_pylist()
    np.testing.assert_allclose(np.array(found.column("probabilities").to_pylist()), expected, atol=1e-5)


def test_the_temperature_is_of_groups_that_trained_nothing(run: Run) -> None:
    """The groups kept back are neither trained on nor tested; the head carries what was fitted on them."""
    fold = load_fold(run.store.path, run.trained.encoder)
    assert fold.calibration
    assert not set(fold.calibration) & {*fold.train, *fold.test, *fold.known_wells}
    head = run.store.head("compound")
    assert head.temperature == load_encoder(run.store.path, run.trained.encoder).config["temperature"] != 1.0
    assert run.trained.test is not None
    assert set(run.trained.test) >= {"top1", "ece", "ece_uncalibrated"}


def test_a_method_is_probed_with_its_own_kind_of_head(run: Run) -> None:
    """The probe's head has the encoder's method, and its predictions follow from the store."""
    report = probe(run.store, "compound")
    assert {one.test for one in report.select("replicate", "new replicate", "encoder")} == {"new replicate"}
    rows = run.store.sql("SELECT * FROM predictions WHERE features = 'encoder'").to_arrow_table().to_pylist()
    (name,) = {row["head"] for row in rows}
    assert run.store.head(name).method == run.method
    found = {r["group_id"]: r["p_predicted"] for r in run.store.posterior(name, by=["group_id"]).to_pylist()}
    for row in rows:
        assert found[row["group_id"]] == pytest.approx(row["p_predicted"], abs=1e-5)


def test_the_same_weights_under_two_methods_are_two_encoders(run: Run, tmp_path: Path) -> None:
    """With one image a group, product and balanced end with the same bits: neither replaces the other."""
    found = load_encoder(run.store.path, run.trained.encoder)
    head = load_classifier(run.store.path, run.trained.encoder)
    ids = [
        save_encoder(tmp_path, found.encoder, head, found.config | {"method": method}, run.trained.fold)
        for method in METHODS
    ]
    assert len(set(ids)) == len(METHODS)
    assert run.trained.encoder in ids
    assert [load_encoder(tmp_path, name).config["method"] for name in ids] == list(METHODS)


@contextmanager
def stop_in_the_second_of_two_epochs(name: str) -> Iterator[Progress]:
    """A stage that presses Ctrl-C."""

    def advance(done: int, total: int) -> None:
        if name == "training" and done > total // 2:
            signal.raise_signal(signal.SIGINT)

    yield advance


def test_an_interrupted_training_goes_on(run: Run, trial: Trial, tmp_path: Path) -> None:
    """Of every method: stopped after the first epoch of two, the weights are those of a training left alone."""
    settings = replace(trial.settings, method=run.method, epochs=2)
    with pytest.raises(KeyboardInterrupt):
        train(trial.screen, tmp_path / "halved", settings, stage=stop_in_the_second_of_two_epochs)
    assert train(trial.screen, tmp_path / "halved", settings, resume=True).encoder == run.trained.encoder
