"""Tables from files: CSV and TSV (gzipped or not), Parquet, AnnData; whole, or a piece at a time."""

import csv
import gzip
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from phenoembed_store.columns import recognise
from phenoembed_store.engine import quoted, session
from phenoembed_store.errors import MissingExtra, StoreError
from phenoembed_store.remote import url_of

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection, DuckDBPyRelation

TEXT = frozenset(("screen", "plate", "well", "channel", "replicate", "compound", "role", "path", "inchikey"))
"""Columns that are names even where they look like numbers: plate 007 is not plate 7."""


DELIMITERS = ",\t;|"

PIECE_VALUES = 1 << 23
"""Values in a piece of a table, more or less: 64 MB as doubles."""


@dataclass(frozen=True)
class Source:
    """A table that is read in pieces, in its own order, as often as needed."""

    name: str
    schema: pa.Schema
    _read: Callable[[Sequence[str], int], Iterator[pa.Table]]

    def pieces(self, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """The table's rows (with these columns alone), some thousands at a time."""
        wide = len(self.schema)
        for field in self.schema:
            if pa.types.is_fixed_size_list(field.type):
                wide += field.type.list_size
            elif pa.types.is_list(field.type) or pa.types.is_large_list(field.type):
                wide += 512
        return self._read(self.schema.names if columns is None else columns, max(256, PIECE_VALUES // wide))


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

            yield Source(source.name, schema, read)
        return
    table = source if isinstance(source, pa.Table) else read_table(source)

    def slices(columns: Sequence[str], rows: int) -> Iterator[pa.Table]:
        chosen = table.select(list(columns))
        for start in range(0, len(table), rows):
            yield chosen.slice(start, rows)

    yield Source("table" if isinstance(source, pa.Table) else source.name, table.schema, slices)


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
        if path.suffix == ".parquet":
            with _read_errors(path):
                relation = connection.read_parquet(str(path))
        else:
            relation = _scanned_text(connection, path)
        yield relation


def _scanned_text(connection: "DuckDBPyConnection", path: Path) -> "DuckDBPyRelation":
    """A CSV file as DuckDB finds it out. Raises StoreError where that is not what its first line announces."""
    import duckdb

    try:
        names = connection.read_csv(str(path), header=True, all_varchar=True).columns
    except duckdb.Error:
        _refuse_mangled(path)
        names = []
    with _read_errors(path):
        if names != _header(path):  # a row that does not fit makes DuckDB take another line for the header
            _refuse_mangled(path)
        text = {theirs: "VARCHAR" for ours, theirs in recognise(names).items() if ours in TEXT}
        return connection.read_csv(str(path), header=True, sample_size=-1, dtype=text)


def _header(path: Path) -> list[str]:
    """The cells of a CSV file's first line; none where it is no text."""
    with _bytes_of(path) as file:
        try:
            return next(csv.reader([next(file).decode("utf-8-sig")], delimiter=_delimiter(path)), [])
        except (StopIteration, OSError, EOFError, ValueError, csv.Error):
            return []


def _refuse_mangled(path: Path) -> None:
    """Raise StoreError for a file that is empty or no UTF-8, and for a row of more or fewer cells than the header."""
    with _bytes_of(path) as file:
        try:
            lines = csv.reader((line.decode("utf-8-sig") for line in file), delimiter=_delimiter(path))
            wanted = len(next(lines, []))
            if not wanted:
                raise StoreError(f"'{path}' is empty")
            for row in lines:
                if row and len(row) != wanted:
                    raise StoreError(f"line {lines.line_num} of '{path}' has {len(row)} cells, its header {wanted}")
        except UnicodeDecodeError as error:
            raise StoreError(f"'{path}' is not in UTF-8 ({error.reason}): save it so") from None
        except (OSError, EOFError, csv.Error) as error:
            raise StoreError(f"cannot read '{path}': {error}") from None


def _delimiter(path: Path) -> str:
    """What stands oftenest in a file's first line of what may separate cells."""
    with _bytes_of(path) as file:
        header = next(file, b"")
    return max(DELIMITERS, key=lambda one: header.count(one.encode()))


def _bytes_of(path: Path) -> gzip.GzipFile | BufferedReader:
    return gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb")


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
