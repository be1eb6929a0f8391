"""The files of a Yokogawa CV7000/CV8000 export, one folder a plate.

``MeasurementData.mlf`` has a record an image (``bts:Type="IMG"``) and a record an error of the instrument ("ERR", which
may lack the field, the plane and the channel). ``MeasurementDetail.mrf`` says when the measurement began, ``*.wpi``
which plate it was. Schema: http://www.yokogawa.co.jp/BTS/BTSSchema/1.0.
"""

import os
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from phenoembed.readers import cells
from phenoembed.readers.sheet import Faults

DATA, DETAIL = "MeasurementData.mlf", "MeasurementDetail.mrf"
IMAGE_NAME = re.compile(
    r".*_(?P<well>[A-Z]{1,2}[0-9]{2})_T(?P<time>[0-9]{4,})F(?P<field>[0-9]{3,})L[0-9]{2,}A[0-9]{2,}"
    r"Z(?P<z>[0-9]{2,})C(?P<channel>[0-9]{2,})\.tiff?",
    re.IGNORECASE | re.DOTALL,
)
"""An image's file name, read from its end: the plate's name in front may itself hold what looks like a well."""


class Record(NamedTuple):
    """One record, or one file without a record: what is known of it, and why it cannot be used (None: it can)."""

    file: str | None
    well: str | None = None
    field: int | None = None
    time_point: int | None = None
    channel: str | None = None
    z: int | None = None
    seconds: float | None = None  # when it was taken, of the Unix epoch
    reason: str | None = None


class Export(NamedTuple):
    """One plate's measurement."""

    folder: Path
    plate: str
    began: float | None  # seconds of the Unix epoch
    records: list[Record]


def find_exports(folder: Path) -> list[Path]:
    """The folders at or below ``folder`` that hold ``MeasurementData.mlf``, in order; linked folders too, each once."""
    found: list[Path] = []
    been: set[str] = set()
    for top, folders, files in os.walk(folder, followlinks=True):
        folders[:] = [] if os.path.realpath(top) in been else sorted(folders)
        if os.path.realpath(top) not in been and DATA in files:
            found.append(Path(top))
        been.add(os.path.realpath(top))
    return found


def read_export(folder: Path, faults: Faults) -> Export:
    """Read the records of one export. XML that cannot be read is a fault; a record that makes no sense has a reason."""
    detail = dict(_elements(folder / DETAIL))
    names = [
        *(_attributes(element).get("Name") for path in sorted(folder.glob("*.wpi")) for _, element in _elements(path)),
        _attributes(detail.get("MeasurementSamplePlate")).get("Name"),
        _attributes(detail.get("MeasurementDetail")).get("Title"),
        folder.name,
    ]
    plate = next((name.strip() for name in names if name and name.strip()), "plate")
    began = _seconds(_attributes(detail.get("MeasurementDetail")).get("BeginTime"))
    return Export(folder, plate, began, list(_records(folder / DATA, faults)))


def _records(path: Path, faults: Faults) -> Iterator[Record]:
    try:
        with path.open("rb") as file:
            for _, element in ET.iterparse(file):
                if _local(element.tag) == "MeasurementRecord":
                    yield _record(_attributes(element), " ".join((element.text or "").split()))
                    element.clear()
    except ET.ParseError as error:
        faults.add(f"{path}: line {error.position[0]} is not readable as XML ({error}); was it copied whole?")
    except (OSError, LookupError, ValueError) as error:
        faults.add(f"{path} cannot be read: {error}")


def _record(attributes: Mapping[str, str], text: str) -> Record:
    kind = attributes.get("Type")
    reasons: list[str] = []
    numbers = {
        name: _whole(attributes.get(name), name, reasons)
        for name in ("Row", "Column", "FieldIndex", "TimePoint", "ZIndex", "Ch")
    }
    row, column, field, time_point, z, channel = numbers.values()
    if not text:
        reasons.append("the record names no file")
    if kind != "IMG":
        reasons = [f"the instrument reports: {text or 'an error'}" if kind == "ERR" else f"a record of type {kind!r}"]
    return Record(
        file=text.replace("\\", "/") if kind == "IMG" and text else None,
        well=_well(row, column, reasons),
        field=field,
        time_point=time_point,
        channel=None if channel is None else str(channel),
        z=z,
        seconds=_seconds(attributes.get("Time")),
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


def _whole(text: str | None, name: str, reasons: list[str]) -> int | None:
    try:
        return _cached_whole("" if text is None else text.strip(), f"bts:{name}")
    except ValueError as error:
        reasons.append(str(error) if text else f"the record has no bts:{name}")
        return None


_cached_whole = lru_cache(maxsize=4096)(cells.whole)


def _well(row: int | None, column: int | None, reasons: list[str]) -> str | None:
    if row is None or column is None:
        return None
    if not (1 <= row <= 32 and 1 <= column <= 48):
        reasons.append(f"bts:Row {row}, bts:Column {column} is no well (rows 1-32, columns 1-48)")
        return None
    return f"{'A' if row > 26 else ''}{chr(ord('A') + (row - 1) % 26)}{column:02d}"


def _seconds(text: str | None) -> float | None:
    """A time stamp in seconds of the Unix epoch; one without a zone is taken as UTC, as all of its export's are."""
    try:
        stamp = datetime.fromisoformat((text or "").strip())
        return (stamp if stamp.tzinfo else stamp.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None


def _elements(path: Path) -> list[tuple[str, ET.Element]]:
    """(name, element) of a small XML file beside the data; none if it is not there or cannot be read."""
    try:
        return [(_local(element.tag), element) for element in ET.parse(path).iter()]
    except (OSError, ET.ParseError, LookupError, ValueError):
        return []


def _attributes(element: ET.Element | None) -> dict[str, str]:
    return {} if element is None else {_local(name): text for name, text in element.items()}


@lru_cache(maxsize=256)  # a few names, a million times
def _local(name: str) -> str:
    return name.rpartition("}")[2]
