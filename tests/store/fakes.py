"""Fake screens: the columns of real ones, with random vectors that lie near those of their compound."""

import hashlib
from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from phenoembed_store.groups import vectors_column
from phenoembed_store.schema import IMAGES_SCHEMA, INTENSITY_STATISTICS

COMPOUNDS = ("DMSO", "nocodazole", "taxol", "cytochalasin D", "staurosporine", "aspirin")
MOA = {"nocodazole": "tubulin", "taxol": "tubulin", "cytochalasin D": "actin", "staurosporine": "kinase"}


def fake_rows(
    compounds: Sequence[str] = COMPOUNDS,
    *,
    doses: Sequence[float] = (1.0, 5.0, 20.0),
    times: Sequence[float] = (24.0,),
    replicates: int = 2,
    fields: int = 2,
    dim: int = 8,
    encoder: str = "enc0",
    seed: int = 0,
) -> pa.Table:
    """Images of a screen with the columns of IMAGES_SCHEMA and ``moa``: a plate a replicate, a well a dose."""
    rows = []
    for replicate in range(replicates):
        wells = iter(f"{chr(65 + i // 24)}{i % 24 + 1:02d}" for i in range(384))
        for compound in compounds:
            for dose in doses:
                well = next(wells)
                for time in times:
                    places = ((f"P{replicate + 1}", well, field) for field in range(1, fields + 1))
                    rows.extend(_row(*place, time, compound, dose) for place in places)
    table = pa.Table.from_pylist(rows, schema=pa.schema([f for f in IMAGES_SCHEMA if f.name in rows[0]]))
    draw = np.random.default_rng(seed)
    centres = {name: draw.normal(size=dim) for name in compounds}
    vectors = np.stack([centres[row["compound"]] + draw.normal(size=dim) for row in rows]).astype(np.float32)
    for name in INTENSITY_STATISTICS:
        table = table.append_column(name, pa.array(draw.random(len(rows)), pa.float32()))
    table = table.append_column("encoder", pa.array([encoder] * len(rows)))
    table = table.append_column("embedding", vectors_column(vectors))
    table = table.select(IMAGES_SCHEMA.names).cast(IMAGES_SCHEMA)
    return table.append_column("moa", pa.array([MOA.get(row["compound"]) for row in rows], pa.string()))


def _row(plate: str, well: str, field: int, time: float, compound: str, dose: float) -> dict[str, object]:
    path = f"{plate}/{well}_f{field}_t{time:g}.tif"
    control = compound == "DMSO"
    return {
        "path": path,
        "screen": "fake",
        "plate": plate,
        "well": well,
        "field": field,
        "time_h": time,
        "channel": "phase",
        "z": 0,
        "replicate": plate,
        "compound": compound,
        "concentration_um": 0.0 if control else dose,
        "role": "control" if control else "treated",
        "content_hash": hashlib.sha256(path.encode()).hexdigest()[:16],
        "file_bytes": 100,
        "file_mtime_ns": 1,
    }
