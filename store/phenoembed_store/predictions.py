"""What probes predicted, kept by fold: the ``predictions`` table."""

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from phenoembed_store.schema import PREDICTIONS_SCHEMA
from phenoembed_store.tables import Table

FOLD = ("task", "split", "fold", "features", "encoder")
"""What makes a fold: its predictions are replaced together."""


def write(table: Table, rows: pa.Table) -> None:
    """Keep rows of PREDICTIONS_SCHEMA, in the place of earlier ones of the same folds."""
    rows = rows.select(PREDICTIONS_SCHEMA.names).cast(PREDICTIONS_SCHEMA)
    for fold in rows.group_by(list(FOLD)).aggregate([]).to_pylist():
        mask = np.ones(len(rows), np.bool_)
        for name in FOLD:
            mask &= pc.equal(rows.column(name), fold[name]).to_numpy()
        where = " AND ".join(f"{name} = {_literal(fold[name])}" for name in FOLD)
        table.replace(rows.filter(pa.array(mask)), table.version(), where)


def _literal(value: Any) -> str:
    return str(value) if isinstance(value, int) else "'" + str(value).replace("'", "''") + "'"
