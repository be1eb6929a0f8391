"""Which images stand for a compound: a small grid of dose by time, the same field of view throughout."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from phenoembed_dashboard.catalogue import Catalogue, Rows

MAX_COLUMNS = 6
MAX_LINES = 4
COLUMNS = (
    "path", "content_hash", "screen", "plate", "well", "field", "time_h", "channel", "replicate", "compound",
    "concentration_um", "role", "group_id",
)  # fmt: skip

Record = dict[str, Any]
Value = TypeVar("Value")


@dataclass(frozen=True)
class Strip:
    """A grid of images: a line a time, a column a dose (or a control well). ``left_out``: doses or times not shown."""

    columns: tuple[str, ...]
    lines: tuple[str, ...]
    cells: tuple[tuple[Record | None, ...], ...]
    left_out: str = ""

    def records(self) -> list[Record]:
        return [record for line in self.cells for record in line if record is not None]


def dose_label(value: float | None) -> str:
    """``0.5 µM``; nanomolar below a hundredth."""
    if value is None or np.isnan(value):
        return "no dose"
    return f"{value * 1000:g} nM" if 0 < value < 0.01 else f"{value:.3g} µM" if value < 1000 else f"{value:g} µM"


def time_label(value: float | None) -> str:
    return "" if value is None or np.isnan(value) else f"{value:g} h"


def compound_strip(
    catalogue: Catalogue,
    rows: Rows,
    *,
    field: int | None = None,
    plates: Sequence[str] = (),
    keep: Callable[[Record], bool] | None = None,
) -> Strip:
    """Dose by time, one image each: of this field of view, and of these plates, where there is one."""
    records = [record for record in catalogue.records(rows, COLUMNS) if keep is None or keep(record)]
    doses = sorted({record["concentration_um"] for record in records}, key=_none_first)
    times = sorted({record["time_h"] for record in records}, key=_none_first)
    by_place: dict[tuple[Any, Any], list[Record]] = defaultdict(list)
    for record in records:
        by_place[record["concentration_um"], record["time_h"]].append(record)
    shown_doses, shown_times = spread(doses, MAX_COLUMNS), spread(times, MAX_LINES)
    cells = tuple(
        tuple(_best(by_place.get((dose, time), []), field, plates) for dose in shown_doses) for time in shown_times
    )
    left_out = [
        f"{len(shown)} of {len(there)} {what}"
        for shown, there, what in ((shown_doses, doses, "doses"), (shown_times, times, "times"))
        if len(shown) < len(there)
    ]
    return Strip(tuple(map(dose_label, shown_doses)), tuple(map(time_label, shown_times)), cells, ", ".join(left_out))


def control_strip(
    catalogue: Catalogue,
    *,
    like: Strip,
    field: int | None = None,
    n_columns: int = 3,
    keep: Callable[[Record], bool] | None = None,
) -> Strip:
    """Control wells of the plates that ``like`` shows, at its times: a column a well."""
    shown = like.records()
    plates = {record["plate"] for record in shown}
    rows = catalogue.control_rows
    on_plates = rows[np.isin(catalogue.column("plate")[rows], list(plates))]
    records = [r for r in catalogue.records(on_plates if len(on_plates) else rows, COLUMNS) if keep is None or keep(r)]
    first = min((record["plate"] for record in records), default=None)
    wells = spread(sorted({record["well"] for record in records if record["plate"] == first}), n_columns)
    times = sorted({record["time_h"] for record in shown}, key=_none_first) or sorted({r["time_h"] for r in records})
    times = spread(times, MAX_LINES)
    by_place: dict[tuple[Any, Any], list[Record]] = defaultdict(list)
    for record in records:
        by_place[record["well"], record["time_h"]].append(record)
    cells = tuple(
        tuple(_best(by_place.get((well, time), []), field, (first or "",)) for well in wells) for time in times
    )
    return Strip(tuple(wells), tuple(map(time_label, times)), cells)


def spread(values: Sequence[Value], limit: int) -> list[Value]:
    """At most ``limit`` of the values, evenly spread, the first and last among them."""
    if len(values) <= limit:
        return list(values)
    places = np.unique(np.linspace(0, len(values) - 1, limit).round().astype(int))
    return [values[place] for place in places]


def _best(records: Sequence[Record], field: int | None, plates: Sequence[str]) -> Record | None:
    def order(record: Record) -> tuple[Any, ...]:
        apart = 0 if field is None else abs((record["field"] or 0) - field)
        return (record["plate"] not in plates, record["plate"], apart, record["well"], record["field"])

    return min(records, key=order, default=None)


def _none_first(value: float | None) -> float:
    return -np.inf if value is None or np.isnan(value) else value
