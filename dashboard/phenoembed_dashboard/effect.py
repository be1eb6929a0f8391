"""How far from untreated: the distance of images to DMSO on their plate, dose by dose and time by time.

Its unit says whether it means anything: 1 is the distance that untreated wells have from each other.
"""

from collections import defaultdict
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from phenoembed_dashboard.catalogue import Catalogue, Rows
from phenoembed_dashboard.markup import Note
from phenoembed_dashboard.strips import Record, dose_label, time_label

Doubles = npt.NDArray[np.float64]
Where = tuple[float, float]  # concentration in micromolar, time in hours
MIN_WELLS = 3  # of controls on a plate at a time: fewer say nothing of their spread
USUAL = 95  # per cent of untreated wells
FULL = 4.0  # an effect that is drawn in full colour


class Untreated(NamedTuple):
    """The controls of a plate at a time. ``spread``: median distance of their images to the other wells' mean; wells:
    of each well the median distance of its images, in that unit."""

    centre: Doubles
    spread: float
    wells: Doubles


@dataclass(frozen=True)
class Effects:
    """By dose and time the effect, empty where the plates have too few controls. ``usual``: what 95% of single
    untreated wells stay below."""

    of: dict[Where, float]
    usual: float

    def at(self, record: Record) -> float | None:
        """The effect at an image's dose and time; None for a control, or where it is not known."""
        if record["role"] == "control":
            return None
        return self.of.get((record["concentration_um"], record["time_h"]))

    def note(self, record: Record) -> Note | None:
        """The effect as a figure on an image: coloured where it is beyond the usual."""
        effect = self.at(record)
        if effect is None:
            return None
        says = f"{effect:.1f} times as far from DMSO as DMSO wells are from each other"
        hot = effect > self.usual
        return Note(times(effect), min(1.0, max(0.0, (effect - 1) / (FULL - 1))) if hot else 0.0, hot, says)

    def clear(self) -> list[Where]:
        """Where it is beyond the usual, by rising dose and time."""
        return sorted(place for place, effect in self.of.items() if effect > self.usual)

    def sentence(self, timed: bool) -> str:
        """Whether, where and how strongly it differs from untreated cells."""
        if not self.of:
            return "Too few DMSO wells on its plates to say whether it differs from untreated cells."
        clear = self.clear()
        most = max(self.of, key=lambda place: self.of[place])
        says = times(self.of[most])
        if not clear:
            everywhere = "at every dose and time" if timed else "at every dose"
            return (
                f"Looks like untreated cells {everywhere} (at most {says} the spread among DMSO wells): "
                "what it resembles says little."
            )
        place = place_label(most, timed)
        lowest = min(dose for dose, _ in clear)
        doses = sorted({dose for dose, _ in self.of})
        onset = "at every dose" if lowest == doses[0] else f"from {dose_label(lowest)} on"
        return f"Differs from untreated cells {onset}, most at {place}: {says} the spread among DMSO wells."


def times(effect: float) -> str:
    return f"{effect:.1f}×" if effect < 10 else f"{effect:.0f}×"


def place_label(place: Where, timed: bool = True) -> str:
    return ", ".join([dose_label(place[0]), *([time_label(place[1])] if timed else [])])


def effects(catalogue: Catalogue, rows: Rows) -> Effects:
    """The effect at each dose and time of these images: the median over images, fields and replicates together."""
    found: dict[Where, list[float]] = defaultdict(list)
    usual: list[Doubles] = []
    plates, times = catalogue.plate_codes, catalogue.codes("time_h")
    doses, hours = catalogue.column("concentration_um"), catalogue.column("time_h")
    for plate, time in sorted(set(zip(plates[rows].tolist(), times[rows].tolist(), strict=True))):
        controls = untreated(catalogue, plate, time)
        if controls is None:
            continue
        mine = rows[(plates[rows] == plate) & (times[rows] == time)]
        far = distances(catalogue.compared[mine], controls.centre) / controls.spread
        usual.append(controls.wells)
        for row, one in zip(mine.tolist(), far.tolist(), strict=True):
            found[float(doses[row]), float(hours[row])].append(one)
    limit = float(np.percentile(np.concatenate(usual), USUAL)) if usual else 0.0
    return Effects({place: float(np.median(values)) for place, values in found.items()}, limit)


def untreated(catalogue: Catalogue, plate: int, time: int) -> Untreated | None:
    """The controls of a plate and time (``plate_codes``, code of ``time_h``); None where wells are too few. Kept."""
    key = ("untreated", plate, time)
    if key not in catalogue.kept:
        catalogue.kept[key] = _untreated(catalogue, plate, time)
    found: Untreated | None = catalogue.kept[key]
    return found


def _untreated(catalogue: Catalogue, plate: int, time: int) -> Untreated | None:
    rows = catalogue.control_rows
    rows = rows[(catalogue.plate_codes[rows] == plate) & (catalogue.codes("time_h")[rows] == time)]
    wells = catalogue.codes("well")[rows]
    names = np.unique(wells)
    if len(names) < MIN_WELLS:
        return None
    vectors = catalogue.compared[rows].astype(np.float64)
    total = vectors.sum(axis=0)
    far = np.empty(len(rows))
    for name in names:
        mine = wells == name
        far[mine] = distances(vectors[mine], (total - vectors[mine].sum(axis=0)) / (len(rows) - mine.sum()))
    spread = float(np.median(far))
    if spread <= 0:
        return None
    return Untreated(total / len(rows), spread, np.array([np.median(far[wells == name]) for name in names]) / spread)


def distances(vectors: npt.NDArray[Any], centre: Doubles) -> Doubles:
    """Euclidean, from each vector to the centre. Not an angle: where profiles were scaled to controls, the controls'
    centre is the origin."""
    found: Doubles = np.linalg.norm(vectors - centre, axis=1)
    return found
