"""Writing: idempotent, exact about what changed, and equal to a dict of rows after any sequence of writes."""

import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.store.fakes import fake_rows

import phenoembed_store
from phenoembed_store import Store, Written
from phenoembed_store.errors import NotInStore, StoreError
from phenoembed_store.schema import IMAGE_KEY, REJECTED_SCHEMA

ROWS = fake_rows()


def put(table: pa.Table, column: str, value: Any) -> pa.Table:
    at = table.column_names.index(column)
    return table.set_column(at, column, pa.array([value] * len(table), table.schema.field(column).type))


def as_rejected(table: pa.Table, reason: str = "not an image") -> pa.Table:
    return table.append_column("reason", pa.array([reason] * len(table))).select(REJECTED_SCHEMA.names)


def test_writing_the_same_rows_again_changes_nothing(store: Store) -> None:
    version = store.version
    assert store.write_images(ROWS) == Written(0, 0, 0)
    assert store.version == version


def test_changed_rows_are_updated_and_new_ones_added_in_one_version(store: Store) -> None:
    changed = put(ROWS.slice(0, 3), "content_hash", "other")
    new = put(ROWS.slice(0, 2), "plate", "P3")
    version = store.version
    assert store.write_images(pa.concat_tables([changed, new, ROWS.slice(10, 5)])) == Written(2, 3, 0)
    assert store.version == version + 1
    assert len(store.known_images("enc0")) == len(ROWS) + 2


def test_touching_a_file_is_no_change(store: Store) -> None:
    assert store.write_images(put(ROWS, "file_mtime_ns", 99)) == Written(0, 0, 0)


def test_update_metadata_keeps_embedding_and_file_columns(store: Store) -> None:
    """Only images whose description changed are rewritten; unknown images are passed over."""
    before = dict(store.sql("SELECT path, embedding FROM images").fetchall())
    described = ROWS.select(
        [
            n
            for n in ROWS.column_names
            if n not in ("embedding", "content_hash", "encoder") and not n.startswith(("intensity_", "file_"))
        ]
    )
    changed = put(described.slice(0, 4), "compound", "renamed")
    stranger = put(described.slice(5, 1), "plate", "P9")
    assert store.update_metadata(pa.concat_tables([changed, described.slice(4), stranger]), "enc0") == 4
    after = dict(store.sql("SELECT path, embedding FROM images").fetchall())
    assert after == before
    assert store.sql("SELECT count(*) FROM images WHERE compound = 'renamed'").fetchall() == [(4,)]


def test_accepting_clears_the_rejection_and_rejecting_clears_the_image(store: Store) -> None:
    some = ROWS.slice(0, 4)
    assert store.write_images(None, as_rejected(some)) == Written(0, 0, 4)
    assert len(store.known_images("enc0")) == len(ROWS) - 4
    assert store.rejected().column("reason").to_pylist() == ["not an image"] * 4
    assert store.write_images(some) == Written(4, 0, 0)
    assert len(store.rejected()) == 0


def test_images_are_deleted_and_counted_once_however_many_encoders(tmp_path: Path) -> None:
    """In one version: nobody sees a store whose encoders have different images."""
    store = phenoembed_store.open(tmp_path / "s", create=True)
    store.write_images(ROWS)
    store.write_images(put(ROWS, "encoder", "e2"))
    version = store.version
    mine = "compound = 'taxol' AND plate = 'P1'"
    assert store.delete_images(mine, dry_run=True) == 6
    assert store.delete_images(mine) == 6
    assert store.version == version + 1
    assert store.sql("SELECT encoder, count(*) FROM images GROUP BY 1 ORDER BY 1").fetchall() == [
        ("e2", 66),
        ("enc0", 66),
    ]
    assert store.delete_images("encoder = 'e2'") == 66
    assert store.delete_images("compound = 'nobody'") == 0
    assert not store.verify()


def test_rejected_images_of_several_encoders_are_refused(tmp_path: Path) -> None:
    """As accepted ones are: of all but the first encoder the images would stay in the store."""
    store = phenoembed_store.open(tmp_path / "s", create=True)
    other = put(ROWS, "encoder", "e2")
    store.write_images(ROWS)
    store.write_images(other)
    with pytest.raises(StoreError, match="one encoder at a time can be written, not 2: enc0, e2"):
        store.write_images(None, as_rejected(pa.concat_tables([ROWS, other])))
    assert not store.verify()
    assert not len(store.rejected())


