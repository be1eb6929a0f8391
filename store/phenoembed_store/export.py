"""Tables out of the store: CSV, JSON and Parquet files."""

import sys
from pathlib import Path

import pyarrow as pa

from phenoembed_store.errors import StoreError


def write_table(table: pa.Table, out: Path | None, form: str) -> None:
    """Write a table as csv, json or parquet; as text on standard output where there is no file."""
    if form == "parquet":
        import pyarrow.parquet as pq

        pq.write_table(table, _named(out))
        return
    text = _csv(table) if form == "csv" else _json(table)
    if out is None:
        sys.stdout.write(text)
    else:
        out.write_text(text)


def _csv(table: pa.Table) -> str:
    """Lists, which CSV does not know, as JSON."""
    import csv
    import io
    import json

    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(table.column_names)
    for batch in table.to_batches():
        columns = [column.to_pylist() for column in batch.columns]
        for row in zip(*columns, strict=True):
            writer.writerow([json.dumps(value) if isinstance(value, list | dict) else value for value in row])
    return buffer.getvalue()


def _json(table: pa.Table) -> str:
    import json

    return json.dumps(table.to_pylist(), indent=2, ensure_ascii=False, default=str) + "\n"


def _named(out: Path | None) -> Path:
    if out is None:
        raise StoreError("Parquet is no text: name a file to write to")
    return out
