"""Plates as heat maps: intensity, focus, confluence, and the share of flagged images of each well, a row a plate."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from phenoembed_store import Store
from phenoembed_store.errors import StoreError
from phenoembed_store.plate_layout import plate_shape, row_name, well_place
from phenoembed_store.remote import check_written_here
from phenoembed_store.schema import QUALITY_FLAG

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SHOWN = 40  # plates on one picture
MAPS = {
    "intensity_mean": "mean intensity",
    "focus": "focus",
    "confluence": "confluence",
    QUALITY_FLAG: "share of images flagged",
}


def draw_plates(store: Store, path: Path, encoder: str | None = None) -> int:
    """Draw the store's plates (the first 40) into a picture; how many. Raises StoreError where that cannot be."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    check_written_here(path)
    if path.suffix.lower() not in (".png", ".pdf", ".svg"):
        raise StoreError(f"--report {path}: name a .png, .pdf or .svg file")
    summaries = store.plates(encoder)[:SHOWN]
    rows, _ = store.vectors(encoder=encoder)
    maps = {name: title for name, title in MAPS.items() if name in rows.column_names}
    figure = Figure(figsize=(4.2 * len(maps), 2.6 * len(summaries) + 0.4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(summaries), len(maps), squeeze=False)
    for line, summary in zip(axes, summaries, strict=True):
        of_plate = _of_plate(rows, summary)
        for axis, (name, title) in zip(line, maps.items(), strict=True):
            limits = {"vmin": 0.0, "vmax": 1.0} if name == QUALITY_FLAG else {}
            drawn = axis.imshow(_heat_map(of_plate, name), cmap="viridis", aspect="equal", **limits)
            figure.colorbar(drawn, ax=axis, shrink=0.7)
            _name_wells(axis, drawn.get_array().shape)
            axis.set_title(title, fontsize=8)
        line[0].set_ylabel(_said(summary), fontsize=7)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    return len(summaries)


def _of_plate(rows: pa.Table, summary: dict[str, Any]) -> pa.Table:
    import pyarrow.compute as pc

    same = (pc.equal(rows.column(name), summary[name]) for name in ("screen", "plate"))
    return rows.filter(pc.and_(*same))


def _heat_map(rows: pa.Table, name: str) -> np.ndarray:
    """(rows, columns) of the plate: the mean of each well's images, NaN where there is none."""
    places = [well_place(well) for well in rows.column("well").to_pylist()]
    values = rows.column(name).to_pylist()
    numbers = [float(value is not None) if name == QUALITY_FLAG else value for value in values]
    height, width = plate_shape([place for place in places if place])
    sums, counts = np.zeros((height, width)), np.zeros((height, width))
    for place, number in zip(places, numbers, strict=True):
        if place is not None and number is not None and number == number:
            sums[place[0] - 1, place[1] - 1] += number
            counts[place[0] - 1, place[1] - 1] += 1
    means: np.ndarray = np.divide(sums, counts, out=np.full((height, width), np.nan), where=counts > 0)
    return means


def _name_wells(axis: "Axes", shape: tuple[int, ...]) -> None:
    height, width = shape
    every = max(1, height // 8)
    rows = range(0, height, every)
    axis.set_yticks(list(rows), [row_name(row + 1) for row in rows], fontsize=6)
    columns = range(0, width, max(1, width // 12))
    axis.set_xticks(list(columns), [str(column + 1) for column in columns], fontsize=6)


def _said(summary: dict[str, Any]) -> str:
    lines = [str(summary["plate"]), f"{summary['images']:,} images, {summary['flagged']:,} flagged"]
    if summary["edge_effect"] is not None:
        lines.append(f"edge {summary['edge_effect']:+.1f} sd")
    if summary["replicate_correlation"] is not None:
        other = summary["other_correlation"]
        against = f" (others {other:.2f})" if other is not None else ""
        lines.append(f"replicates r = {summary['replicate_correlation']:.2f}{against}")
    return "\n".join(lines)
