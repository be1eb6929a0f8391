"""Layouts: what is in each well, for exports of instruments that do not know.

Columns ``well, compound, concentration_um``; ``plate`` where plates differ (without it every plate is laid out so);
optionally ``replicate``, ``role`` and ``time_h`` (hours after the compound, at the well's first time point). Further
columns are annotations of the well's images. Plate maps and picklists are read too (see ``platemaps``), and a table of
``Assay_Plate_Barcode`` and ``Plate_Map_Name``, which says which of the plate maps beside it (or in ``platemap/``) is
that of each plate.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from phenoembed.readers.columns import as_mapped, name_columns
from phenoembed.readers.platemaps import in_our_columns, is_picklist, read_picklist
from phenoembed.readers.rows import Bad, repeats, type_rows
from phenoembed.readers.sheet import Faults, Sheet, as_text, as_typed, read_sheet
from phenoembed.screen import row_ids
from phenoembed_store.errors import ManifestError
from phenoembed_store.schema import SCREEN_SCHEMA

NAME = "layout.csv"
NAMES = (NAME, "layout.tsv", "barcode_platemap.csv", "barcode_platemap.tsv")
MAP_FOLDERS, MAP_ENDINGS = ("", "platemap", "platemaps"), ("", ".csv", ".tsv", ".txt")
REQUIRED = ("well", "compound", "concentration_um")
COLUMNS = (*REQUIRED, "plate", "replicate", "role", "time_h")


class Layout(NamedTuple):
    """``table`` has the columns of the file, typed; ``places`` says in which of its rows a (plate, well) is.

    A layout for every plate has its wells under the plate ''.
    """

    path: Path
    table: pa.Table
    places: dict[tuple[str, str], int]
    notes: tuple[str, ...] = ()

    def place(self, plate: str, well: str) -> int | None:
        return self.places.get((plate, well), self.places.get(("", well)))

    @property
    def plates(self) -> list[str]:
        return sorted({plate for plate, _ in self.places})


def find_layout(folder: Path, root: Path) -> Path | None:
    """The layout nearest to an export: in its folder, or in one above it up to the root of the screen."""
    above = [folder, *folder.parents]
    within = above[: above.index(root) + 1] if root in above else [folder, root]
    return next((each / name for each in within for name in NAMES if (each / name).exists()), None)


def read_layout(path: Path, mapping: Mapping[str, str]) -> Layout:
    """Read a layout. Raises ``ManifestError`` with all of its faults."""
    sheet = read_sheet(path)
    maps = _plate_maps(sheet)
    return _read_one(path, sheet, mapping) if maps is None else _read_maps(path, maps, mapping)


def _read_one(path: Path, sheet: Sheet, mapping: Mapping[str, str]) -> Layout:
    picklist = is_picklist(sheet)
    sheet = read_picklist(sheet) if picklist else as_mapped(in_our_columns(sheet, mapping), mapping)
    if picklist:
        sheet.faults.raise_any()
    chosen = name_columns(list(sheet.columns), {} if picklist else mapping, sheet.faults, REQUIRED)
    for name in chosen:
        if name in SCREEN_SCHEMA.names and name not in COLUMNS:
            sheet.faults.add(f"column '{name}' is of an image, not of a well; a layout has {', '.join(COLUMNS)}")
    ours = {name: sheet.columns[theirs] for name, theirs in chosen.items() if name in COLUMNS}
    if not sheet.rows:
        sheet.faults.add("it has a header and no rows")
    typed, bad = type_rows(ours, {}, sheet.rows, sheet.faults)
    places = _places(typed, sheet.rows, bad, sheet.faults) if "well" in typed else {}
    sheet.faults.raise_any()
    annotations = {name: as_typed(sheet.columns[theirs]) for name, theirs in chosen.items() if name not in COLUMNS}
    return Layout(path, pa.table({**typed, **annotations}), places, sheet.notes)


def _plate_maps(sheet: Sheet) -> dict[str, str] | None:
    """Plate -> name of its plate map; None for a sheet that is no such table."""
    named = {name.casefold(): name for name in sheet.columns}
    if not {"assay_plate_barcode", "plate_map_name"} <= set(named):
        return None
    columns = (as_text(sheet.columns[named[name]]).to_pylist() for name in ("assay_plate_barcode", "plate_map_name"))
    return {plate: name for plate, name in zip(*columns, strict=True) if plate is not None and name is not None}


def _read_maps(path: Path, maps: Mapping[str, str], mapping: Mapping[str, str]) -> Layout:
    """One layout of all plates; a plate map that is not there leaves its plates without one."""
    layouts: dict[str, Layout] = {}
    faults, notes = Faults(str(path)), dict[str, None]()
    for name in dict.fromkeys(maps.values()):
        beside = [path.parent / folder / f"{name}{ending}" for folder in MAP_FOLDERS for ending in MAP_ENDINGS]
        found = next((each for each in beside if os.path.isfile(each)), None)
        if found is None:
            notes[f"{path.name}: there is no plate map '{name}' beside it"] = None
            continue
        try:
            layouts[name] = _read_one(found, read_sheet(found), mapping)
        except ManifestError as error:
            for fault in error.faults:
                faults.add(f"{found.name}: {fault}")
    faults.raise_any()
    if not layouts:
        raise ManifestError(
            str(path), [f"none of its plate maps is beside it: {', '.join(sorted(set(maps.values())))}"]
        )
    return _merged(path, layouts, maps, [*notes, *(note for each in layouts.values() for note in each.notes)])


def _merged(path: Path, layouts: Mapping[str, Layout], maps: Mapping[str, str], notes: Sequence[str]) -> Layout:
    offsets = dict(
        zip(layouts, np.cumsum([0, *(each.table.num_rows for each in layouts.values())]).tolist(), strict=False)
    )
    places = {
        (plate, well): place + offsets[name]
        for plate, name in maps.items()
        if name in layouts
        for (_, well), place in layouts[name].places.items()
    }
    try:
        table = pa.concat_tables([each.table for each in layouts.values()], promote_options="permissive")
    except pa.ArrowException as error:
        raise ManifestError(str(path), [f"its plate maps have columns of two kinds: {error}"]) from error
    return Layout(path, table, places, tuple(dict.fromkeys(notes)))


def _places(typed: Mapping[str, pa.Array], rows: Sequence[int], bad: Bad, faults: Faults) -> dict[tuple[str, str], int]:
    plates = typed["plate"] if "plate" in typed else pa.repeat("", len(rows))
    for i, first in repeats(row_ids([plates, typed["well"]])):
        if not bad[i] and not bad[first]:
            where = f" of plate '{plates[i]}'" if "plate" in typed else ""
            faults.add(f"well {typed['well'][i]}{where} is in row {rows[first]} too", rows[i])
    keys = zip(plates.to_pylist(), typed["well"].to_pylist(), strict=True)
    return {key: place for place, key in enumerate(keys)}


def join_layouts(
    layouts: Sequence[Layout | None],
    plates: Sequence[str],
    wells: Sequence[str | None],
    needed: Sequence[bool],
    faults: Faults,
) -> pa.Table:
    """What the layouts say of each image, a row an image; nulls where they say nothing.

    ``layouts``, ``plates`` and ``wells`` are of the images. An image that ``needed`` marks and whose well is not laid
    out is a fault, told once a well, or once a plate when the layout has nothing of the plate.
    """
    unique = list({id(each): each for each in layouts if each is not None}.values())
    offsets = dict(
        zip(map(id, unique), np.cumsum([0, *(each.table.num_rows for each in unique)]).tolist(), strict=False)
    )
    taken: list[int | None] = []
    told: set[str] = set()
    for layout, plate, well, need in zip(layouts, plates, wells, needed, strict=True):
        place = layout.place(plate, well) if layout is not None and well is not None else None
        taken.append(None if place is None or layout is None else place + offsets[id(layout)])
        if place is None and layout is not None and need:
            fault = _not_laid_out(layout, plate, str(well))
            if fault not in told:
                faults.add(fault)
            told.add(fault)
    if not unique:
        return pa.table({"compound": pa.nulls(len(wells), pa.string())})
    try:
        together = pa.concat_tables([each.table for each in unique], promote_options="permissive")
    except pa.ArrowException as error:
        raise ManifestError(", ".join(str(each.path) for each in unique), [f"columns of two kinds: {error}"]) from error
    return together.take(pa.array(taken, pa.int64()))


def _not_laid_out(layout: Layout, plate: str, well: str) -> str:
    if plate in layout.plates or "" in layout.plates:
        return f"{layout.path}: well {well} of plate '{plate}' has images but no row (role 'empty': without cells)"
    return f"{layout.path}: plate '{plate}' has images but no row; the layout has {', '.join(map(repr, layout.plates))}"
