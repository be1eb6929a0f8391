"""One cell as a patch of phase: an outline, a thin lamella, a thick granular body, nucleus, nucleoli, vesicles."""

import math
from dataclasses import dataclass
from typing import Any

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
    axis = _axis(float(radius.max()) + 4, step_um)
    x, y = _warp(rng, axis)
    distance = np.hypot(x, y)
    reach = np.interp(np.arctan2(y, x), ANGLES, radius).astype(np.float32)
    inward = reach - distance  # µm to the edge, along the radius
    cover = _sigmoid(inward / np.float32(0.6))
    middle = float(np.sqrt(np.mean(np.minimum(radius, 2 * np.median(radius)) ** 2)))
    thick = np.exp(-((distance / (np.float32(phenotype.body_spread) * (0.5 * reach + 0.5 * middle))) ** 2))
    phase = (
        phenotype.lamella_rad * (0.7 + 0.3 * np.clip(inward / 3, 0, 1)) + phenotype.body_rad * _spread(rng, 0.2) * thick
    )
    phase *= cover
    texture = phenotype.granularity_rad * _spread(rng, 0.25) * cover * (0.25 + thick)
    for nucleus in _nuclei(rng, phenotype, direction, middle):
        _add_nucleus(rng, phenotype, nucleus, axis, phase, texture)
    _add_vesicles(rng, phenotype, radius, axis, phase)
    _add_blebs(rng, phenotype, radius, axis, phase)
    return CellPatch(phase, cover, texture)


def round_cell(rng: np.random.Generator, phenotype: Phenotype, step_um: float, dividing: bool) -> CellPatch:
    """A cell that has let go: a ball. A dividing one shows its plate of chromosomes, or two daughters."""
    radius = 0.40 * math.sqrt(phenotype.area_um2 / math.pi) * _spread(rng, 0.08) + 2.2
    axis = _axis(2.2 * radius, step_um)
    phase = np.zeros((len(axis), len(axis)), np.float32)
    turn = rng.uniform(0, math.pi)
    stage = rng.uniform() if dividing else 1.0
    for side in (-0.78, 0.78) if stage < 0.2 else (0.0,):
        small = 0.78 if side else 1.0
        _add_ball(axis, side * radius * math.cos(turn), side * radius * math.sin(turn), small * radius, phase)
    if 0.2 <= stage < 0.7:
        along = math.cos(turn) * axis[None, :] + math.sin(turn) * axis[:, None]
        across = math.cos(turn) * axis[:, None] - math.sin(turn) * axis[None, :]
        phase += 0.8 * np.exp(-((along / 1.2) ** 2) - (across / (0.55 * radius)) ** 2)
    cover = np.minimum(1, phase)
    return CellPatch(phase, cover, np.float32(0.25) * cover)


def dead_cell(rng: np.random.Generator, phenotype: Phenotype, step_um: float) -> CellPatch:
    """A shrunken, blebbing or fragmented remnant."""
    radius = 0.34 * math.sqrt(phenotype.area_um2 / math.pi) * _spread(rng, 0.25) + 1.5
    axis = _axis(3.0 * radius, step_um)
    phase = np.zeros((len(axis), len(axis)), np.float32)
    for _ in range(int(rng.integers(3, 10))):
        away, turn = radius * rng.uniform(0.1, 1.5), rng.uniform(0, 2 * math.pi)
        bleb = radius * rng.uniform(0.2, 0.75)
        _add_ball(axis, away * math.cos(turn), away * math.sin(turn), bleb, phase, rng.uniform(0.3, 1.0))
    cover = np.minimum(1, phase)
    return CellPatch(phase, cover, np.float32(0.5) * cover)


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
    for _ in range(min(int(rng.poisson(phenotype.protrusions)), 7)):
        at = direction + np.pi * rng.integers(2) + rng.normal(0, 0.8)  # mostly from the two ends
        length = rng.gamma(3, phenotype.protrusion_um / 3)
        away = np.abs(np.angle(np.exp(1j * (ANGLES - at)))) * (radius + length) / rng.uniform(2.5, 5.0)
        outline = outline + length * np.exp(-(away**1.3))
    return np.asarray(np.maximum(outline, 2.0))


