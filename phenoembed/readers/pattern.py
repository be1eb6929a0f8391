"""The reader of files by a pattern of the user's: ``--pattern`` with named groups, over paths below the folder.

``--pattern '(?P<plate>[^/]+)/(?P<well>[A-P]\\d\\d)_f(?P<field>\\d+)\\.tif'``. Groups have our columns'
names (``plate``, ``well`` or ``row`` and ``column``, ``field``, ``time_h`` or ``time_point``, ``channel``, ``z``,
``compound``, ``concentration_um``, ...); further groups are annotations. A plate that is in no group is the
file's folder. Time points count from 0 or 1, as their least says.
"""

import re
import warnings
from pathlib import Path, PurePosixPath

import pyarrow as pa

from phenoembed.readers import cells
from phenoembed.readers.manifest import screen_of_sheet
from phenoembed.readers.options import Options
from phenoembed.readers.sheet import Faults, Sheet
from phenoembed.readers.tree import Tree, left_out
from phenoembed.screen import Screen
from phenoembed_store.errors import ManifestError


def read_pattern(folder: Path, tree: Tree, options: Options) -> Screen:
    """Read the files whose paths match. Raises ``ManifestError`` with all of their faults."""
    faults = Faults(str(folder))
    pattern = _compiled(options.pattern, faults)
    files = [each.folder.relative_to(folder) / name for each in tree for name in each.files]
    matches = [match for file in sorted(files) if (match := pattern.fullmatch(file.as_posix()))]
    if not matches:
        example = f", e.g. {sorted(files)[0].as_posix()}" if files else ""
        faults.add(f"--pattern matches none of the {len(files):,} files{example}; it has to match the whole path")
    faults.raise_any()
    faults.files = [match.group() for match in matches]
    from_zero = "time_point" in pattern.groupindex and any(
        re.fullmatch("0+", each["time_point"] or "") for each in matches
    )
    rows = [_row(match, from_zero, options, faults) for match in matches]
    names = list(dict.fromkeys(name for row in rows for name in row))
    columns = {name: pa.array([row.get(name) for row in rows], pa.string()) for name in names}
    notes = left_out(tree, lambda each, name: not pattern.fullmatch((each.relative_to(folder) / name).as_posix()))
    sheet = Sheet(columns, list(range(1, len(rows) + 1)), faults, notes)
    return screen_of_sheet(folder, folder, "pattern", sheet, options)


def _compiled(pattern: str | None, faults: Faults) -> "re.Pattern[str]":
    try:
        with warnings.catch_warnings(action="ignore"):  # of what later Pythons may take "[[" or "--" for
            compiled = re.compile(pattern or "")
    except re.error as error:
        raise ManifestError(faults.source, [f"--pattern '{pattern}' is no regular expression: {error}"]) from error
    groups = set(compiled.groupindex)
    if not ("well" in groups or {"row", "column"} <= groups):
        raise ManifestError(
            faults.source,
            [f"--pattern '{pattern}' names no well: a group (?P<well>...), or (?P<row>...) and (?P<column>...)"],
        )
    return compiled


def _row(match: "re.Match[str]", from_zero: bool, options: Options, faults: Faults) -> dict[str, str | None]:
    path = match.group()
    said: dict[str, str | None] = {"path": path, "plate": PurePosixPath(path).parent.name or "plate", "field": "1"}
    said |= {name: text.strip() or None if text is not None else None for name, text in match.groupdict().items()}
    if "well" not in said:
        said["well"] = cells.well_of(said.pop("row") or "", said.pop("column") or "")
    point = said.pop("time_point", None)
    if "time_h" not in said and "time_h" not in options.mapping:
        said["time_h"] = _hours(point, from_zero, options, faults)
    return said


def _hours(point: str | None, from_zero: bool, options: Options, faults: Faults) -> str | None:
    """Hours of a time point; of the only one there is, where the pattern has none. ``--times`` counts from 1."""
    if options.dry_run and not options.times:
        return point or "0"
    number = int(point) + from_zero if point is not None and point.isdecimal() else 1
    if number in options.times and (point is not None or len(options.times) == 1):
        return f"{options.times[number]:.9g}"
    missing = (
        "no group says when the images were taken: a group (?P<time_h>...), or --times 48"
        if point is None
        else f"time point {point} has no hours; --times gives them"
    )
    if not any(missing == fault for _, fault in faults.found):
        faults.add(missing)
    return str(number)  # so that time points are not taken for one another, which would be faults too
