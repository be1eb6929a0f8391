"""The reader of ImageXpress (MetaXpress) plates: a folder with an ``.HTD`` file, or with files named as its are.

Where an image stands is in its file's name, ``<plate>_<well>[_s<site>][_w<wave>][<GUID>].tif``, and in the folders
``TimePoint_<n>`` and ``ZStep_<n>`` above it. The HTD file says which wells were to be imaged, and the waves' names.
Thumbnails (``_thumb``) are no images of the screen, nor are MetaXpress' own projections (in ``ZStep_0``, or above the
folders of planes) of planes that are there.
"""

import csv
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from phenoembed.readers.exports import Export, Record, assemble
from phenoembed.readers.options import Options
from phenoembed.readers.sheet import Faults
from phenoembed.readers.tree import Listing, Tree, folders_with, left_out
from phenoembed.screen import Screen
from phenoembed_store.plate_layout import row_name, well_name

GUID = r"[0-9A-F]{8}-[0-9A-F]{4}-[0-9A-F]{4}-[0-9A-F]{4}-[0-9A-F]{12}"
IMAGE_NAME = re.compile(
    rf"(?P<plate>.*?)_(?P<well>[A-Z]{{1,2}}\d{{2}})(?:_s(?P<site>\d{{1,4}}))?(?:_w(?P<wave>\d{{1,2}}?))?"
    rf"(?P<thumb>_thumb)?(?P<guid>{GUID}|_?\[{GUID}\])?\.tiff?",
    re.IGNORECASE | re.DOTALL,
)
STEP = re.compile(r"(TimePoint|ZStep)_(\d{1,6})", re.IGNORECASE)


def is_imagexpress(tree: Tree) -> bool:
    return bool(_plates(tree))


def read_imagexpress(folder: Path, tree: Tree, options: Options) -> Screen:
    """Read every plate at or below a folder as one screen. Raises ``ManifestError`` with all of their faults."""
    faults = Faults(str(folder))
    plates = _plates(tree)
    exports = [_read_plate(plate, listings, faults) for plate, listings in plates.items()]
    folders = {each.folder for listings in plates.values() for each in listings}
    notes = left_out(tree, lambda each, name: each in folders and not IMAGE_NAME.fullmatch(name))
    if not exports:
        faults.add("there is no .HTD file, and no image named like Plate_A01_s1_w1.tif")
    stems = [export.plate for export in exports]
    named = [
        export._replace(plate=f"{export.folder.name}_{export.plate}") if stems.count(export.plate) > 1 else export
        for export in exports
    ]
    return assemble(folder, "imagexpress", named, options, faults, notes)


def _plates(tree: Tree) -> dict[Path, list[Listing]]:
    """The folders of each plate: the plate's own, and those of its time points and planes."""
    found: dict[Path, list[Listing]] = {}
    for each in folders_with(tree, lambda name: _is_header(name) or IMAGE_NAME.fullmatch(name)):
        top = each.folder
        while STEP.fullmatch(top.name) and top != tree[0].folder:
            top = top.parent
        found.setdefault(top, []).append(each)
    said = {top: [name for each in listings for name in each.files] for top, listings in found.items()}
    return {
        top: found[top] for top, names in said.items() if any(_is_header(name) or _is_image(name) for name in names)
    }


def _is_header(name: str) -> bool:
    return name.upper().endswith(".HTD")


def _is_image(name: str) -> bool:
    match = IMAGE_NAME.fullmatch(name)
    return match is not None and any(match[part] for part in ("site", "wave", "guid"))


def _read_plate(plate: Path, listings: Sequence[Listing], faults: Faults) -> Export:
    headers = [each.folder / name for each in listings for name in each.files if _is_header(name)]
    planes: list[Record] = []
    alone: list[Record] = []
    for each in listings:
        steps = _steps(each.folder)
        for name in each.files:
            match = IMAGE_NAME.fullmatch(name)
            if match is not None and not match["thumb"]:
                file = (each.folder / name).relative_to(plate).as_posix()
                (planes if steps.get("zstep") else alone).append(_record(file, match, steps))
    stacks = {_stack(record) for record in planes}
    records = [record for record in alone if _stack(record) not in stacks] + planes
    settings = _read_header(headers[0], faults) if headers else {}
    there = {record.well for record in records}
    records += [
        Record(None, well, reason=f"{headers[0].name} selects the well, but there is no image of it")
        for well in _selected_wells(settings)
        if well not in there
    ]
    above = next(each.name for each in (plate, *plate.parents) if not STEP.fullmatch(each.name))
    return Export(plate, headers[0].stem if headers else above or "plate", None, records, _wave_names(settings))


def _record(file: str, match: "re.Match[str]", steps: Mapping[str, int]) -> Record:
    place = well_name(match["well"])
    return Record(
        file=file,
        well=place,
        field=int(match["site"] or 1),
        time_point=steps.get("timepoint", 1),
        channel=str(int(match["wave"] or 1)),
        z=steps.get("zstep", 1),
        reason=None if place else f"its name's well '{match['well']}' is none (rows A-AF, columns 1-48)",
    )


def _stack(record: Record) -> tuple[str | int | None, ...]:
    """What the planes of one stack have in common."""
    return record.well, record.field, record.time_point, record.channel


def _steps(folder: Path) -> dict[str, int]:
    """The time point and plane that a folder's name and those above it say."""
    steps: dict[str, int] = {}
    while match := STEP.fullmatch(folder.name):
        steps[match[1].lower()] = int(match[2])
        folder = folder.parent
    return steps


def _read_header(path: Path, faults: Faults) -> dict[str, list[str]]:
    """The lines of an HTD file: the values of each key."""
    try:
        text = path.read_bytes().decode("utf-8-sig", errors="replace")  # descriptions are in any encoding
    except OSError as error:
        faults.add(f"{path} cannot be read: {error.strerror}")
        return {}
    lines = [row for row in _split(text, path, faults) if row]
    if not lines or lines[0][0] != "HTSInfoFile":
        faults.add(f'{path} is no HTD file: its first line does not begin with "HTSInfoFile"')
    return {row[0]: row[1:] for row in lines}


def _split(text: str, path: Path, faults: Faults) -> list[list[str]]:
    try:
        return list(csv.reader(text.splitlines(), skipinitialspace=True))
    except csv.Error as error:
        faults.add(f"{path} cannot be read: {error}")
        return []


def _selected_wells(settings: Mapping[str, Sequence[str]]) -> list[str]:
    """The wells whose selection is TRUE, row by row."""
    wells = []
    for key, values in settings.items():
        match = re.fullmatch(r"WellsSelection([1-9]|[12]\d|3[0-2])", key)
        if match:
            selected = (column for column, cell in enumerate(values[:48], start=1) if cell.strip().upper() == "TRUE")
            wells += [f"{row_name(int(match[1]))}{column:02d}" for column in selected]
    return wells


def _wave_names(settings: Mapping[str, Sequence[str]]) -> dict[str, str]:
    waves = {key.removeprefix("WaveName"): values[0] for key, values in settings.items() if values and values[0]}
    return {wave: name for wave, name in waves.items() if wave.isdecimal()}
