"""The store's tables: Delta tables (Parquet files and an atomic log), written by deltalake, read by DuckDB.

Reading goes through DuckDB and the log's list of files, because deltalake's own Arrow dataset can abort the process
at exit (its file system's threads outlive the interpreter), and because importing pyarrow.dataset costs 0.4 s.
"""

import logging
import os
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import pyarrow as pa

from phenoembed_store import checksums, remote
from phenoembed_store.engine import quoted, session
from phenoembed_store.errors import Overtaken, StoreError

if TYPE_CHECKING:
    from duckdb import DuckDBPyRelation

log = logging.getLogger("phenoembed")

ROW_GROUP = 16_384
"""Rows in a Parquet row group: small enough that a plate is found without reading the whole file."""


@dataclass(frozen=True)
class Table:
    """One Delta table of the store. ``schema`` holds the columns it has even before anything was written."""

    path: Path
    schema: pa.Schema
    pinned: int | None = None
    """A version to read, as the table was then; None for the newest."""
    url: str | None = None
    """Where the table lies in object storage; ``path`` then holds copies of its files."""

    @property
    def place(self) -> str:
        """Where the table lies."""
        return self.url or str(self.path)

    def version(self) -> int:
        """The newest version; -1 where nothing was ever written."""
        if self.pinned is not None:
            return self.pinned
        table = self._open()
        return -1 if table is None else int(table.version())

    def newest(self, known: int) -> int:
        """The newest version, given one that was the newest before: most often nothing has come, and that is cheap."""
        if self.pinned is not None:
            return self.pinned
        log = f"{known + 1:020d}.json"
        if self.url is not None:
            logs = f"{self.url}/_delta_log"  # of a table not seen before, any: the log's beginning is dropped in time
            come = remote.exists(f"{logs}/{log}") if known >= 0 else bool(remote.listing(logs))
            return self.version() if come else known
        if not os.access(f"{self._log}/{log}" if known >= 0 else self._log, os.F_OK):  # cheaper than `exists`
            return known
        return self.version()

    @cached_property
    def _log(self) -> str:
        return f"{self.path}/_delta_log"

    def at(self, *, anew: bool = False) -> "Scan":
        """What the table holds, ready to be read; ``anew``: from files brought again, whatever copies there are."""
        table = self._open(self.pinned)
        if table is None:
            return Scan(-1, (), self.schema, {})
        schema = pa.schema(table.schema().to_arrow())
        names = _names(table)
        if self.url is not None:
            self._bring(self.url, names, anew)
            if anew:
                self._bring_checksums(self.url)
        properties = {} if self.pinned is not None or self.url is not None else dict(table.history(1)[0])
        return Scan(int(table.version()), tuple(str(self.path / name) for name in sorted(names)), schema, properties)

    # Each of these is one transaction upon the version ``since`` (-1: there was none), which is what the caller has
    # read. Raises Overtaken where the table has a newer one, as another machine may write it.

    def append(self, rows: pa.Table, since: int, *, properties: Mapping[str, str] | None = None) -> None:
        """Add rows; columns the table does not know yet are added to it."""
        self._write(rows, since, properties, mode="append")

    def replace(
        self, rows: pa.Table, since: int, where: str | None = None, *, properties: Mapping[str, str] | None = None
    ) -> None:
        """Put ``rows`` in the place of the rows that match ``where``; None: of all rows, with their types."""
        if where is None or since < 0:
            self._write(rows, since, properties, mode="overwrite", schema_mode="overwrite")
        else:
            self._write(rows, since, properties, mode="overwrite", predicate=where)

    def upsert(self, rows: pa.Table, key: Sequence[str], since: int) -> None:
        """Update the rows whose key is there, insert the others."""
        table = self._open(since)
        with self._written(table):
            merge = self._merge(table, rows, key, merge_schema=True)
            merge.when_matched_update_all().when_not_matched_insert_all().execute()

    def remove(self, keys: pa.Table, key: Sequence[str], since: int) -> None:
        """Remove the rows whose key is in ``keys``."""
        table = self._open(since)
        with self._written(table):
            self._merge(table, keys.select(list(key)), key).when_matched_delete().execute()

    def compact(self, keep_hours: float) -> None:
        """Bring small files together, then remove the files that no version of these hours needs."""
        table = self._open()
        if table is not None:
            with self._written(table):
                table.optimize.compact(writer_properties=_layout(), commit_properties=_commit())
                table.create_checkpoint()
                table.vacuum(retention_hours=int(keep_hours), enforce_retention_duration=False, dry_run=False)

    def forget_copies(self) -> None:
        """Remove the copies of files that the newest version does not need, and checksums of files that are gone."""
        if self.url is not None:
            needed = set(self.at().files)
            for path in self.path.glob("*.parquet"):
                if str(path) not in needed:
                    path.unlink(missing_ok=True)
            there = remote.listing(self.url)
            kept = {name for name in there if name.startswith(f"{checksums.FOLDER}/")}
            remote.remove(self.url, sorted(kept - set(map(checksums.kept_as, there))))
        checksums.forget(self.path)

    def _write(self, rows: pa.Table, since: int, properties: Mapping[str, str] | None = None, **how: Any) -> None:
        from deltalake import write_deltalake

        how = {"schema_mode": "merge"} | how if since >= 0 else {"mode": "error"}
        table = self._open(since) if since >= 0 else None
        with self._written(table):
            target = self._uri if table is None else table
            options = self._options() if table is None else None
            commit = _commit(properties)
            write_deltalake(
                target, rows, storage_options=options, writer_properties=_layout(), commit_properties=commit, **how
            )

    def _merge(self, table: Any, rows: pa.Table, key: Sequence[str], *, merge_schema: bool = False) -> Any:
        return table.merge(
            rows,
            " AND ".join(f't."{name}" = s."{name}"' for name in key),
            source_alias="s",
            target_alias="t",
            merge_schema=merge_schema,
            writer_properties=_layout(),
            commit_properties=_commit(),
        )

    @property
    def _uri(self) -> str:
        return self.url or self.path.resolve().as_uri()  # of a bare path, deltalake misreads some characters

    def _options(self) -> dict[str, str] | None:
        return None if self.url is None else remote.delta_options()

    def _open(self, version: int | None = None) -> Any:
        from deltalake import DeltaTable
        from deltalake.exceptions import TableNotFoundError

        if self.url is None and not (self.path / "_delta_log").is_dir():
            return None
        with self._readable():
            try:
                return DeltaTable(self._uri, version=version, storage_options=self._options())
            except TableNotFoundError:
                return None

    def _bring(self, url: str, names: Sequence[str], anew: bool) -> None:
        """Copy files that are not here; one that is gone from the table's address is left to the reader to miss."""
        wanted = [name for name in names if anew or not (self.path / name).is_file()]
        if wanted:
            there = remote.listing(url)
            for name in wanted:
                if name not in there:
                    (self.path / name).unlink(missing_ok=True)
            remote.download(url, [name for name in wanted if name in there], self.path)

    def _bring_checksums(self, url: str) -> None:
        kept = [f"{checksums.FOLDER}/{name}" for name in remote.listing(f"{url}/{checksums.FOLDER}")]
        remote.download(url, kept, self.path)

    @contextmanager
    def _readable(self) -> Iterator[None]:
        with _damage(self.place), _unreachable(self.url):
            yield

    @contextmanager
    def _written(self, table: Any) -> Iterator[None]:
        """Within it ``table`` (None: there is none yet) is written to; its new files get their checksums."""
        from deltalake.exceptions import CommitFailedError, DeltaError

        before = set() if table is None else set(_names(table))
        try:
            with _unreachable(self.url):
                yield
        except CommitFailedError as error:
            raise Overtaken(f"another machine writes to the table '{self.path.name}'; try again") from error
        except DeltaError as error:
            if "already exists" in str(error):
                raise Overtaken(f"another machine has made the table '{self.path.name}'; try again") from error
            raise StoreError(f"the table '{self.path.name}' cannot be written: {_last_line(error)}") from error
        self._keep_checksums(sorted(set(_names(table or self._open())) - before))

    def _keep_checksums(self, names: Sequence[str]) -> None:
        """Of files just committed; a word in the log where that fails, for they are there all the same."""
        try:
            if self.url is not None:
                self._bring(self.url, names, anew=False)
            kept = checksums.keep(self.path, names)
            if self.url is not None:
                remote.upload(self.path, kept, self.url)
        except (OSError, StoreError) as error:
            log.warning("no checksum of what was written to the table '%s': %s", self.path.name, error)


