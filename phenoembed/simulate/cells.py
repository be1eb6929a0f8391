"""One cell as a patch of phase: an outline, a thin lamella, a thick granular body, nucleus, nucleoli, vesicles."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from phenoembed.simulate.phenotype import Phenotype

Patch = NDArray[np.float32]

ANGLES = np.linspace(-np.pi, np.pi, 97)  # the last repeats the first
LONG_WAVES = np.arange(2, 6)
SHORT_WAVES = np.arange(6, 16)
ROUND_RAD_A_UM = 0.42  # phase a micrometre of a rounded cell: 2 pi / 0.55 µm times an index 0.037 above the medium's


@dataclass(frozen=True)
class CellPatch:
    """A square of phase to add to a field, centred on the cell."""

    phase: Patch  # radians
    cover: Patch  # 0 outside the cell, 1 inside
    texture: Patch  # sd of the organelle texture there, radians


def spread_cell(
    rng: np.random.Generator, phenotype: Phenotype, direction: float, limit_um: NDArray[np.float64], step_um: float
) -> CellPatch:
    """A cell that lies flat. ``limit_um`` is how far neighbours let it reach at each of ``ANGLES``."""
    radius = _outline(rng, phenotype, direction, limit_um)
    x, y = _grid(float(radius.max()) + 2 * step_um, step_um)
    x, y = _warp(rng, x, y)
    distance, angle = np.hypot(x, y), np.arctan2(y, x)
    reach = np.interp(angle, ANGLES, radius).astype(np.float32)
    inward = reach - distance  # µm to the edge, along the radius
    cover = 1 / (1 + np.exp(np.clip(-inward / 0.6, -30, 30)))
    middle = float(np.sqrt(np.mean(np.minimum(radius, 2 * np.median(radius)) ** 2)))
    thick = np.exp(-((distance / (phenotype.body_spread * 0.5 * (reach + middle))) ** 2))
    tall = _spread(rng, 0.2)
    phase = cover * (
        phenotype.lamella_rad * (0.55 + 0.45 * np.clip(inward / 3, 0, 1)) + phenotype.body_rad * tall * thick
    )
    texture = cover * phenotype.granularity_rad * _spread(rng, 0.25) * (0.25 + thick)
    inside = np.zeros_like(phase)
    for nucleus in _nuclei(rng, phenotype, direction, middle):
        _add_nucleus(rng, phenotype, nucleus, x, y, phase, inside)
    texture = texture * (1 - 0.8 * inside)
    _add_vesicles(rng, phenotype, radius, x, y, phase)
    _add_blebs(rng, phenotype, radius, x, y, phase)
    return CellPatch(phase.astype(np.float32), cover.astype(np.float32), texture.astype(np.float32))


def round_cell(rng: np.random.Generator, phenotype: Phenotype, step_um: float, dividing: bool) -> CellPatch:
    """A cell that has let go: a ball. A dividing one shows its plate of chromosomes, or two daughters."""
    radius = 0.40 * np.sqrt(phenotype.area_um2 / np.pi) * _spread(rng, 0.08) + 2.2
    x, y = _grid(2.2 * radius, step_um)
    phase = np.zeros_like(x)
    turn = rng.uniform(0, np.pi)
    along, across = np.cos(turn) * x + np.sin(turn) * y, np.cos(turn) * y - np.sin(turn) * x
    stage = rng.uniform() if dividing else 1.0
    if stage < 0.2:
        for side in (-0.78, 0.78):
            phase += _ball(along - side * radius, across, 0.78 * radius)
    else:
        phase += _ball(along, across, radius)
    if 0.2 <= stage < 0.7:
        phase += 0.8 * np.exp(-((along / 1.2) ** 2) - (across / (0.55 * radius)) ** 2)
    cover = np.minimum(1, phase)
    return CellPatch(phase.astype(np.float32), cover.astype(np.float32), (0.12 * cover).astype(np.float32))


def dead_cell(rng: np.random.Generator, phenotype: Phenotype, step_um: float) -> CellPatch:
    """A shrunken, blebbing or fragmented remnant."""
    radius = 0.30 * np.sqrt(phenotype.area_um2 / np.pi) * _spread(rng, 0.2) + 1.5
    x, y = _grid(3.2 * radius, step_um)
    phase = np.zeros_like(x)
    for _ in range(int(rng.integers(3, 9))):
        away, turn = radius * rng.uniform(0.1, 1.6), rng.uniform(0, 2 * np.pi)
        phase += _ball(x - away * np.cos(turn), y - away * np.sin(turn), radius * rng.uniform(0.25, 0.75))
    cover = np.minimum(1, phase)
    return CellPatch(phase.astype(np.float32), cover.astype(np.float32), (0.3 * cover).astype(np.float32))


def _outline(
    rng: np.random.Generator, phenotype: Phenotype, direction: float, limit_um: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Radius in µm at each of ``ANGLES``: a wavy ellipse, held in by neighbours, with processes."""
    radius = np.sqrt(phenotype.area_um2 * _spread(rng, 0.25) / np.pi)
    stretch = np.sqrt(1 + phenotype.elongation * _spread(rng, 0.4))
    turned = ANGLES - direction
    outline = radius / np.sqrt((np.cos(turned) / stretch) ** 2 + (np.sin(turned) * stretch) ** 2)
    outline = outline * np.exp(_waves(rng, LONG_WAVES, 0.14) + _waves(rng, SHORT_WAVES, phenotype.edge_roughness))
    outline = (outline**-6 + limit_um**-6) ** (-1 / 6)
    for _ in range(rng.poisson(phenotype.protrusions)):
        at = direction + np.pi * rng.integers(2) + rng.normal(0, 0.8)  # mostly from the two ends
        away = np.abs(np.angle(np.exp(1j * (ANGLES - at)))) / rng.uniform(0.12, 0.25)
        outline = outline + rng.gamma(3, phenotype.protrusion_um / 3) * np.exp(-(away**1.3))
    return np.asarray(np.maximum(outline, 2.0))


