"""A screen seen as groups: which images of it stand together, as rows into its table."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa

from phenoembed_store.grouping import assign_groups

GROUP_COLUMNS = ("group_id", "screen", "compound", "replicate", "set", "field", "role")


@dataclass(frozen=True)
class Groups:
    """``table``: a row a group (``GROUP_COLUMNS`` and annotations), sorted by id; ``rows[g]``: its images' rows."""

    table: pa.Table
    rows: tuple[np.ndarray, ...]  # a group's rows into the images' table, by configuration
    configurations: tuple[np.ndarray, ...]  # the configuration of each of these rows

    def __repr__(self) -> str:
        return f"Groups({len(self.rows):,} groups, {sum(map(len, self.rows)):,} images)"

    @cached_property
    def number(self) -> dict[str, int]:
        """Group id -> its place in ``table`` and ``rows``."""
        return {name: i for i, name in enumerate(self.table.column("group_id").to_pylist())}

    @cached_property
    def compounds(self) -> np.ndarray:
        """(groups,) the compound of each group."""
        return np.array(self.table.column("compound").to_pylist(), dtype=object)

    @cached_property
    def roles(self) -> np.ndarray:
        """(groups,) treated or control."""
        return np.array(self.table.column("role").to_pylist(), dtype=object)

    def places(self, ids: Sequence[str]) -> np.ndarray:
        """The places of these group ids, leaving out those that hold no image (all of them rejected)."""
        return np.array([self.number[name] for name in ids if name in self.number], dtype=int)


def group_images(images: pa.Table, usable: np.ndarray | None = None) -> Groups:
    """Groups of a table of images. ``usable``: (images,) bool, which rows may be used; groups of none are left out.

    A table that already has ``group_id``, ``set`` and ``configuration`` keeps them. Which group an image belongs to
    does not depend on which other images are usable.
    """
    placed = images if "group_id" in images.column_names else assign_groups(images)
    ids = np.array([name or "" for name in placed.column("group_id").to_pylist()], dtype=object)
    configuration = placed.column("configuration").fill_null(-1).to_numpy()
    kept = ids != ""
    if usable is not None:
        kept &= usable
    rows = np.flatnonzero(kept)
    order = rows[np.lexsort((rows, configuration[rows], ids[rows].astype(str)))]
    _, starts = np.unique(ids[order].astype(str), return_index=True)
    members = np.split(order, starts[1:]) if len(order) else []
    firsts = np.array([member[0] for member in members], dtype=int)
    annotations = [name for name in placed.column_names if name in ("moa",)]
    table = placed.select([*GROUP_COLUMNS, *annotations]).take(pa.array(firsts))
    return Groups(table, tuple(members), tuple(configuration[member] for member in members))
