"""SQL that reads the store's views and can reach nothing else: no file, no network, no extension, no setting."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from math import inf
from threading import TIMEOUT_MAX, Condition, Thread
from time import monotonic
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from phenoembed_store.errors import QueryError

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection, DuckDBPyRelation

PIECE = 65_536
"""Rows that are read at once."""
VIEWS = ("images", "groups", "annotations", "predictions", "rejected")
LOCKS = {
    "enable_external_access": "false",
    "python_enable_replacements": "false",  # or SQL could name the process's own variables
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "allow_community_extensions": "false",
    "temp_directory": "",  # nor spilt to disk: DuckDB lets SQL read the folder that it spills to
}


def locked(tables: Mapping[str, Any]) -> "DuckDBPyConnection":
    """A connection that sees nothing but these tables (Arrow, scanned where they lie), its settings locked."""
    connection = _database().cursor()  # what is registered in a cursor no other one sees
    for name, table in tables.items():
        connection.register(name, table)
    return connection


@cache
def _database() -> "DuckDBPyConnection":
    import duckdb

    database = duckdb.connect(":memory:", config=dict(LOCKS))  # once: each starts threads of its own, tens of ms
    database.execute("SET lock_configuration = true")
    return database


def select(connection: "DuckDBPyConnection", query: str) -> "DuckDBPyRelation":
    """The relation of one SELECT. Raises QueryError for anything else."""
    import duckdb

    with query_errors():
        statements = connection.extract_statements(query)
        if len(statements) != 1:
            raise QueryError(f"one SELECT is wanted, not {len(statements)} statements")
        if statements[0].type != duckdb.StatementType.SELECT:
            kind = str(statements[0].type).rsplit(".", 1)[-1]
            raise QueryError(f"only SELECT is allowed here, not {kind}: the store's SQL reads, it never writes")
        relation = connection.sql(query)
    if relation is None:
        raise QueryError("the query has no result")
    return relation


def read_rows(relation: "DuckDBPyRelation") -> pa.Table:
    """All rows of a relation, by pieces: Ctrl-C stops it at once, not when all have come. Raises QueryError."""
    with query_errors():
        reader = relation.to_arrow_reader(PIECE)
        batches = []
        try:
            for batch in reader:
                batches.append(batch)  # noqa: PERF402 - `list` would not see Ctrl-C
        except OSError as error:  # as an error comes once there are rows
            raise QueryError(one_line(str(error))) from None
    return pa.Table.from_batches(batches, reader.schema)


def named_apart(result: pa.Table) -> pa.Table:
    """A result whose columns have each a name of their own: of two that SQL calls ``n``, the second is ``n_2``."""
    taken = set(result.column_names)
    names: list[str] = []
    for name in result.column_names:
        count = 1
        while name in names or (count > 1 and name in taken):
            count += 1
            name = f"{result.column_names[len(names)]}_{count}"
        names.append(name)
    return result.rename_columns(names)


@contextmanager
def query_errors() -> Iterator[None]:
    """Turn what DuckDB raises into one line with its hint."""
    import duckdb

    try:
        yield
    except duckdb.PermissionException:
        raise QueryError(
            f"a query reads the store's views only: {', '.join(VIEWS)}; files and networks are out of reach"
        ) from None
    except duckdb.InterruptException:
        raise KeyboardInterrupt from None
    except duckdb.Error as error:
        raise QueryError(one_line(str(error))) from None


@contextmanager
def time_limit(connection: "DuckDBPyConnection", called: str, seconds: float) -> Iterator[None]:
    """Stop what runs in this connection after so many seconds. Raises QueryError then, which says what was stopped."""
    limit, watch = _Limit(monotonic() + seconds, connection), _watch()
    watch.add(limit)
    try:
        yield
    except KeyboardInterrupt:  # what `query_errors` makes of an interruption, ours or a person's
        if not limit.over:
            raise
        raise QueryError(f"{called} was stopped after {seconds:g} s") from None
    finally:
        watch.remove(limit)


@dataclass(eq=False)
class _Limit:
    """When what runs in a connection is to be stopped, and whether it was."""

    deadline: float
    connection: "DuckDBPyConnection"
    over: bool = False

    def stop(self) -> None:
        self.over = True
        self.connection.interrupt()


class _Watch(Thread):
    """Stops what runs past its limit. One thread for all: to start one took longer than a small filter."""

    def __init__(self) -> None:
        super().__init__(name="time limits", daemon=True)
        self._limits: set[_Limit] = set()
        self._changed = Condition()
        self._looks = inf  # when it looks again

    def add(self, limit: _Limit) -> None:
        with self._changed:
            self._limits.add(limit)
            if limit.deadline < self._looks:
                self._changed.notify()

    def remove(self, limit: _Limit) -> None:
        """From here on it is not stopped, and so not what runs in its connection next."""
        with self._changed:
            self._limits.discard(limit)

    def run(self) -> None:
        with self._changed:
            while True:
                now = monotonic()
                for limit in [one for one in self._limits if one.deadline <= now]:
                    limit.stop()
                    self._limits.remove(limit)
                self._looks = min((one.deadline for one in self._limits), default=inf)
                self._changed.wait(min(self._looks - now, TIMEOUT_MAX))


@cache
def _watch() -> _Watch:
    watch = _Watch()
    watch.start()
    return watch


def one_line(message: str) -> str:
    """DuckDB's message without its excerpt of the query, on one line."""
    lines = [line.strip() for line in message.strip().splitlines()]
    kept: list[str] = []
    for line in lines:
        if line.startswith("LINE "):
            break
        if line:
            kept.append(line)
    said = re.sub(r"^[A-Z][A-Za-z ]* Error: ", "", "; ".join(line.rstrip("!") for line in kept))
    if table := re.match(r"Table with name (.+?) does not exist", said):
        return f"there is no view '{table[1]}'; there are {', '.join(VIEWS)}"
    if column := re.match(r'Referenced column "(.+?)" not found', said):
        return f"{said}; a text is written in single quotes: '{column[1]}'"
    return said
