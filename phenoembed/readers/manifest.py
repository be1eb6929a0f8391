"""The manifest reader: ``manifest.csv`` or ``manifest.parquet``, a row an image, paths relative to its folder."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from phenoembed.readers.columns import REQUIRED, as_mapped, name_columns
from phenoembed.readers.files import missing_files
from phenoembed.readers.layout import find_layout, join_layouts, read_layout
from phenoembed.readers.options import Options
from phenoembed.readers.rows import TREATMENT, check_consistency, only_channel, type_rows
from phenoembed.readers.sheet import Faults, Sheet, as_typed, read_sheet
from phenoembed.readers.tree import Tree
from phenoembed.screen import Screen, gather_stacks
from phenoembed_store.errors import ManifestError
from phenoembed_store.schema import SCREEN_SCHEMA

NAMES = ("manifest.csv", "manifest.parquet")


def find_manifest(folder: Path) -> Path | None:
    """The folder's manifest; a CSV file before a Parquet file."""
    return next((folder / name for name in NAMES if (folder / name).exists()), None)


def is_manifest(tree: Tree) -> bool:
    return find_manifest(tree[0].folder) is not None


def read_manifest(folder: Path, _tree: Tree, options: Options) -> Screen:
    """Read the folder's manifest. Raises ``ManifestError`` with all of its faults."""
    path = find_manifest(folder)
    if path is None:
        raise ManifestError(str(folder), [f"there is no {' or '.join(NAMES)}"])
    return screen_of_sheet(folder, path, "manifest", read_sheet(path), options)


def screen_of_sheet(folder: Path, source: Path, reader: str, sheet: Sheet, options: Options) -> Screen:
    """The screen of a sheet with a row an image. Raises ``ManifestError`` with all of its faults.

    What a layout says of the wells (``--layout``, or one beside the images where the sheet has no compound) is joined.
    A dry run of files that nobody has laid out yet counts them.
    """
    sheet = as_mapped(sheet, options.mapping)
    faults = sheet.faults
    layout = options.layout or (None if _has_compound(sheet, options.mapping) else find_layout(folder, folder))
    bare = layout is None and options.dry_run and reader != "manifest" and not _has_compound(sheet, options.mapping)
    required = [name for name in REQUIRED if not (layout is not None or bare) or name not in TREATMENT]
    chosen = name_columns(list(sheet.columns), options.mapping, faults, required)
    if not sheet.rows:
        faults.add("there is no image: no row follows the column names")
    defaults = {"screen": folder.name or "screen", "channel": "1", "z": "0"}
    ours = {name: sheet.columns[theirs] for name, theirs in chosen.items() if name in SCREEN_SCHEMA.names}
    typed, bad = type_rows(ours, defaults, sheet.rows, faults)
    laid_out: dict[str, pa.Array] = {}
    notes = sheet.notes
    if layout is not None and {"plate", "well"} <= set(typed):
        laid_out, told = _lay_out(layout, typed, bad, options, faults)
        typed |= {name: column for name, column in laid_out.items() if name in SCREEN_SCHEMA.names}
        notes += told
    if bare:
        nothing = {"compound": "", "concentration_um": 0.0, "role": "empty"}
        typed |= {name: pa.repeat(pa.scalar(value), len(sheet.rows)) for name, value in nothing.items()}
        notes += ("no layout: what is in the wells is not known",)
    if len(typed) == len(SCREEN_SCHEMA):
        sound = pa.array(~bad)
        described = pa.table([typed[name].filter(sound) for name in SCREEN_SCHEMA.names], schema=SCREEN_SCHEMA)
        check_consistency(described, np.array(sheet.rows, np.int64)[~bad], faults)
    kept = only_channel(typed["channel"], options, faults)
    if options.check_files and "path" in typed:
        check_files(folder, typed["path"], kept, sheet.rows, faults)
    faults.raise_any()
    annotations = {name: as_typed(sheet.columns[theirs]) for name, theirs in chosen.items() if name not in typed}
    columns = typed | annotations | {name: column for name, column in laid_out.items() if name not in typed}
    table = pa.table(columns).select(
        [*SCREEN_SCHEMA.names, *(name for name in columns if name not in SCREEN_SCHEMA.names)]
    )
    return Screen(gather_stacks(table.filter(pa.array(kept))), folder, str(source), reader, notes=notes)


def _has_compound(sheet: Sheet, mapping: Mapping[str, str]) -> bool:
    return "compound" in mapping or any(
        name.casefold().removeprefix("metadata_") == "compound" for name in sheet.columns
    )


def _lay_out(
    path: Path, typed: Mapping[str, pa.Array], bad: npt.NDArray[np.bool_], options: Options, faults: Faults
) -> tuple[dict[str, pa.Array], tuple[str, ...]]:
    """What the layout says of each row, and its notes; its faults are those of the sheet."""
    try:
        layout = read_layout(path, options.mapping)
    except ManifestError as error:
        for fault in error.faults:
            faults.add(f"{path}: {fault}")
        return {}, ()
    plates, wells = (["" if each is None else each for each in typed[name].to_pylist()] for name in ("plate", "well"))
    said = join_layouts([layout] * len(plates), plates, wells, (~bad).tolist(), faults)
    return {
        name: said.column(name).combine_chunks()
        for name in said.column_names
        if name not in typed or name in (*TREATMENT, "replicate")
    }, layout.notes


def check_files(
    folder: Path, paths: pa.Array, kept: npt.NDArray[np.bool_], rows: Sequence[int], faults: Faults
) -> None:
    """A path of a kept row where there is no file is a fault."""
    places = np.flatnonzero(kept & np.asarray(paths.is_valid()))
    for place, reason in missing_files(folder, paths.take(pa.array(places)).to_pylist()).items():
        faults.add(reason, rows[int(places[place])])
