"""How each plate did: flagged images, edge effect, and how far its wells agree with those of other plates."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from phenoembed_store.aggregate import Integers, deal
from phenoembed_store.images import Images
from phenoembed_store.plate_layout import edge_effect, plate_shape, well_place
from phenoembed_store.quality import FLAGS, floats_of
from phenoembed_store.schema import QUALITY_FLAG

Floats = npt.NDArray[np.float64]

COMPARED = 2_000
"""Wells from which a well's others are taken, picked at random where there are more: all pairs take minutes."""


def plate_summaries(images: Images) -> list[dict[str, Any]]:
    """How each plate did: images, flags, edge effect, replicate correlation.

    ``edge_effect``: the mean intensity of control wells at the rim minus that of the others, in sd of all (of all
    wells where fewer than three controls lie on one side). ``replicate_correlation``: the median correlation of the
    embeddings of its treated wells with wells of the same compound, concentration and time on other plates, each well
    less its plate's mean; ``other_correlation``: with wells of other compounds there, which chance gives.
    """
    wells = _Wells(images.table, images.vectors)
    flags = images.column(QUALITY_FLAG).to_pylist() if QUALITY_FLAG in images.column_names else [None] * len(images)
    alike, others = wells.correlations()
    found = []
    for number, (plate, rows) in enumerate(zip(wells.plates, wells.images_of_plate, strict=True)):
        mine = [flags[row] for row in rows]
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
        dealt = deal(self.plate[owner])
        self.images_of_plate = [dealt.of(number).tolist() for number in range(len(dealt))]
        counts = np.bincount(owner, minlength=len(self.keys))
        first = np.unique(owner, return_index=True)[1]
        self.treatment = [
            (row["compound"], row["concentration_um"], row["time_h"], row["role"])
            for row in rows.select(["compound", "concentration_um", "time_h", "role"]).take(pa.array(first)).to_pylist()
        ]
        self.intensity = np.bincount(owner, floats_of(rows, "intensity_mean"), len(self.keys)) / counts
        profiles = np.zeros((len(self.keys), vectors.shape[1]))
        np.add.at(profiles, owner, vectors)
        self.profiles = _centred(profiles / counts[:, None], self.plate)

    def correlations(self) -> tuple[Floats, Floats]:
        """Of each treated well: its median correlation with the same treatment on other plates, and with others."""
        alike, others = np.full(len(self.keys), np.nan), np.full(len(self.keys), np.nan)
        treated = np.array([treatment[3] == "treated" for treatment in self.treatment])
        names = {name: i for i, name in enumerate(dict.fromkeys(self.treatment))}
        compounds = {name: i for i, name in enumerate(dict.fromkeys(treatment[0] for treatment in self.treatment))}
        treatments = deal(np.where(treated, [names[each] for each in self.treatment], -1))
        compound = np.array([compounds[each[0]] for each in self.treatment])
        for mine in map(treatments.of, range(len(treatments))):
            alike[mine] = self._medians(mine, mine, self.plate[mine][:, None] != self.plate[mine])
        pool = np.random.default_rng(0).permutation(np.flatnonzero(treated))[:COMPARED]
        plates = deal(np.where(treated, self.plate, -1))
        for mine in map(plates.of, range(len(plates))):
            apart = (self.plate[mine][:, None] != self.plate[pool]) & (compound[mine][:, None] != compound[pool])
            others[mine] = self._medians(mine, pool, apart)
        return alike, others

    def _medians(self, wells: Integers, against: Integers, apart: npt.NDArray[np.bool_]) -> Floats:
        """Of each of these wells its median correlation with those that stand apart, (wells, against); NaN for none."""
        scores = self.profiles[wells] @ self.profiles[against].T
        return np.array([_median(row[flags], np.nan) for row, flags in zip(scores, apart, strict=True)])

    def edge_effect(self, here: npt.NDArray[np.bool_]) -> float | None:
        """See ``plate_summaries``; None where too few wells lie on a side, or nothing varies."""
        places = [well_place(self.keys[i][2]) for i in np.flatnonzero(here)]
        if not all(places):
            return None
        rows, columns = (np.array([place[axis] for place in places if place]) for axis in (0, 1))
        height, width = plate_shape([place for place in places if place])
        rim = (rows == 1) | (rows == height) | (columns == 1) | (columns == width)
        control = np.array([self.treatment[i][3] == "control" for i in np.flatnonzero(here)])
        found = edge_effect(self.intensity[here], rim, control)
        return None if found is None else found.apart


def _centred(profiles: Floats, plates: npt.NDArray[np.int64]) -> Floats:
    """Each profile less the mean of its plate, of length one: products of two are correlations."""
    sums = np.zeros((plates.max(initial=-1) + 1, profiles.shape[1]))
    np.add.at(sums, plates, profiles)
    left = profiles - (sums / np.bincount(plates)[:, None])[plates]
    lengths = np.linalg.norm(left, axis=1, keepdims=True)
    scaled: Floats = np.divide(left, lengths, out=np.zeros_like(left), where=lengths > 0)
    return scaled


def _median(values: Floats | Sequence[float], nothing: Any = None) -> Any:
    known = np.asarray(values)[np.isfinite(values)]
    return float(np.median(known)) if len(known) else nothing
