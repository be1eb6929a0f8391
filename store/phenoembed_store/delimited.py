"""CSV and TSV files (gzipped or not) as tables: what a person wrote into cells, without what they did not mean."""

import csv
import gzip
from collections import Counter
from collections.abc import Mapping, Sequence
from io import BufferedReader, TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from phenoembed_store.columns import recognise
from phenoembed_store.engine import quoted
from phenoembed_store.errors import StoreError

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection, DuckDBPyRelation

TEXT = frozenset(("screen", "plate", "well", "channel", "replicate", "compound", "role", "path", "inchikey"))
"""Columns that are names even where they look like numbers: plate 007 is not plate 7."""

DELIMITERS = ",\t;|"

WORKBOOKS = (b"PK\3\4", b"\xd0\xcf\x11\xe0")
"""How files of spreadsheet programs begin, which are saved as CSV to be read."""

_PADDING = "chr(32) || chr(9) || chr(160)"  # as SQL: the blank, the tab, the blank that does not break a line


def scan_text(connection: "DuckDBPyConnection", path: Path) -> "DuckDBPyRelation":
    """A file as DuckDB reads it, blanks around names and numbers taken off; a column without a name is ``unnamed_N``.

    What separates and quotes cells is said, not found out: DuckDB would read quotes as letters where one is not closed,
    and take rows that begin with # for comments.

    Raises StoreError where the file is a workbook or not what its first line announces, names two columns alike, or
    leaves a quote open; duckdb.Error where it cannot be read.
    """
    import duckdb

    if _begins(path) in WORKBOOKS:
        raise StoreError(f"'{path}' is a workbook: save its sheet as CSV")
    header = _header(path)
    _refuse_doubles(path, header)
    if _has_quotes(path):
        _refuse_mangled(path)
    said: dict[str, Any] = {"header": True, "sep": _delimiter(path), "quotechar": '"', "escapechar": '"', "comment": ""}
    try:
        names = connection.read_csv(str(path), all_varchar=True, **said).columns
    except duckdb.Error:
        _refuse_mangled(path)
        names = []
    expected = [cell or name for cell, name in zip(header, names, strict=False)]
    if names != expected:  # a row that does not fit makes DuckDB take another line for the header
        _refuse_mangled(path)
    text = {theirs: "VARCHAR" for ours, theirs in recognise(names).items() if ours in TEXT}
    relation = connection.read_csv(str(path), sample_size=-1, dtype=text, **said)
    unnamed = {name: f"unnamed_{i}" for i, (cell, name) in enumerate(zip(header, names, strict=False), 1) if not cell}
    return _stripped(relation, text, unnamed)


def lines_of_rows(path: Path) -> list[int] | None:
    """The line of a file that each of its rows begins on; None where a row is a line, and no line is blank."""
    with _bytes_of(path) as file:
        if not any(b'"' in line or not line.strip() for line in file):
            return None
    lines, start = list[int](), 1
    with _lines_of(path) as file:
        rows = csv.reader(file, delimiter=_delimiter(path), skipinitialspace=True)
        for row in rows:
            if row:
                lines.append(start)
            start = rows.line_num + 1
    return lines[1:]


def _stripped(relation: "DuckDBPyRelation", text: Mapping[str, str], unnamed: Mapping[str, str]) -> "DuckDBPyRelation":
    """Cells of text without the blanks around them; columns of nothing but padded numbers are of numbers.

    A column without name and cells, which a delimiter at the end of each line makes, is left out.
    """
    texts = [name for name, kind in zip(relation.columns, relation.types, strict=True) if str(kind) == "VARCHAR"]
    if not texts and not unnamed:
        return relation
    filled = _filled(relation, [name for name in texts if name not in text])
    said = []
    for name in relation.columns:
        cells, numbers = filled.get(name, (1, 0))
        value = _cell(name) if name in texts else quoted(name)
        value = f"CAST({value} AS DOUBLE)" if 0 < cells == numbers else value
        if cells or name not in unnamed:
            said.append(f"{value} AS {quoted(unnamed.get(name, name))}")
    return relation.project(", ".join(said))


def _filled(relation: "DuckDBPyRelation", names: Sequence[str]) -> dict[str, tuple[int, int]]:
    """How many cells of each of these columns of text hold something, and how many of them a number."""
    if not names:
        return {}
    counts = ", ".join(f"count({_cell(name)}), count(try_cast({_cell(name)} AS DOUBLE))" for name in names)
    found = relation.aggregate(counts).fetchall()[0]
    return dict(zip(names, zip(found[::2], found[1::2], strict=True), strict=True))


def _cell(name: str) -> str:
    return f"nullif(trim({quoted(name)}, {_PADDING}), '')"


def _header(path: Path) -> list[str]:
    """The cells of a file's first line, stripped; none where it is no text."""
    with _lines_of(path) as lines:
        try:
            cells = next(csv.reader([next(lines)], delimiter=_delimiter(path)), [])
        except (StopIteration, OSError, EOFError, ValueError, csv.Error):
            return []
    return [cell.strip() for cell in cells]


def _refuse_doubles(path: Path, header: Sequence[str]) -> None:
    """Raise StoreError where two columns have one name."""
    for name, count in Counter(filter(None, header)).items():
        if count > 1:
            first, second, *_ = (i for i, cell in enumerate(header, 1) if cell == name)
            raise StoreError(
                f"columns {first} and {second} of '{path}' are named '{name}': leave one out, or give it another name"
            )


def _has_quotes(path: Path) -> bool:
    with _bytes_of(path) as file:
        try:
            return any(b'"' in piece for piece in iter(lambda: file.read(1 << 20), b""))
        except (OSError, EOFError):
            return False  # what is wrong with it is told when it is read


def _refuse_mangled(path: Path) -> None:
    """Raise StoreError for a file that is empty or no UTF-8, an open quote, a row that does not fit the header."""
    with _lines_of(path) as lines:
        rows = csv.reader(lines, delimiter=_delimiter(path), skipinitialspace=True, strict=True)
        start = 1  # the line that the next row begins on
        try:
            wanted = len(next(rows, []))
            if not wanted:
                blank = any(rows)
                raise StoreError(
                    f"line 1 of '{path}' is blank, where the names of its columns are wanted"
                    if blank
                    else f"'{path}' is empty"
                )
            start = rows.line_num + 1
            for row in rows:
                if row and len(row) != wanted:
                    raise StoreError(f"line {start} of '{path}' has {len(row)} cells, its header {wanted}")
                start = rows.line_num + 1
        except UnicodeDecodeError as error:
            raise StoreError(f"'{path}' is not in UTF-8 ({error.reason}): save it so") from None
        except csv.Error as error:
            raise StoreError(
                f"line {start} of '{path}' cannot be read ({error}): is a quote (\") not closed there? "
                "One within quotes is written twice"
            ) from None
        except (OSError, EOFError) as error:
            raise StoreError(f"cannot read '{path}': {error}") from None


def _begins(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(4)


def _delimiter(path: Path) -> str:
    """What stands oftenest in a file's first line of what may separate cells; where none does, a blank (STRING)."""
    with _bytes_of(path) as file:
        header = next(file, b"").strip()
    found = max(DELIMITERS, key=lambda one: header.count(one.encode()))
    return " " if found.encode() not in header and b" " in header else found


def _lines_of(path: Path) -> TextIOWrapper:
    return TextIOWrapper(cast("BinaryIO", _bytes_of(path)), encoding="utf-8-sig", newline="")


def _bytes_of(path: Path) -> gzip.GzipFile | BufferedReader:
    return gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb")
