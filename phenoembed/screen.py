"""A screen as a typed table: a row an image, its columns those of ``SCREEN_SCHEMA``, then the annotations.

Whatever describes a screen (a manifest, an instrument's export) is turned into a ``Screen`` by ``phenoembed.readers``;
everything after that (grouping, training, indexing) reads its table.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from phenoembed_store.errors import PhenoembedError
from phenoembed_store.schema import IMAGE_KEY, SCREEN_SCHEMA

STACK_COLUMN = "z_paths"
"""The planes of a z-stack, lowest first, in the row of its projection; null where an image has one plane."""

PLANES_COLUMN = "z_planes"
"""The numbers of an image's planes, in the order of its paths; there where any of them has a number."""

READING_COLUMNS = (STACK_COLUMN, PLANES_COLUMN)
"""Columns that say how an image is read, not what it shows."""

SCREEN_REJECTED_SCHEMA = pa.schema([*SCREEN_SCHEMA, ("reason", pa.string())])
"""Images that the source lists but that cannot be used, and why. What is not known of them is null."""


@dataclass(frozen=True, repr=False, eq=False)
class Screen:
    """The images of a screen.

    ``table`` has the columns of ``SCREEN_SCHEMA`` in that order, then ``z_paths`` where there is a z-stack, then the
    annotations as they came, then ``z_planes`` where planes have numbers. Paths are relative to ``root`` or absolute.
    ``source`` is the file or folder that was read, ``reader`` the reader's name, ``rejected`` what the source lists but
    cannot be used (a row an image, with ``reason``), and ``notes`` what a person should know of how it was read.
    """

    table: pa.Table
    root: Path
    source: str
    reader: str = "manifest"
    rejected: pa.Table = field(default_factory=SCREEN_REJECTED_SCHEMA.empty_table)
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        leading = pa.schema(list(self.table.schema)[: len(SCREEN_SCHEMA)])
        if not leading.equals(SCREEN_SCHEMA):
            raise ValueError(f"a screen's table starts with the columns of SCREEN_SCHEMA, not with: {leading}")

    @property
    def n_images(self) -> int:
        """Rows of the table; a z-stack is one image."""
        return int(self.table.num_rows)

    @property
    def n_plates(self) -> int:
        """Plates, told apart by screen and name."""
        return self._distinct("screen", "plate")

    @property
    def n_compounds(self) -> int:
        """Compounds of treated wells; the controls' is none of them."""
        return self._distinct("compound", treated=True)

    @property
    def n_configurations(self) -> int:
        """Distinct (concentration_um, time_h) of treated wells."""
        return self._distinct("concentration_um", "time_h", treated=True)

    def image_path(self, row: int) -> Path:
        """Where the image of a row is; of a z-stack, its lowest plane."""
        return self.root / str(self.table.column("path")[row].as_py())

    def plane_paths(self, row: int) -> list[Path]:
        """Where the planes of a row's image are, lowest first: one path, or those of its z-stack."""
        planes = self.table.column(STACK_COLUMN)[row].as_py() if STACK_COLUMN in self.table.column_names else None
        return [self.root / plane for plane in planes] if planes else [self.image_path(row)]

    def _distinct(self, *columns: str, treated: bool = False) -> int:
        rows = self.table.filter(pc.equal(self.table.column("role"), "treated")) if treated else self.table
        return int(rows.select(list(columns)).group_by(list(columns)).aggregate([]).num_rows)

    def __repr__(self) -> str:
        counts = (
            (self.n_plates, "plate"),
            (self.n_compounds, "compound"),
            (self.n_configurations, "configuration"),
            (self.n_images, "image"),
        )
        return f"Screen({', '.join(f'{n:,} {noun}' + 's' * (n != 1) for n, noun in counts)})"


