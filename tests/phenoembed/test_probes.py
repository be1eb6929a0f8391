"""Probes: heads on frozen features, tested on groups that the encoder never saw."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from phenoembed.encoders import load_fold
from phenoembed.folds import Fold
from phenoembed.heads import FitSettings
from phenoembed.outcomes import Report
from phenoembed.probes import probe
from phenoembed.screen import Screen
from sklearn.metrics import balanced_accuracy_score, f1_score
from tests.conftest import Trial, with_column

import phenoembed_store
from phenoembed_store import Store
from phenoembed_store.errors import NotInStore, PhenoembedError, QueryError, TrainingError


@pytest.fixture
def store(trial: Trial, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """The trial's store, to be written to; heads are fitted for fewer epochs."""
    import phenoembed.heads

    monkeypatch.setattr(phenoembed.heads, "FitSettings", lambda: FitSettings(epochs=15))
    return trial.copy(tmp_path / "store")


def rows_of(store: Store, **kept: Any) -> list[dict[str, Any]]:
    """Predictions with these values."""
    rows = store.sql("SELECT * FROM predictions").to_arrow_table().to_pylist()
    return [row for row in rows if all(row[name] == value for name, value in kept.items())]


def top_k(rows: list[dict[str, Any]], k: int) -> float:
    return sum(row["rank_label"] <= k for row in rows) / len(rows)


