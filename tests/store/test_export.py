"""Files that are written out of the store: whole, or not at all."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from phenoembed_store import Store
from phenoembed_store.errors import StoreError
from phenoembed_store.export import write_table


@contextmanager
def no_file_larger_than(n_bytes: int) -> Iterator[None]:
    """As on a disk that fills up: a write beyond these bytes fails."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("there", [b"the old one", None])
@pytest.mark.parametrize("name", ["x.parquet", "x.csv", "x.csv.gz", "x.h5ad"])
def test_an_export_that_fails_leaves_what_was_there(
    shared_store: Store, tmp_path: Path, name: str, there: bytes | None
) -> None:
    """No partial file either, and the error names the one that could not be written."""
    out = tmp_path / name
    if there is not None:
        out.write_bytes(there)
    with no_file_larger_than(2000), pytest.raises(StoreError, match=f"'{out}' cannot be written"):
        shared_store.export(out)
    assert [path.read_bytes() for path in tmp_path.iterdir()] == ([] if there is None else [there])
    shared_store.export(out)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert out.stat().st_size > 2000


def test_a_projector_that_fails_keeps_both_files(shared_store: Store, tmp_path: Path) -> None:
    """Vectors and metadata belong together."""
    shared_store.export(tmp_path, "plate = 'P1'")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with no_file_larger_than(4000), pytest.raises(StoreError, match=f"'{tmp_path}/.*' cannot be written"):
        shared_store.export(tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("form", ["csv", "json", "parquet", "arrow"])
def test_a_query_s_file_is_whole_or_not_there(shared_store: Store, tmp_path: Path, form: str) -> None:
    table, out = shared_store.vectors()[0], tmp_path / f"x.{form}"
    with no_file_larger_than(2000), pytest.raises(StoreError, match=f"'{out}' cannot be written"):
        write_table(table, out, form)
    assert list(tmp_path.iterdir()) == []


def test_a_link_stays_a_link(shared_store: Store, tmp_path: Path) -> None:
    """It is the file behind it that is replaced."""
    (tmp_path / "there").mkdir()
    real, link = tmp_path / "there" / "real.csv", tmp_path / "link.csv"
    real.write_text("old")
    link.symlink_to(real)
    shared_store.export(link)
    assert link.is_symlink()
    assert real.read_text().startswith("Metadata_Path,")
