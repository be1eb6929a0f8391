"""Out of the store: tables as CSV, JSON and Parquet; embeddings also as AnnData and for TensorBoard's projector."""

import csv
import gzip
import io
import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import pyarrow as pa

from phenoembed_store.aggregate import Floats
from phenoembed_store.documents import plain
from phenoembed_store.errors import MissingExtra, StoreError
from phenoembed_store.remote import check_written_here
from phenoembed_store.whole import whole

FIELD_NAMES = {
    "screen": "Metadata_Screen",
    "plate": "Metadata_Plate",
    "well": "Metadata_Well",
    "field": "Metadata_Site",
    "time_h": "Metadata_Time",
    "channel": "Metadata_Channel",
    "z": "Metadata_Z",
    "replicate": "Metadata_Replicate",
    "compound": "Metadata_Compound",
    "concentration_um": "Metadata_Concentration",
    "role": "Metadata_Role",
    "path": "Metadata_Path",
}
"""How the field calls our columns, in CSV and AnnData; other metadata gets the prefix."""

FORMATS = ("parquet", "csv", "anndata", "projector")
_TABLES = {".csv": "csv", ".csv.gz": "csv", ".json": "json", ".parquet": "parquet"}
_TABLES |= {".arrow": "arrow", ".feather": "arrow"}
_SUFFIXES = {".parquet": "parquet", ".csv": "csv", ".csv.gz": "csv", ".h5ad": "anndata"}


BINARY = ("parquet", "arrow")
"""Forms of a table that are no text; ``arrow``: Arrow's file format, which Feather is too."""


def write_table(table: pa.Table, out: Path | None, form: str) -> None:
    """Write a query's result as csv, json, parquet or arrow; as text on standard output where there is no file."""
    write = _write_csv if form == "csv" else _write_json
    if out is None and form in BINARY:
        raise StoreError(f"{form.capitalize()} is no text: name a file to write to")
    if out is None:
        write(table, sys.stdout)
        return
    with _whole(out) as path:
        if form in BINARY:
            _write_binary(table, path, form)
            return
        with _open_text(path) as file:
            write(table, file)


def _write_binary(table: pa.Table, path: Path, form: str) -> None:
    if form == "parquet":
        import pyarrow.parquet as pq

        pq.write_table(table, path)
        return
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)


@contextmanager
def _whole(out: Path) -> Iterator[Path]:
    """A file to write beside ``out``, which takes its place at the end: until then, what is there stays.

    What is no file (a pipe, /dev/stdout) is written to as it is. Raises StoreError, naming ``out``, for a full disk
    and the like.
    """
    target = Path(os.path.realpath(out))  # of a link, what it points to
    special = target.exists() and not target.is_file()
    try:
        with nullcontext(target) if special else whole(target) as file:
            yield file
    except OSError as error:
        raise StoreError(f"'{out}' cannot be written ({error.strerror or error})") from error


def table_format(out: Path) -> str | None:
    """The form of a table that a file's name asks for, if its suffix is known. Raises StoreError for an address."""
    check_written_here(out)
    return next((form for suffix, form in _TABLES.items() if out.name.endswith(suffix)), None)


def format_of(out: Path) -> str:
    """The format that a file's name asks for; a name without a suffix is a folder for the projector."""
    check_written_here(out)
    for suffix, form in _SUFFIXES.items():
        if out.name.endswith(suffix):
            return form
    if not out.suffix:
        return "projector"
    raise StoreError(f"'{out.name}': write .parquet, .csv, .csv.gz, .h5ad, or name a folder for the projector's files")


def export_embeddings(rows: pa.Table, vectors: Floats, features: Sequence[str], out: Path) -> str:
    """Write images and their embeddings in the format that ``out`` asks for; its name. Values are kept to the bit.

    features: names of the embedding's numbers, for the formats that give each a column.
    """
    form = format_of(out)
    if form == "parquet":
        from phenoembed_store.groups import vectors_column

        write_table(rows.append_column("embedding", vectors_column(vectors)), out, form)
    elif form == "csv":
        named = _named(rows)
        for i, feature in enumerate(features):
            named = named.append_column(feature, pa.array(vectors[:, i]))
        write_table(named, out, form)
    elif form == "anndata":
        with _whole(out) as path:
            _write_anndata(_named(rows), vectors, features, path)
    else:
        _write_projector(rows, vectors, out)
    return form


def _named(rows: pa.Table) -> pa.Table:
    return rows.rename_columns([FIELD_NAMES.get(name, f"Metadata_{name}") for name in rows.column_names])


def _write_csv(table: pa.Table, file: TextIO) -> None:
    """Floats are written so that they read back the same; lists, which CSV does not know, as JSON."""
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(table.column_names)
    for batch in table.to_batches(max_chunksize=4096):
        writer.writerows(zip(*(_texts(column) for column in batch.columns), strict=True))


def _texts(column: pa.Array) -> list[Any]:
    if pa.types.is_float32(column.type):  # as Python floats they would be written with sixteen digits
        return [None if value is None else str(np.float32(value)) for value in column.to_pylist()]
    values = [plain(value) if isinstance(value, list | dict | bytes) else value for value in column.to_pylist()]
    return [json.dumps(value, default=str) if isinstance(value, list | dict) else value for value in values]


def _write_json(table: pa.Table, file: TextIO) -> None:
    json.dump(plain(table.to_pylist()), file, indent=2, ensure_ascii=False, default=str, allow_nan=False)
    file.write("\n")


def _write_anndata(rows: pa.Table, vectors: Floats, features: Sequence[str], out: Path) -> None:
    """Made in memory first: HDF5 crashes at the end of a process that could not write one of its files."""
    try:
        import anndata
        import h5py  # type: ignore[import-untyped]
        from anndata.io import write_elem
    except ImportError:
        raise MissingExtra("anndata", "anndata") from None
    import pandas as pd  # type: ignore[import-untyped]  # anndata brings it

    observed = rows.to_pandas()
    observed.index = pd.Index([str(i) for i in range(len(observed))])
    for name in observed.columns:
        if observed[name].isna().all():  # h5ad knows no column of nothing
            observed = observed.drop(columns=name)
    made = anndata.AnnData(X=vectors, obs=observed, var=pd.DataFrame(index=pd.Index(list(features))))
    made.strings_to_categoricals()
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        write_elem(file, "/", made)
        if "raw" in file:  # written as nothing, which older readers do not know
            del file["raw"]
    out.write_bytes(content.getbuffer())


def _write_projector(rows: pa.Table, vectors: Floats, folder: Path) -> None:
    """The two files that https://projector.tensorflow.org loads: vectors.tsv and metadata.tsv."""
    folder.mkdir(parents=True, exist_ok=True)
    with _whole(folder / "vectors.tsv") as numbers, _whole(folder / "metadata.tsv") as described:
        with numbers.open("w") as file:
            file.writelines("\t".join(map(str, vector)) + "\n" for vector in vectors)
        with described.open("w", newline="") as file:
            writer = csv.writer(file, delimiter="\t", lineterminator="\n")
            writer.writerow(rows.column_names)
            writer.writerows(list(row.values()) for row in rows.to_pylist())


def _open_text(path: Path) -> TextIO:
    if path.name.endswith(".gz"):
        return io.TextIOWrapper(gzip.open(path, "wb"), encoding="utf-8", newline="")
    return path.open("w", encoding="utf-8", newline="")