def _warp(rng: np.random.Generator, x: Patch, y: Patch) -> tuple[Patch, Patch]:
    """Bend the plane by 1 to 3 µm, so that cells are no stars around their centres."""
    (size_x, size_y), (phase_x, phase_y) = rng.uniform(1, 3, 2), rng.uniform(0, 2 * np.pi, 2)
    wave = np.float32(2 * np.pi / rng.uniform(22, 40))
    bent_x = x + np.float32(size_x) * np.sin(wave * y + np.float32(phase_x))
    return bent_x, y + np.float32(size_y) * np.sin(wave * x + np.float32(phase_y))


def _waves(rng: np.random.Generator, orders: NDArray[np.int64], sd: float) -> NDArray[np.float64]:
    size = rng.normal(0, sd / np.sqrt(len(orders) / 2), len(orders)) * orders[0] / orders
    phase = rng.uniform(0, 2 * np.pi, len(orders))
    summed: NDArray[np.float64] = size @ np.cos(orders[:, None] * ANGLES + phase[:, None])
    return summed


def _nuclei(
    rng: np.random.Generator, phenotype: Phenotype, direction: float, middle: float
) -> list[tuple[float, float, float, float]]:
    """Centre, radius and direction of each nucleus."""
    count = int(rng.integers(2, 5)) if rng.uniform() < phenotype.multinucleate else 1
    radius = min(0.5 * phenotype.nucleus_um * _spread(rng, 0.1), 0.62 * middle)
    if count == 1:
        x, y = rng.normal(0, 0.12 * middle, 2)
        return [(float(x), float(y), radius, direction)]
    small = radius * (1.25 / count) ** 0.5
    turns = rng.uniform(0, 2 * np.pi) + 2 * np.pi * np.arange(count) / count
    return [
        (float(small * 1.0 * np.cos(turn)), float(small * 1.0 * np.sin(turn)), small * _spread(rng, 0.15), float(turn))
        for turn in turns
    ]


