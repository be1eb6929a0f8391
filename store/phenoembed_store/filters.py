"""A filter is one SQL expression over the columns of an image; DuckDB parses, binds and evaluates it."""

import json
from collections.abc import Iterator, Sequence
from functools import cache
from threading import Lock
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pyarrow as pa

from phenoembed_store.errors import QueryError
from phenoembed_store.sql import locked, one_line, query_errors, time_limit
from phenoembed_store.subset import Subset

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

ROW = "_row"
"""The column of a filtered view that numbers its rows."""
REMEMBERED = 64
"""Filters whose rows are kept at hand."""
FILTER_SECONDS = 60.0
"""A filter that takes longer is stopped: whoever else filters the same images waits for it."""
SHOWN = 200
"""Characters of a filter that an error shows."""
_READS_MORE = frozenset(("SUBQUERY", "STAR", "POSITIONAL_REFERENCE"))
"""Classes of expressions that may read columns without naming them."""


class Source(Protocol):
    """What is filtered: rows with (``table``) and without (``annotated``) the columns that are costly to work out."""

    def __len__(self) -> int: ...
    def column(self, name: str) -> pa.ChunkedArray: ...
    @property
    def column_names(self) -> tuple[str, ...]: ...
    @property
    def annotated(self) -> pa.Table: ...
    @property
    def table(self) -> pa.Table: ...


class Filters:
    """Filters over one source. The last answers are kept, so that a filter asked again costs next to nothing."""

    def __init__(self, source: Source, costly: Sequence[str]) -> None:
        self._source = source
        self._costly = frozenset(costly)
        self._kept: dict[str, Subset] = {}
        self._connections: dict[str, DuckDBPyConnection] = {}
        self._narrow: set[str] = set()
        self._lock = Lock()

    def passing(self, where: str) -> Subset:
        """The rows for which the expression is true. Raises QueryError."""
        with self._lock:
            if where in self._kept:
                found = self._kept.pop(where)
                found.asked_again = True
            else:
                found = self._find(where)
            self._kept[where] = found  # the last: what was not asked for longest goes first
            if len(self._kept) > REMEMBERED:
                self._kept.pop(next(iter(self._kept)))
            return found

    def _find(self, where: str) -> Subset:
        try:
            connection, view = self._view(check_expression(where))
        except RecursionError:
            raise QueryError(f"the filter {_shown(where)} is nested too deep: write it flatter") from None
        with time_limit(connection, "the filter", FILTER_SECONDS), query_errors():
            found = connection.execute(f'SELECT "{ROW}" FROM "{view}" AS images WHERE (\n{where}\n)').fetchnumpy()
        return Subset.of_rows(np.asarray(found[ROW], np.int64), len(self._source))

    def _view(self, expression: dict[str, Any]) -> tuple["DuckDBPyConnection", str]:
        """A view with what the expression reads: only its columns where they are certain, for each costs time."""
        read = {name.lower() for name in columns_of(expression)}
        known = {name.lower(): name for name in self._source.column_names}
        if read <= known.keys() and not _READS_MORE & set(classes_of(expression)):
            return self._narrow_view([known[name] for name in sorted(read)])
        kind = "table" if self._costly & read else "annotated"
        if kind not in self._connections:
            source = self._source.table if kind == "table" else self._source.annotated
            self._connections[kind] = locked({"images": self._numbered(source)})
        return self._connections[kind], "images"

    def _narrow_view(self, columns: Sequence[str]) -> tuple["DuckDBPyConnection", str]:
        if "narrow" not in self._connections:
            self._connections["narrow"] = locked({})
        columns = columns or self._source.column_names[:1]  # a table of no columns has no rows
        connection, view = self._connections["narrow"], " ".join(("only", *columns))
        if view not in self._narrow:
            connection.register(view, self._numbered(pa.table({name: self._source.column(name) for name in columns})))
            self._narrow.add(view)
        return connection, view

    def _numbered(self, table: pa.Table) -> pa.Table:
        return table.append_column(ROW, pa.array(np.arange(len(self._source), dtype=np.int32)))


def check_expression(where: str) -> dict[str, Any]:
    """The parsed expression. Raises QueryError where ``where`` is anything but one expression.

    It is parsed without parentheses around it, so that ``true) OR (true`` does not balance against ours, and the
    statement it lands in must have nothing but a WHERE: no further statement, clause or set operation.
    """
    statement = f"SELECT 1 FROM images WHERE {where}\n"
    with _parsing, query_errors():
        quoted = statement.replace("'", "''")  # EXECUTE takes no parameters of its own
        found = _parser().execute(f"EXECUTE parse('{quoted}')").fetchall()
    parsed: Any = json.loads(found[0][0])
    if parsed["error"]:
        raise QueryError(
            f"the filter {_shown(where)}: {one_line(parsed['error_message'])}; "
            'it takes one SQL expression, e.g. "concentration_um >= 5"'
        )
    nodes = [statement["node"] for statement in parsed["statements"]]
    if len(nodes) != 1 or not _is_only_a_where(nodes[0]):
        raise QueryError(
            f"the filter {_shown(where)}: one expression is wanted, not a clause or statement, "
            'e.g. "concentration_um >= 5"'
        )
    expression: dict[str, Any] = nodes[0]["where_clause"]
    return expression


def _shown(where: str) -> str:
    """A filter to be read in a line; a program may write one of megabytes."""
    return repr(where if len(where) <= SHOWN else f"{where[:SHOWN]} ...")


def columns_of(expression: Any) -> Iterator[str]:
    """The names of the columns an expression reads, its subqueries' too."""
    if isinstance(expression, dict):
        if expression.get("class") == "COLUMN_REF":
            yield expression["column_names"][-1]
        for value in expression.values():
            yield from columns_of(value)
    elif isinstance(expression, list):
        for value in expression:
            yield from columns_of(value)


def classes_of(expression: Any) -> Iterator[str]:
    """The classes of an expression and of all its parts."""
    if isinstance(expression, dict):
        if "class" in expression:
            yield expression["class"]
        for value in expression.values():
            yield from classes_of(value)
    elif isinstance(expression, list):
        for value in expression:
            yield from classes_of(value)


@cache
def _parser() -> "DuckDBPyConnection":
    connection = locked({})
    connection.execute("PREPARE parse AS SELECT json_serialize_sql($1::VARCHAR)")  # planned once: half the time
    return connection


_parsing = Lock()


def _is_only_a_where(node: dict[str, Any]) -> bool:
    return (
        node["type"] == "SELECT_NODE"
        and node["where_clause"] is not None
        and node["from_table"]["type"] == "BASE_TABLE"
        and not any(node[part] for part in ("modifiers", "group_expressions", "group_sets", "having", "qualify"))
        and not node["cte_map"]["map"]
        and node["sample"] is None
    )
