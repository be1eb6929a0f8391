"""From the records of instruments' exports to a screen: what every instrument's reader shares.

A reader turns its files into an ``Export`` a plate's measurement, of ``Record``s. Here each record gets its hours, and
what a layout says is in its well (see ``layout``).

``time_h``: ``times`` gives the hours after the compound of each time point (``--times 24,72``). Without it, it is the
time that passed between the beginning of the plate's measurement and the first image of the time point, plus the
layout's ``time_h`` if it has that column; to the hour, where time points are an hour or more apart, else to the minute,
or to the second. All wells of a time point share it. An index is never taken for hours.

Nothing is left out in silence: errors of the instrument, records whose file is missing, second images of one key, and
image files without a record are the screen's ``rejected``.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from phenoembed.readers.files import missing_files
from phenoembed.readers.layout import NAME, Layout, find_layout, join_layouts, read_layout
from phenoembed.readers.options import Options
from phenoembed.readers.rows import only_channel
from phenoembed.readers.sheet import Faults
from phenoembed.screen import SCREEN_REJECTED_SCHEMA, Screen, gather_stacks
from phenoembed_store.errors import ManifestError, one_line
from phenoembed_store.schema import SCREEN_SCHEMA

ROUNDING_H = (1.0, 1 / 60, 1 / 3600)


class Record(NamedTuple):
    """One record, or one file without a record: what is known of it, and why it cannot be used (None: it can)."""

    file: str | None  # relative to the export's folder; may name a plane of a file (see ``phenoembed.planes``)
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
    channels: Mapping[str, str] = {}  # names of the channels, where the instrument gives them


class Row(NamedTuple):
    """An image of the screen: its record, where its file is, and of which export it is."""

    export: int
    plate: str
    path: str | None  # relative to the screen's folder
    time_h: float | None
    record: Record
    reason: str | None


def assemble(
    folder: Path, reader: str, exports: Sequence[Export], options: Options, faults: Faults, notes: Sequence[str] = ()
) -> Screen:
    """The exports of a folder as one screen. Raises ``ManifestError`` with all of their faults."""
    hours = _hours(exports, options.times, faults)
    told = list(notes)
    rows = _reject_repeats(_rows(folder, exports, hours, options.check_files), exports, faults, told)
    layouts = _layouts(folder, exports, options, faults)
    said = join_layouts(
        [layouts[row.export] for row in rows],
        [row.plate for row in rows],
        [row.record.well for row in rows],
        [row.reason is None for row in rows],
        faults,
    )
    if "time_h" in said.column_names and options.times:
        faults.add("the layout has a column 'time_h'; leave out --times, or the column")
    if all(row.reason for row in rows) and not faults.found:
        faults.add("there is no image: no record can be used")
    images, rejected = _of_channel(_table(folder.name or "screen", rows, said), options, faults)
    faults.raise_any()
    told += _notes(exports, hours, layouts, options)
    return Screen(gather_stacks(images), folder, str(folder), reader, rejected, tuple(told))


def _of_channel(table: pa.Table, options: Options, faults: Faults) -> tuple[pa.Table, pa.Table]:
    """The images of the channel, and what is rejected of it; a record that does not tell its channel may be of any."""
    usable = pc.is_null(table.column("reason"))
    images = table.filter(usable).drop_columns(["reason"])
    rejected = table.filter(pc.invert(usable)).select(SCREEN_REJECTED_SCHEMA.names)
    if options.channel is not None:
        rejected = rejected.filter(pc.equal(rejected.column("channel"), options.channel).fill_null(True))
    kept = only_channel(images.column("channel").combine_chunks(), options, faults)
    return images.filter(pa.array(kept)), rejected


def _rows(root: Path, exports: Sequence[Export], hours: Sequence[Mapping[int, float]], check_files: bool) -> list[Row]:
    rows: list[Row] = []
    for number, (export, of_point) in enumerate(zip(exports, hours, strict=True)):
        records = export.records
        named = [place for place, record in enumerate(records) if record.file is not None]
        files = [str(records[place].file) for place in named]
        missing = missing_files(export.folder, files) if check_files else {}
        gone = {named[place]: reason for place, reason in missing.items()}
        folder = export.folder.relative_to(root).as_posix()
        for place, record in enumerate(records):
            path = record.file if folder == "." or record.file is None else f"{folder}/{record.file}"
            time_h = None if record.time_point is None else of_point.get(record.time_point)
            rows.append(Row(number, export.plate, path, time_h, record, record.reason or gone.get(place)))
    return rows


def _reject_repeats(rows: Sequence[Row], exports: Sequence[Export], faults: Faults, notes: list[str]) -> list[Row]:
    """A second file for one image is rejected; a record that is there twice is dropped, and noted.

    Two exports of one plate at one time are a fault: which is the plate cannot be told.
    """
    first: dict[tuple[object, ...], Row] = {}
    kept: list[Row] = []
    clashes: dict[tuple[int, int], Row] = {}
    for row in rows:
        record = row.record
        key = (row.plate, record.well, record.field, row.time_h, record.channel, record.z)
        other = first.setdefault(key, row) if row.reason is None else row
        if other is not row and other.export != row.export:
            clashes.setdefault((other.export, row.export), row)
        elif other is not row and other.path != row.path:
            kept.append(row._replace(reason=f"the same image as '{other.record.file}'"))
        elif other is row:
            kept.append(row)
    for (a, b), row in clashes.items():
        pair = f"'{exports[a].folder}' and '{exports[b].folder}'"
        faults.add(f"{pair} are both plate '{row.plate}' at {row.time_h} h; give the plates names of their own")
    if not clashes and len(kept) < len(rows):
        notes.append(f"records listed twice, each read once: {len(rows) - len(kept)}")
    return kept


def _hours(exports: Sequence[Export], times: Mapping[int, float], faults: Faults) -> list[dict[int, float]]:
    """``time_h`` of each time point of each export; see the module's description."""
    points = sorted({r.time_point for export in exports for r in export.records if r.time_point is not None})
    if times:
        known = ", ".join(map(str, sorted(times)))
        first = f" and counts from 1; here the first is {points[0]}" if points and points[0] > 1 else ""
        for point in points:
            if point not in times:
                faults.add(f"time point {point} has no hours; --times has those of {known}{first}")
        if len(set(times.values())) < len(times):
            faults.add(f"--times gives two time points the same hours: {', '.join(f'{h:g}' for h in times.values())}")
        return [dict(times)] * len(exports)
    starts = [_starts(export, faults) for export in exports]
    origins: dict[str, float] = {}
    for export, of_point in zip(exports, starts, strict=True):
        began = export.began if export.began is not None else min(of_point.values(), default=0.0)
        origins[export.plate] = min(origins.get(export.plate, began), began)
    elapsed = [
        {point: (start - origins[export.plate]) / 3600 for point, start in of_point.items()}
        for export, of_point in zip(exports, starts, strict=True)
    ]
    step = _rounding(elapsed)
    return [{point: round(round(hour / step) * step, 6) + 0.0 for point, hour in each.items()} for each in elapsed]


