"""Whether an image can be trusted: focus, saturation, emptiness and confluence of its pixels, each one number.

Nothing is left out for them: they are columns of the images, and what is unusual on its plate is flagged (see
``phenoembed_store.quality``).
"""

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter

from phenoembed.pixels import Raw
from phenoembed_store.schema import QUALITY

BLOCK = 8  # pixels: smaller than a cell at 10x (20-40), large enough for a standard deviation
NEAR = 2  # blocks
NOISE_TIMES = 2.5  # a block is covered where its sd is this many times the camera's
_KERNEL_NORM = 6.0  # of Immerkaer's mask (1 -2 1, -2 4 -2, 1 -2 1) over white noise: sqrt(36)
_MEDIAN_TO_SD = 1.4826  # of the absolute values of a normal distribution


def image_quality(pixels: Raw) -> dict[str, float]:
    """The figures of ``QUALITY`` of an image (height, width).

    focus: variance of the Laplacian over that of the pixels, both after binning 2 x 2, which halves the camera's noise:
    dimensionless, and lower the more an image is blurred (Pech-Pacheco 2000).
    saturation: share of pixels at the image's highest value. A sensor of 12 bits saturates below its file's 65535.
    emptiness: share of the area that lies far (16 pixels or more) from any cell: it tells cells that came off, and
    left a hole, from cells that are few.
    confluence: an estimate of the share of the area that cells cover: of the blocks of 8 x 8 pixels whose standard
    deviation exceeds 2.5 times the camera's noise (Immerkaer 1996, its median, which cells hardly move).
    """
    values = pixels.astype(np.float32)
    covered = _covered(values, 0.29 if pixels.dtype.kind == "u" else 0.0)  # 0.29: rounding to whole numbers alone
    emptiness = 1 - float(np.mean(maximum_filter(covered, 2 * NEAR + 1))) if covered.size else float("nan")
    confluence = float(np.mean(covered)) if covered.size else float("nan")
    figures = (_focus(values), float(np.mean(pixels == pixels.max())), emptiness, confluence)
    return dict(zip(QUALITY, figures, strict=True))


def _focus(values: NDArray[np.float32]) -> float:
    height, width = (n - n % 2 for n in values.shape)
    even = values[:height, :width]
    binned = (even[::2, ::2] + even[1::2, ::2] + even[::2, 1::2] + even[1::2, 1::2]) / 4
    if min(binned.shape) < 3:
        return float("nan")
    around = binned[:-2, 1:-1] + binned[2:, 1:-1] + binned[1:-1, :-2] + binned[1:-1, 2:]
    spread = float(binned.var())
    return float((around - 4 * binned[1:-1, 1:-1]).var()) / spread if spread else 0.0


def _covered(values: NDArray[np.float32], least_noise: float) -> NDArray[np.bool_]:
    """(rows, columns) of blocks: which of them are covered; empty where the image is smaller than one."""
    rows, columns = (n // BLOCK for n in values.shape)
    if not rows or not columns:
        return np.zeros((0, 0), np.bool_)
    blocks = values[: rows * BLOCK, : columns * BLOCK].reshape(rows, BLOCK, columns, BLOCK)
    mean = blocks.mean(axis=(1, 3), keepdims=True)
    sd = np.sqrt(((blocks - mean) ** 2).mean(axis=(1, 3)))
    covered: NDArray[np.bool_] = sd > NOISE_TIMES * max(_noise(values), least_noise)
    return covered


def _noise(values: NDArray[np.float32]) -> float:
    """The camera's noise (sd), from what is left after second differences in both directions."""
    twice = values[:-2] - 2 * values[1:-1] + values[2:]
    left = twice[:, :-2] - 2 * twice[:, 1:-1] + twice[:, 2:]
    return float(np.median(np.abs(left[::3, ::3]))) * _MEDIAN_TO_SD / _KERNEL_NORM
