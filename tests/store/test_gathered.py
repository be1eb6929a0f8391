"""Filters that are asked again: answered from 8-bit codes, with the answers of a comparison with every vector."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from tests.store.fakes import fake_rows

import phenoembed_store
from phenoembed_store import Store, gathered, indexes
from phenoembed_store.groups import vectors_column

pytest.importorskip("faiss")

ROWS = fake_rows([f"c{i:02d}" for i in range(24)] + ["DMSO"], replicates=4, fields=5, dim=16)  # 1,500 images
WHERE = "field <= 2"


@pytest.fixture(autouse=True)
def filters_are_compared_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(indexes, "FLAT_LIMIT", 1000)
    monkeypatch.setattr(indexes, "FEW", len(ROWS))  # no filter goes through the lists


@pytest.fixture
def big(tmp_path: Path) -> Store:
    store = phenoembed_store.open(tmp_path / "s", create=True)
    store.write_images(ROWS)
    return store


def asked_thrice(store: Store, where: str = WHERE, k: int = 7) -> list[pa.Table]:
    return [store.search(vector=query(seed), level="image", k=k, where=where) for seed in range(3)]


def query(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=16)


def check(store: Store, answers: list[pa.Table], where: str = WHERE) -> None:
    """Against brute force; every path says that it was exact."""
    rows, vectors = store.vectors(where, compared=True)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    transform = store._images_of(None).transform
    for seed, hits in enumerate(answers):
        asked = query(seed) if transform is None else transform.apply(query(seed)[None].astype(np.float32), [""])[0]
        scores = unit @ (asked / np.linalg.norm(asked))
        best = np.argsort(-scores)[: len(hits)]
        assert hits.column("path").to_pylist() == rows.column("path").take(pa.array(best)).to_pylist()
        np.testing.assert_allclose(hits.column("score").to_numpy(), scores[best], atol=1e-5)
        assert json.loads(hits.schema.metadata[b"phenoembed"])["path"] == "exact"


def kept(store: Store) -> int:
    return len(store._images_of(None).gathers)


def test_a_filter_asked_again_gives_the_exact_neighbours(big: Store) -> None:
    """Nothing is gathered for the first question; the second and third are answered from the same codes."""
    first = big.search(vector=query(0), level="image", k=7, where=WHERE)
    assert kept(big) == 0
    answers = asked_thrice(big)
    assert kept(big) == 1
    check(big, answers)
    assert answers[0].equals(first)
    images = big._images_of(None)
    passing = images.passing(WHERE)
    assert images.index is not None
    assert passing is not None
    asked = (query(2) / np.linalg.norm(query(2))).astype(np.float32)
    proved = images.gathers.nearest(images.index, asked, 7, passing)
    assert proved is not None
    np.testing.assert_allclose(proved[1], answers[2].column("score").to_numpy(), atol=1e-6)


def test_what_came_later_is_found_by_a_filter_that_was_gathered(big: Store) -> None:
    """A new version of the table, late rows beside the index: nothing old is answered from."""
    asked_thrice(big)
    late = ROWS.slice(0, 50).set_column(ROWS.column_names.index("screen"), "screen", pa.array(["late"] * 50))
    near = np.tile(query(1), (50, 1)) + 0.01 * np.random.default_rng(9).normal(size=(50, 16))
    place = late.column_names.index("embedding")
    big.write_images(late.set_column(place, "embedding", vectors_column(near.astype(np.float32))))
    assert kept(big) == 0
    answers = asked_thrice(big)
    assert kept(big) == 1
    check(big, answers)
    assert answers[1].column("screen").to_pylist() == ["late"] * 7
    big.delete_images("screen = 'late'")
    check(big, asked_thrice(big))


def test_another_transform_is_answered_by_other_codes(big: Store) -> None:
    raw = asked_thrice(big)
    big.set_transform("robust")
    scaled = asked_thrice(big)
    assert kept(big) == 1
    check(big, scaled)
    assert scaled[2].column("path") != raw[2].column("path")


def test_vectors_that_codes_cannot_tell_apart_are_compared_one_by_one(tmp_path: Path) -> None:
    """They differ by less than the codes' steps, except for a few far away that make the steps wide."""
    draw = np.random.default_rng(0)
    vectors = np.ones((len(ROWS), 16)) + 1e-3 * draw.normal(size=(len(ROWS), 16))
    vectors[::10] = draw.normal(size=(150, 16))
    store = phenoembed_store.open(tmp_path / "s", create=True)
    place = ROWS.column_names.index("embedding")
    store.write_images(ROWS.set_column(place, "embedding", vectors_column(vectors.astype(np.float32))))
    images = store._images_of(None)
    answers = []
    for seed in range(3):
        near = np.ones(16) + 1e-3 * query(seed)
        answers.append(store.search(vector=near, level="image", k=7, where=WHERE))
        _, passing = store.vectors(WHERE)
        unit = passing.astype(np.float64) / np.linalg.norm(passing.astype(np.float64), axis=1, keepdims=True)
        scores = np.sort(unit @ (near / np.linalg.norm(near)))[::-1][:7]
        np.testing.assert_allclose(answers[-1].column("score").to_numpy(), scores, atol=1e-6)
    passed = images.passing(WHERE)
    assert passed is not None
    assert images.index is not None
    assert kept(store) == 1
    unit_query = (np.ones(16) / 4).astype(np.float32)
    assert images.gathers.nearest(images.index, unit_query, 7, passed) is None


def test_what_is_gathered_is_bounded_and_the_oldest_goes_first(big: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    one = 600 * 16 + len(ROWS)  # codes and flags of two fields in five
    monkeypatch.setattr(gathered, "KEPT_BYTES", int(2.5 * one))
    wheres = [f"field IN ({a}, {a + 1})" for a in (1, 2, 3, 4)]
    for where in wheres:
        check(big, asked_thrice(big, where), where)
        assert big._images_of(None).gathers.nbytes <= gathered.KEPT_BYTES
    assert kept(big) == 2
    monkeypatch.setattr(gathered, "LARGEST", 100 * 16)
    check(big, asked_thrice(big, "field < 4"), "field < 4")
    assert kept(big) == 2
