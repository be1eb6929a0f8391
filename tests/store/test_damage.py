"""A store whose truth is damaged: one line that names the table, and what `verify` says of it."""

from collections.abc import Callable
from pathlib import Path

import pytest

import phenoembed_store
from phenoembed_store import Store
from phenoembed_store.errors import PhenoembedError


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


def flip_an_embedding(store: Store) -> None:
    """A byte that no reader of Parquet misses: the files carry no checksums."""
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
