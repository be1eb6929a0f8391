"""Write a simulated screen: plan it, render every image, then its manifest and truth."""

import csv
import json
import math
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from phenoembed.simulate.cell_lines import CELL_LINES
from phenoembed.simulate.compounds import Compound, draw_compounds
from phenoembed.simulate.field import render_field
from phenoembed.simulate.phenotype import PARAMETERS
from phenoembed.simulate.wells import WellPlan, draw_effects, lay_out, population
from phenoembed.spawning import without_main
from phenoembed_store.errors import PhenoembedError
from phenoembed_store.schema import CONTROL_COMPOUND, SCREEN_SCHEMA

PARAMETERS_FILE = "simulation.json"
FORMAT = 5  # raise when the same parameters give other images
MIN_SIZE = 32
POOL_FROM = 200  # images: below it, starting worker processes costs more than it saves


@dataclass(frozen=True)
class Simulation:
    """The parameters of a screen; they and the seed decide every byte of it."""

    compounds: int
    replicates: int
    fields: int
    size: int
    seed: int
    concentrations_um: tuple[float, ...]
    times_h: tuple[float, ...]
    dmso_wells: int  # a replicate
    kind: str
    format: int = FORMAT

    @property
    def images_a_well(self) -> int:
        return len(self.times_h) * self.fields


def simulate_screen(
    out: Path,
    *,
    compounds: int = 24,
    replicates: int = 3,
    fields: int = 4,
    size: int = 96,
    seed: int = 0,
    concentrations_um: Sequence[float] = (0.5, 5.0, 50.0),
    times_h: Sequence[float] = (24.0, 72.0),
    dmso_wells: int | None = None,
    kind: str = "epithelial",
    progress: Callable[[int, int], None] | None = None,
    workers: int | None = None,
) -> Path:
    """Write a screen of ``size`` x ``size`` images to the folder ``out``; return its manifest's path.

    Concentrations are micromolar, times hours after addition. ``dmso_wells`` (a replicate) is one to four treated wells
    unless given. ``kind`` names one of ``CELL_LINES``. ``progress`` is called with the images done and their number.
    The same parameters give the same bytes whatever ``workers`` is; an interrupted screen is completed. Raises
    PhenoembedError on arguments that make no screen, and where ``out`` holds anything else.
    """
    if dmso_wells is None:
        dmso_wells = max(6, round(compounds * len(concentrations_um) / 4))
    simulation = Simulation(
        compounds, replicates, fields, size, seed, tuple(map(float, concentrations_um)), tuple(map(float, times_h)),
        dmso_wells, kind,
    )  # fmt: skip
    _check(simulation)
    if workers is not None and workers < 1:
        raise PhenoembedError(f"workers is {workers}; give at least 1")
    out = Path(out)
    _claim(out, simulation)
    truth, wells = plan(simulation)
    _render_all(out, simulation, wells, progress, workers)
    _write_csv(out / "truth.csv", _truth_rows(truth))
    _write_csv(out / "manifest.csv", _manifest_rows(simulation, wells))
    return out / "manifest.csv"


def plan(simulation: Simulation) -> tuple[list[Compound], list[WellPlan]]:
    """The compounds and every well of every replicate."""
    compounds = draw_compounds(simulation.compounds, _generator(simulation.seed, 0))
    wells: list[WellPlan] = []
    for replicate in range(1, simulation.replicates + 1):
        rng = _generator(simulation.seed, 1, replicate)
        wells += lay_out(compounds, simulation.concentrations_um, replicate, simulation.dmso_wells, rng)
    return compounds, wells


def image_path(well: WellPlan, time: int, field: int) -> str:
    """Relative path with the name a Yokogawa CV8000 gives (time, field: from 1)."""
    return f"{well.plate_name}/{well.plate_name}_{well.name}_T{time:04d}F{field:03d}L01A01Z01C01.tif"


def _check(simulation: Simulation) -> None:
    for name, least in (
        ("compounds", 1),
        ("replicates", 1),
        ("fields", 1),
        ("size", MIN_SIZE),
        ("seed", 0),
        ("dmso_wells", 0),
    ):
        value = getattr(simulation, name)
        if value < least:
            raise PhenoembedError(f"{name} is {value}; give at least {least}")
    for name in ("concentrations_um", "times_h"):
        values = getattr(simulation, name)
        if not values or len(set(values)) < len(values) or not all(0 < v < math.inf for v in values):
            raise PhenoembedError(f"{name} is {list(values)}; give different numbers above 0")
    if simulation.kind not in CELL_LINES:
        raise PhenoembedError(f"kind is {simulation.kind!r}; give one of {', '.join(CELL_LINES)}")


