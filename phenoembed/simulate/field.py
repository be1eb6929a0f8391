"""A field of view: cells settle, spread between their neighbours, and are imaged."""

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from scipy.spatial import cKDTree

from phenoembed.simulate.cell_lines import CellLine
from phenoembed.simulate.cells import ANGLES, CellPatch, dead_cell, round_cell, spread_cell
from phenoembed.simulate.optics import Image, bin_pixels, expose, zernike
from phenoembed.simulate.phenotype import Phenotype
from phenoembed.simulate.wells import Population, WellEffects

Points = NDArray[np.float64]  # (cells, 2), µm


def render_field(
    line: CellLine, cells: Population, effects: WellEffects, size: int, rng: np.random.Generator
) -> NDArray[np.uint16]:
    """One image of ``size`` x ``size`` pixels. Fields of a well differ in density, focus and exposure too."""
    optics = line.optics
    step_um = optics.pixel_um / optics.oversampling
    margin = int(np.ceil(16 / optics.pixel_um))  # pixels: halos and cells reach in from outside
    crowding = float(np.exp(rng.normal(0, 0.15)))
    phase = phase_map(line, cells, crowding, effects.debris_per_mm2, (size + 2 * margin) * optics.oversampling, rng)
    intensity = zernike(phase, optics, step_um, effects.focus_um + float(rng.normal(0, 1.5)))
    intensity = bin_pixels(intensity, optics.oversampling)[margin : margin + size, margin : margin + size]
    exposure = effects.exposure * float(np.exp(rng.normal(0, 0.02)))
    return expose(intensity, _illumination(size, effects), effects.veil, exposure, optics, rng)


def phase_map(
    line: CellLine, cells: Population, crowding: float, debris_per_mm2: float, size: int, rng: np.random.Generator
) -> Image:
    """Phase in radians over a square of ``size`` grid points, the sum of all cells in it."""
    step_um = line.optics.pixel_um / line.optics.oversampling
    side_um = size * step_um
    area_mm2 = (side_um / 1000) ** 2
    phenotype = cells.phenotype
    canvas = _Canvas(size, step_um)
    for point in rng.uniform(0, side_um, (rng.poisson(debris_per_mm2 * area_mm2), 2)):
        canvas.add(point, _debris(rng, step_um))
    points = _settle(rng, phenotype, rng.poisson(cells.living * crowding * area_mm2), side_um)
    fate = rng.uniform(size=len(points))
    spread = fate >= phenotype.mitotic + phenotype.rounded
    limits = _limits(points[spread], phenotype, line.overlap)
    main_direction = rng.uniform(0, np.pi)
    for point, limit in zip(points[spread], limits, strict=True):
        direction = main_direction + (1 - line.alignment) * rng.uniform(-np.pi / 2, np.pi / 2)
        canvas.add(point, spread_cell(rng, phenotype, direction, limit, step_um))
    phase = canvas.textured(rng, phenotype.grain_um)
    canvas = _Canvas(size, step_um)
    for point, dividing in zip(points[~spread], fate[~spread] < phenotype.mitotic, strict=True):
        canvas.add(point, round_cell(rng, phenotype, step_um, bool(dividing)))
    for point in rng.uniform(0, side_um, (rng.poisson(cells.dead * crowding * area_mm2), 2)):
        canvas.add(point, dead_cell(rng, phenotype, step_um))
    return phase + canvas.textured(rng, 1.0)


