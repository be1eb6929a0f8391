"""The demo's report: a page of text, and a picture of compounds over dose and time beside their neighbours."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from phenoembed.outcomes import Report
from phenoembed.pixels import read_pixels
from phenoembed_store import Store
from phenoembed_store.schema import CONTROL_COMPOUND

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from phenoembed.demo import Demo

N_SHOWN = 3  # compounds
N_NEIGHBOURS = 5


def accuracy_rows(report: Report) -> list[tuple[str, str, str, str, str]]:
    """For each kind of test groups: (task: test, encoder, untrained, intensity statistics, chance) as text."""
    figure = "balanced_accuracy" if report.task == "treatment" else "top1"
    rows = []
    for split, test in report.rows():
        cells = []
        for features in ("encoder", "untrained", "intensity"):
            summary = report.summary(split, test, features)
            cells.append("-" if summary is None else f"{summary['mean'][figure]:.2f}")
        one = report.select(split, test, "encoder")[0]
        rows.append((f"{report.task}: {test}", cells[0], cells[1], cells[2], f"{1 / one.classes:.2f}"))
    return rows


def neighbours(store: Store, compound: str, encoder: str, k: int = N_NEIGHBOURS) -> list[dict[str, Any]]:
    """The k nearest compounds: compound, score and moa of each."""
    hits = store.search(compound=compound, k=k, encoder=encoder)
    known = [name for name in ("compound", "score", "moa") if name in hits.column_names]
    rows: list[dict[str, Any]] = hits.select(known).to_pylist()
    return rows


def shown_compounds(images: pa.Table) -> list[tuple[str, str]]:
    """(compound, mechanism) of the first compound of each of the first three mechanisms with two compounds or more."""
    of_mechanism: dict[str, set[str]] = {}
    for compound, moa, role in zip(*(images.column(c).to_pylist() for c in ("compound", "moa", "role")), strict=True):
        if role == "treated" and moa:
            of_mechanism.setdefault(moa, set()).add(compound)
    shared = sorted(moa for moa, compounds in of_mechanism.items() if len(compounds) > 1)
    return [(min(of_mechanism[moa]), moa) for moa in shared[:N_SHOWN]]


def write_text(demo: "Demo", path: Path) -> str:
    """Write the report as text; returned too."""
    screen = demo.screen
    lines = [
        f"A simulated screen: {screen.n_compounds} compounds, {screen.n_plates} plates, {screen.n_images:,} images.",
        "One encoder, trained with the product of probabilities; one fold of the replicate split.",
        "",
        f"{'top-1 accuracy (treatment: balanced)':<38}{'encoder':>9}{'untrained':>11}{'intensity':>11}{'chance':>8}",
    ]
    for report in demo.probes.values():
        lines += [f"{name:<38}{a:>9}{b:>11}{c:>11}{d:>8}" for name, a, b, c, d in accuracy_rows(report)]
    found = demo.agreement
    lines += [
        "",
        f"Of the five nearest compounds {found.share:.0%} share the mechanism (chance {found.chance:.0%}, "
        f"permutation p = {found.p_value:.4f}, {found.n_compounds} compounds).",
        "",
    ]
    for compound, moa in shown_compounds(screen.table):
        lines.append(f"Nearest to {compound} ({moa}):")
        for hit in neighbours(demo.store, compound, demo.encoder):
            lines.append(f"    {hit['score']:.3f}  {hit['compound']:<12} {hit.get('moa') or '-'}")
    lines += ["", "All data simulated: these figures say nothing of real compounds."]
    text = "\n".join(lines)
    path.write_text(text + "\n")
    return text


def draw(demo: "Demo", path: Path) -> None:
    """Draw DMSO and three compounds over dose and time, their nearest neighbours and the accuracy table as PNG."""
    from matplotlib.figure import Figure

    table = demo.screen.table
    chosen = shown_compounds(table)
    rows = [(CONTROL_COMPOUND, "control"), *chosen]
    configurations = _configurations(table)
    n_columns = len(configurations)
    figure = Figure(figsize=(15, 2.1 * len(rows) + 3.4), dpi=110, layout="constrained")
    figure.suptitle(
        f"phenoembed demo on a simulated screen: {demo.screen.n_compounds} compounds over dose and time, "
        f"{demo.screen.n_images:,} images",
        fontsize=14,
        fontweight="bold",
    )
    halves: Any = figure.subfigures(2, 1, height_ratios=[2.1 * len(rows), 2.7])
    upper, lower = halves
    axes = upper.subplots(len(rows), n_columns + 1, width_ratios=[1.0] * n_columns + [2.3], squeeze=False)
    for line, (compound, moa) in zip(axes, rows, strict=True):
        for column, (dose, time) in enumerate(configurations):
            _show_image(line[column], demo, _example(table, compound, dose, time, column))
        for axis, (dose, time) in zip(axes[0], configurations, strict=False):
            axis.set_title(f"{dose:g} µM, {time:g} h", fontsize=9)
        line[0].set_ylabel(f"{compound}\n{moa}", fontsize=9)
        _list_neighbours(line[-1], demo, compound, moa)
    _accuracy_table(lower.subplots(), demo)
    figure.savefig(path)


def _configurations(table: pa.Table) -> list[tuple[float, float]]:
    treated = table.filter(pa.compute.equal(table.column("role"), "treated"))
    pairs = zip(treated.column("concentration_um").to_pylist(), treated.column("time_h").to_pylist(), strict=True)
    return sorted(set(pairs))


def _example(table: pa.Table, compound: str, dose: float, time: float, column: int) -> str | None:
    """An image of a compound at a dose and time; of controls, which have no dose, one of another well a column."""
    names = ("compound", "concentration_um", "time_h", "role", "plate", "well", "path")
    wells: dict[tuple[str, str], str] = {}
    for found, amount, hours, role, plate, well, path in zip(
        *(table.column(name).to_pylist() for name in names), strict=True
    ):
        if found == compound and hours == time and (role == "control" or amount == dose):
            wells.setdefault((plate, well), str(path))
    paths = list(wells.values())
    return (paths[column % len(paths)] if compound == CONTROL_COMPOUND else paths[0]) if paths else None


def _show_image(axis: "Axes", demo: "Demo", path: str | None) -> None:
    axis.set_xticks([])
    axis.set_yticks([])
    if path is None:
        return
    pixels = read_pixels(demo.screen.root / path)
    low, high = np.percentile(pixels, [0.5, 99.5])
    axis.imshow(pixels, cmap="gray", vmin=low, vmax=high, interpolation="nearest")


def _list_neighbours(axis: "Axes", demo: "Demo", compound: str, moa: str) -> None:
    axis.axis("off")
    if compound == CONTROL_COMPOUND:
        axis.text(0, 0.92, "nearest compounds (cosine)", fontsize=10, fontweight="bold", va="top")
        axis.text(0, 0.72, "blue: the same mechanism", fontsize=9, color="tab:blue", va="top")
        return
    for i, hit in enumerate(neighbours(demo.store, compound, demo.encoder)):
        same = hit.get("moa") == moa
        label = f"{hit['score']:.3f}  {hit['compound']}  {hit.get('moa') or ''}"
        axis.text(0, 0.95 - 0.2 * i, label, fontsize=9, va="top", color="tab:blue" if same else "0.25")


def _accuracy_table(axis: "Axes", demo: "Demo") -> None:
    axis.axis("off")
    rows: Sequence[Sequence[str]] = [row for report in demo.probes.values() for row in accuracy_rows(report)]
    header = ["simulated data: one fold", "encoder", "untrained encoder", "intensity statistics", "chance"]
    drawn = axis.table(cellText=[list(row) for row in rows], colLabels=header, loc="upper center", cellLoc="center")
    drawn.auto_set_font_size(False)
    drawn.set_fontsize(9)
    found = demo.agreement
    axis.set_title(
        f"Top-1 accuracy (treatment: balanced accuracy). Of the five nearest compounds {found.share:.0%} share the "
        f"mechanism (chance {found.chance:.0%}, permutation p = {found.p_value:.4f}).",
        fontsize=10,
    )
