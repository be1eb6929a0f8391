"""Where compounds lie, and what plates and wells do to images without any compound."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from phenoembed.simulate.cell_lines import CellLine
from phenoembed.simulate.compounds import Compound
from phenoembed.simulate.phenotype import Phenotype

ROWS, COLUMNS = "ABCDEFGHIJKLMNOP", 24  # a 384-well plate
PLATE_WELLS = len(ROWS) * COLUMNS


@dataclass(frozen=True)
class WellPlan:
    """One well: where it lies and what was put in (``compound`` None: DMSO)."""

    replicate: int  # from 1
    plate: int  # from 1, within the replicate
    position: int  # from 0, row by row
    compound: Compound | None
    concentration_um: float

    @property
    def plate_name(self) -> str:
        return f"R{self.replicate}P{self.plate}"

    @property
    def name(self) -> str:
        row, column = divmod(self.position, COLUMNS)
        return f"{ROWS[row]}{column + 1:02d}"

    @property
    def outer(self) -> bool:
        row, column = divmod(self.position, COLUMNS)
        return row in (0, len(ROWS) - 1) or column in (0, COLUMNS - 1)


@dataclass(frozen=True)
class WellEffects:
    """What belongs to the replicate, plate and well alone; the same at every time point."""

    seeding: float  # factor of the sown density
    phenotype: dict[str, float]  # log fold changes: passage, medium, temperature
    exposure: float  # factor of the metered exposure
    veil: float  # part of the light without contrast
    focus_um: float
    gradient: tuple[float, float, float]  # of the illumination over half a field: across, down, and curved
    debris_per_mm2: float


def lay_out(
    compounds: Sequence[Compound], concentrations_um: Sequence[float], replicate: int, dmso_wells: int,
    rng: np.random.Generator,
) -> list[WellPlan]:  # fmt: skip
    """A random layout of one replicate: every compound at every concentration once, controls shared among plates."""
    treated: list[tuple[Compound | None, float]] = [(c, dose) for c in compounds for dose in concentrations_um]
    plates = math.ceil((len(treated) + dmso_wells) / PLATE_WELLS)
    shuffled = [treated[i] for i in rng.permutation(len(treated))]
    wells = []
    for plate in range(plates):
        contents = shuffled[plate::plates] + [(None, 0.0)] * len(range(plates - 1 - plate, dmso_wells, plates))
        positions = rng.permutation(PLATE_WELLS)[: len(contents)]
        for position, (compound, dose) in zip(positions, contents, strict=True):
            wells.append(WellPlan(replicate, plate + 1, int(position), compound, dose))
    return sorted(wells, key=lambda well: (well.plate, well.position))


def draw_effects(well: WellPlan, seed: int) -> WellEffects:
    """Sum the effects of replicate, plate and well, each drawn from its own generator."""
    replicate = _generator(seed, well.replicate)
    plate = _generator(seed, well.replicate, well.plate)
    own = _generator(seed, well.replicate, well.plate, well.position)
    passage = {name: float(replicate.normal(0, sd) + own.normal(0, sd / 2)) for name, sd in _DRIFT_SD.items()}
    edge = float(own.uniform(0.3, 1.0)) if well.outer else 0.0  # evaporation: fewer cells, a curved meniscus
    passage["growth_per_h"] -= 0.25 * edge
    tilt = plate.normal(0, 0.05, 2) + own.normal(0, 0.05, 2)
    return WellEffects(
        seeding=float(np.exp(replicate.normal(0, 0.15) + plate.normal(0, 0.05) + own.normal(0, 0.2) - 0.3 * edge)),
        phenotype=passage,
        exposure=float(np.exp(plate.normal(0, 0.03) + own.normal(0, 0.04))),
        veil=float(1 / (1 + np.exp(1.5 + plate.normal(0, 0.3) + own.normal(0, 0.4)))),
        focus_um=float(plate.normal(0, 1.5) + own.normal(0, 2.5)),
        gradient=(float(tilt[0]), float(tilt[1]), float(own.normal(0, 0.04) - 0.12 * edge)),
        debris_per_mm2=float(np.exp(np.log(250) + plate.normal(0, 0.4) + own.normal(0, 0.5))),
    )


_DRIFT_SD = {
    "growth_per_h": 0.08,
    "area_um2": 0.06,
    "elongation": 0.10,
    "protrusions": 0.10,
    "lamella_rad": 0.06,
    "body_rad": 0.08,
    "granularity_rad": 0.08,
    "droplets": 0.15,
    "vacuoles": 0.15,
    "mitotic": 0.10,
    "clustering": 0.10,
}
"""Sd of the log fold change between replicates; between wells it is half of it."""


def _generator(seed: int, *place: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(2, *place)))


@dataclass(frozen=True)
class Population:
    """The cells of a well at one time. Densities are per square millimetre."""

    phenotype: Phenotype
    living: float
    dead: float  # still in the well


def population(line: CellLine, well: WellPlan, effects: WellEffects, time_h: float, step_h: float = 1.0) -> Population:
    """Grow a well from seeding to ``time_h``: logistic growth, killing, and dead cells that wash away."""
    untreated = line.phenotype.shifted(effects.phenotype)
    living, dead = line.seeding_per_mm2 * effects.seeding, 0.0
    for hour in np.arange(0, time_h, step_h) + step_h / 2:
        growth = _phenotype(untreated, well, float(hour)).growth_per_h * (1 - living / line.capacity_per_mm2)
        killed = living * (well.compound.kill_per_h(well.concentration_um, float(hour)) if well.compound else 0.0)
        natural = living * 0.0006  # of untreated cells an hour
        living += step_h * (growth * living - killed)
        dead += step_h * (killed + natural - 0.02 * dead)
    return Population(_phenotype(untreated, well, time_h), living, dead)


def _phenotype(untreated: Phenotype, well: WellPlan, time_h: float) -> Phenotype:
    if well.compound is None:
        return untreated
    return untreated.shifted(well.compound.log_fold, well.compound.response(well.concentration_um, time_h))
