"""A store whose truth is damaged: one line that names the table, and what `verify` says of it."""

import shutil
import zlib
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable
from tests.store.fakes import fake_rows

import phenoembed_store
from phenoembed_store import Store
from phenoembed_store.errors import PhenoembedError
from phenoembed_store.schema import PREDICTIONS_SCHEMA


def a_file(store: Store, pattern: str) -> Path:
    return min(store.path.glob(pattern))


def truncate(store: Store) -> None:
    file = a_file(store, "images/*.parquet")
    file.write_bytes(file.read_bytes()[:1000])


def empty(store: Store) -> None:
    a_file(store, "images/*.parquet").write_bytes(b"")


def delete(store: Store) -> None:
    a_file(store, "images/*.parquet").unlink()


def flip(store: Store) -> None:
    file = a_file(store, "images/*.parquet")
    content = bytearray(file.read_bytes())
    content[len(content) // 3 : len(content) // 3 + 400] = bytes(400)
    file.write_bytes(content)


def garble_the_log(store: Store) -> None:
    a_file(store, "images/_delta_log/*.json").write_text("garbage")


ASKED: dict[str, Callable[[Store], object]] = {
    "search": lambda store: store.search(compound="taxol"),
    "vectors": lambda store: store.vectors(),
    "sql": lambda store: store.sql("SELECT max(embedding) FROM images"),
    "status": lambda store: store.status(),
    "write": lambda store: store.delete_images("compound = 'taxol'"),
}


@pytest.mark.parametrize("harm", [truncate, empty, delete, garble_the_log])
@pytest.mark.parametrize("asked", ASKED)
def test_damage_is_one_line_wherever_it_is_met(store: Store, harm: Callable[[Store], None], asked: str) -> None:
    """No exception of a library comes through, and no answer is made of what is left."""
    harm(store)
    with pytest.raises(PhenoembedError) as caught:
        ASKED[asked](phenoembed_store.open(store.path))
    assert len(str(caught.value).splitlines()) == 1
    assert "images" in str(caught.value)


@pytest.mark.parametrize("harm", [truncate, empty, delete, flip, garble_the_log])
def test_verify_names_the_damage_and_the_way_out(store: Store, harm: Callable[[Store], None]) -> None:
    """Flipped bytes too, which a query may pass over."""
    harm(store)
    (fault,) = phenoembed_store.open(store.path).verify()
    assert "images" in fault.what
    assert "backup" in fault.fix


def used(store: Store) -> Store:
    """The store, every table written: appended to, updated, deleted from."""
    rows = fake_rows()
    changed = rows.slice(0, 10).set_column(rows.column_names.index("content_hash"), "content_hash", [["new"] * 10])
    refused = rows.slice(70, 2).append_column("reason", pa.array(["truncated"] * 2))
    store.write_images(changed, refused)
    store.delete_images("plate = 'P2' AND field = 2")
    store.annotate(pa.table({"compound": ["taxol"], "target": ["TUBB"]}))
    predicted = {"task": "moa", "split": "field", "fold": 0, "test": "known wells", "features": "encoder"}
    predicted |= {"encoder": "enc0", "label": "actin"}
    store.write_predictions(pa.Table.from_pylist([predicted], PREDICTIONS_SCHEMA))
    store.refresh()
    return store


def flip_a_bit(file: Path, place: float) -> None:
    """One bit of a file, at that share of its length."""
    content = bytearray(file.read_bytes())
    content[int(len(content) * place)] ^= 0x10
    file.write_bytes(content)


def living(store: Store) -> list[Path]:
    """The files that the newest versions of the tables consist of, as the Delta library says."""
    return [Path(file) for log in store.path.glob("*/_delta_log") for file in DeltaTable(log.parent).file_uris()]


@pytest.mark.parametrize("compacted", [False, True])
def test_verify_finds_every_flipped_bit_of_every_table(store: Store, compacted: bool) -> None:
    """Where Parquet decodes it to another value too: each file has a checksum, however it was written."""
    if compacted:
        used(store).compact(0)
    else:
        used(store)
    assert store.verify() == []
    files = living(store)
    assert {file.parent.name for file in files} == {"images", "rejected", "groups", "annotations", "predictions"}
    assert set(store.path.glob("*/_checksums/*")) >= {f.parent / "_checksums" / f"{f.name}.crc32" for f in files}
    for file in files:
        whole = file.read_bytes()
        for place in (0.01, 0.3, 0.5, 0.7, 0.99):
            flip_a_bit(file, place)
            (fault,) = store.verify()
            assert file.name in fault.what
            file.write_bytes(whole)


def test_a_checksum_is_the_crc_32_of_the_file(store: Store) -> None:
    """As zlib has it; none is left of files that `compact` has removed."""
    used(store).compact(0)
    kept = {path.parent.parent / path.stem: path.read_text() for path in store.path.glob("*/_checksums/*")}
    assert kept == {file: f"{zlib.crc32(file.read_bytes()):08x}\n" for file in living(store)}


def test_files_without_a_checksum_are_read_all_the_same(store: Store) -> None:
    """Those of earlier versions of phenoembed: nothing is said of them, and what is written next has one."""
    shutil.rmtree(store.path / "images" / "_checksums")
    assert store.verify() == []
    rows = fake_rows(["late"], seed=1)
    store.write_images(rows.set_column(rows.column_names.index("screen"), "screen", [["other"] * len(rows)]))
    assert len(list(store.path.glob("images/_checksums/*"))) == 1
    assert store.verify() == []


def flip_an_embedding(store: Store) -> None:
    """A byte that no reader of Parquet misses: it knows of no checksums."""
    file = a_file(store, "groups/*.parquet")
    content = bytearray(file.read_bytes())
    value = store.groups().column("embedding")[0].values.to_numpy()[:4].tobytes()
    content[content.index(value) + 2] ^= 0x10
    file.write_bytes(content)


def cut(store: Store) -> None:
    file = a_file(store, "groups/*.parquet")
    file.write_bytes(file.read_bytes()[:500])


HARMS: dict[str, Callable[[Store], None]] = {
    "flip": flip_an_embedding,
    "cut": cut,
    "delete": lambda store: a_file(store, "groups/*.parquet").unlink(),
    "log": lambda store: a_file(store, "groups/_delta_log/*.json").write_text("garbage"),
}


@pytest.mark.parametrize("harm", HARMS)
def test_damaged_groups_are_made_anew(store: Store, harm: str, caplog: pytest.LogCaptureFixture) -> None:
    """They are derived: the answer is the same, the log says so, and `refresh` leaves a sound table."""
    store.refresh()
    expected = store.groups()
    HARMS[harm](store)
    again = phenoembed_store.open(store.path)
    assert again.groups().equals(expected)
    assert "the groups are made anew" in caplog.text
    again.refresh()
    caplog.clear()
    assert phenoembed_store.open(store.path).groups().equals(expected)
    assert caplog.text == ""
    assert again.verify() == []


@pytest.mark.parametrize("content", [b"garbage", b"\xff\xfe\x00", b"", None])
def test_a_lost_choice_of_transform_is_an_error(store: Store, content: bytes | None) -> None:
    """Nothing is compared without the transform that was chosen."""
    store.set_transform("robust")
    chosen = store.path / "transforms" / "chosen.json"
    chosen.unlink() if content is None else chosen.write_bytes(content)
    again = phenoembed_store.open(store.path)
    with pytest.raises(PhenoembedError, match=r"chosen\.json.*restore it from a backup"):
        again.search(compound="taxol")
    assert "chosen.json" in str(again.verify()[0])
