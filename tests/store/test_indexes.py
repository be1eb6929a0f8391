"""Indexes: derived, checked, made anew; and whatever path a search takes, the neighbours are the same."""

import errno
import json
import logging
import os
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from tests.store.fakes import fake_rows

import phenoembed_store
from phenoembed_store import Store, indexes, tables
from phenoembed_store.parts import read_part

pytest.importorskip("faiss")

ROWS = fake_rows([f"c{i:02d}" for i in range(24)] + ["DMSO"], replicates=4, fields=5, dim=16)  # 1,500 images
QUERY = np.linspace(-1, 1, 16)


@pytest.fixture(autouse=True)
def small_stores_have_indexes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(indexes, "FLAT_LIMIT", 1000)
    monkeypatch.setattr(indexes, "FEW", 20)


@pytest.fixture
def big(tmp_path: Path) -> Store:
    store = phenoembed_store.open(tmp_path / "s", create=True)
    store.write_images(ROWS)
    store.refresh()
    return store


def found(store: Store, **asked: object) -> tuple[list[str], str]:
    hits = store.search(vector=QUERY, level="image", k=10, **asked)
    return hits.column("path").to_pylist(), json.loads(hits.schema.metadata[b"phenoembed"])["path"]


def folder_of(store: Store) -> Path:
    (folder,) = (store.path / "indexes").glob("[!.]*")
    return folder


def test_the_index_gives_the_exact_neighbours_and_says_its_recall(big: Store) -> None:
    paths, path = found(big)
    assert path == "index"
    assert found(big, exact=True) == (paths, "exact")
    (index,) = big.status()["indexes"]
    assert (index["kind"], index["vectors"], index["fresh"]) == ("ivf-sq8", len(ROWS), True)
    assert index["recall_at_10"] >= 0.999
    assert big.verify() == []


