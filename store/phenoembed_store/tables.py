"""The store's tables: Delta tables (Parquet files and an atomic log), written by deltalake, read by DuckDB.

Reading goes through DuckDB and the log's list of files, because deltalake's own Arrow dataset can abort the process
at exit (its file system's threads outlive the interpreter), and because importing pyarrow.dataset costs 0.4 s.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pyarrow as pa

from phenoembed_store.engine import session
from phenoembed_store.errors import StoreError

ROW_GROUP = 16_384
"""Rows in a Parquet row group: small enough that a plate is found without reading the whole file."""


@dataclass(frozen=True)
class Table:
    """One Delta table of the store. ``schema`` holds the columns it has even before anything was written."""

    path: Path
    schema: pa.Schema
    pinned: int | None = None
    """A version to read, as the table was then; None for the newest."""

    def exists(self) -> bool:
        return (self.path / "_delta_log").is_dir() and _open(self.path) is not None

    def version(self) -> int:
        """The newest version; -1 where nothing was ever written."""
        if self.pinned is not None:
            return self.pinned
        table = _open(self.path)
        return -1 if table is None else int(table.version())

    def newest(self, known: int) -> int:
        """The newest version, given one that was the newest before: most often nothing has come, and that is cheap."""
        if self.pinned is not None:
            return self.pinned
        next_one = f"{self._log}/{known + 1:020d}.json" if known >= 0 else self._log
        if not os.access(next_one, os.F_OK):  # `exists` raises and catches an exception for what is not there
            return known
        return self.version()

    @cached_property
    def _log(self) -> str:
        return f"{self.path}/_delta_log"

    def at(self) -> "Scan":
        """What the table holds, ready to be read."""
        table = _open(self.path, self.pinned)
        if table is None:
            return Scan(-1, (), self.schema, {})
        schema = pa.schema(table.schema().to_arrow())
        names = [unquote(uri.rsplit("/", 1)[-1]) for uri in table.file_uris()]
        properties = {} if self.pinned is not None else dict(table.history(1)[0])
        return Scan(int(table.version()), tuple(str(self.path / name) for name in sorted(names)), schema, properties)

    def append(self, rows: pa.Table) -> None:
        """Add rows in one transaction; columns the table does not know yet are added to it."""
        from deltalake import write_deltalake

        write_deltalake(_uri(self.path), rows, mode="append", schema_mode="merge", writer_properties=_layout())

    def replace(self, rows: pa.Table, where: str | None = None, *, properties: Mapping[str, str] | None = None) -> None:
        """Put ``rows`` in the place of the rows that match ``where`` (of all rows: None), in one transaction."""
        from deltalake import CommitProperties, write_deltalake

        write_deltalake(
            _uri(self.path),
            rows,
            mode="overwrite",
            predicate=where if self.exists() else None,
            schema_mode="merge",
            writer_properties=_layout(),
            commit_properties=CommitProperties(custom_metadata=dict(properties)) if properties else None,
        )

    def upsert(self, rows: pa.Table, key: Sequence[str]) -> None:
        """Update the rows whose key is there, insert the others, in one transaction."""
        merge = self._merge(rows, key, merge_schema=True)
        merge.when_matched_update_all().when_not_matched_insert_all().execute()

    def remove(self, keys: pa.Table, key: Sequence[str]) -> None:
        """Remove the rows whose key is in ``keys``, in one transaction."""
        self._merge(keys.select(list(key)), key).when_matched_delete().execute()

    def compact(self, keep_hours: float) -> None:
        """Bring small files together, then remove the files that no version of these hours needs."""
        table = _open(self.path)
        if table is not None:
            table.optimize.compact(writer_properties=_layout())
            table.create_checkpoint()
            table.vacuum(retention_hours=int(keep_hours), enforce_retention_duration=False, dry_run=False)

    def _merge(self, rows: pa.Table, key: Sequence[str], *, merge_schema: bool = False) -> Any:
        table = _open(self.path)
        assert table is not None, f"merge into a table that does not exist: {self.path}"
        match = " AND ".join(f't."{name}" = s."{name}"' for name in key)
        return table.merge(
            rows, match, source_alias="s", target_alias="t", merge_schema=merge_schema, writer_properties=_layout()
        )


@dataclass(frozen=True)
class Scan:
    """The files of a table at one version. They never change, so a scan may be read again at any time."""

    version: int
    files: tuple[str, ...]
    schema: pa.Schema
    properties: Mapping[str, Any]

    def read(
        self, columns: Sequence[str] | None = None, where: str = "true", parameters: Sequence[Any] = ()
    ) -> pa.Table:
        """Rows that match ``where`` (our own SQL, never a user's), with the named columns (default: all)."""
        wanted = list(self.schema.names) if columns is None else list(columns)
        schema = _like(pa.schema([self.schema.field(name) for name in wanted]))
        if not self.files:
            return schema.empty_table()
        with _damage(Path(self.files[0]).parent), session() as connection:
            source = "read_parquet($files, union_by_name = true)"
            named = {"files": list(self.files)}
            stored = connection.sql(f"SELECT * FROM {source}", params=named).columns
            picked = ", ".join(f'"{name}"' if name in stored else f'NULL AS "{name}"' for name in wanted)
            values = named | {f"p{i}": value for i, value in enumerate(parameters)}
            rows = connection.sql(f"SELECT {picked} FROM {source} WHERE {where}", params=values).to_arrow_table()
        return rows.cast(schema)


def _like(schema: pa.Schema) -> pa.Schema:
    """The same columns, with list items named as Arrow names them: schemas of any origin compare equal."""
    return pa.schema(
        [pa.field(f.name, pa.list_(f.type.value_type) if pa.types.is_list(f.type) else f.type) for f in schema]
    )


def _uri(path: Path) -> str:
    return path.resolve().as_uri()  # of a bare path, deltalake misreads some characters


def _layout() -> Any:
    from deltalake import ColumnProperties, WriterProperties

    plain = ColumnProperties(dictionary_enabled=False)  # floats hardly repeat: a dictionary only costs time
    return WriterProperties(
        compression="SNAPPY", max_row_group_size=ROW_GROUP, column_properties={"embedding.list.element": plain}
    )


def _open(path: Path, version: int | None = None) -> Any:
    from deltalake import DeltaTable
    from deltalake.exceptions import TableNotFoundError

    if not (path / "_delta_log").is_dir():
        return None
    with _damage(path):
        try:
            return DeltaTable(_uri(path), version=version)
        except TableNotFoundError:
            return None


@contextmanager
def _damage(path: Path) -> Iterator[None]:
    """A file of the table or its log that cannot be read is one line; the truth is not rebuilt from anything."""
    import duckdb
    from deltalake.exceptions import DeltaError

    try:
        yield
    except (DeltaError, duckdb.Error) as error:
        reason = str(error).splitlines()[0]
        raise StoreError(
            f"the table '{path.name}' cannot be read ({reason}); `phenoembed verify --store {path.parent}` says more, "
            "and only a backup brings it back"
        ) from error
