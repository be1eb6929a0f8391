"""The reader of OME-Zarr plates (the HCS layout of OME-NGFF 0.4 and 0.5): a plane of an array is an image.

Of each field's image the array of full resolution is taken; plates, wells and axes are what the groups' attributes say.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

from phenoembed.planes import array_shape_of, index_name
from phenoembed.readers import cells
from phenoembed.readers.exports import Export, Record, assemble
from phenoembed.readers.options import Options
from phenoembed.readers.sheet import Faults
from phenoembed.readers.tree import ZARR_MARKS, Tree, folders_with
from phenoembed.screen import Screen
from phenoembed_store.errors import ImageError, MissingExtra

SECONDS = {"second": 1.0, "minute": 60.0, "hour": 3600.0, "day": 86400.0, "millisecond": 1e-3}
LONGEST = 1e12  # seconds between two time points; a scale that says more is mangled


def is_ome_zarr(tree: Tree) -> bool:
    return bool(folders_with(tree, ZARR_MARKS.__contains__))


def read_ome_zarr(folder: Path, tree: Tree, options: Options) -> Screen:
    """Read every plate at or below a folder as one screen. Raises ``ManifestError`` with all of their faults."""
    faults = Faults(str(folder))
    found = folders_with(tree, ZARR_MARKS.__contains__)
    notes: list[str] = []
    exports = [_read_plate(each.folder, faults, notes) for each in found]
    if not found:
        faults.add("there is no Zarr group")
    return assemble(folder, "ome-zarr", exports, replace(options, check_files=False), faults, notes)


def _read_plate(plate: Path, faults: Faults, notes: list[str]) -> Export:
    told = len(faults.found)
    said = _attributes(plate, faults)
    name, records, channels = plate.name.removesuffix(".zarr").removesuffix(".ome"), list[Record](), dict[str, str]()
    try:
        described = said["plate"]
        name = described.get("name") or name
        if len(acquisitions := described.get("acquisitions", [])) > 1:
            notes.append(f"plate '{name}' has {len(acquisitions)} acquisitions, taken as fields of one time point")
        for well in described["wells"]:
            records += _read_well(plate, described, well, channels, faults)
    except (KeyError, TypeError, AttributeError, ValueError, IndexError) as error:
        if len(faults.found) == told:
            faults.add(f"{plate} is no OME-Zarr plate: its attributes lack or mangle {_key(error)}")
    return Export(plate, str(name), 0.0, records, channels)


def _read_well(
    plate: Path, described: Mapping[str, Any], well: Mapping[str, Any], channels: dict[str, str], faults: Faults
) -> list[Record]:
    path = str(well["path"])
    row, _, column = path.partition("/")
    place = cells.well(f"{row}{column}")
    images = _attributes(plate / path, faults).get("well", {}).get("images", [])
    if not images:
        return [Record(None, place, reason=f"the well's group {path} lists no image")]
    records = []
    for number, image in enumerate(images, start=1):
        digits = str(image["path"])
        field = int(digits) if digits.isdecimal() else number
        records += _read_image(plate, f"{path}/{digits}", place, field, channels, faults)
    return records


def _read_image(
    plate: Path, path: str, well: str, field: int, channels: dict[str, str], faults: Faults
) -> list[Record]:
    """A record for each plane of a field's array of full resolution."""
    said = _attributes(plate / path, faults)
    scales = said["multiscales"][0]
    array = f"{path}/{scales['datasets'][0]['path']}"
    axes = [str(axis["name"] if isinstance(axis, Mapping) else axis) for axis in scales["axes"]]
    try:
        shape = array_shape_of(plate / array)
    except ImageError as error:
        return [Record(array, well, field, reason=str(error))]
    if axes[-2:] != ["y", "x"] or len(axes) != len(shape) or not set(axes[:-2]) <= {"t", "c", "z"}:
        return [Record(array, well, field, reason=f"its axes {axes} do not fit an array of shape {shape}")]
    for number, channel in enumerate(said.get("omero", {}).get("channels", []), start=1):
        if channel.get("label"):
            channels[str(number)] = str(channel["label"])
    step = _seconds_a_step(scales, axes)
    records = []
    for index in product(*(range(n) for n in shape[:-2])):
        at = dict(zip(axes, index, strict=False))
        seconds = None if step is None else at.get("t", 0) * step
        name = index_name(array, index)
        records.append(Record(name, well, field, at.get("t", 0) + 1, str(at.get("c", 0) + 1), at.get("z", 0), seconds))
    return records


def _seconds_a_step(scales: Mapping[str, Any], axes: Sequence[str]) -> float | None:
    """Seconds between two time points, where the time axis has a unit and a scale."""
    if "t" not in axes or not isinstance(scales["axes"][axes.index("t")], Mapping):
        return None
    time = axes.index("t")
    unit = SECONDS.get(str(scales["axes"][time].get("unit")))
    said = (
        each.get("coordinateTransformations", []) for each in (scales["datasets"][0], scales)
    )  # one after the other
    steps = [float(each["scale"][time]) for transformations in said for each in transformations if "scale" in each]
    step = math.nan if unit is None or not steps else math.prod(steps) * unit
    return step if abs(step) < LONGEST else None


def _attributes(group: Path, faults: Faults) -> dict[str, Any]:
    """A group's OME attributes: 0.5 keeps them under ``ome``, 0.4 at the top."""
    try:
        import zarr
    except ImportError as error:
        raise MissingExtra("zarr", "zarr") from error
    try:
        said = dict(zarr.open_group(str(group), mode="r").attrs)
    except Exception as error:  # zarr raises whatever mangled metadata provokes
        faults.add(f"{group} is not a Zarr group that can be read: {next(iter(str(error).splitlines()), error)}")
        return {}
    inner = said.get("ome")
    return inner if isinstance(inner, dict) else said


def _key(error: Exception) -> str:
    return f"'{error.args[0]}'" if isinstance(error, KeyError) else f"what describes its wells ({error})"