@pytest.mark.parametrize("name", ["ivf.faiss", "vectors.npy", "norms.npy", "rows.arrow", "manifest.json"])
@pytest.mark.parametrize("damage", ["flip", "cut", "delete"])
def test_a_damaged_index_is_made_anew_and_the_answer_is_right(
    big: Store, name: str, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Flipped bytes, a short file, a missing file: the search answers, and says that it made the index anew."""
    expected = found(big)
    file = folder_of(big) / name
    content = bytearray(file.read_bytes())
    if damage == "flip":
        content[len(content) // 2] ^= 0xFF
        file.write_bytes(content)
    elif damage == "cut":
        file.write_bytes(content[: len(content) // 2])
    else:
        file.unlink()
    again = phenoembed_store.open(big.path)
    assert [fault.what for fault in again.verify()] != []
    with caplog.at_level(logging.INFO, "phenoembed"):
        assert found(again) == expected
    assert "making the index" in caplog.text
    assert again.verify() == []


def test_an_index_half_removed_is_seen_by_nobody(big: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a process leaves it that is killed while it removes the index of before."""

    def killed(path: Path, **_: object) -> None:
        (path / "manifest.json").unlink(missing_ok=True)

    monkeypatch.setattr(shutil, "rmtree", killed)
    big.delete_images("plate = 'P1'")
    big.refresh()
    assert len(list((big.path / "indexes").glob(".*/rows.arrow"))) == 1
    assert folder_of(big).is_dir()
    assert big.verify() == []


def test_without_room_for_an_index_every_image_is_compared(
    big: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A disk that is full is known before the vectors are written; nothing is left of the attempt."""
    expected = found(big)[0]
    shutil.rmtree(big.path / "indexes")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full, raising=False)
    with caplog.at_level(logging.WARNING, "phenoembed"):
        assert found(phenoembed_store.open(big.path)) == (expected, "exact")
    assert "no index, every image is compared" in caplog.text
    assert list((big.path / "indexes").iterdir()) == []


def test_vectors_read_in_batches_are_those_of_the_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two encoders, in files of any order, some without a column that came later."""
    monkeypatch.setattr(tables, "ROW_GROUP", 100)
    store = phenoembed_store.open(tmp_path / "s", create=True)
    first, other = ROWS.slice(0, 700), ROWS.slice(700)
    store.write_images(other.append_column("note", pa.array(["late"] * len(other))))
    store.write_images(first.take(pa.array(np.random.default_rng(4).permutation(len(first)))))
    at = ROWS.column_names.index("encoder")
    store.write_images(ROWS.slice(0, 300).set_column(at, "encoder", pa.array(["second"] * 300)))
    by_path = dict(zip(ROWS.column("path").to_pylist(), ROWS.column("embedding").to_pylist(), strict=True))
    for encoder, count in ((ROWS.column("encoder")[0].as_py(), len(ROWS)), ("second", 300)):
        part = read_part(store._contents.images.at(), encoder)
        assert part is not None
        paths = part.rows.column("path").to_pylist()
        assert len(paths) == count
        np.testing.assert_array_equal(part.vectors, np.array([by_path[path] for path in paths], np.float32))


def test_an_index_can_be_deleted(big: Store) -> None:
    expected = found(big)
    shutil.rmtree(big.path / "indexes")
    assert found(phenoembed_store.open(big.path)) == expected


def test_images_that_came_later_are_found_without_a_new_index(big: Store) -> None:
    """A few new images are compared beside the index; the answer is that of an index made anew."""
    late = fake_rows(["late", "DMSO"], replicates=1, fields=3, dim=16, seed=5)
    late = late.set_column(late.column_names.index("screen"), "screen", pa.array(["later"] * len(late)))
    before = folder_of(big)
    big.write_images(late)
    target = late.column("embedding")[0].as_py()
    hits = big.search(vector=target, level="image", k=5)
    assert json.loads(hits.schema.metadata[b"phenoembed"])["path"] == "index"
    assert hits.column("screen")[0].as_py() == "later"
    assert folder_of(big) == before
    assert big.status()["indexes"][0]["fresh"] is False
    rows, vectors = big.vectors()
    assert rows.column("screen").to_pylist() == sorted(rows.column("screen").to_pylist())
    assert vectors.shape == (len(ROWS) + len(late), 16)
    shutil.rmtree(big.path / "indexes")
    anew = phenoembed_store.open(big.path).search(vector=target, level="image", k=5)
    assert anew.column("path").to_pylist() == hits.column("path").to_pylist()


def test_many_new_images_or_a_change_call_for_a_new_index(big: Store) -> None:
    before = folder_of(big)
    more = ROWS.slice(0, 400)
    big.write_images(more.set_column(more.column_names.index("screen"), "screen", pa.array(["other"] * 400)))
    assert found(big)[1] == "index"
    assert folder_of(big) != before
    before = folder_of(big)
    big.delete_images("plate = 'P1'")
    paths, _ = found(big)
    assert not any(path.startswith("P1/") for path in paths)
    assert folder_of(big) != before


@pytest.mark.parametrize("where", ["plate = 'P1'", "compound = 'c03'", "concentration_um > 1", "field = 2", "false"])
@pytest.mark.parametrize("k", [1, 10, 5000])
def test_filtered_searches_find_what_brute_force_finds(big: Store, where: str, k: int) -> None:
    """By the index's selector or one by one: the same neighbours, and min(k, matches) of them."""
    _, vectors = big.vectors(where)
    hits = big.search(vector=QUERY, level="image", k=k, where=where)
    scores = np.sort((vectors / np.linalg.norm(vectors, axis=1, keepdims=True)) @ (QUERY / np.linalg.norm(QUERY)))[::-1]
    assert len(hits) == min(k, len(vectors))
    np.testing.assert_allclose(hits.column("score").to_numpy(), scores[:k], atol=1e-5)


@pytest.mark.parametrize(("where", "path"), [("plate <> 'P1'", "index"), ("compound = 'c03'", "exact")])
def test_a_filter_is_searched_the_faster_way(big: Store, where: str, path: str) -> None:
    """Through the lists where much passes, one by one where little does; the search says which."""
    paths, taken = found(big, where=where)
    assert taken == path
    assert found(big, where=where, exact=True)[0] == paths


def test_wells_and_compounds_are_searched_through_the_index_too(big: Store) -> None:
    indexed = big.search(well="P1:A05", level="image", not_same=["plate"])
    exact = big.search(well="P1:A05", level="image", not_same=["plate"], exact=True)
    assert indexed.column("path").to_pylist() == exact.column("path").to_pylist()
    assert json.loads(indexed.schema.metadata[b"phenoembed"])["path"] == "index"


def test_an_index_is_named_by_its_transform(big: Store) -> None:
    expected = found(big)[0]
    name = big.set_transform("robust")
    scaled, path = found(big)
    assert path == "index"
    assert scaled != expected
    assert folder_of(big).name.endswith(str(name))
    assert found(big, exact=True)[0] == scaled
    assert found(phenoembed_store.open(big.path))[0] == scaled
    big.set_transform("none")
    assert found(big)[0] == expected
