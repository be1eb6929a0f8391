"""Which images are unusual on their plate, and how each plate did. Nothing is left out: outliers are flagged.

An image is flagged ``out of focus`` or ``unusually sharp`` where the logarithm of its focus lies 5 robust standard
deviations from its plate's median (dust and noise make images sharp), ``saturated`` where more than 1% of its pixels
have its highest value, and ``empty`` where cells cover less than 1% of it.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from phenoembed_store.schema import QUALITY_FLAG

if TYPE_CHECKING:
    from phenoembed_store.store import Store

Floats = npt.NDArray[np.float64]

FLAGS = ("out of focus", "unusually sharp", "saturated", "empty")
FAR = 5.0  # robust standard deviations: one image in two million, were they normal
SATURATED = 0.01
EMPTY = 0.01
MIN_IMAGES = 8  # on a plate, to know what is usual there
_MAD_TO_SD = 1.4826


def quality_flags(rows: pa.Table) -> pa.Array:
    """For each image what is unusual of it, several joined by commas; null where nothing is, or nothing is known.

    ``rows`` has ``screen, plate, channel, role`` and the columns of ``QUALITY``.
    """
    focus, saturation, confluence = (_floats(rows, name) for name in ("focus", "saturation", "confluence"))
    with np.errstate(divide="ignore", invalid="ignore"):
        sharpness = robust_z(np.log(np.maximum(focus, 1e-12)), _plates(rows))
        lived_in = np.asarray(rows.column("role").to_pylist(), object) != "empty"
        marks = (sharpness < -FAR, sharpness > FAR, saturation > SATURATED, (confluence < EMPTY) & lived_in)
    flagged = np.full(len(rows), None, object)
    for name, these in zip(FLAGS, marks, strict=True):
        for i in np.flatnonzero(these):
            flagged[i] = name if flagged[i] is None else f"{flagged[i]}, {name}"
    return pa.array(flagged, pa.string())


def robust_z(values: Floats, owners: npt.NDArray[np.int64]) -> Floats:
    """How far each value lies from its owner's median, in sd as the median absolute deviation gives it; NaN if few."""
    found = np.full(len(values), np.nan)
    order = np.argsort(owners, kind="stable")
    for members in np.split(order, np.flatnonzero(np.diff(owners[order])) + 1):
        known = members[np.isfinite(values[members])]
        if len(known) < MIN_IMAGES:
            continue
        centre = np.median(values[known])
        spread = np.median(np.abs(values[known] - centre)) * _MAD_TO_SD
        found[known] = (values[known] - centre) / max(spread, 1e-6)
    return found


def plate_summaries(store: "Store", encoder: str | None = None) -> list[dict[str, Any]]:
    """How each plate did (of one encoder's images): images, flags, edge effect, replicate correlation.

    ``edge_effect``: the mean intensity of control wells at the rim minus that of the others, in sd of all (of all
    wells where fewer than three controls lie on one side). ``replicate_correlation``: the median correlation of the
    embeddings of its treated wells with wells of the same compound, concentration and time on other plates, each well
    less its plate's mean; ``other_correlation``: with wells of other compounds there, which chance gives.
    """
    name = store.resolve_encoder(encoder) if encoder else store.default_encoder()
    images = store._images_of(name)
    wells = _Wells(images.table, images.vectors)
    flags = images.column(QUALITY_FLAG).to_pylist() if QUALITY_FLAG in images.column_names else [None] * len(images)
    alike, others = wells.correlations()
    found = []
    for number, plate in enumerate(wells.plates):
        mine = [flag for flag, owner in zip(flags, wells.plate_of_image, strict=True) if owner == number]
        counts = {one: sum(one in (flag or "") for flag in mine) for one in FLAGS}
        here = wells.plate == number
        found.append(
            {
                "screen": plate[0],
                "plate": plate[1],
                "images": len(mine),
                "flagged": sum(flag is not None for flag in mine),
                "flags": {one: count for one, count in counts.items() if count},
                "edge_effect": wells.edge_effect(here),
                "replicate_correlation": _median(alike[here]),
                "other_correlation": _median(others[here]),
            }
        )
    return found