def _warp(rng: np.random.Generator, axis: Patch) -> tuple[Patch, Patch]:
    """Bend the plane around the centre by 1 to 3 µm, so that outlines are no stars. Returns x and y of each point."""
    size, phase = rng.uniform(1, 3, 2), rng.uniform(0, 2 * math.pi, 2)
    wave = 2 * math.pi / rng.uniform(35, 70)
    x = axis[None, :] + (size[0] * (np.sin(wave * axis + phase[0]) - np.sin(phase[0]))).astype(np.float32)[:, None]
    y = axis[:, None] + (size[1] * (np.sin(wave * axis + phase[1]) - np.sin(phase[1]))).astype(np.float32)[None, :]
    return x, y


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
    axis: Patch,
    phase: Patch,
    texture: Patch,
) -> None:
    """A smooth clear oval with a rim and dense nucleoli."""
    x0, y0, radius, direction = nucleus
    here, dx, dy = _window(axis, x0, y0, 1.6 * radius + 2)
    along, across = (
        math.cos(direction) * dx + math.sin(direction) * dy,
        math.cos(direction) * dy - math.sin(direction) * dx,
    )
    lobes = 1 + 2 * phenotype.nucleus_irregularity * np.cos(3 * np.arctan2(across, along) + rng.uniform(0, 6))
    out = np.hypot(along / 1.12, across * 1.12) / (radius * lobes)  # 1 on the rim
    mask = _sigmoid((1 - out) * np.float32(2 * radius))
    phase[here] += mask * (0.10 * np.sqrt(np.clip(1 - out**2, 0, 1)) - 0.4 * phenotype.body_rad)
    phase[here] += 0.10 * np.exp(-(((out - 1) * (radius / 0.7)) ** 2))
    texture[here] *= 1 - 0.8 * mask
    for _ in range(rng.poisson(phenotype.nucleoli)):
        away, turn = radius * 0.55 * math.sqrt(rng.uniform()), rng.uniform(0, 2 * math.pi)
        _add_blob(axis, x0 + away * math.cos(turn), y0 + away * math.sin(turn), rng.uniform(0.9, 1.6), 0.38, phase)


def _add_vesicles(
    rng: np.random.Generator, phenotype: Phenotype, radius: NDArray[np.float64], axis: Patch, phase: Patch
) -> None:
    """Dense droplets, which look bright, and watery vacuoles, clear with a rim, between nucleus and margin."""
    within = np.minimum(radius, 1.3 * np.median(radius))
    for dense, mean in ((True, phenotype.droplets), (False, phenotype.vacuoles)):
        for _ in range(min(int(rng.poisson(mean)), 14)):
            at = int(rng.integers(len(ANGLES)))
            away = rng.uniform(0.25, 0.75) * float(within[at])
            x, y = away * math.cos(ANGLES[at]), away * math.sin(ANGLES[at])
            if dense:
                _add_blob(axis, x, y, rng.uniform(0.6, 1.0), 1.1, phase)
                continue
            size = phenotype.vacuole_um * _spread(rng, 0.3)
            here, dx, dy = _window(axis, x, y, 2 * size)
            out = np.hypot(dx, dy) / size
            phase[here] += 0.15 * np.exp(-((out - 1.25) ** 2) / 0.08) - 0.5 * np.exp(-(out**4))


def _add_blebs(
    rng: np.random.Generator, phenotype: Phenotype, radius: NDArray[np.float64], axis: Patch, phase: Patch
) -> None:
    """Small balls on the outline."""
    for _ in range(min(int(rng.poisson(phenotype.blebs)), 10)):
        at = int(rng.integers(len(ANGLES)))
        away = 0.92 * float(radius[at])
        x, y = away * math.cos(ANGLES[at]), away * math.sin(ANGLES[at])
        _add_ball(axis, x, y, rng.uniform(1.2, 2.5), phase, 0.6)


def _add_ball(axis: Patch, x0: float, y0: float, radius: float, phase: Patch, density: float = 1.0) -> None:
    """A ball of cytoplasm: its phase follows the chord."""
    here, dx, dy = _window(axis, x0, y0, radius)
    phase[here] += 2 * density * ROUND_RAD_A_UM * np.sqrt(np.clip(radius**2 - dx**2 - dy**2, 0, None))


def _add_blob(axis: Patch, x0: float, y0: float, radius: float, peak: float, phase: Patch) -> None:
    here, dx, dy = _window(axis, x0, y0, 2.5 * radius)
    phase[here] += peak * np.exp(-((dx / radius) ** 2)) * np.exp(-((dy / radius) ** 2))


def _window(axis: Patch, x0: float, y0: float, reach_um: float) -> tuple[tuple[slice, slice], Patch, Patch]:
    """The part of a patch around a point, and where its columns and rows lie from there, µm."""
    step, half = float(axis[1] - axis[0]), len(axis) // 2
    wide = math.ceil(reach_um / step) + 1
    row, column = half + round(y0 / step), half + round(x0 / step)
    rows, columns = (
        slice(max(row - wide, 0), max(row + wide + 1, 0)),
        slice(max(column - wide, 0), max(column + wide + 1, 0)),
    )
    return (rows, columns), axis[None, columns] - np.float32(x0), axis[rows, None] - np.float32(y0)


def _axis(reach_um: float, step_um: float) -> Patch:
    half = math.ceil(reach_um / step_um)
    return (np.arange(-half, half + 1) * step_um).astype(np.float32)


def _sigmoid(x: NDArray[Any]) -> Patch:
    return np.asarray(1 / (1 + np.exp(-np.clip(x, -30, 30))), np.float32)


def _spread(rng: np.random.Generator, sd: float) -> float:
    """A factor around 1 by which cells of one well differ."""
    return math.exp(rng.normal(0, sd))