def test_rejecting_again_keeps_the_new_reason_once(store: Store) -> None:
    store.write_images(None, as_rejected(ROWS.slice(0, 2), "truncated"))
    store.write_images(None, as_rejected(ROWS.slice(0, 2), "all black"))
    assert store.rejected().column("reason").to_pylist() == ["all black"] * 2


def test_encoders_stand_side_by_side(store: Store) -> None:
    other = fake_rows(encoder="enc1", dim=5, seed=1)
    assert store.write_images(other) == Written(len(other), 0, 0)
    assert store.vectors(encoder="enc0")[1].shape == (len(ROWS), 8)
    assert store.vectors(encoder="enc1")[1].shape == (len(ROWS), 5)
    with pytest.raises(NotInStore, match="several sets of embeddings"):
        store.search(compound="taxol")
    assert "72 images" in repr(store)


def test_annotation_columns_come_and_go(store: Store) -> None:
    """A new column is null for older rows; a column that a later table lacks becomes null where it is rewritten."""
    later = put(ROWS.slice(0, 2).drop_columns(["moa"]), "plate", "P3").append_column("batch", pa.array([7, 8]))
    store.write_images(later)
    rows = store.vectors()[0]
    assert rows.filter(rows.column("plate").to_numpy() == "P3").select(["moa", "batch"]).to_pylist() == [
        {"moa": None, "batch": 7},
        {"moa": None, "batch": 8},
    ]
    assert rows.column("batch").null_count == len(ROWS)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda t: t.drop_columns(["well"]), "lack the column 'well'"),
        (lambda t: pa.concat_tables([t, t.slice(0, 1)]), "one image is given twice"),
        (lambda t: put(t, "embedding", [float("nan")] * 8), "not finite"),
        (lambda t: put(t, "embedding", [1.0] * 9), "have 8 numbers in the store, these have 9"),
        (lambda t: put(t, "plate", None), "'plate' is part of an image's key"),
        (lambda t: pa.concat_tables([t, put(t, "encoder", "e2")]), "one encoder at a time"),
        (
            lambda t: put(t.drop_columns(["moa"]).append_column("moa", pa.array([[1]] * len(t))), "plate", "P5"),
            "column 'moa' holds string in the store",
        ),
    ],
)
def test_rows_that_do_not_fit_are_refused_whole(store: Store, spoil: Any, message: str) -> None:
    version = store.version
    with pytest.raises(StoreError, match=message):
        store.write_images(spoil(put(ROWS.slice(0, 6), "content_hash", "new")))
    assert store.version == version


def test_vectors_are_in_the_same_order_whatever_order_they_came_in(tmp_path: Path) -> None:
    shuffled = ROWS.take(pa.array(np.random.default_rng(3).permutation(len(ROWS))))
    one, two = (phenoembed_store.open(tmp_path / name, create=True) for name in "ab")
    one.write_images(ROWS)
    two.write_images(shuffled.slice(0, 30))
    two.write_images(shuffled.slice(30))
    assert one.vectors()[0].equals(two.vectors()[0])
    np.testing.assert_array_equal(one.vectors()[1], two.vectors()[1])


def test_a_store_that_is_not_there_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(NotInStore, match=r"no store at '.*'; run `phenoembed train PLATES`"):
        phenoembed_store.open(tmp_path / "nowhere")
    (tmp_path / "file").write_text("x")
    with pytest.raises(StoreError, match="is a file"):
        phenoembed_store.open(tmp_path / "file")
    for name in ("a[1]", "a%20b", "a%2Fb", "a\nb"):
        with pytest.raises(StoreError, match="cannot lie at"):
            phenoembed_store.open(tmp_path / name, create=True)


@pytest.mark.parametrize("name", ["with space", "größe", "100%", "quote'd"])
def test_a_store_may_have_any_ordinary_name(tmp_path: Path, name: str) -> None:
    made = phenoembed_store.open(tmp_path / name, create=True)
    made.write_images(ROWS.slice(0, 5))
    assert len(phenoembed_store.open(tmp_path / name).vectors()[0]) == 5


operation = st.one_of(
    st.tuples(st.just("write"), st.lists(st.integers(0, 11), min_size=1, unique=True), st.integers(0, 2)),
    st.tuples(st.just("reject"), st.lists(st.integers(0, 11), min_size=1, unique=True), st.integers(0, 2)),
    st.tuples(st.just("delete"), st.sampled_from(["P1", "P2", "P3"]), st.just(0)),
    st.tuples(st.just("reopen"), st.none(), st.just(0)),
    st.tuples(st.just("compact"), st.none(), st.just(0)),
)