@pytest.mark.parametrize("task", ["compound", "moa", "treatment"])
def test_figures_follow_from_the_predictions(store: Store, task: str) -> None:
    """Every figure of every row of the report can be computed again from the rows of ``predictions``."""
    report = probe(store, task)
    seen = 0
    for one in report.tested:
        if one.features == "compound head":
            continue
        rows = rows_of(store, task=task, split=one.split, fold=one.fold, test=one.test, features=one.features)
        labels, predicted = [row["label"] for row in rows], [row["predicted"] for row in rows]
        assert one.figures["n_test"] == len(rows) > 0
        assert one.figures["top1"] == pytest.approx(np.mean([a == b for a, b in zip(labels, predicted, strict=True)]))
        assert one.majority == pytest.approx(max(labels.count(label) for label in set(labels)) / len(labels))
        if task == "treatment":
            assert one.figures["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(labels, predicted))
        else:
            assert one.figures["top1"] == pytest.approx(top_k(rows, 1))
            assert one.figures["f1_macro"] == pytest.approx(
                f1_score(labels, predicted, average="macro", zero_division=0.0)
            )
        for row in rows:
            assert row["p_predicted"] == row["top_probabilities"][0] >= row["p_label"]
            assert row["top_classes"][0] == row["predicted"]
            assert row["top_probabilities"] == sorted(row["top_probabilities"], reverse=True)
        seen += 1
    assert seen == 6, "three kinds of features, a new replicate and known wells"


def test_predictions_follow_from_the_saved_head(store: Store) -> None:
    """The head that a probe saved gives, from the store alone, the probabilities it wrote: one posterior a group."""
    probe(store, "compound")
    rows = rows_of(store, features="encoder")
    (head,) = {row["head"] for row in rows}
    found = {
        row["group_id"]: row for row in store.posterior(head, where="role = 'treated'", by=["group_id"]).to_pylist()
    }
    for row in rows:
        assert found[row["group_id"]]["predicted"] == row["predicted"]
        assert found[row["group_id"]]["p_predicted"] == pytest.approx(row["p_predicted"], abs=1e-5)


def test_the_encoder_never_saw_what_is_tested(trial: Trial, store: Store) -> None:
    """Tested groups are those of the encoder's fold, by name; none of its training groups is among them."""
    fold = load_fold(store.path, trial.trained.encoder)
    probe(store, "treatment")
    new = {row["group_id"] for row in rows_of(store, test="new replicate")}
    known = {row["group_id"] for row in rows_of(store, test="known wells")}
    assert new == set(fold.test)
    assert known == set(fold.known_wells)
    assert not (new | known) & set(fold.train)


def test_no_image_is_opened(store: Store, monkeypatch: pytest.MonkeyPatch, trial: Trial) -> None:
    """Nothing under the plates is touched, whatever module might."""
    import builtins
    import io

    opened: list[str] = []

    def watched(original: Callable[..., Any]) -> Callable[..., Any]:
        def call(file: Any, *arguments: Any, **options: Any) -> Any:
            opened.append(str(file))
            return original(file, *arguments, **options)

        return call

    monkeypatch.setattr(builtins, "open", watched(builtins.open))
    monkeypatch.setattr(io, "open", watched(io.open))
    probe(store, "compound")
    assert not [name for name in opened if name.startswith(str(trial.screen.root))]


def test_without_plates_a_probe_is_the_same(store: Store, trial: Trial, tmp_path: Path) -> None:
    """Features come from the store: where the image files are gone, every figure is as before."""
    before = probe(store, "compound").document("replicate")
    root = trial.screen.root
    hidden = root.with_name("hidden")
    root.rename(hidden)
    try:
        assert probe(store, "compound").document("replicate") == before
    finally:
        hidden.rename(root)


PINNED = {"task", "split", "classes", "chance", "folds", "mean", "sd"}


def test_the_document_has_the_pinned_keys(store: Store) -> None:
    """Both figures of one training, the baselines on the same folds, and what is not trained."""
    document = probe(store, "moa").document("replicate")
    assert set(document) >= PINNED
    assert (document["task"], document["split"], document["test"]) == ("moa", "replicate", "new replicate")
    assert (document["classes"], document["chance"]) == (2, 0.5)
    assert [fold["fold"] for fold in document["folds"]] == [0]
    assert set(document["folds"][0]) >= {"fold", "n_test", "top1"}
    assert document["mean"]["top1"] == document["folds"][0]["top1"]
    assert document["sd"]["top1"] is None, "one fold has no spread"
    assert set(document["baselines"]) == {"untrained", "intensity"}
    assert all(document["baselines"].values())
    assert document["known_wells"]["mean"]["n_test"] == 4
    assert document["compound_head"]["mean"]["n_test"] == document["mean"]["n_test"]
    assert document["not_trained"] == ["field", "compound"]


def test_a_split_without_an_encoder_is_not_trained(store: Store) -> None:
    """It says how to train it; a split that does not exist is an error too."""
    report = probe(store, "treatment")
    with pytest.raises(
        NotInStore, match="no encoder of the field split is trained and indexed: phenoembed train PLATES"
    ):
        report.document("field")
    with pytest.raises(TrainingError, match="split 'plate' is not one of"):
        report.document("plate")  # type: ignore[arg-type]


def test_where_restricts_the_images(store: Store) -> None:
    """Groups hold only images that pass; a filter of one field leaves one field's groups."""
    probe(store, "compound", where="concentration_um > 10 AND field = 2")
    rows = rows_of(store, features="encoder")
    assert {row["group_id"].split("/")[-1] for row in rows} == {"2"}
    with pytest.raises(PhenoembedError):
        probe(store, "compound", where="concentration_um > 1e9")
    with pytest.raises(QueryError):
        probe(store, "compound", where="no_such_column = 1")


@pytest.mark.parametrize(
    ("task", "where", "said"),
    [
        ("cell line", None, "task 'cell line' is not one of compound, moa, treatment, jump"),
        ("treatment", "role = 'treated'", "task treatment"),
    ],
)
def test_what_cannot_be_probed_is_said(store: Store, task: str, where: str | None, said: str) -> None:
    with pytest.raises(TrainingError, match=said):
        probe(store, task, where=where)


def test_an_encoder_that_is_untrained_or_has_no_images_cannot_be_probed(store: Store, trial: Trial) -> None:
    """Each says what to do."""
    untrained = next(info.id for info in store.encoders() if info.untrained)
    with pytest.raises(NotInStore, match="is untrained: probe the encoder trained from it"):
        probe(store, "compound", encoder=untrained)
    store.delete_images("true")
    with pytest.raises(NotInStore, match=f"encoder {trial.trained.encoder} has no images yet: phenoembed index PLATES"):
        probe(store, "compound")


def test_writing_again_replaces_predictions(store: Store) -> None:
    """A second probe of the same fold doubles nothing."""
    probe(store, "treatment")
    before = len(rows_of(store))
    probe(store, "treatment")
    assert len(rows_of(store)) == before


# On noise: a store of random vectors, no network involved


def noise_store(folder: Path, screen: Screen, signal: float, permuted: int | None = None) -> Store:
    """A store whose embeddings are noise, plus ``signal`` times the compound's own vector; labels may be permuted."""
    import json

    from phenoembed.folds import make_fold
    from phenoembed.groups import group_images

    rng = np.random.default_rng(0)
    store = phenoembed_store.open(folder, create=True)
    table = screen.table
    compounds = table.column("compound").to_pylist()
    centre = {name: rng.normal(size=16) for name in sorted(set(compounds))}
    vectors = rng.normal(size=(table.num_rows, 16)) + signal * np.stack([centre[name] for name in compounds])
    if permuted is not None:
        names = sorted(set(compounds) - {"DMSO"})
        wells = sorted({(r["plate"], r["well"]) for r in table.to_pylist() if r["role"] == "treated"})
        given = dict(
            zip(
                wells,
                np.random.default_rng(permuted).permutation([names[i % len(names)] for i in range(len(wells))]),
                strict=True,
            )
        )
        new = [str(given.get((r["plate"], r["well"]), "DMSO")) for r in table.to_pylist()]
        table = with_column(table, "compound", pa.array(new))
    fold = make_fold(group_images(table).table, "replicate", 0)
    place = store.path / "encoders" / "noise"
    place.mkdir(parents=True)
    config = {"id": "noise", "dim": 16, "method": "product", "split": "replicate", "fold": 0, "family": "f"}
    config |= {"untrained": False, "screens": ["noise"], "trained_at": "2026-01-01"}
    (place / "config.json").write_text(json.dumps(config))
    fold.save(place / "fold.json")
    for name in phenoembed_store.schema.INTENSITY_STATISTICS:
        table = table.append_column(name, pa.array(rng.random(table.num_rows), pa.float32()))
    for name, kind in (("content_hash", pa.string()), ("file_bytes", pa.int64()), ("file_mtime_ns", pa.int64())):
        table = table.append_column(name, pa.nulls(table.num_rows, kind))
    table = table.append_column("encoder", pa.array(["noise"] * table.num_rows))
    table = table.append_column("embedding", pa.array(list(vectors.astype(np.float32)), pa.list_(pa.float32())))
    store.write_images(table)
    return store


@pytest.fixture(scope="module")
def large() -> Screen:
    """432 treated images of 8 compounds in 3 replicates, and controls; no files."""
    from tests.phenoembed.screens import layout, table_of

    return Screen(
        table_of(layout(compounds=8, fields=6, times=(24.0,), doses=(1.0, 5.0, 25.0), controls=6)), Path("."), ""
    )


def figure(report: Report, features: str, test: str = "new replicate") -> float:
    summary = report.summary("replicate", test, features)
    assert summary is not None
    return float(summary["mean"]["top1"])


def test_labels_that_mean_nothing_are_near_chance(large: Screen, tmp_path: Path) -> None:
    """Wells with compounds' names dealt out at random: no probe finds what is not there, in known wells or new ones."""
    found = [
        figure(probe(noise_store(tmp_path / str(seed), large, 1.0, seed), "compound"), "encoder") for seed in (1, 2)
    ]
    assert np.mean(found) < 0.125 + 0.15


def test_labels_that_mean_something_are_found(large: Screen, tmp_path: Path) -> None:
    """The same vectors under their own names: nearly every group of the new replicate is recognised."""
    report = probe(noise_store(tmp_path / "store", large, 1.0), "compound")
    assert figure(report, "encoder") > 0.9
    assert figure(report, "intensity") < 0.4
    assert not report.simulated
    assert any("untrained encoder's embeddings are missing" in note for note in report.notes)


def test_a_replicate_without_controls_has_a_treatment_figure(large: Screen, tmp_path: Path) -> None:
    """A test part of one class is judged without a warning."""
    table = large.table
    kept = [not (r["replicate"] == "1" and r["role"] == "control") for r in table.to_pylist()]
    store = noise_store(tmp_path / "store", replace(large, table=table.filter(pa.array(kept))), 1.0)
    report = probe(store, "treatment")
    assert 0 <= figure(report, "encoder") <= 1


def test_the_family_of_an_encoder_is_its_folds(large: Screen, tmp_path: Path) -> None:
    """Folds trained alike are averaged: mean and sample sd over them; one that is not indexed is named."""
    import json
    import shutil

    store = noise_store(tmp_path / "store", large, 0.15)
    folder = store.path / "encoders"
    from phenoembed.folds import make_fold
    from phenoembed.groups import group_images

    for name, number in (("second", 1), ("third", 2)):
        shutil.copytree(folder / "noise", folder / name)
        config = json.loads((folder / name / "config.json").read_text())
        (folder / name / "config.json").write_text(json.dumps(config | {"id": name, "fold": number}))
        fold: Fold = make_fold(group_images(large.table).table, "replicate", number)
        fold.save(folder / name / "fold.json")
    rows, vectors = store.vectors(encoder="noise")
    second = rows.select([n for n in rows.column_names if n not in ("group_id", "set", "configuration")])
    second = with_column(second, "encoder", pa.array(["second"] * rows.num_rows))
    store.write_images(second.append_column("embedding", pa.array(list(vectors), pa.list_(pa.float32()))))
    report = probe(store, "compound", encoder="noise")
    document = report.document("replicate")
    top1 = [fold["top1"] for fold in document["folds"]]
    assert [fold["fold"] for fold in document["folds"]] == [0, 1]
    assert document["mean"]["top1"] == pytest.approx(sum(top1) / 2)
    assert document["sd"]["top1"] == pytest.approx(abs(top1[0] - top1[1]) / 2**0.5)
    assert "replicate fold 2: encoder third has no images yet: phenoembed index PLATES --encoder third" in report.notes
    assert "replicate folds 0, 1: no groups were kept back to calibrate on" in report.notes


def test_a_probe_with_linear_heads(large: Screen, tmp_path: Path) -> None:
    """Compounds far apart are told apart, the stored head says its kind, and a kind that is not known is refused."""
    store = noise_store(tmp_path / "store", large, 2.0)
    report = probe(store, "compound", encoder="noise", head="linear")
    assert report.document("replicate")["mean"]["top1"] > 0.9
    assert store.head("compound").config["head"] == "linear"
    with pytest.raises(TrainingError, match="head 'cubic' is not one of paper, linear"):
        probe(store, "compound", encoder="noise", head="cubic")
