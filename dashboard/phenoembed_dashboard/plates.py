"""A plate as a table of wells: one value a well, of any column, or how far a well lies from the controls."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from phenoembed_dashboard.catalogue import Catalogue, Rows
from phenoembed_dashboard.effect import distances, untreated
from phenoembed_dashboard.strips import dose_label
from phenoembed_store import Store
from phenoembed_store.plate_layout import FORMATS, EdgeEffect, edge_effect, row_name

Grid = tuple[list[str], list[int]]  # row letters and column numbers of a plate
DISTANCE = "distance to DMSO"
"""In the unit of effect.py: 1 is what untreated wells have among themselves."""
CALLED, P_RIGHT = "called:", "p_right:"  # followed by a probe's task
HIDDEN = frozenset(
    ("path", "content_hash", "file_bytes", "file_mtime_ns", "encoder", "screen", "plate", "well", "group_id", "z",
     "channel", "field", "configuration", "time_h", "replicate", "z_stack")
)  # fmt: skip
NAMES = {
    "compound": "compound",
    "concentration_um": "concentration (µM)",
    "role": "role",
    "moa": "mechanism",
    "intensity_mean": "mean intensity",
    "intensity_sd": "contrast (sd of intensity)",
}


Calls = Mapping[str, Mapping[str, tuple[str, float]]]
"""Of each probe's task, by group: what the group was called, and the probability of what it is."""


def calls(store: Store, catalogue: Catalogue) -> Calls:
    """What probes called the groups that they tested this encoder on, out of fold."""
    found: dict[str, dict[str, tuple[str, float]]] = {}
    for row in store.predictions().to_pylist():
        if (row["encoder"], row["features"]) == (catalogue.encoder, "encoder"):
            found.setdefault(row["task"], {})[row["group_id"]] = (row["predicted"], row["p_label"])
    return found


def value_columns(catalogue: Catalogue, calls: Calls) -> dict[str, str]:
    """What a plate can be coloured by: column and its name for people, the useful ones first."""
    first = [DISTANCE, "intensity_mean", "intensity_sd", "concentration_um", "compound", "moa", "role"]
    there = [name for name in catalogue.table.column_names if name not in HIDDEN and _says_something(catalogue, name)]
    order = [*(name for name in first if name == DISTANCE or name in there), *(n for n in there if n not in first)]
    asked = {task: NAMES.get(task, task) for task in calls}
    predicted = {f"{CALLED}{task}": f"{name}, as a probe called held-out groups" for task, name in asked.items()}
    probable = {f"{P_RIGHT}{task}": f"probability of the right {name}, held-out groups" for task, name in asked.items()}
    return {name: NAMES.get(name, name.replace("_", " ")) for name in order} | predicted | probable


def is_categorical(catalogue: Catalogue, column: str) -> bool:
    if column == DISTANCE or column.startswith(P_RIGHT):
        return False
    if column.startswith(CALLED):
        return True
    kind = catalogue.table.schema.field(column).type
    return not (pa.types.is_integer(kind) or pa.types.is_floating(kind))


def _says_something(catalogue: Catalogue, column: str) -> bool:
    return bool(catalogue.table.column(column).null_count < len(catalogue.table))


def _values(catalogue: Catalogue, rows: Rows, column: str, calls: Calls) -> Sequence[Any] | npt.NDArray[Any]:
    """Of each of these images its value."""
    if column == DISTANCE:
        return _distances(catalogue, rows)
    for prefix, part in ((CALLED, 0), (P_RIGHT, 1)):
        if column.startswith(prefix):
            known = calls.get(column.removeprefix(prefix), {})
            groups = catalogue.column("group_id")[rows]
            return [known[group][part] if group in known else None for group in groups]
    return catalogue.column(column)[rows]


def well_rows(
    catalogue: Catalogue, plate: str, time: float | None, column: str, calls: Calls | None = None
) -> list[dict[str, Any]]:
    """A row a well of the plate (at one time): its place, what is in it, and its value: the mean over its images, or
    the most frequent."""
    rows = plate_rows(catalogue, plate, time)
    values = _values(catalogue, rows, column, calls or {})
    categorical = is_categorical(catalogue, column)
    found: dict[str, dict[str, Any]] = {}
    collected: dict[str, list[Any]] = {}
    names = ("well", "compound", "concentration_um", "role", "moa")
    for record, value in zip(catalogue.records(rows, names), values, strict=True):
        well = record["well"]
        if well not in found:
            row, number = split_well(well)
            found[well] = {
                "well": well,
                "row": row,
                "column": number,
                "compound": record["compound"],
                "dose": "control" if record["role"] == "control" else dose_label(record["concentration_um"]),
                "moa": record.get("moa") or "",
                "role": record["role"],
            }
            collected[well] = []
        if value is not None and value == value:
            collected[well].append(value)
    for well, these in collected.items():
        found[well]["value"] = _one(these, categorical)
        found[well]["n_images"] = len(these)
    return [one for one in found.values() if one["value"] is not None]


def _one(values: Sequence[Any], categorical: bool) -> Any:
    if not values:
        return None
    return str(Counter(values).most_common(1)[0][0]) if categorical else float(np.mean(values))


def plate_rows(catalogue: Catalogue, plate: str, time: float | None) -> Rows:
    """The images of a plate (as the catalogue calls it), at one time or all."""
    mask = catalogue.plate_codes == catalogue.plates[plate].code
    if time is not None:
        mask &= catalogue.column("time_h") == time
    return np.flatnonzero(mask)


def split_well(well: str) -> tuple[str, int]:
    """``B03`` -> ``("B", 3)``; a well named in another way gets a row of its own."""
    match = re.fullmatch(r"([A-Za-z]+)0*(\d+)", well)
    return (match[1].upper(), int(match[2])) if match else (well, 1)


def plate_grid(rows: Sequence[dict[str, Any]]) -> Grid:
    """Rows and columns of the smallest plate that has all these wells (6 to 1,536), or just those of odd names."""
    letters, numbers = {row["row"] for row in rows}, {row["column"] for row in rows}
    for n_rows, n_columns in FORMATS:
        there = [row_name(i + 1) for i in range(n_rows)]
        if letters <= set(there) and max(numbers) <= n_columns:
            return there, list(range(1, n_columns + 1))
    return sorted(letters, key=lambda name: (len(name), name)), sorted(numbers)


def rim_effect(rows: Sequence[dict[str, Any]], grid: Grid) -> EdgeEffect | None:
    """Whether the values of wells at the rim differ (see ``edge_effect``)."""
    values, at_rim = np.array([row["value"] for row in rows], float), [_at_rim(row, grid) for row in rows]
    return edge_effect(values, np.array(at_rim, bool), np.array([row["role"] == "control" for row in rows], bool))


def _at_rim(row: dict[str, Any], grid: Grid) -> bool:
    letters, numbers = grid
    return row["row"] in (letters[0], letters[-1]) or row["column"] in (numbers[0], numbers[-1])


def _distances(catalogue: Catalogue, rows: Rows) -> npt.NDArray[np.float64]:
    """Of each image its distance to the controls of its plate and time, 1 being that of controls; NaN without them."""
    found = np.full(len(rows), np.nan)
    plates, times = catalogue.plate_codes[rows], catalogue.codes("time_h")[rows]
    for plate, time in sorted(set(zip(plates.tolist(), times.tolist(), strict=True))):
        controls = untreated(catalogue, plate, time)
        if controls is not None:
            mine = (plates == plate) & (times == time)
            found[mine] = distances(catalogue.compared[rows[mine]], controls.centre) / controls.spread
    return found
