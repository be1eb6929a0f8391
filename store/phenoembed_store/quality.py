"""Which images are unusual on their plate. Nothing is left out: outliers are flagged.

An image is flagged ``out of focus`` or ``unusually sharp`` where the logarithm of its focus lies 5 robust standard
deviations from its plate's median (dust and noise make images sharp), ``saturated`` where more than 1% of its pixels
have its highest value, and ``empty`` where cells cover less than 1% of it, or more than 95% of it lies far from any.
"""

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from phenoembed_store.schema import JUDGED

Floats = npt.NDArray[np.float64]

FLAGS = ("out of focus", "unusually sharp", "saturated", "empty")
FAR = 5.0  # robust standard deviations: one image in two million, were they normal
SATURATED = 0.01
EMPTY = 0.01
BARE = 0.95
MIN_IMAGES = 8  # on a plate, to know what is usual there
_MAD_TO_SD = 1.4826


def quality_flags(rows: pa.Table) -> pa.Array:
    """For each image what is unusual of it, several joined by commas; null where nothing is, or nothing is known.

    ``rows`` has ``screen, plate, channel, role`` and the columns of ``JUDGED``, or of ``QUALITY``.
    """
    focus, saturation, confluence = (floats_of(rows, name) for name in JUDGED)
    known = "emptiness" in rows.column_names
    emptiness = floats_of(rows, "emptiness") if known else np.full(len(rows), np.nan)
    with np.errstate(divide="ignore", invalid="ignore"):
        sharpness = robust_z(np.log(np.maximum(focus, 1e-12)), _plates(rows))
        lived_in = np.asarray(rows.column("role").to_pylist(), object) != "empty"
        bare = (confluence < EMPTY) | (emptiness > BARE)
        marks = (sharpness < -FAR, sharpness > FAR, saturation > SATURATED, bare & lived_in)
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


def _plates(rows: pa.Table) -> npt.NDArray[np.int64]:
    keys = list(zip(*(rows.column(name).to_pylist() for name in ("screen", "plate", "channel")), strict=True))
    number = {key: i for i, key in enumerate(dict.fromkeys(keys))}
    return np.array([number[key] for key in keys], np.int64)


def floats_of(rows: pa.Table, name: str) -> Floats:
    """A numeric column as float64 (rows,); NaN for null."""
    return np.asarray(rows.column(name).to_numpy(zero_copy_only=False), np.float64)
