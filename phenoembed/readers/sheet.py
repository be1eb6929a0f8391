"""A table as somebody wrote it: its cells, and the number a person gives each row. Nothing is interpreted here."""

import codecs
import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from phenoembed_store.delimited import WORKBOOKS
from phenoembed_store.errors import ManifestError

DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}


@dataclass
class Faults:
    """The faults of one file, told in the order of its rows: first those of the whole file, then row by row.

    ``files``: what a row stands for where no person sees rows, from row 1 on.
    """

    source: str
    found: list[tuple[int, str]] = field(default_factory=list)
    files: Sequence[str] = ()

    def place(self, row: int) -> str:
        return f"'{self.files[row - 1]}'" if self.files else f"row {row}"

    def add(self, fault: str, row: int = 0) -> None:
        """``row`` is the number a person gives the row: the line in a text file, 1 for the first row of Parquet."""
        self.found.append((row, f"{self.place(row)}: {fault}" if row else fault))

    def raise_any(self) -> None:
        if self.found:
            raise ManifestError(self.source, [text for _, text in sorted(self.found, key=lambda fault: fault[0])])


@dataclass(frozen=True)
class Sheet:
    """Columns by name, and the number of each row as a person sees it.

    Cells of a text file are text, stripped, null where empty; those of a Parquet file keep their types.
    """

    columns: dict[str, pa.Array]
    rows: list[int]
    faults: Faults
    notes: tuple[str, ...] = ()


def read_sheet(path: Path) -> Sheet:
    """Read a CSV file (commas, semicolons, tabs or bars; UTF-8 or Windows-1252) or a Parquet file.

    Raises ``ManifestError`` when nothing can be made of the file; rows that do not fit are faults of the sheet.
    """
    faults = Faults(str(path))
    if path.is_dir():
        raise ManifestError(str(path), ["this is a folder, not a file"])
    try:
        return _read_parquet(path, faults) if path.suffix == ".parquet" else _read_text(path, faults)
    except OSError as error:
        raise ManifestError(str(path), [f"cannot be read: {error.strerror or error}"]) from error


def _read_text(path: Path, faults: Faults) -> Sheet:
    text, notes = _decode(path.read_bytes(), faults)
    delimiter = _delimiter(text)
    header, rows, cells = _split(text, delimiter, faults)
    if not header:
        raise ManifestError(faults.source, ["the file is empty; its first row names the columns"])
    columns: dict[str, pa.Array] = {}
    for place, column in enumerate(zip(*cells, strict=True) if cells else [()] * len(header)):
        name = header[place].strip()
        array = _blank_to_null(pa.array(column, pa.string()))
        if not name and array.null_count == len(array):
            continue  # what a trailing delimiter makes
        name = name or f"unnamed_{place + 1}"
        if name in columns:
            faults.add(f"two columns are named '{name}'")
        columns[name] = array
    if delimiter != ",":
        notes += (f"{path.name} is separated by {DELIMITERS[delimiter]}",)
    return Sheet(columns, rows, faults, notes)


def _decode(content: bytes, faults: Faults) -> tuple[str, tuple[str, ...]]:
    """The text of UTF-8, or of Windows-1252 (what spreadsheets save as CSV), which is noted."""
    if content.startswith(WORKBOOKS):
        raise ManifestError(faults.source, ["this is a workbook; save its sheet as CSV"])
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise ManifestError(faults.source, ["the file is UTF-16; save it as UTF-8"])
    notes: tuple[str, ...] = ()
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        row, value = content.count(b"\n", 0, error.start) + 1, content[error.start]
        fault = f"row {row}: byte 0x{value:02x} is not UTF-8; save the file as UTF-8"
        try:
            text = content.decode("cp1252")
        except UnicodeDecodeError:
            raise ManifestError(faults.source, [fault]) from error
        notes = (f"{Path(faults.source).name} is read as Windows-1252 (Latin-1): {fault}, if names look wrong",)
    if "\0" in text:
        row = text.count("\n", 0, text.index("\0")) + 1
        raise ManifestError(faults.source, [f"row {row}: a NUL byte; this is not a text file"])
    return text, notes


def _delimiter(text: str) -> str:
    header = next((line for line in io.StringIO(text) if line.strip()), "")
    return max(DELIMITERS, key=header.count)  # a tie, as in a file of one column, is a comma


def _split(text: str, delimiter: str, faults: Faults) -> tuple[list[str], list[int], list[list[str]]]:
    """The header, then for each row the line it starts on and its cells; rows of another length are faults."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    header: list[str] = []
    rows: list[int] = []
    cells: list[list[str]] = []
    line = 1
    try:
        for row in reader:
            start, line = line, reader.line_num + 1
            if not any(row):
                continue
            if not header:
                header = row
            elif len(row) < len(header) or any(row[len(header) :]):
                faults.add(f"{len(row)} cells, but the header has {len(header)}", start)
            else:
                rows.append(start)
                cells.append(row[: len(header)])
    except csv.Error as error:
        faults.add(f"not readable as CSV: {error}", line)
    return header, rows, cells


def _blank_to_null(texts: pa.Array) -> pa.Array:
    stripped = pc.utf8_trim_whitespace(texts)
    return pc.if_else(pc.equal(stripped, ""), pa.scalar(None, pa.string()), stripped)


def _read_parquet(path: Path, faults: Faults) -> Sheet:
    try:
        table = pq.ParquetFile(path).read()  # not read_table: it makes columns of folders named like plate=P1
        table.validate(full=True)
    except (pa.ArrowException, ValueError) as error:
        raise ManifestError(faults.source, [f"not a readable Parquet file: {error}"]) from error
    columns: dict[str, pa.Array] = {}
    for name, column in zip(table.column_names, table.columns, strict=True):
        if name in columns:
            faults.add(f"two columns are named '{name}'")
        if not name.startswith("__index_level_"):  # pandas writes its row labels so
            columns[name] = column.combine_chunks()
    return Sheet(columns, list(range(1, table.num_rows + 1)), faults)


def as_text(column: pa.Array) -> pa.Array:
    """The cells of any column as text, stripped, null where empty or not a number; raises ``ValueError``."""
    if pa.types.is_string(column.type):
        return _blank_to_null(column)
    if pa.types.is_duration(column.type):  # cast, it would be a number of some unit
        raise ValueError(f"its cells are {column.type}, not text or numbers")
    try:
        if pa.types.is_floating(column.type):
            column = pc.if_else(pc.is_nan(column), pa.scalar(None, column.type), column)
        return _blank_to_null(column.cast(pa.string()))
    except pa.ArrowException as error:
        raise ValueError(f"its cells are {column.type}, not text or numbers") from error


def as_typed(column: pa.Array) -> pa.Array:
    """A text column as whole numbers or numbers when every cell is one, and as it is otherwise.

    Codes such as ``007`` stay text.
    """
    if not pa.types.is_string(column.type) or column.null_count == len(column):
        return column
    encoded = column.dictionary_encode()
    if pc.any(pc.match_substring_regex(encoded.dictionary, r"^[+-]?0\d|^\+")).as_py():
        return column
    for kind in (pa.int64(), pa.float64()):
        try:
            return encoded.dictionary.cast(kind).take(encoded.indices)
        except pa.ArrowInvalid:
            continue
    return column