class _Wells:
    """The wells of a store's plates: means over their images."""

    def __init__(self, rows: pa.Table, vectors: npt.NDArray[np.float32]) -> None:
        columns = (rows.column(name).to_pylist() for name in ("screen", "plate", "well", "time_h"))
        keys = list(zip(*columns, strict=True))
        self.keys = list(dict.fromkeys(keys))
        number = {key: i for i, key in enumerate(self.keys)}
        owner = np.array([number[key] for key in keys], np.int64)
        self.plates = sorted({key[:2] for key in self.keys})
        place = {plate: i for i, plate in enumerate(self.plates)}
        self.plate = np.array([place[key[:2]] for key in self.keys], np.int64)
        self.plate_of_image = self.plate[owner]
        counts = np.bincount(owner, minlength=len(self.keys))
        first = np.unique(owner, return_index=True)[1]
        self.treatment = [
            (row["compound"], row["concentration_um"], row["time_h"], row["role"])
            for row in rows.select(["compound", "concentration_um", "time_h", "role"]).take(pa.array(first)).to_pylist()
        ]
        self.intensity = np.bincount(owner, _floats(rows, "intensity_mean"), len(self.keys)) / counts
        profiles = np.zeros((len(self.keys), vectors.shape[1]))
        np.add.at(profiles, owner, vectors)
        self.profiles = _centred(profiles / counts[:, None], self.plate)

    def correlations(self) -> tuple[Floats, Floats]:
        """Of each treated well: its median correlation with the same treatment on other plates, and with others."""
        alike, others = np.full(len(self.keys), np.nan), np.full(len(self.keys), np.nan)
        treated = np.array([treatment[3] == "treated" for treatment in self.treatment])
        names = {name: i for i, name in enumerate(dict.fromkeys(self.treatment))}
        compounds = {name: i for i, name in enumerate(dict.fromkeys(treatment[0] for treatment in self.treatment))}
        treatment = np.array([names[each] for each in self.treatment])
        compound = np.array([compounds[each[0]] for each in self.treatment])
        for i in np.flatnonzero(treated):
            elsewhere = treated & (self.plate != self.plate[i])
            scores = self.profiles @ self.profiles[i]
            alike[i] = _median(scores[elsewhere & (treatment == treatment[i])], np.nan)
            others[i] = _median(scores[elsewhere & (compound != compound[i])], np.nan)
        return alike, others

    def edge_effect(self, here: npt.NDArray[np.bool_]) -> float | None:
        """See ``plate_summaries``; None where too few wells lie on a side, or nothing varies."""
        places = [well_place(self.keys[i][2]) for i in np.flatnonzero(here)]
        if not all(places):
            return None
        rows, columns = (np.array([place[axis] for place in places if place]) for axis in (0, 1))
        shape = plate_shape([place for place in places if place])
        rim = (rows == 1) | (rows == shape[0]) | (columns == 1) | (columns == shape[1])
        control = np.array([self.treatment[i][3] == "control" for i in np.flatnonzero(here)])
        values = self.intensity[here]
        for chosen in (control, np.ones(len(rows), bool)):
            outer, inner = values[chosen & rim], values[chosen & ~rim]
            if min(len(outer), len(inner)) >= 3:
                spread = float(np.concatenate([outer, inner]).std())
                return float(outer.mean() - inner.mean()) / spread if spread > 0 else None
        return None


FORMATS = ((2, 3), (3, 4), (4, 6), (6, 8), (8, 12), (16, 24), (32, 48))
"""Rows and columns of plates of 6 to 1,536 wells."""


def plate_shape(places: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """(rows, columns) of the smallest plate that has these places."""
    rows, columns = (max((place[axis] for place in places), default=1) for axis in (0, 1))
    return next((shape for shape in FORMATS if rows <= shape[0] and columns <= shape[1]), FORMATS[-1])


def well_place(well: str) -> tuple[int, int] | None:
    """``B03`` is (2, 3), ``AA01`` is (27, 1); None for a well of another name."""
    letters, digits = well.rstrip("0123456789"), well.lstrip("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
    if not digits.isdecimal() or not 1 <= len(letters) <= 2 or letters + digits != well:
        return None
    row = ord(letters[-1]) - 64 + (26 if len(letters) == 2 else 0)
    return row, int(digits)


def _centred(profiles: Floats, plates: npt.NDArray[np.int64]) -> Floats:
    """Each profile less the mean of its plate, of length one: products of two are correlations."""
    sums = np.zeros((plates.max(initial=-1) + 1, profiles.shape[1]))
    np.add.at(sums, plates, profiles)
    left = profiles - (sums / np.bincount(plates)[:, None])[plates]
    lengths = np.linalg.norm(left, axis=1, keepdims=True)
    scaled: Floats = np.divide(left, lengths, out=np.zeros_like(left), where=lengths > 0)
    return scaled


def _plates(rows: pa.Table) -> npt.NDArray[np.int64]:
    keys = list(zip(*(rows.column(name).to_pylist() for name in ("screen", "plate", "channel")), strict=True))
    number = {key: i for i, key in enumerate(dict.fromkeys(keys))}
    return np.array([number[key] for key in keys], np.int64)


def _floats(rows: pa.Table, name: str) -> Floats:
    return np.asarray(rows.column(name).to_numpy(zero_copy_only=False), np.float64)


def _median(values: Floats | Sequence[float], nothing: Any = None) -> Any:
    known = np.asarray(values)[np.isfinite(values)]
    return float(np.median(known)) if len(known) else nothing
