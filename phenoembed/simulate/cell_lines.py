"""Cell lines with the microscope that images them. Another one is one more record in ``CELL_LINES``."""

from dataclasses import dataclass

from phenoembed.simulate.phenotype import Phenotype


@dataclass(frozen=True)
class Optics:
    """A Zernike phase-contrast microscope and its camera. Lengths in micrometres."""

    pixel_um: float = 1.5  # a camera pixel in the specimen; fields are small, so the sampling is that of a 4x objective
    oversampling: int = 2  # the wave is computed on a grid this much finer, then summed over each camera pixel
    wavelength_um: float = 0.55
    numerical_aperture: float = 0.28
    ring_transmission: float = 0.6  # amplitude
    halo_um: float = 4.5  # Gaussian sd of what the ring's finite width takes from the cell: halo and shade-off
    offset: int = 400  # camera counts in the dark
    counts: float = 27_000.0  # mean signal a pixel that the exposure is metered to
    electrons: float = 6_000.0  # the same in electrons: shot noise
    read_electrons: float = 6.0


@dataclass(frozen=True)
class CellLine:
    """Untreated cells, and how densely they are sown and can grow."""

    name: str
    phenotype: Phenotype
    seeding_per_mm2: float
    capacity_per_mm2: float
    overlap: float  # how far a cell reaches over a neighbour: 0.5 meets it halfway, 1 covers it
    alignment: float  # 0: any direction; 1: parallel to its neighbours
    optics: Optics


EPITHELIAL = CellLine(
    name="epithelial",
    phenotype=Phenotype(
        growth_per_h=0.030,
        area_um2=620.0,
        elongation=0.45,
        edge_roughness=0.05,
        protrusions=0.7,
        protrusion_um=7.0,
        lamella_rad=0.20,
        body_rad=0.25,
        body_spread=0.55,
        granularity_rad=0.10,
        grain_um=0.8,
        droplets=1.0,
        vacuoles=0.25,
        vacuole_um=1.7,
        nucleus_um=12.5,
        nucleus_irregularity=0.03,
        nucleoli=2.5,
        multinucleate=0.03,
        mitotic=0.035,
        rounded=0.02,
        blebs=0.05,
        clustering=0.35,
    ),
    seeding_per_mm2=560.0,
    capacity_per_mm2=2100.0,
    overlap=0.54,
    alignment=0.2,
    optics=Optics(),
)
"""Flat polygonal cells in islands, somewhat like U2OS."""

SPINDLE = CellLine(
    name="spindle",
    phenotype=Phenotype(
        growth_per_h=0.024,
        area_um2=720.0,
        elongation=1.9,
        edge_roughness=0.09,
        protrusions=1.6,
        protrusion_um=11.0,
        lamella_rad=0.22,
        body_rad=0.45,
        body_spread=0.5,
        granularity_rad=0.15,
        grain_um=0.9,
        droplets=2.0,
        vacuoles=0.3,
        vacuole_um=1.5,
        nucleus_um=12.0,
        nucleus_irregularity=0.04,
        nucleoli=2.0,
        multinucleate=0.05,
        mitotic=0.03,
        rounded=0.04,
        blebs=0.1,
        clustering=0.1,
    ),
    seeding_per_mm2=420.0,
    capacity_per_mm2=1600.0,
    overlap=0.62,
    alignment=0.6,
    optics=Optics(pixel_um=1.6, halo_um=4.0, ring_transmission=0.55, wavelength_um=0.59, numerical_aperture=0.25),
)
"""Long scattered cells with processes, somewhat like a glioblastoma line, on another microscope."""

CELL_LINES = {line.name: line for line in (EPITHELIAL, SPINDLE)}