def _starts(export: Export, faults: Faults) -> dict[int, float]:
    """When the first image of each time point was taken, in seconds of the Unix epoch."""
    starts: dict[int, float] = {}
    points = {record.time_point for record in export.records if record.time_point is not None}
    for record in export.records:
        if record.time_point is not None and record.seconds is not None:
            starts[record.time_point] = min(starts.get(record.time_point, record.seconds), record.seconds)
    for point in sorted(points - set(starts)):
        if len(points) > 1:
            faults.add(f"{export.folder}: time point {point} has no time stamp; give its hours with --times")
        starts[point] = export.began or 0.0
    return starts


def _rounding(elapsed: Sequence[Mapping[int, float]]) -> float:
    """Hours to which times are rounded so that no two time points of an export become one."""
    gaps = [late - early for hours in elapsed for early, late in pairwise(sorted(hours.values()))]
    return next((step for step in ROUNDING_H if min(gaps, default=1.0) >= step), ROUNDING_H[-1])


def _layouts(root: Path, exports: Sequence[Export], options: Options, faults: Faults) -> list[Layout | None]:
    """The layout of each export; a missing one is a fault, except in a dry run."""
    read: dict[Path, Layout | None] = {}
    found = [options.layout or find_layout(export.folder, root) for export in exports]
    for path in {path: None for path in found if path is not None}:
        try:
            read[path] = read_layout(path, options.mapping)
        except ManifestError as error:
            read[path] = None
            for fault in error.faults:
                faults.add(f"{path}: {fault}")
    bare = [export.plate for export, path in zip(exports, found, strict=True) if path is None]
    if bare and not options.dry_run:
        columns = "plate, well, compound, concentration_um"
        faults.add(f"no layout for {_listed(bare)}: --layout FILE, or write {root / NAME} with the columns {columns}")
    return [None if path is None else read[path] for path in found]