def _claim(out: Path, simulation: Simulation) -> None:
    """Make ``out`` ours: new or empty, or a screen of the same parameters that was interrupted."""
    wanted = json.loads(json.dumps(asdict(simulation)))
    record = out / PARAMETERS_FILE
    if record.is_file():
        try:
            found = json.loads(record.read_text())
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise PhenoembedError(f"{record} is damaged; give another folder, or remove this one")
        for name, value in wanted.items():
            if found.get(name) != value:
                raise PhenoembedError(
                    f"{out} holds a simulation with {name} = {found.get(name)}, not {value}; give another folder"
                )
        return
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise PhenoembedError(f"{out} holds something else than a simulated screen; give a new or an empty folder")
    out.mkdir(parents=True, exist_ok=True)
    _replace(record, lambda path: path.write_text(json.dumps(wanted, indent=2) + "\n"))


def _render_all(
    out: Path,
    simulation: Simulation,
    wells: Sequence[WellPlan],
    progress: Callable[[int, int], None] | None,
    workers: int | None,
) -> None:
    for plate in {well.plate_name for well in wells}:
        (out / plate).mkdir(exist_ok=True)
    total = len(wells) * simulation.images_a_well
    workers = workers or ((os.cpu_count() or 1) if total >= POOL_FROM else 1)
    for done, _ in enumerate(_each(partial(render_well, out, simulation), wells, workers), start=1):
        if progress:
            progress(done * simulation.images_a_well, total)


def _each(render: Callable[[WellPlan], None], wells: Sequence[WellPlan], workers: int) -> Iterator[None]:
    if workers == 1:
        yield from map(render, wells)
        return
    context = multiprocessing.get_context("spawn")
    quiet = (signal.SIGINT, signal.SIG_IGN)  # Ctrl-C stops the parent, which then cancels the wells not begun
    with ProcessPoolExecutor(workers, context, initializer=signal.signal, initargs=quiet) as pool:
        with without_main():
            rendered = pool.map(render, wells)  # starts the workers
        yield from rendered


def render_well(out: Path, simulation: Simulation, well: WellPlan) -> None:
    """Write the images of one well that are not there yet."""
    line = CELL_LINES[simulation.kind]
    effects = draw_effects(well, simulation.seed)
    for time, time_h in enumerate(simulation.times_h, start=1):
        cells = population(line, well, effects, time_h)
        for field in range(1, simulation.fields + 1):
            path = out / image_path(well, time, field)
            if path.exists():
                continue
            rng = _generator(simulation.seed, 3, well.replicate, well.plate, well.position, time, field)
            pixels = render_field(line, cells, effects, simulation.size, rng)
            per_cm = 1e4 / line.optics.pixel_um
            _replace(
                path,
                partial(
                    tifffile.imwrite, data=pixels, resolution=(per_cm, per_cm), resolutionunit="CENTIMETER", software=""
                ),
            )


def _manifest_rows(simulation: Simulation, wells: Sequence[WellPlan]) -> Iterator[dict[str, Any]]:
    for well in wells:
        of_well = {
            "screen": f"simulated-{simulation.kind}-{simulation.seed}",
            "plate": well.plate_name,
            "well": well.name,
            "channel": "phase",
            "z": 0,
            "replicate": f"R{well.replicate}",
            "compound": well.compound.name if well.compound else CONTROL_COMPOUND,
            "concentration_um": well.concentration_um,
            "role": "treated" if well.compound else "control",
            "moa": well.compound.mechanism if well.compound else "",
        }
        for time, time_h in enumerate(simulation.times_h, start=1):
            for field in range(1, simulation.fields + 1):
                row = of_well | {"path": image_path(well, time, field), "field": field, "time_h": time_h}
                yield {name: row[name] for name in (*SCREEN_SCHEMA.names, "moa")}


def _truth_rows(compounds: Sequence[Compound]) -> Iterator[dict[str, Any]]:
    for compound in compounds:
        effects = {f"log_fold_{name}": round(compound.log_fold.get(name, 0.0), 4) for name in PARAMETERS}
        yield {
            "compound": compound.name,
            "mechanism": compound.mechanism or "inactive",
            "inactive": str(compound.inactive).lower(),
            "ec50_um": compound.ec50_um,
            "hill": compound.hill,
            "onset_h": compound.onset_h,
            "lc50_um": compound.lc50_um,
        } | effects


def _write_csv(path: Path, rows: Iterator[dict[str, Any]]) -> None:
    def write(part: Path) -> None:
        with part.open("w", newline="", encoding="utf-8") as file:
            first = next(rows)
            writer = csv.DictWriter(file, list(first), lineterminator="\n")
            writer.writeheader()
            writer.writerow(first)
            writer.writerows(rows)

    _replace(path, write)


def _replace(path: Path, write: Callable[[Path], Any]) -> None:
    """Write beside, then rename: a file that is there is whole."""
    part = path.with_name(path.name + ".part")
    write(part)
    part.replace(path)


def _generator(seed: int, *place: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=place))