def _add_nucleus(
    rng: np.random.Generator,
    phenotype: Phenotype,
    nucleus: tuple[float, float, float, float],
    x: Patch,
    y: Patch,
    phase: Patch,
    inside: Patch,
) -> None:
    """A smooth clear oval with a rim and dense nucleoli."""
    x0, y0, radius, direction = nucleus
    dx, dy = x - x0, y - y0
    along, across = np.cos(direction) * dx + np.sin(direction) * dy, np.cos(direction) * dy - np.sin(direction) * dx
    lobes = 1 + 2 * phenotype.nucleus_irregularity * np.cos(3 * np.arctan2(across, along) + rng.uniform(0, 6))
    out = np.hypot(along / 1.12, across * 1.12) / (radius * lobes)
    mask = 1 / (1 + np.exp(np.clip((out - 1) * radius / 0.5, -30, 30)))
    phase += 0.10 * mask * np.sqrt(np.clip(1 - out**2, 0, 1)) - 0.25 * phenotype.body_rad * mask
    phase += 0.10 * np.exp(-(((out - 1) * radius / 0.7) ** 2))
    for _ in range(rng.poisson(phenotype.nucleoli)):
        away, turn, size = radius * 0.55 * np.sqrt(rng.uniform()), rng.uniform(0, 2 * np.pi), rng.uniform(0.9, 1.6)
        phase += 0.38 * np.exp(-((dx - away * np.cos(turn)) ** 2 + (dy - away * np.sin(turn)) ** 2) / size**2)
    np.maximum(inside, mask, out=inside)


def _add_vesicles(
    rng: np.random.Generator, phenotype: Phenotype, radius: NDArray[np.float64], x: Patch, y: Patch, phase: Patch
) -> None:
    """Dense droplets, which look bright, and watery vacuoles, clear with a rim, between nucleus and margin."""
    for dense, mean in ((True, phenotype.droplets), (False, phenotype.vacuoles)):
        for _ in range(min(int(rng.poisson(mean)), 14)):
            at = int(rng.integers(len(ANGLES)))
            away = rng.uniform(0.25, 0.75) * min(radius[at], 1.3 * float(np.median(radius)))
            size = rng.uniform(0.6, 1.0) if dense else phenotype.vacuole_um * _spread(rng, 0.3)
            out = ((x - away * np.cos(ANGLES[at])) ** 2 + (y - away * np.sin(ANGLES[at])) ** 2) / size**2
            if dense:
                phase += 1.1 * np.exp(-out)
            else:
                phase += 0.15 * np.exp(-((np.sqrt(out) - 1.25) ** 2) / 0.08) - 0.5 * np.exp(-(out**2))


def _add_blebs(
    rng: np.random.Generator, phenotype: Phenotype, radius: NDArray[np.float64], x: Patch, y: Patch, phase: Patch
) -> None:
    """Small balls on the outline."""
    for _ in range(min(int(rng.poisson(phenotype.blebs)), 10)):
        at = int(rng.integers(len(ANGLES)))
        away = radius[at] * 0.92
        phase += 0.6 * _ball(x - away * np.cos(ANGLES[at]), y - away * np.sin(ANGLES[at]), rng.uniform(1.2, 2.5))


def _ball(x: Patch, y: Patch, radius: float) -> Patch:
    """Phase of a ball of cytoplasm."""
    chord: Patch = 2 * ROUND_RAD_A_UM * np.sqrt(np.clip(radius**2 - x**2 - y**2, 0, None))
    return chord


def _grid(reach_um: float, step_um: float) -> tuple[Patch, Patch]:
    half = int(np.ceil(reach_um / step_um))
    axis = (np.arange(-half, half + 1) * step_um).astype(np.float32)
    x, y = np.meshgrid(axis, axis)
    return x, y


def _spread(rng: np.random.Generator, sd: float) -> float:
    """A factor around 1 by which cells of one well differ."""
    return float(np.exp(rng.normal(0, sd)))
