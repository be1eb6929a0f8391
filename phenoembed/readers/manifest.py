"""The manifest reader: ``manifest.csv`` or ``manifest.parquet``, a row an image, paths relative to its folder."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from phenoembed.readers.columns import REQUIRED, name_columns
from phenoembed.readers.files import missing_files
from phenoembed.readers.options import Options
from phenoembed.readers.rows import check_consistency, only_channel, type_rows
from phenoembed.readers.sheet import Faults, as_typed, read_sheet
from phenoembed.screen import Screen, gather_stacks
from phenoembed_store.errors import ManifestError
from phenoembed_store.schema import SCREEN_SCHEMA

NAMES = ("manifest.csv", "manifest.parquet")


def find_manifest(folder: Path) -> Path | None:
    """The folder's manifest; a CSV file before a Parquet file."""
    return next((folder / name for name in NAMES if (folder / name).exists()), None)


def read_manifest(folder: Path, options: Options) -> Screen:
    """Read the folder's manifest. Raises ``ManifestError`` with all of its faults."""
    path = find_manifest(folder)
    if path is None:
        raise ManifestError(str(folder), [f"there is no {' or '.join(NAMES)}"])
    sheet = read_sheet(path)
    faults = sheet.faults
    chosen = name_columns(list(sheet.columns), options.mapping, faults, REQUIRED)
    if not sheet.rows:
        faults.add("there is no image: no row follows the column names")
    defaults = {"screen": folder.name or "screen", "channel": "1", "z": "0"}
    ours = {name: sheet.columns[theirs] for name, theirs in chosen.items() if name in SCREEN_SCHEMA.names}
    typed, bad = type_rows(ours, defaults, sheet.rows, faults)
    if len(typed) == len(SCREEN_SCHEMA):
        sound = pa.array(~bad)
        described = pa.table([typed[name].filter(sound) for name in SCREEN_SCHEMA.names], schema=SCREEN_SCHEMA)
        check_consistency(described, np.array(sheet.rows, np.int64)[~bad], faults)
    kept = only_channel(typed["channel"], options, faults)
    if options.check_files and "path" in typed:
        check_files(folder, typed["path"], kept, sheet.rows, faults)
    faults.raise_any()
    columns = typed | {name: as_typed(sheet.columns[theirs]) for name, theirs in chosen.items() if name not in typed}
    table = pa.table(columns).select(
        [*SCREEN_SCHEMA.names, *(name for name in columns if name not in SCREEN_SCHEMA.names)]
    )
    return Screen(gather_stacks(table.filter(pa.array(kept))), folder, str(path), "manifest", notes=sheet.notes)


def check_files(
    folder: Path, paths: pa.Array, kept: npt.NDArray[np.bool_], rows: Sequence[int], faults: Faults
) -> None:
    """A path of a kept row where there is no file is a fault."""
    places = np.flatnonzero(kept & np.asarray(paths.is_valid()))
    for place, reason in missing_files(folder, paths.take(pa.array(places)).to_pylist()).items():
        faults.add(reason, rows[int(places[place])])
