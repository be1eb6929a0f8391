"""A plate as a table of wells: one value a well, of any column, or how far a well lies from the controls."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from phenoembed_dashboard.catalogue import Catalogue, Rows
from phenoembed_dashboard.strips import dose_label

Grid = tuple[list[str], list[int]]  # row letters and column numbers of a plate
FORMATS = ((2, 3), (3, 4), (4, 6), (6, 8), (8, 12), (16, 24), (32, 48))
ROW_NAMES = [chr(65 + i) if i < 26 else f"A{chr(65 + i - 26)}" for i in range(32)]
DISTANCE = "distance to DMSO"
HIDDEN = frozenset(
    ("path", "content_hash", "file_bytes", "file_mtime_ns", "encoder", "screen", "plate", "well", "group_id", "z",
     "channel", "field", "configuration", "time_h", "replicate")
)  # fmt: skip
NAMES = {
    "compound": "compound",
    "concentration_um": "concentration (µM)",
    "role": "role",
    "moa": "mechanism",
    "intensity_mean": "mean intensity",
    "intensity_sd": "contrast (sd of intensity)",
}


def value_columns(catalogue: Catalogue) -> dict[str, str]:
    """What a plate can be coloured by: column and its name for people, the useful ones first."""
    first = [DISTANCE, "intensity_mean", "intensity_sd", "concentration_um", "compound", "moa", "role"]
    there = [name for name in catalogue.table.column_names if name not in HIDDEN]
    order = [*(name for name in first if name == DISTANCE or name in there), *(n for n in there if n not in first)]
    return {name: NAMES.get(name, name.replace("_", " ")) for name in order}


def is_categorical(catalogue: Catalogue, column: str) -> bool:
    if column == DISTANCE:
        return False
    kind = catalogue.table.schema.field(column).type
    return not (pa.types.is_integer(kind) or pa.types.is_floating(kind))


def well_rows(catalogue: Catalogue, plate: str, time: float | None, column: str) -> list[dict[str, Any]]:
    """A row a well of the plate (at one time): its place, what is in it, and its value (mean over its images)."""
    rows = plate_rows(catalogue, plate, time)
    values = _distances(catalogue, rows) if column == DISTANCE else catalogue.column(column)[rows]
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
        found[well]["value"] = (str(these[0]) if categorical else float(np.mean(these))) if these else None
        found[well]["n_images"] = len(these)
    return [one for one in found.values() if one["value"] is not None]


def plate_rows(catalogue: Catalogue, plate: str, time: float | None) -> Rows:
    mask = catalogue.column("plate") == plate
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
        there = ROW_NAMES[:n_rows]
        if letters <= set(there) and max(numbers) <= n_columns:
            return there, list(range(1, n_columns + 1))
    return sorted(letters, key=lambda name: (len(name), name)), sorted(numbers)


@dataclass(frozen=True)
class EdgeEffect:
    """Mean value of the wells at a plate's rim and inside; ``apart`` is their difference in sd of all these wells."""

    rim: float
    inside: float
    apart: float
    n_rim: int
    of: str  # "control wells", where there are enough of them on both sides, or "wells"


def edge_effect(rows: Sequence[dict[str, Any]], grid: Grid) -> EdgeEffect | None:
    """Whether wells at the rim differ; None where fewer than three lie on either side, or nothing varies."""
    controls = [row for row in rows if row["role"] == "control"]
    for of, chosen in (("control wells", controls), ("wells", list(rows))):
        rim = np.array([row["value"] for row in chosen if _at_rim(row, grid)], float)
        inside = np.array([row["value"] for row in chosen if not _at_rim(row, grid)], float)
        if len(rim) >= 3 and len(inside) >= 3:
            spread = float(np.concatenate([rim, inside]).std())
            apart = float(rim.mean() - inside.mean()) / spread if spread else 0.0
            return EdgeEffect(float(rim.mean()), float(inside.mean()), apart, len(rim), of) if spread else None
    return None


def _at_rim(row: dict[str, Any], grid: Grid) -> bool:
    letters, numbers = grid
    return row["row"] in (letters[0], letters[-1]) or row["column"] in (numbers[0], numbers[-1])


def _distances(catalogue: Catalogue, rows: Rows) -> npt.NDArray[np.float64]:
    """1 - cosine between each image and the mean of the controls among these images; NaN without controls."""
    controls = rows[catalogue.column("role")[rows] == "control"]
    if not len(controls):
        return np.full(len(rows), np.nan)
    centre = catalogue.vectors[controls].mean(axis=0, dtype=np.float64)
    vectors = catalogue.vectors[rows].astype(np.float64)
    norms = np.linalg.norm(vectors, axis=1) * np.linalg.norm(centre)
    found: npt.NDArray[np.float64] = 1 - np.divide(vectors @ centre, norms, out=np.zeros(len(rows)), where=norms > 0)
    return found
