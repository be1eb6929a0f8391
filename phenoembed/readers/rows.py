"""From the cells of a sheet to the typed columns of a screen, with every fault of every row.

Cells are read once for each distinct value, not once a row, so that a manifest of 166,000 images takes a second.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from phenoembed.readers import cells
from phenoembed.readers.options import Options
from phenoembed.readers.sheet import Faults, as_text
from phenoembed.screen import row_ids
from phenoembed_store.schema import IMAGE_KEY, SCREEN_SCHEMA

PARSERS: dict[str, Callable[[str], object]] = {
    "path": lambda text: text.replace("\\", "/"),  # as Windows writes them
    "screen": str,
    "plate": str,
    "well": cells.well,
    "field": partial(cells.whole, name="field"),
    "time_h": partial(cells.number, name="time_h", unit="hours"),
    "channel": cells.channel,
    "z": partial(cells.whole, name="z"),
    "replicate": str,
}
TREATMENT = ("compound", "concentration_um", "role")
WELL_KEY = ("screen", "plate", "well")

Bad = npt.NDArray[np.bool_]


def type_rows(
    columns: Mapping[str, pa.Array], defaults: Mapping[str, str], rows: Sequence[int], faults: Faults
) -> tuple[dict[str, pa.Array], Bad]:
    """The screen's columns, typed, and which rows have a fault (their cells there are null).

    ``columns`` are ours by name; one that is missing is skipped, unless ``defaults`` has its value. A default also
    fills a column whose cells are all empty; a column that is filled in some rows only is a fault.
    """
    bad = np.zeros(len(rows), np.bool_)
    typed: dict[str, pa.Array] = {}
    texts = {name: _texts(columns[name], name, faults) for name in SCREEN_SCHEMA.names if name in columns}
    for name, parse in PARSERS.items():
        blank = name not in texts or texts[name].null_count == len(rows)
        if blank and name in defaults:
            value = pa.scalar(parse(defaults[name]), SCREEN_SCHEMA.field(name).type)
            typed[name] = pa.repeat(value, len(rows))
        elif name in texts and not (blank and name == "replicate"):
            typed[name] = _parse_column(texts[name], name, parse, rows, faults, bad)
    if "replicate" not in typed and "plate" in typed:
        typed["replicate"] = typed["plate"]
    if "compound" in texts and "concentration_um" in texts:
        typed |= _parse_treatments(texts, rows, faults, bad)
    return typed, bad


def _texts(column: pa.Array, name: str, faults: Faults) -> pa.Array:
    try:
        return as_text(column)
    except ValueError as error:
        faults.add(f"column '{name}' cannot be read: {error}")
        return pa.nulls(len(column), pa.string())


def _parse_column(
    texts: pa.Array, name: str, parse: Callable[[str], object], rows: Sequence[int], faults: Faults, bad: Bad
) -> pa.Array:
    encoded = texts.dictionary_encode()
    values: list[object] = []
    reasons: dict[int, str] = {}
    for code, text in enumerate(encoded.dictionary.to_pylist()):
        try:
            values.append(parse(text))
        except ValueError as error:
            values.append(None)
            reasons[code] = str(error)
    codes = encoded.indices.fill_null(-1).to_numpy()
    for i in np.flatnonzero(np.isin(codes, [-1, *reasons])):
        bad[i] = True
        faults.add(reasons.get(int(codes[i]), f"{name} is empty"), rows[int(i)])
    return pa.array(values, SCREEN_SCHEMA.field(name).type).take(encoded.indices)


def _parse_treatments(
    texts: Mapping[str, pa.Array], rows: Sequence[int], faults: Faults, bad: Bad
) -> dict[str, pa.Array]:
    columns = [texts.get(name, pa.nulls(len(rows), pa.string())) for name in TREATMENT]
    ids = row_ids(columns)
    _, first = np.unique(ids, return_index=True)
    values: list[tuple[str | None, float | None, str | None]] = []
    reasons: dict[int, str] = {}
    for code, said in enumerate(zip(*(column.take(pa.array(first)).to_pylist() for column in columns), strict=True)):
        try:
            values.append(cells.treatment(*said))
        except ValueError as error:
            values.append((None, None, None))
            reasons[code] = str(error)
    for i in np.flatnonzero(np.isin(ids, list(reasons))):
        bad[i] = True
        faults.add(reasons[int(ids[i])], rows[int(i)])
    return {
        name: pa.array([value[place] for value in values], SCREEN_SCHEMA.field(name).type).take(pa.array(ids))
        for place, name in enumerate(TREATMENT)
    }


def check_consistency(table: pa.Table, rows: npt.NDArray[np.int64], faults: Faults) -> None:
    """Two rows that are one image or name one file, and wells that two rows describe differently, are faults."""
    _check_duplicates(table, rows, faults)
    wells = row_ids([table.column(name) for name in WELL_KEY])
    settled = np.zeros(table.num_rows, np.bool_)
    for name in ("role", "compound", "concentration_um", "replicate"):
        for i, first in _disagreements(wells, row_ids([table.column(name)])):
            if not settled[first]:
                plate, well = table.column("plate")[i], table.column("well")[i]
                here, there = table.column(name)[i].as_py(), table.column(name)[first].as_py()
                what = f"well {well} of plate '{plate}' has {name} {here!r}, but {there!r} in "
                faults.add(what + faults.place(int(rows[first])), int(rows[i]))
                settled[first] = True


def _check_duplicates(table: pa.Table, rows: npt.NDArray[np.int64], faults: Faults) -> None:
    same_image = np.zeros(table.num_rows, np.bool_)
    for i, first in repeats(row_ids([table.column(name) for name in IMAGE_KEY])):
        same_image[i] = True
        key = ", ".join(f"{name} {table.column(name)[i].as_py()!r}" for name in IMAGE_KEY)
        faults.add(f"the same image as {faults.place(int(rows[first]))}: {key}", int(rows[i]))
    for i, first in repeats(row_ids([table.column("path")])):
        if not same_image[i]:
            faults.add(
                f"path '{table.column('path')[i]}' is the file of {faults.place(int(rows[first]))} too", int(rows[i])
            )


def repeats(ids: npt.NDArray[np.int64]) -> list[tuple[int, int]]:
    """(row, the first row with the same id) for each row that is not the first."""
    _, first, inverse = np.unique(ids, return_index=True, return_inverse=True)
    return [(int(i), int(first[inverse[i]])) for i in np.flatnonzero(first[inverse] != np.arange(len(ids)))]


def _disagreements(groups: npt.NDArray[np.int64], values: npt.NDArray[np.int64]) -> list[tuple[int, int]]:
    """(the first row that disagrees, the first row) for each group whose rows have more than one value."""
    _, first, inverse = np.unique(groups, return_index=True, return_inverse=True)
    differing = np.flatnonzero(values != values[first[inverse]])
    _, once = np.unique(inverse[differing], return_index=True)
    return [(int(i), int(first[inverse[i]])) for i in differing[once]]


def only_channel(channels: pa.Array, options: Options, faults: Faults) -> Bad:
    """Which rows are of the channel that is asked for; of several, one must be, except to count them in a dry run."""
    there = sorted(
        (name for name in channels.unique().to_pylist() if name is not None), key=lambda name: (len(name), name)
    )
    if options.channel is not None and there and options.channel not in there:
        names = ", ".join(map(repr, there))
        faults.add(f"no image has channel '{options.channel}'; there is {names}: --channel {there[0]}")
    elif options.channel is None and len(there) > 1 and not options.dry_run:
        faults.add(f"{len(there)} channels ({', '.join(there)}); choose one: --channel {there[0]}")
    if options.channel is None:
        return np.ones(len(channels), np.bool_)
    return np.asarray(pc.equal(channels, options.channel).fill_null(False))