class _Canvas:
    """Phase summed over patches, each softened where it lies over an earlier one."""

    def __init__(self, size: int, step_um: float) -> None:
        self.phase, self.cover, self.texture = np.zeros((3, size, size), np.float32)
        self.step_um = step_um

    def add(self, point: Points, patch: CellPatch) -> None:
        size, half = len(self.phase), len(patch.phase) // 2
        row, column = (round(float(c) / self.step_um) - half for c in point[::-1])
        rows = slice(max(row, 0), min(row + 2 * half + 1, size))
        columns = slice(max(column, 0), min(column + 2 * half + 1, size))
        if rows.start >= rows.stop or columns.start >= columns.stop:
            return
        here = (rows, columns)
        there = (slice(rows.start - row, rows.stop - row), slice(columns.start - column, columns.stop - column))
        alone = 1 / (1 + 1.5 * self.cover[here])
        self.phase[here] += patch.phase[there] * alone
        self.texture[here] += patch.texture[there] * alone
        self.cover[here] += patch.cover[there]

    def textured(self, rng: np.random.Generator, grain_um: float) -> Image:
        """The phase with organelles: noise of this grain, skewed so that dense granules stand out."""
        noise = gaussian_filter(rng.standard_normal(self.phase.shape, dtype=np.float32), grain_um / self.step_um)
        noise = noise / noise.std()
        skewed = 0.8 * noise + 0.4 * (noise**2 - 1)
        textured: Image = self.phase + self.texture * skewed
        return textured


def _settle(rng: np.random.Generator, phenotype: Phenotype, count: int, side_um: float) -> Points:
    """Where cells lie: some beside another cell, none on top of another."""
    reach = float(np.sqrt(phenotype.area_um2 / np.pi))
    points = rng.uniform(0, side_um, (count, 2))
    beside = np.flatnonzero(rng.uniform(size=max(count - 1, 0)) < phenotype.clustering) + 1
    alone = np.setdiff1d(np.arange(count), beside)
    turns = rng.uniform(0, 2 * np.pi, len(beside))
    points[beside] = points[rng.choice(alone, len(beside))] + 1.5 * reach * np.stack([np.cos(turns), np.sin(turns)], 1)
    points %= side_um
    apart = min(1.4 * reach, 0.8 * side_um / np.sqrt(max(count, 1)))
    for _ in range(6):
        pairs = cKDTree(points).query_pairs(apart, output_type="ndarray") if count > 1 else np.zeros((0, 2), int)
        between = points[pairs[:, 0]] - points[pairs[:, 1]]
        distance = np.linalg.norm(between, axis=1, keepdims=True) + 1e-6
        push = 0.35 * (apart - distance) * between / distance
        np.add.at(points, pairs[:, 0], push)
        np.add.at(points, pairs[:, 1], -push)
    return points


def _limits(points: Points, phenotype: Phenotype, overlap: float) -> Points:
    """How far each cell may reach at each of ``ANGLES``: to a line between it and each neighbour, (cells, angles)."""
    free = 4 * np.sqrt(phenotype.area_um2)
    limits = np.full((len(points), len(ANGLES)), free)
    if len(points) < 2:
        return limits
    distances, neighbours = cKDTree(points).query(points, k=min(8, len(points)))
    for distance, neighbour in zip(distances.T[1:], neighbours.T[1:], strict=True):
        x, y = (points[neighbour] - points).T
        facing = np.cos(ANGLES[None, :] - np.arctan2(y, x)[:, None])  # (cells, angles)
        limits = np.minimum(
            limits, np.where(facing > 0.05, overlap * distance[:, None] / np.maximum(facing, 0.05), free)
        )
    return limits


def _debris(rng: np.random.Generator, step_um: float) -> CellPatch:
    """A speck or a shred on the well's bottom."""
    half = int(np.ceil(6 / step_um))
    axis = (np.arange(-half, half + 1) * step_um).astype(np.float32)
    phase = np.zeros((len(axis), len(axis)), np.float32)
    for x, y in rng.normal(0, 1.2, (int(rng.integers(1, 5)), 2)):
        size = rng.uniform(0.6, 1.4)
        phase += rng.uniform(0.1, 0.4) * np.exp(-((axis[None, :] - x) ** 2 + (axis[:, None] - y) ** 2) / size**2)
    return CellPatch(phase, np.zeros_like(phase), np.zeros_like(phase))


def _illumination(size: int, effects: WellEffects) -> Image:
    axis = np.linspace(-1, 1, size, dtype=np.float32)
    across, down, curved = (np.float32(g) for g in effects.gradient)
    field: Image = (
        1 + across * axis[None, :] + down * axis[:, None] + curved * (axis[None, :] ** 2 + axis[:, None] ** 2)
    )
    return np.maximum(field, np.float32(0.2))
