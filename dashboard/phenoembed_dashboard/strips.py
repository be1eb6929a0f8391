"""Which images stand for a compound: a small grid of dose by time, the same field of view throughout."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from phenoembed_dashboard.catalogue import Catalogue, Rows
from phenoembed_store.plate_layout import well_order

MAX_COLUMNS = 6
MAX_LINES = 4
COLUMNS = (
    "path", "content_hash", "screen", "plate", "well", "field", "time_h", "channel", "replicate", "compound",
    "concentration_um", "role", "group_id", "z_stack",
)  # fmt: skip

Record = dict[str, Any]
Keep = Callable[[Catalogue, Rows], npt.NDArray[np.bool_]]
"""Which of some rows are to be shown."""
Place = tuple[Any, Any]
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
    """``0.5 µM``; nanomolar below a tenth."""
    if value is None or np.isnan(value):
        return "no dose"
    return f"{value * 1000:.3g} nM" if 0 < value < 0.1 else f"{value:.3g} µM" if value < 1000 else f"{value:g} µM"


def time_label(value: float | None) -> str:
    return "" if value is None or np.isnan(value) else f"{value:g} h"


def compound_strip(
    catalogue: Catalogue,
    rows: Rows,
    *,
    field: int | None = None,
    plates: Sequence[int] = (),
    keep: Keep | None = None,
) -> Strip:
    """Dose by time, one image each: of this field of view, and these plates (as in ``plate_codes``), if it is there."""
    rows = rows if keep is None else rows[keep(catalogue, rows)]
    rows = _preferred(catalogue, rows, field, plates)
    best = _first(
        zip(_values(catalogue, "concentration_um", rows), _values(catalogue, "time_h", rows), strict=True), rows
    )
    doses = sorted({dose for dose, _ in best}, key=_none_first)
    times = sorted({time for _, time in best}, key=_none_first)
    shown_doses, shown_times = spread(doses, MAX_COLUMNS), spread(times, MAX_LINES)
    left_out = [
        f"{len(shown)} of {len(there)} {what}"
        for shown, there, what in ((shown_doses, doses, "doses"), (shown_times, times, "times"))
        if len(shown) < len(there)
    ]
    cells = _cells(catalogue, [[best.get((dose, time)) for dose in shown_doses] for time in shown_times])
    lines = tuple(time_label(time) if catalogue.timed else "" for time in shown_times)
    return Strip(tuple(map(dose_label, shown_doses)), lines, cells, ", ".join(left_out))


def control_strip(
    catalogue: Catalogue,
    *,
    like: Strip,
    field: int | None = None,
    n_columns: int = 3,
    keep: Keep | None = None,
) -> Strip:
    """Control wells of the plates that ``like`` shows, at its times: a column a well."""
    shown = like.records()
    rows = catalogue.control_rows
    on_plates = rows[np.isin(catalogue.plate_codes[rows], catalogue.plates_of(shown))]
    rows = on_plates if len(on_plates) else rows
    rows = rows if keep is None else rows[keep(catalogue, rows)]
    plates = catalogue.plate_codes[rows]
    first = int(plates.min(initial=len(catalogue.plates)))
    there = sorted(set(catalogue.column("well")[rows[plates == first]].tolist()), key=well_order)
    wells = spread(there, n_columns)
    rows = _preferred(catalogue, rows[np.isin(catalogue.column("well")[rows], wells)], field, (first,))
    best = _first(zip(_values(catalogue, "well", rows), _values(catalogue, "time_h", rows), strict=True), rows)
    times = sorted({record["time_h"] for record in shown} or {time for _, time in best}, key=_none_first)
    times = spread(times, MAX_LINES)
    cells = _cells(catalogue, [[best.get((well, time)) for well in wells] for time in times])
    return Strip(tuple(wells), tuple(time_label(time) if catalogue.timed else "" for time in times), cells)


def spread(values: Sequence[Value], limit: int) -> list[Value]:
    """At most ``limit`` of the values, evenly spread, the first and last among them."""
    if len(values) <= limit:
        return list(values)
    places = np.unique(np.linspace(0, len(values) - 1, limit).round().astype(int))
    return [values[place] for place in places]


def _preferred(catalogue: Catalogue, rows: Rows, field: int | None, plates: Sequence[int]) -> Rows:
    """The rows, those first that are rather shown: of these plates, then near this field of view."""
    fields = np.nan_to_num(catalogue.column("field")[rows].astype(float))
    apart = np.zeros(len(rows)) if field is None else np.abs(fields - field)
    mine = catalogue.plate_codes[rows]
    order = np.lexsort((fields, catalogue.codes("well")[rows], apart, mine, ~np.isin(mine, plates)))
    return np.asarray(rows[order], np.int64)


def _first(places: Iterable[Place], rows: Rows) -> dict[Place, int]:
    """Of each place the first of its rows."""
    found: dict[Place, int] = {}
    for place, row in zip(places, rows.tolist(), strict=True):
        found.setdefault(place, row)
    return found


def _values(catalogue: Catalogue, column: str, rows: Rows) -> list[Any]:
    return [None if value != value else value for value in catalogue.column(column)[rows].tolist()]


def _cells(catalogue: Catalogue, rows: Sequence[Sequence[int | None]]) -> tuple[tuple[Record | None, ...], ...]:
    """The records of these rows, in their places."""
    wanted = [row for line in rows for row in line if row is not None]
    records = dict(zip(wanted, catalogue.records(wanted, COLUMNS), strict=True))
    return tuple(tuple(None if row is None else records[row] for row in line) for line in rows)


def _none_first(value: float | None) -> float:
    return -np.inf if value is None or np.isnan(value) else value
