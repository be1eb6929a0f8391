"""Images of a cache that is larger than memory, read without keeping any of it."""

import mmap
import os

import numpy as np

from phenoembed.pixels import Pixels


def read_rows(pixels: Pixels, rows: np.ndarray) -> Pixels:
    """(rows, height, width), a copy. Of a memory-mapped file the images are read from the file itself.

    Through the mapping every page that was ever looked at counts as memory of this process, and is fetched by a fault
    that holds up all threads of Python.
    """
    if not (isinstance(pixels, np.memmap) and _is_whole(pixels)):
        return np.ascontiguousarray(pixels[rows])
    found: Pixels = np.empty((len(rows), *pixels.shape[1:]), pixels.dtype)
    n_bytes = pixels[0].nbytes
    with open(pixels.filename, "rb", buffering=0) as file:  # type: ignore[arg-type]
        for place, row in enumerate(rows):
            at = pixels.offset + int(row) * n_bytes
            buffer = memoryview(found[place]).cast("B")
            while len(buffer):
                n = os.preadv(file.fileno(), [buffer], at)
                if not n:
                    raise OSError(f"{pixels.filename} ends at byte {at}, before image {row} does")
                buffer, at = buffer[n:], at + n
    return found


def let_go(pixels: Pixels) -> None:
    """Take the pages of a mapping that was written out of this process's memory; what was written is kept."""
    if isinstance(pixels.base, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        pixels.base.madvise(mmap.MADV_DONTNEED)


def _is_whole(pixels: "np.memmap[tuple[int, ...], np.dtype[np.uint8 | np.uint16]]") -> bool:
    """Whether this is the mapping itself: a part of one does not know where in the file it begins."""
    return isinstance(pixels.base, mmap.mmap) and pixels.flags.c_contiguous
