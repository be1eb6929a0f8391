"""The reader of Opera Phenix and Operetta measurements (Harmony): its index, or else the files' names.

With an index, its entries say where each image stands; without one, the names do:
``r01c02f03p04-ch5sk6fk1fl1.tiff``, or ``r01c02f03p04-ch05t06.tiff`` since Harmony 7, is row 1, column 2, field 3,
plane 4, channel 5, time point 6.

An export has images and ``Index.xml`` in one folder. An archive of Harmony 5.1 and later has ``images/r01c02/...``, a
folder a well, and the index above them or in ``index/``, under any name.
"""

import os
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from phenoembed.readers import cells
from phenoembed.readers.exports import Export, Record, assemble
from phenoembed.readers.options import Options
from phenoembed.readers.sheet import Faults
from phenoembed.readers.tree import Listing, Tree, left_out
from phenoembed.readers.xml import attributes_of, local_name, seconds, xml_fault
from phenoembed.screen import Screen

INDEXES = ("index.idx.xml", "index.xml", "index.ref.xml")
"""As Harmony calls it, in any case; the first one that is there."""
IMAGE_NAME = re.compile(
    r"r(?P<row>\d{2,3})c(?P<column>\d{2,3})f(?P<field>\d{2,4})p(?P<z>\d{2,4})-ch(?P<channel>\d{1,2})"
    r"(?:sk|t)(?P<time>\d{1,6})(?:[a-z]{1,2}\d+)*\.(?:tiff?|png|jpe?g)",
    re.IGNORECASE,
)
WELL_FOLDER = re.compile(r"r\d{2,3}c\d{2,3}", re.IGNORECASE)
MEASUREMENT = re.compile(r"__\d{4}-\d{2}-\d{2}T.*-Measurement.*")
"""What Harmony adds to a plate's name in its folder's."""


def is_phenix(tree: Tree) -> bool:
    return bool(_measurements(tree))


def read_phenix(folder: Path, tree: Tree, options: Options) -> Screen:
    """Read every measurement at or below a folder as one screen. Raises ``ManifestError`` with all of their faults."""
    faults = Faults(str(folder))
    measurements = _measurements(tree)
    exports = [_read_measurement(home, listings, faults) for home, listings in measurements.items()]
    listed = {os.path.basename(record.file or "") for export in exports for record in export.records}
    folders = {each.folder for listings in measurements.values() for each in listings}
    notes = left_out(tree, lambda each, name: each in folders and name not in listed)
    if not exports:
        faults.add("there is no Index.idx.xml, and no image named like r01c01f01p01-ch1sk1fk1fl1.tiff")
    return assemble(folder, "phenix", exports, options, faults, notes)


def _measurements(tree: Tree) -> dict[Path, list[Listing]]:
    """The folders of each measurement, by the folder that holds all of it."""
    found: dict[Path, list[Listing]] = {}
    for each in tree:
        home = _without_well(each.folder)
        found.setdefault(home.parent if home.name.casefold() in ("images", "index") else home, []).append(each)
    return {
        home: listings
        for home, listings in found.items()
        if any(_is_index(name) or IMAGE_NAME.fullmatch(name) for each in listings for name in each.files)
    }


def _without_well(folder: Path) -> Path:
    return folder.parent if WELL_FOLDER.fullmatch(folder.name) else folder


def _is_index(name: str) -> bool:
    return name.casefold() in INDEXES


def _read_measurement(home: Path, listings: Sequence[Listing], faults: Faults) -> Export:
    index = _index_of(listings)
    images = [each.folder for each in listings if any(map(IMAGE_NAME.fullmatch, each.files))]
    folder = Path(os.path.commonpath(images or [home if index is None else index.parent]))
    if any(each.folder == _without_well(folder) for each in listings):
        folder = _without_well(folder)
    below = [(os.path.relpath(each.folder, folder), each.files) for each in listings]
    there = [os.path.normpath(f"{place}/{name}") for place, names in below for name in names]
    if index is None:
        named = [record for file in sorted(there) if (record := _of_name(file)) is not None]
        return Export(folder, _plate_of(home), None, named)
    plate, records, channels = _read_index(index, faults)
    lies = {os.path.basename(file): file for file in there}
    records = [each._replace(file=lies.get(os.path.basename(each.file or ""), each.file)) for each in records]
    listed = {record.file for record in records}
    strays = (_of_name(file, f"{index.name} does not list the file") for file in sorted(there) if file not in listed)
    records += [stray for stray in strays if stray is not None]
    return Export(folder, plate or _plate_of(home), None, records, channels)


