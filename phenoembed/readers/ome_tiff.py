"""The reader of OME-TIFF plates: the OME-XML says in which well each image was taken; a plane of a file is an image.

Files may hold one plane each or all of a plate, and name one another: tifffile finds the planes. A file whose OME-XML
has no plate does not say its well; its name may (``--pattern``).
"""

import xml.etree.ElementTree as ET
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import tifffile

from phenoembed.planes import page_name
from phenoembed.readers import cells
from phenoembed.readers.exports import Export, Record, assemble
from phenoembed.readers.options import Options
from phenoembed.readers.sheet import Faults
from phenoembed.readers.tree import Listing, Tree, folders_with
from phenoembed.readers.xml import attributes_of, local_name, seconds
from phenoembed.screen import Screen

ENDINGS = (".ome.tif", ".ome.tiff", ".ome.tf2", ".ome.tf8", ".ome.btf")
SECONDS = {"s": 1.0, "ms": 1e-3, "min": 60.0, "h": 3600.0, "d": 86400.0}


class Site(NamedTuple):
    """Where an image (a series of planes) was taken."""

    plate: str
    well: str | None
    field: int
    reasons: list[str]


def is_ome_tiff(tree: Tree) -> bool:
    return bool(folders_with(tree, _is_image))


def read_ome_tiff(folder: Path, tree: Tree, options: Options) -> Screen:
    """Read every OME-TIFF at or below a folder as one screen. Raises ``ManifestError`` with all of their faults."""
    faults = Faults(str(folder))
    exports = [export for each in folders_with(tree, _is_image) for export in _read_folder(each, faults)]
    if not exports:
        faults.add("there is no OME-TIFF file with a plate in it")
    return assemble(folder, "ome-tiff", exports, options, faults)


def _is_image(name: str) -> bool:
    return name.lower().endswith(ENDINGS)


def _read_folder(listing: Listing, faults: Faults) -> list[Export]:
    """The plates of a folder's files; files that others account for are not read again."""
    records: dict[str, list[Record]] = {}
    channels: dict[str, str] = {}
    told: set[str] = set()
    for name in listing.files:
        if name in told:
            continue
        told.add(name)
        try:
            for plate, record in _read_file(listing.folder, name, told, channels):
                records.setdefault(plate, []).append(record)
        except _NoPlateError as error:
            faults.add(f"{listing.folder / name}: {error}")
        except Exception as error:  # tifffile raises whatever a mangled file provokes
            reason = f"a damaged OME-TIFF file: {next(iter(str(error).splitlines()), type(error).__name__)}"
            records.setdefault(listing.folder.name or "plate", []).append(Record(name, reason=reason))
    return [Export(listing.folder, plate, None, found, channels) for plate, found in records.items()]


class _NoPlateError(Exception):
    """Of a file whose OME-XML does not say the well."""


def _read_file(folder: Path, name: str, told: set[str], channels: dict[str, str]) -> Iterator[tuple[str, Record]]:
    with tifffile.TiffFile(folder / name) as file:
        if not file.ome_metadata:
            raise ValueError("there is no OME-XML in it")
        root = ET.fromstring(file.ome_metadata)
        images = [element for element in root if local_name(element.tag) == "Image"]
        sites = dict(_sites(root))
        if not sites:
            raise _NoPlateError("its OME-XML has no plate, so the well is not known; name it with --pattern")
        if len(images) != len(file.series):
            raise ValueError(f"its OME-XML describes {len(images)} images, the file has {len(file.series)}")
        for image, series in zip(images, file.series, strict=True):
            site = sites.get(attributes_of(image).get("ID", ""))
            if site is not None:
                _name_channels(image, channels)
                yield from ((site.plate, record) for record in _planes(folder, image, series, site, told))


def _sites(root: ET.Element) -> Iterator[tuple[str, Site]]:
    """The place of each image that a well sample refers to."""
    for plate in (element for element in root if local_name(element.tag) == "Plate"):
        known = attributes_of(plate)
        for well in (element for element in plate if local_name(element.tag) == "Well"):
            said, reasons = attributes_of(well), list[str]()
            row, column = (cells.known_whole(said.get(each), each, reasons) for each in ("Row", "Column"))
            place = None if row is None or column is None else cells.well_at(row + 1, column + 1, reasons)
            samples = [element for element in well if local_name(element.tag) == "WellSample"]
            for number, sample in enumerate(samples, start=1):
                for reference in sample:
                    if local_name(reference.tag) == "ImageRef":
                        name = known.get("Name") or known.get("ID") or "plate"
                        yield attributes_of(reference).get("ID", ""), Site(name, place, number, reasons)


def _planes(folder: Path, image: ET.Element, series: Any, site: Site, told: set[str]) -> Iterator[Record]:
    axes, shape = series.get_axes(squeeze=False), series.get_shape(squeeze=False)
    leading = [(axis, n) for axis, n in zip(axes, shape, strict=True) if axis not in "YXS"]
    began, offsets = _times(image)
    reason = site.reasons[0] if site.reasons else None
    for index, page in zip(product(*(range(n) for _, n in leading)), series.pages, strict=True):
        at = {axis: place for (axis, _), place in zip(leading, index, strict=True)}
        file, why = None, reason
        if page is None:
            why = why or "the plane is in no file"
        else:
            path = Path(page.parent.filehandle.dirname) / page.parent.filename
            told.add(path.name)
            file = page_name(path.name, page.index) if len(page.parent.pages) > 1 else path.name
        point = at.get("T", 0)
        taken = None if began is None and point not in offsets else (began or 0.0) + offsets.get(point, 0.0)
        channel = str(at.get("C", 0) + 1)
        yield Record(file, site.well, site.field, point + 1, channel, at.get("Z", 0), taken, why)


def _times(image: ET.Element) -> tuple[float | None, dict[int, float]]:
    """When the image was taken (seconds of the Unix epoch), and the seconds after it of each time point."""
    began: float | None = None
    offsets: dict[int, float] = {}
    for element in image.iter():
        name, said = local_name(element.tag), attributes_of(element)
        if name == "AcquisitionDate":
            began = seconds(element.text)
        unit = SECONDS.get(said.get("DeltaTUnit", "s"))
        if name == "Plane" and unit and "DeltaT" in said and said.get("TheT", "").isdecimal():
            try:
                offset, point = float(said["DeltaT"]) * unit, int(said["TheT"])
            except ValueError:
                continue
            offsets[point] = min(offset, offsets.get(point, offset))
    return began, offsets


def _name_channels(image: ET.Element, channels: dict[str, str]) -> None:
    named = [attributes_of(element).get("Name") for element in image.iter() if local_name(element.tag) == "Channel"]
    channels |= {str(number): name for number, name in enumerate(named, start=1) if name}