def _table(screen: str, rows: Sequence[Row], said: pa.Table) -> pa.Table:
    """The columns of ``SCREEN_SCHEMA``, the layout's annotations, and ``reason`` (null: the image can be used)."""
    known: dict[str, Sequence[object]] = {
        "path": [row.path for row in rows],
        "screen": [screen] * len(rows),
        "plate": [row.plate for row in rows],
        "well": [row.record.well for row in rows],
        "field": [row.record.field for row in rows],
        "time_h": [row.time_h for row in rows],
        "channel": [row.record.channel for row in rows],
        "z": [row.record.z for row in rows],
        "replicate": [row.plate for row in rows],
        "compound": [None if row.reason else "" for row in rows],
        "concentration_um": [None if row.reason else 0.0 for row in rows],
        "role": [None if row.reason else "empty" for row in rows],
    }
    table = pa.table({field.name: pa.array(known[field.name], field.type) for field in SCREEN_SCHEMA})
    for name in ("compound", "concentration_um", "role", "replicate"):
        if name in said.column_names:
            filled = pc.coalesce(said.column(name), table.column(name))
            table = table.set_column(table.column_names.index(name), SCREEN_SCHEMA.field(name), filled)
    if "time_h" in said.column_names:
        later = pc.add(table.column("time_h"), said.column("time_h").fill_null(0.0))
        table = table.set_column(table.column_names.index("time_h"), SCREEN_SCHEMA.field("time_h"), later)
    for name in said.column_names:
        if name not in SCREEN_SCHEMA.names:
            table = table.append_column(name, said.column(name))
    reasons = [one_line(row.reason) if row.reason else None for row in rows]
    return table.append_column("reason", pa.array(reasons, pa.string()))


def _notes(
    exports: Sequence[Export], hours: Sequence[Mapping[int, float]], layouts: Sequence[Layout | None], options: Options
) -> list[str]:
    notes = [note for layout in {id(each): each for each in layouts if each}.values() for note in layout.notes]
    notes += [
        f"plate '{plate}' is in {count} exports, taken as its time points"
        for plate, count in Counter(export.plate for export in exports).items()
        if count > 1
    ]
    channels = {name: said for export in exports for name, said in export.channels.items()}
    if channels:
        notes.append(f"channels: {', '.join(f'{number} is {name}' for number, name in sorted(channels.items()))}")
    if any(layout is None for layout in layouts):
        notes.append(f"no {NAME}: what is in the wells is not known")
    points = {record.time_point for export in exports for record in export.records}
    if unused := [f"{hour:g}" for point, hour in options.times.items() if point not in points]:
        notes.append(f"--times: there is no time point for {', '.join(unused)} h")
    if not options.times and any(record.seconds is not None for export in exports for record in export.records):
        listed = ", ".join(f"{hour:g}" for hour in sorted({hour for each in hours for hour in each.values()}))
        notes.append(f"time_h is from the time stamps ({listed}); --times gives the hours after the compound")
    elif not options.times:
        notes.append("time_h is 0: nothing says when the images were taken; --times gives the hours after the compound")
    return notes


def _listed(plates: Sequence[str]) -> str:
    shown = ", ".join(f"plate '{plate}'" for plate in plates[:3])
    return shown + (f" and {len(plates) - 3} more" if len(plates) > 3 else "")