def row_ids(columns: Sequence[pa.ChunkedArray | pa.Array]) -> npt.NDArray[np.int64]:
    """A number for each row, the same for two rows exactly when they agree in every one of ``columns``."""
    ids = np.zeros(len(columns[0]), np.int64)
    for column in columns:
        array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
        codes = pc.dictionary_encode(array, null_encoding="encode").indices.to_numpy().astype(np.int64)
        ids = np.unique(ids * (codes.max(initial=0) + 1) + codes, return_inverse=True)[1].astype(np.int64)
    return ids


def gather_stacks(table: pa.Table) -> pa.Table:
    """One row a z-stack: its lowest plane's row, with the paths of all its planes in ``z_paths``, lowest first.

    Planes belong together when everything of their ``IMAGE_KEY`` but ``z`` agrees. ``z`` becomes 0 everywhere: what is
    left is a projection or the only plane; ``z_planes`` keeps the numbers, where there are any. Rows keep the order in
    which their stacks first appear; ``z_paths`` is added after the screen's columns, and only when there is a stack.
    """
    if table.num_rows == 0:
        return table
    stacks = row_ids([table.column(name) for name in IMAGE_KEY if name != "z"])
    planes = np.lexsort((np.asarray(table.column("z")), stacks))  # row numbers, stack by stack, lowest plane first
    starts = np.flatnonzero(np.diff(stacks[planes], prepend=-1))
    sizes = np.diff(starts, append=len(planes))
    first_seen = np.minimum.reduceat(planes, starts)
    order = np.argsort(first_seen)
    kept = table.take(pa.array(planes[starts[order]]))
    kept = kept.set_column(kept.column_names.index("z"), "z", pa.array(np.zeros(len(starts), np.int32)))
    if sizes.max() > 1:
        paths = table.column("path").take(pa.array(planes)).to_pylist()
        stacked = [paths[starts[i] : starts[i] + sizes[i]] if sizes[i] > 1 else None for i in order]
        kept = kept.add_column(len(SCREEN_SCHEMA), STACK_COLUMN, pa.array(stacked, pa.list_(pa.string())))
    numbers = table.column("z").take(pa.array(planes)).to_pylist()
    if any(numbers):
        numbered = [numbers[starts[i] : starts[i] + sizes[i]] for i in order]
        kept = kept.append_column(PLANES_COLUMN, pa.array(numbered, pa.list_(pa.int32())))
    return kept


def choose_plane(screen: Screen, plane: int) -> Screen:
    """The screen with one plane of each image, whose number stands in ``z``; images that lack it are rejected.

    Raises PhenoembedError where no image has it. A screen whose planes have no numbers is left as it is.
    """
    table = screen.table
    if PLANES_COLUMN not in table.column_names:
        return screen
    numbers = table.column(PLANES_COLUMN).to_pylist()
    has = np.array([plane in each for each in numbers], np.bool_)
    if not has.any():
        there = ", ".join(map(str, sorted({number for each in numbers for number in each})))
        raise PhenoembedError(f"--z {plane}: no image has plane {plane}; there is {there}")
    stacks = table.column(STACK_COLUMN).to_pylist() if STACK_COLUMN in table.column_names else [None] * len(table)
    paths = [
        stack[each.index(plane)] if stack and plane in each else path
        for stack, each, path in zip(stacks, numbers, table.column("path").to_pylist(), strict=True)
    ]
    table = table.drop_columns([name for name in READING_COLUMNS if name in table.column_names])
    table = table.set_column(table.column_names.index("path"), "path", pa.array(paths, pa.string()))
    table = table.set_column(
        table.column_names.index("z"), "z", pa.array(np.where(has, plane, 0).astype(np.int32), pa.int32())
    )
    lacking = table.filter(pa.array(~has)).select(SCREEN_SCHEMA.names)
    reasons = [f"it has no plane {plane}, only {', '.join(map(str, numbers[i]))}" for i in np.flatnonzero(~has)]
    lacking = lacking.append_column("reason", pa.array(reasons, pa.string()))
    rejected = pa.concat_tables([screen.rejected, lacking.cast(SCREEN_REJECTED_SCHEMA)])
    return replace(screen, table=table.filter(pa.array(has)), rejected=rejected)
