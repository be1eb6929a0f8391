"""A filter is one SQL expression over the columns of an image; DuckDB parses, binds and evaluates it."""

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from phenoembed_store.engine import session
from phenoembed_store.errors import QueryError
from phenoembed_store.sql import one_line, query_errors

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

ROW = "_row"
"""The column of a filtered view that numbers its rows."""


def matching_rows(connection: "DuckDBPyConnection", where: str, view: str = "images") -> npt.NDArray[np.int64]:
    """Numbers (rising) of the view's rows for which a checked expression is true. Raises QueryError."""
    with query_errors():
        found = connection.sql(f'SELECT "{ROW}" FROM "{view}" WHERE (\n{where}\n)').fetchnumpy()[ROW]
    return np.sort(np.asarray(found, dtype=np.int64))


def check_expression(where: str) -> dict[str, Any]:
    """The parsed expression. Raises QueryError where ``where`` is anything but one expression.

    It is parsed without parentheses around it, so that ``true) OR (true`` does not balance against ours, and the
    statement it lands in must have nothing but a WHERE: no further statement, clause or set operation.
    """
    statement = f"SELECT 1 FROM images WHERE {where}\n"
    with session() as connection:
        found = connection.execute("SELECT json_serialize_sql(?)", [statement]).fetchall()
    parsed: Any = json.loads(found[0][0])
    if parsed["error"]:
        raise QueryError(
            f"--where {where!r}: {one_line(parsed['error_message'])}; "
            'it takes one SQL expression, e.g. "concentration_um >= 5"'
        )
    nodes = [statement["node"] for statement in parsed["statements"]]
    if len(nodes) != 1 or not _is_only_a_where(nodes[0]):
        raise QueryError(
            f'--where {where!r}: one expression is wanted, e.g. "concentration_um >= 5", not a clause or statement'
        )
    expression: dict[str, Any] = nodes[0]["where_clause"]
    return expression


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


def _is_only_a_where(node: dict[str, Any]) -> bool:
    return (
        node["type"] == "SELECT_NODE"
        and node["where_clause"] is not None
        and node["from_table"]["type"] == "BASE_TABLE"
        and not any(node[part] for part in ("modifiers", "group_expressions", "group_sets", "having", "qualify"))
        and not node["cte_map"]["map"]
        and node["sample"] is None
    )
