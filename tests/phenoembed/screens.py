"""Screens as tables, without images: what grouping and splitting look at."""

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from phenoembed_store.schema import SCREEN_SCHEMA

DEFAULTS: dict[str, Any] = {
    "screen": "s",
    "plate": "P1",
    "well": "A01",
    "field": 1,
    "time_h": 24.0,
    "channel": "phase",
    "z": 0,
    "replicate": "1",
    "compound": "x",
    "concentration_um": 1.0,
    "role": "treated",
}


def image(**columns: Any) -> dict[str, Any]:
    """One row; what is not said is the default."""
    row = DEFAULTS | columns
    if row["compound"] == "DMSO":
        row |= {"role": "control", "concentration_um": 0.0}
    place = "_".join(str(row[name]) for name in ("plate", "well", "field", "time_h"))
    return {"path": f"{place}.tif"} | row


def table_of(rows: Sequence[dict[str, Any]]) -> pa.Table:
    """Rows as a table with the columns of SCREEN_SCHEMA, ``moa`` behind them if any row has one."""
    moa = [("moa", pa.string())] if any("moa" in row for row in rows) else []
    return pa.Table.from_pylist(list(rows), schema=pa.schema([*SCREEN_SCHEMA, *moa]))


def layout(
    compounds: int = 6,
    *,
    doses: Sequence[float] = (1.0, 10.0),
    times: Sequence[float] = (24.0, 48.0),
    replicates: int = 3,
    wells: int = 1,
    fields: int = 2,
    controls: int = 6,
    moa: int = 0,
    plate_a_time: bool = False,
) -> list[dict[str, Any]]:
    """Rows of a whole screen: a plate a replicate (and time point), ``wells`` wells a dose, ``controls`` of DMSO."""
    rows = []
    for replicate in range(1, replicates + 1):
        names = (f"{chr(65 + i // 24)}{i % 24 + 1:02d}" for i in range(384))
        treated = [(f"c{i}", dose) for i in range(compounds) for dose in doses for _ in range(wells)]
        for compound, dose in [*treated, *[("DMSO", 0.0)] * controls]:
            well = next(names)
            for time in times:
                plate = f"P{replicate}" + (f"-{time:g}h" if plate_a_time else "")
                for field in range(1, fields + 1):
                    row = image(plate=plate, well=well, field=field, time_h=time, replicate=str(replicate))
                    row |= {"compound": compound, "concentration_um": dose}
                    row |= {"role": "control"} if compound == "DMSO" else {}
                    if moa:
                        row["moa"] = None if compound == "DMSO" else f"m{int(compound[1:]) % moa}"
                    rows.append(row)
    return rows
