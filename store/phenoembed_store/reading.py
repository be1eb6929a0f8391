"""Tables from files: CSV and TSV (gzipped or not), Parquet, AnnData; whole, or a piece at a time."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from phenoembed_store.delimited import lines_of_rows, scan_text
from phenoembed_store.engine import quoted, session
from phenoembed_store.errors import MissingExtra, StoreError
from phenoembed_store.remote import url_of

if TYPE_CHECKING:
    from duckdb import DuckDBPyRelation

PIECE_VALUES = 1 << 23
"""Values in a piece of a table, more or less: 64 MB as doubles."""


@dataclass(frozen=True)
class Source:
    """A table that is read in pieces, in its own order, as often as needed."""

    name: str
    schema: pa.Schema
    _read: Callable[[Sequence[str], int], Iterator[pa.Table]]
    _lines: Callable[[], Sequence[int] | None] = lambda: None

    def pieces(self, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """The table's rows (with these columns alone), some thousands at a time."""
        wide = len(self.schema)
        for field in self.schema:
            if pa.types.is_fixed_size_list(field.type):
                wide += field.type.list_size
            elif pa.types.is_list(field.type) or pa.types.is_large_list(field.type):
                wide += 512
        return self._read(self.schema.names if columns is None else columns, max(256, PIECE_VALUES // wide))

    def lines(self, first: int, n: int) -> Sequence[int]:
        """The lines of ``n`` rows from ``first`` on, as an editor numbers them; a header is line 1."""
        lines = self._lines()
        return range(first + 2, first + n + 2) if lines is None else lines[first : first + n]


@contextmanager
def opened(source: Path | pa.Table) -> Iterator[Source]:
    """A table or a file (CSV, TSV, Parquet, AnnData), to be read in pieces. Raises StoreError."""
    if isinstance(source, Path) and source.suffix != ".h5ad":
        with _scanned(source) as relation:
            schema = relation.limit(0).to_arrow_table().schema

            def read(columns: Sequence[str], rows: int) -> Iterator[pa.Table]:
                listed = ", ".join(map(quoted, columns))
                with _read_errors(source):
                    for batch in relation.project(listed).to_arrow_reader(rows):
                        yield pa.Table.from_batches([batch])

            yield Source(source.name, schema, read, cache(lambda: _lines_of(source)))
        return
    table = source if isinstance(source, pa.Table) else read_table(source)

    def slices(columns: Sequence[str], rows: int) -> Iterator[pa.Table]:
        chosen = table.select(list(columns))
        for start in range(0, len(table), rows):
            yield chosen.slice(start, rows)

    yield Source("table" if isinstance(source, pa.Table) else source.name, table.schema, slices)


def _lines_of(path: Path) -> list[int] | None:
    return None if path.suffix == ".parquet" else lines_of_rows(path)


def read_table(path: Path) -> pa.Table:
    """A file as a table. Raises StoreError where it is not there or cannot be read."""
    if path.suffix == ".h5ad":
        _check_there(path)
        return _read_anndata(path)
    with _scanned(path) as relation, _read_errors(path):
        return relation.to_arrow_table()


@contextmanager
def _scanned(path: Path) -> Iterator["DuckDBPyRelation"]:
    """A CSV or Parquet file as a relation; names stay text."""
    _check_there(path)
    with session() as connection:
        with _read_errors(path):
            relation = connection.read_parquet(str(path)) if path.suffix == ".parquet" else scan_text(connection, path)
        yield relation


def _check_there(path: Path) -> None:
    if (url := url_of(path)) is not None:
        raise StoreError(f"'{url}' is in object storage, and tables are read on this machine: copy it, name the copy")
    if not path.is_file():
        raise StoreError(f"no file at '{path}'")


@contextmanager
def _read_errors(path: Path) -> Iterator[None]:
    import duckdb

    try:
        yield
    except duckdb.InterruptException:
        raise KeyboardInterrupt from None
    except duckdb.Error as error:
        raise StoreError(f"cannot read '{path}': {str(error).splitlines()[0]}") from None


def _read_anndata(path: Path) -> pa.Table:
    """``obs`` as columns, and every variable of X as a column of its own."""
    try:
        import anndata
    except ImportError:
        raise MissingExtra("anndata", "anndata") from None
    import numpy as np

    try:
        data = anndata.read_h5ad(path)
    except Exception as error:  # whatever HDF5 makes of the file
        raise StoreError(f"cannot read '{path}' as AnnData: {str(error).splitlines()[0]}") from None
    dense = data.X.toarray() if hasattr(data.X, "toarray") else np.asarray(data.X)
    table = pa.Table.from_pandas(data.obs, preserve_index=False)
    for i, name in enumerate(data.var_names):
        table = table.append_column(str(name), pa.array(dense[:, i]))
    return table
