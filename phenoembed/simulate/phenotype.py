"""What the cells of a well look like and how fast they divide: one record, moved by log fold changes."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace


@dataclass(frozen=True)
class Phenotype:
    """Means over the cells of a well. Phases are radians of optical path against the medium."""

    growth_per_h: float  # net exponential growth far below confluence
    area_um2: float  # spread cell, without neighbours
    elongation: float  # length / width - 1
    edge_roughness: float  # sd of the outline's short waves, as a fraction of the radius
    protrusions: float  # mean number a cell
    protrusion_um: float  # mean length
    lamella_rad: float  # the thin margin
    body_rad: float  # what the thick middle adds
    body_spread: float  # radius of the thick middle, as a fraction of the cell's
    granularity_rad: float  # sd of the organelle texture
    grain_um: float  # its grain (Gaussian sd)
    droplets: float  # mean number of dense vesicles a cell
    vacuoles: float  # mean number of watery vacuoles a cell
    vacuole_um: float  # their radius
    nucleus_um: float  # diameter
    nucleus_irregularity: float  # sd of the nuclear outline, as a fraction of its radius
    nucleoli: float  # mean number a nucleus
    multinucleate: float  # fraction of the cells
    mitotic: float  # fraction of the cells
    rounded: float  # fraction of the living cells that let go without dividing
    blebs: float  # mean number a cell
    clustering: float  # fraction of the cells that settle beside another

    def shifted(self, log_fold: Mapping[str, float], response: float = 1.0) -> "Phenotype":
        """Multiply each named parameter by exp(log fold change * response); fractions stop at 0.9."""
        moved = {name: getattr(self, name) * math.exp(change * response) for name, change in log_fold.items()}
        return replace(self, **{name: min(value, 0.9) if name in FRACTIONS else value for name, value in moved.items()})


FRACTIONS = frozenset({"multinucleate", "mitotic", "rounded", "clustering", "body_spread"})
PARAMETERS = tuple(field.name for field in fields(Phenotype))