def _index_of(listings: Sequence[Listing]) -> Path | None:
    """The measurement's index: by its name, or, in an archive, whatever XML lies in ``index``."""
    named = {name.casefold(): each.folder / name for each in listings for name in each.files}
    archived = (
        each.folder / name
        for each in listings
        for name in each.files
        if each.folder.name.casefold() == "index" and name.casefold().endswith(".xml")
    )
    return next((named[name] for name in INDEXES if name in named), next(archived, None))


def _plate_of(home: Path) -> str:
    """A measurement lies in a folder of its plate's name, or in ``hs/<measurement>`` within that."""
    named = home.parents[1] if home.parent.name == "hs" else home
    return MEASUREMENT.sub("", named.name) or "plate"


def _of_name(file: str, reason: str | None = None) -> Record | None:
    match = IMAGE_NAME.fullmatch(os.path.basename(file))
    if match is None:
        return None
    row, column, field, z, channel, time = (int(match[each]) for each in match.re.groupindex)
    reasons = [reason] if reason else []
    well = cells.well_at(row, column, reasons)
    return Record(file, well, field, time, str(channel), z, reason=reasons[0] if reasons else None)


def _read_index(path: Path, faults: Faults) -> tuple[str | None, list[Record], dict[str, str]]:
    """The plate's name, a record an image, and the channels' names. XML that cannot be read is a fault."""
    plate: str | None = None
    records: list[Record] = []
    channels: dict[str, str] = {}
    with xml_fault(path, faults):
        for name, said, attributes in _elements(path):
            if name == "Plate" and plate is None:
                plate = said.get("Name") or said.get("PlateID")
            elif name == "Image" and ("URL" in said or "Row" in said):
                records.append(_record(said))
                channels |= (
                    {said["ChannelID"]: said["ChannelName"]} if {"ChannelID", "ChannelName"} <= set(said) else {}
                )
            elif name == "Entry" and "ChannelName" in said and "ChannelID" in attributes:  # Harmony 6 names them so
                channels[attributes["ChannelID"]] = said["ChannelName"]
    return plate, list(_with_time_points(records)), channels


def _with_time_points(records: Sequence[Record]) -> Iterator[Record]:
    """Time points as the files' names count them, from 1; entries may count from 0."""
    from_zero = any(record.time_point == 0 for record in records)
    for record in records:
        named = IMAGE_NAME.fullmatch(os.path.basename(record.file or ""))
        point = None if record.time_point is None else record.time_point + from_zero
        yield record._replace(time_point=int(named["time"]) if named else point)


def _elements(path: Path) -> Iterator[tuple[str, dict[str, str], Mapping[str, str]]]:
    """Each plate, image and map entry: name, the texts of its children, its attributes."""
    with path.open("rb") as file:
        for _, element in ET.iterparse(file):
            name = local_name(element.tag)
            if name in ("Plate", "Image", "Entry"):
                said = {local_name(child.tag): (child.text or "").strip() for child in element}
                yield name, {key: text for key, text in said.items() if text}, attributes_of(element)
                element.clear()


def _record(said: Mapping[str, str]) -> Record:
    reasons: list[str] = []
    names = ("Row", "Col", "FieldID", "PlaneID", "TimepointID", "ChannelID")
    row, column, field, z, time, channel = (cells.known_whole(said.get(name), name, reasons) for name in names)
    url = said.get("URL")
    if url is None:
        reasons.append("the entry names no file")
    if (state := said.get("State", "Ok")).casefold() != "ok":
        reasons.insert(0, f"the instrument reports: {state}")
    return Record(
        file=url.replace("\\", "/") if url else None,
        well=cells.well_at(row, column, reasons),
        field=field,
        time_point=time,
        channel=None if channel is None else str(channel),
        z=z,
        seconds=seconds(said.get("AbsTime")),
        reason=reasons[0] if reasons else None,
    )