@settings(max_examples=12, deadline=None)
@given(st.lists(operation, min_size=1, max_size=7))
def test_any_sequence_of_writes_equals_a_dict_of_rows(operations: list[Any]) -> None:
    """Images and rejections, keyed by the image, after any writes, rejections, deletions and compactions."""
    every = pa.concat_tables([put(ROWS.slice(0, 4), "plate", f"P{plate}") for plate in (1, 2, 3)])
    images: dict[int, str] = {}
    rejected: dict[int, str] = {}
    with tempfile.TemporaryDirectory() as folder:
        store = phenoembed_store.open(Path(folder) / "s", create=True)
        for name, what, variant in operations:
            if name == "write":
                store.write_images(put(every.take(pa.array(what)), "content_hash", f"h{variant}"))
                images |= dict.fromkeys(what, f"h{variant}")
                rejected = {i: r for i, r in rejected.items() if i not in what}
            elif name == "reject":
                store.write_images(None, as_rejected(every.take(pa.array(what)), f"r{variant}"))
                rejected |= dict.fromkeys(what, f"r{variant}")
                images = {i: h for i, h in images.items() if i not in what}
            elif name == "delete":
                store.delete_images(f"plate = '{what}'")
                images = {i: h for i, h in images.items() if every.column("plate")[i].as_py() != what}
            elif name == "compact":
                store.compact()
            else:
                store = phenoembed_store.open(store.path)
        keys = [tuple(row.values()) for row in every.select(list(IMAGE_KEY)).to_pylist()]
        assert _stored(store.known_images("enc0"), "content_hash") == {keys[i]: h for i, h in images.items()}
        assert _stored(store.rejected(), "reason") == {keys[i]: r for i, r in rejected.items()}
        assert store.verify() == []


def _stored(table: pa.Table, column: str) -> dict[tuple[Any, ...], str]:
    rows = table.select([*IMAGE_KEY, column]).to_pylist()
    found = {tuple(row[name] for name in IMAGE_KEY): row[column] for row in rows}
    assert len(found) == len(rows)
    return found


def test_a_store_can_be_read_as_it_was(store: Store) -> None:
    """Search, SQL and vectors at an earlier version; it cannot be written, and compacting ends it."""
    first = store.version
    store.delete_images("compound = 'taxol'")
    then = store.at(first)
    assert then.version == first
    assert len(then.vectors()[0]) == len(ROWS)
    assert len(store.vectors()[0]) == len(ROWS) - 12
    assert "taxol" in then.search(compound="nocodazole").column("compound").to_pylist()
    assert then.sql("SELECT count(*) FROM images").fetchall() == [(len(ROWS),)]
    with pytest.raises(StoreError, match="it can only be read"):
        then.write_images(ROWS)
    with pytest.raises(NotInStore, match="no version 99 in the store; the newest is 1"):
        store.at(99)
    store.compact(0)
    with pytest.raises(NotInStore, match="version 0 is gone"):
        store.at(first)


def test_compacting_brings_small_appends_together(store: Store) -> None:
    for number in range(5):
        store.write_images(put(ROWS.slice(0, 3), "screen", f"s{number}"))
    before = store.vectors()
    assert len(store._contents.images.at().files) == 6
    leftover, recent = store.path / "indexes" / ".enc0-v0-none.dead", store.path / "indexes" / ".enc0-v1-none.live"
    for folder in (leftover, recent):
        folder.mkdir(parents=True)
    os.utime(leftover, (0, 0))
    done = store.compact(0)
    assert done["bytes_after"] < done["bytes_before"]
    assert not leftover.exists()
    assert recent.exists()
    assert len(store._contents.images.at().files) == 1
    after = phenoembed_store.open(store.path).vectors()
    assert after[0].equals(before[0])
    np.testing.assert_array_equal(after[1], before[1])


def test_encoders_come_and_go(tmp_path: Path) -> None:
    """An open store counts the encoders that appends bring, and forgets those whose images were all deleted."""
    store, reader = (phenoembed_store.open(tmp_path / "store", create=True) for _ in range(2))
    for name in ("one", "two"):
        store.write_images(fake_rows(encoder=name))
        assert reader.encoders()[-1].id == name
    store.delete_images("field = 1")
    store.compact(0)
    assert [info.id for info in reader.encoders()] == ["one", "two"]
    store.delete_images("true")
    assert list(reader.encoders()) == []


def test_a_column_may_have_a_quote_in_its_name(store: Store) -> None:
    odd = ROWS.slice(0, 3).append_column('we"ird', pa.array(["a", "b", "c"]))
    assert store.write_images(odd) == Written(0, 3, 0)
    assert store.write_images(odd) == Written(0, 0, 0)
