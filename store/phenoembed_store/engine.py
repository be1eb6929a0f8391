"""The DuckDB database that our own queries run in. Users' SQL never does: see sql.py."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection


@contextmanager
def session() -> Iterator["DuckDBPyConnection"]:
    """A connection of one's own: what is registered in it nobody else sees, and it goes with it.

    Ctrl-C in the middle of a query is a KeyboardInterrupt, as it is everywhere else; DuckDB makes an error of it.
    """
    import duckdb

    try:
        with _database().cursor() as connection:
            yield connection
    except (RuntimeError, duckdb.Error) as error:
        if "interrupt" in str(error).lower():
            raise KeyboardInterrupt from error
        raise


def quoted(name: str) -> str:
    """A column's name as SQL has it, whatever letters are in it."""
    return '"' + name.replace('"', '""') + '"'


@cache
def _database() -> "DuckDBPyConnection":
    import duckdb

    return duckdb.connect(":memory:")  # once: each database starts threads of its own, tens of milliseconds