@dataclass(frozen=True)
class Scan:
    """The files of a table at one version. They never change, so a scan may be read again at any time."""

    version: int
    files: tuple[str, ...]
    schema: pa.Schema
    properties: Mapping[str, Any]
    """Of its last transaction; of a table in this machine's folder only."""

    def without(self, files: Collection[str]) -> "Scan":
        """The rows of the other files: those that came later, where these are an earlier version's."""
        return replace(self, files=tuple(file for file in self.files if file not in files))

    def read(
        self, columns: Sequence[str] | None = None, where: str = "true", parameters: Sequence[Any] = ()
    ) -> pa.Table:
        """Rows that match ``where`` (our own SQL, never a user's), with the named columns (default: all)."""
        schema = self._schema_of(columns)
        if not self.files:
            return schema.empty_table()
        with self._selected(schema.names, where, parameters) as selected:
            return selected.to_arrow_table().cast(schema)

    def batches(self, columns: Sequence[str], where: str, parameters: Sequence[Any] = ()) -> Iterator[pa.RecordBatch]:
        """The same rows in the same order, some thousands at a time: those of ``read`` are all in memory at once."""
        schema = self._schema_of(columns)
        if self.files:
            with self._selected(schema.names, where, parameters) as selected:
                for batch in selected.to_arrow_reader(ROW_GROUP):
                    yield batch.cast(schema)

    def _schema_of(self, columns: Sequence[str] | None) -> pa.Schema:
        wanted = self.schema.names if columns is None else columns
        return _like(pa.schema([self.schema.field(name) for name in wanted]))

    @contextmanager
    def _selected(self, columns: Sequence[str], where: str, parameters: Sequence[Any]) -> Iterator["DuckDBPyRelation"]:
        """The rows that match, for DuckDB to read while this lasts; files may lack columns that came later."""
        with _damage(self.files[0].rpartition("/")[0], self.files), session() as connection:
            source = "read_parquet($files, union_by_name = true)"
            named = {"files": list(self.files)}
            stored = connection.sql(f"SELECT * FROM {source}", params=named).columns
            picked = ", ".join(quoted(name) if name in stored else f"NULL AS {quoted(name)}" for name in columns)
            values = named | {f"p{i}": value for i, value in enumerate(parameters)}
            yield connection.sql(f"SELECT {picked} FROM {source} WHERE {where}", params=values)


