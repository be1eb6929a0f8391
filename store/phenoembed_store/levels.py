"""The levels at which a search compares: an image, a group, a treatment (compound at one concentration), a compound."""

from dataclasses import dataclass

import numpy as np

from phenoembed_store.aggregate import (
    Floats,
    Integers,
    Units,
    compound_embeddings,
    deal,
    group_means,
    l2_normalise,
    number,
    treatment_embeddings,
)
from phenoembed_store.errors import StoreError
from phenoembed_store.images import Images

LEVELS = ("image", "group", "treatment", "compound")
KEYS = {
    "image": (),
    "group": ("group_id",),
    "treatment": ("compound", "concentration_um"),
    "compound": ("compound",),
}


@dataclass(frozen=True, eq=False)
class Level:
    """Units to compare. ``parts`` are the groups (or a group's share of a dose) whose mean each unit is.

    embeddings: (units, dim), of length one; units.of(u): rows of ``Images`` in unit u; part_unit[p]: unit of part p.
    """

    name: str
    embeddings: Floats
    units: Units
    parts: Floats
    part_units: Units
    part_unit: Integers

    def __len__(self) -> int:
        return len(self.embeddings)


def check_level(name: str) -> str:
    if name not in LEVELS:
        raise StoreError(f"no level '{name}'; one of: {', '.join(LEVELS)}")
    return name


def build_level(images: Images, name: str, rows: Integers | None = None) -> Level:
    """Aggregate images (all, or only these rows) to a level. Images of no group stand in none of its units."""
    check_level(name)
    rows = np.arange(len(images)) if rows is None else rows
    rows = rows[images.group[rows] >= 0]
    if not len(rows):
        return _empty(name, images.dim)
    doses = images.codes("concentration_um")[rows] if name == "treatment" else np.zeros(len(rows), np.int64)
    part, first = number(images.group[rows], doses)
    vectors = images.scaled if len(rows) == len(images) else images.scaled[rows]
    means = group_means(vectors, images.configuration[rows], part)
    parts = l2_normalise(means)
    if name == "group":
        unit_of_part, embeddings = np.arange(len(parts), dtype=np.int64), parts
    else:
        keys = [images.codes(key)[rows[first]] for key in KEYS[name]]
        unit_of_part, _ = number(*keys)
        embeddings = (
            treatment_embeddings(means, unit_of_part)
            if name == "treatment"
            else compound_embeddings(parts, unit_of_part)
        )
    part_units = _renumber(deal(part), rows)
    units = _renumber(deal(unit_of_part[part]), rows)
    return Level(name, embeddings, units, parts, part_units, unit_of_part)


@dataclass(frozen=True, eq=False)
class Unit:
    """Some images taken as one: its embedding (dim,) and its parts', (groups, dim), with the rows of each."""

    embedding: Floats
    parts: Floats
    part_units: Units
    rows: Integers


def unit_of(images: Images, rows: Integers, level: str = "compound") -> Unit:
    """Take these rows as one unit, aggregated as the level's units are.

    Images of no group (empty wells, spare controls) count as a group a field.
    """
    group = images.group[rows]
    loose = -2 - images.codes("field")[rows]
    part, _ = number(np.where(group >= 0, group, loose))
    means = group_means(images.scaled[rows], images.configuration[rows], part)
    parts = l2_normalise(means)
    one = np.zeros(len(parts), np.int64)
    embedding = treatment_embeddings(means, one) if level == "treatment" else compound_embeddings(parts, one)
    return Unit(embedding[0], parts, _renumber(deal(part), rows), rows)


def bare_unit(embedding: Floats) -> Unit:
    """A vector that stands for no image of the store."""
    return Unit(embedding, embedding[None], Units(np.zeros(0, np.int64), np.zeros(2, np.int64)), np.zeros(0, np.int64))


def _renumber(units: Units, rows: Integers) -> Units:
    return Units(rows[units.rows], units.starts)


def _empty(name: str, dim: int) -> Level:
    nothing = Units(np.zeros(0, np.int64), np.zeros(1, np.int64))
    none = np.zeros((0, dim), np.float32)
    return Level(name, none, nothing, none, nothing, np.zeros(0, np.int64))
