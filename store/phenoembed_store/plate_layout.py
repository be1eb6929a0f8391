"""Where wells lie on a plate, and whether those at its rim differ."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

FORMATS = ((2, 3), (3, 4), (4, 6), (6, 8), (8, 12), (16, 24), (32, 48))
"""Rows and columns of plates of 6 to 1,536 wells."""
_WELL = re.compile(r"([A-Z]|A[A-F])[-_: ]?0{0,2}([1-9]|[1-3][0-9]|4[0-8])", re.IGNORECASE)
_ROW_AND_COLUMN = re.compile(r"R0?([1-9]|[12][0-9]|3[0-2])C0?([1-9]|[1-3][0-9]|4[0-8])", re.IGNORECASE)
MIN_WELLS = 3
"""On either side, for an edge effect to be told."""


def well_name(text: str) -> str | None:
    """``a1``, ``A001``, ``A-1`` and ``R01C01`` are ``A01``; None for what is no well (rows A-AF, columns 1-48)."""
    if match := _ROW_AND_COLUMN.fullmatch(text):
        return f"{row_name(int(match[1]))}{int(match[2]):02d}"
    match = _WELL.fullmatch(text)
    return f"{match[1].upper()}{int(match[2]):02d}" if match else None


def well_place(well: str) -> tuple[int, int] | None:
    """``B03`` is (2, 3), ``AA01`` is (27, 1); None for a well of another name."""
    letters, digits = well.rstrip("0123456789"), well.lstrip("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
    if not digits.isdecimal() or not 1 <= len(letters) <= 2 or letters + digits != well:
        return None
    row = ord(letters[-1]) - 64 + (26 if len(letters) == 2 else 0)
    return row, int(digits)


def well_order(well: str) -> tuple[int, int, str]:
    """By which wells are sorted: row by row, AA after Z; wells of other names come first."""
    return (*(well_place(well) or (0, 0)), well)


def row_name(row: int) -> str:
    """The letters of a row: 1 is ``A``, 27 is ``AA``."""
    return f"{'A' if row > 26 else ''}{chr(65 + (row - 1) % 26)}"


def plate_shape(places: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """(rows, columns) of the smallest plate that has these places."""
    rows, columns = (max((place[axis] for place in places), default=1) for axis in (0, 1))
    return next((shape for shape in FORMATS if rows <= shape[0] and columns <= shape[1]), FORMATS[-1])


@dataclass(frozen=True)
class EdgeEffect:
    """Mean value of the wells at a plate's rim and inside; ``apart`` is their difference in sd of all these wells."""

    rim: float
    inside: float
    apart: float
    n_rim: int
    n_inside: int
    of: str  # "control wells", where there are enough of them on both sides, or "wells"

    @property
    def clear(self) -> bool:
        """More than half an sd apart, and more than twice what so few wells differ by chance (the standard error)."""
        return abs(self.apart) > max(0.5, 2 * math.sqrt(1 / self.n_rim + 1 / self.n_inside))


def edge_effect(values: Floats, at_rim: Mask, control: Mask) -> EdgeEffect | None:
    """Whether wells at the rim differ, by the controls where they suffice; each array has a value a well.

    None where fewer than three wells lie on either side, or nothing varies.
    """
    for of, chosen in (("control wells", control), ("wells", np.ones(len(values), bool))):
        rim, inside = values[chosen & at_rim], values[chosen & ~at_rim]
        if min(len(rim), len(inside)) >= MIN_WELLS:
            spread = float(np.concatenate([rim, inside]).std())
            apart = float(rim.mean() - inside.mean()) / spread if spread else 0.0
            means = float(rim.mean()), float(inside.mean())
            return EdgeEffect(*means, apart, len(rim), len(inside), of) if spread else None
    return None