def _names(table: Any) -> list[str]:
    """The files of a Delta table, as they are called in its folder."""
    return [unquote(uri.rsplit("/", 1)[-1]) for uri in table.file_uris()]


def _like(schema: pa.Schema) -> pa.Schema:
    """The same columns, with list items named as Arrow names them: schemas of any origin compare equal."""
    return pa.schema(
        [pa.field(f.name, pa.list_(f.type.value_type) if pa.types.is_list(f.type) else f.type) for f in schema]
    )


def _layout() -> Any:
    from deltalake import ColumnProperties, WriterProperties

    plain = ColumnProperties(dictionary_enabled=False)  # floats hardly repeat: a dictionary only costs time
    return WriterProperties(
        compression="SNAPPY", max_row_group_size=ROW_GROUP, column_properties={"embedding.list.element": plain}
    )


def _commit(properties: Mapping[str, str] | None = None) -> Any:
    """Upon the version that was read or not at all: a retry would write beside rows that nobody has compared."""
    from deltalake import CommitProperties

    return CommitProperties(custom_metadata=dict(properties or {}), max_commit_retries=0)


@contextmanager
def _unreachable(url: str | None) -> Iterator[None]:
    """What object storage refuses the Delta library, as one line."""
    try:
        yield
    except OSError as error:
        if url is None:
            raise
        raise StoreError(f"'{url}' cannot be read or written: {_last_line(error)}") from error


def _last_line(error: Exception) -> str:
    """What the Delta library says at last, which is the cause, without its colours."""
    lines = [line.strip(" ↳\t") for line in re.sub(r"\x1b\[\d*m", "", str(error)).splitlines()]
    return lines[-1] if lines else type(error).__name__


@contextmanager
def _damage(place: str, files: Sequence[str] = ()) -> Iterator[None]:
    """A file of the table or its log that cannot be read is one line; the truth is not rebuilt from anything.

    ``files``: those that are read.
    """
    import duckdb
    from deltalake.exceptions import DeltaError

    try:
        yield
    except (DeltaError, duckdb.Error) as error:
        reason, (store, _, name) = str(error).splitlines()[0], place.rpartition("/")
        if _was_compacted(place, files):
            raise StoreError(f"the table '{name}' was compacted while it was read; run the same again") from error
        raise StoreError(
            f"the table '{name}' cannot be read ({reason}); `phenoembed verify --store {store}` says more, "
            "and only a backup brings it back"
        ) from error


def _was_compacted(folder: str, files: Sequence[str]) -> bool:
    """Whether files of a table are gone, and its newest version needs none of them."""
    from deltalake import DeltaTable
    from deltalake.exceptions import DeltaError

    gone = {Path(file).name for file in files if not Path(file).is_file()}
    try:
        return bool(gone) and gone.isdisjoint(_names(DeltaTable(Path(folder).resolve().as_uri())))
    except DeltaError:
        return False
