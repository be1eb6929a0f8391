"""The files of a Yokogawa CV7000/CV8000 export, one folder a plate.

``MeasurementData.mlf`` has a record an image (``bts:Type="IMG"``) and a record an error of the instrument ("ERR", which
may lack the field, the plane and the channel). ``MeasurementDetail.mrf`` says when the measurement began, ``*.wpi``
which plate it was. Schema: http://www.yokogawa.co.jp/BTS/BTSSchema/1.0.
"""

import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping
from pathlib import Path

from phenoembed.readers import cells
from phenoembed.readers.exports import Export, Record
from phenoembed.readers.sheet import Faults
from phenoembed.readers.xml import attributes_of, local_name, seconds, xml_fault

DATA, DETAIL = "MeasurementData.mlf", "MeasurementDetail.mrf"
IMAGE_NAME = re.compile(
    r".*_(?P<well>[A-Z]{1,2}[0-9]{2})_T(?P<time>[0-9]{4,})F(?P<field>[0-9]{3,})L[0-9]{2,}A[0-9]{2,}"
    r"Z(?P<z>[0-9]{2,})C(?P<channel>[0-9]{2,})\.tiff?",
    re.IGNORECASE | re.DOTALL,
)
"""An image's file name, read from its end: the plate's name in front may itself hold what looks like a well."""


def read_export(folder: Path, faults: Faults) -> Export:
    """Read the records of one export. XML that cannot be read is a fault; a record that makes no sense has a reason."""
    detail = dict(_elements(folder / DETAIL))
    names = [
        *(
            attributes_of(element).get("Name")
            for path in sorted(folder.glob("*.wpi"))
            for _, element in _elements(path)
        ),
        attributes_of(detail.get("MeasurementSamplePlate")).get("Name"),
        attributes_of(detail.get("MeasurementDetail")).get("Title"),
        folder.name,
    ]
    plate = next((name.strip() for name in names if name and name.strip()), "plate")
    began = seconds(attributes_of(detail.get("MeasurementDetail")).get("BeginTime"))
    return Export(folder, plate, began, list(_records(folder / DATA, faults)))


def _records(path: Path, faults: Faults) -> Iterator[Record]:
    with xml_fault(path, faults), path.open("rb") as file:
        for _, element in ET.iterparse(file):
            if local_name(element.tag) == "MeasurementRecord":
                yield _record(attributes_of(element), " ".join((element.text or "").split()))
                element.clear()


def _record(attributes: Mapping[str, str], text: str) -> Record:
    kind = attributes.get("Type")
    reasons: list[str] = []
    numbers = {
        name: cells.known_whole(attributes.get(name), f"bts:{name}", reasons)
        for name in ("Row", "Column", "FieldIndex", "TimePoint", "ZIndex", "Ch")
    }
    row, column, field, time_point, z, channel = numbers.values()
    if not text:
        reasons.append("the record names no file")
    if kind != "IMG":
        reasons = [f"the instrument reports: {text or 'an error'}" if kind == "ERR" else f"a record of type {kind!r}"]
    return Record(
        file=text.replace("\\", "/") if kind == "IMG" and text else None,
        well=cells.well_at(row, column, reasons),
        field=field,
        time_point=time_point,
        channel=None if channel is None else str(channel),
        z=z,
        seconds=seconds(attributes.get("Time")),
        reason=reasons[0] if reasons else None,
    )


def stray_record(file: str) -> Record | None:
    """What the name of an image file says that no record lists; None for a name that is no image's."""
    match = IMAGE_NAME.fullmatch(file)
    if match is None:
        return None
    field, time_point, z, channel = (int(match[name]) for name in ("field", "time", "z", "channel"))
    well = match["well"].upper()
    return Record(file, well, field, time_point, str(channel), z, reason=f"{DATA} does not list the file")


def _elements(path: Path) -> list[tuple[str, ET.Element]]:
    """(name, element) of a small XML file beside the data; none if it is not there or cannot be read."""
    try:
        return [(local_name(element.tag), element) for element in ET.parse(path).iter()]
    except (OSError, ET.ParseError, LookupError, ValueError):
        return []
