"""The reader of Opera Phenix and Operetta measurements (Harmony, Columbus): ``Index.idx.xml`` or the files' names.

With an index, its entries say where each image stands; without one, the names do:
``r01c02f03p04-ch5sk6fk1fl1.tiff`` is row 1, column 2, field 3, plane 4, channel 5, time point 6.
"""

import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping
from pathlib import Path

from phenoembed.readers import cells
from phenoembed.readers.exports import Export, Record, assemble
from phenoembed.readers.options import Options
from phenoembed.readers.sheet import Faults
from phenoembed.readers.tree import Listing, Tree, folders_with
from phenoembed.readers.xml import attributes_of, local_name, seconds, xml_fault
from phenoembed.screen import Screen

INDEXES = ("Index.idx.xml", "Index.xml", "Index.ref.xml")
"""As Harmony and Columbus call it, the first one that is there."""
IMAGE_NAME = re.compile(
    r"r(?P<row>\d{2,3})c(?P<column>\d{2,3})f(?P<field>\d{2,4})p(?P<z>\d{2,4})-ch(?P<channel>\d{1,2})sk(?P<time>\d{1,6})"
    r"(?:fk\d+)?(?:fl\d+)?\.(?:tiff?|png|jpe?g)",
    re.IGNORECASE,
)
MEASUREMENT = re.compile(r"__\d{4}-\d{2}-\d{2}T.*-Measurement.*")
"""What Harmony adds to a plate's name in its folder's."""


def is_phenix(tree: Tree) -> bool:
    return bool(folders_with(tree, lambda name: name in INDEXES or IMAGE_NAME.fullmatch(name)))


def read_phenix(folder: Path, tree: Tree, options: Options) -> Screen:
    """Read every measurement at or below a folder as one screen. Raises ``ManifestError`` with all of their faults."""
    faults = Faults(str(folder))
    found = folders_with(tree, lambda name: name in INDEXES or IMAGE_NAME.fullmatch(name))
    exports = [_read_measurement(each, faults) for each in found]
    if not exports:
        faults.add(f"there is no {INDEXES[0]}, and no image named like r01c01f01p01-ch1sk1fk1fl1.tiff")
    return assemble(folder, "phenix", exports, options, faults)


def _read_measurement(listing: Listing, faults: Faults) -> Export:
    index = next((name for name in INDEXES if name in listing.files), None)
    files = [name for name in listing.files if name not in INDEXES]
    if index is None:
        named = [record for name in files if (record := _of_name(name)) is not None]
        return Export(listing.folder, _plate_of(listing.folder), None, named)
    plate, records, channels = _read_index(listing.folder / index, faults)
    listed = {record.file for record in records}
    strays = (_of_name(name, f"{index} does not list the file") for name in files if name not in listed)
    records += [stray for stray in strays if stray is not None]
    return Export(listing.folder, plate or _plate_of(listing.folder), None, records, channels)


def _plate_of(folder: Path) -> str:
    """Images lie in a folder of the plate's name, or in ``Images`` within it."""
    named = folder.parent if folder.name.casefold() == "images" else folder
    return MEASUREMENT.sub("", named.name) or "plate"


def _of_name(name: str, reason: str | None = None) -> Record | None:
    match = IMAGE_NAME.fullmatch(name)
    if match is None:
        return None
    row, column, field, z, channel, time = (int(match[each]) for each in match.re.groupindex)
    reasons = [reason] if reason else []
    well = cells.well_at(row, column, reasons)
    return Record(name, well, field, time, str(channel), z, reason=reasons[0] if reasons else None)


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
    return plate, records, channels


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
    named = IMAGE_NAME.fullmatch(url or "")
    return Record(
        file=url.replace("\\", "/") if url else None,
        well=cells.well_at(row, column, reasons),
        field=field,
        time_point=int(named["time"]) if named else time,  # names count from 1, entries from 0
        channel=None if channel is None else str(channel),
        z=z,
        seconds=seconds(said.get("AbsTime")),
        reason=reasons[0] if reasons else None,
    )
