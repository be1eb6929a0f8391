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
