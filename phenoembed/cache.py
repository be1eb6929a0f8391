"""Pixels of a whole screen, read once into one memory-mapped file: (images, height, width) uint8 or uint16."""

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.lib.format import open_memmap

from phenoembed.pixel_rows import let_go, read_rows
from phenoembed.pixels import Pixels, check_shape, common_shape, resize, target_shape
from phenoembed.planes import Source, size_and_time
from phenoembed.preparation import Preparer
from phenoembed.screen import STACK_COLUMN, Screen
from phenoembed_store.errors import ImageError, TrainingError
from phenoembed_store.whole import whole

KEPT = 2  # caches: at native size one takes as much as the images do
IN_USE_SECONDS = 3600.0
CHUNK = 256  # images between two notes of how far the reading has come
BLOCK_PIXELS = 2**24  # looked at in one go: 128 MB as they are summed


@dataclass(frozen=True)
class PixelCache:
    """``pixels[row]`` is image ``row`` of the screen; ``rejected`` says why a row has none (its pixels are 0)."""

    pixels: Pixels  # (images, height, width), memory-mapped
    rejected: dict[int, str]
    native_shape: tuple[int, int]

    @property
    def scale(self) -> float:
        """What brings a stored value to 0..1."""
        return 1.0 / float(np.iinfo(self.pixels.dtype).max)

    def mean_and_sd(self, rows: Sequence[int] | np.ndarray, sample: int = 4096) -> tuple[float, float]:
        """Mean and standard deviation of the scaled pixels of ``rows`` (of an even sample of them, when many)."""
        chosen = np.sort(np.asarray(rows))
        chosen = chosen[:: max(1, len(chosen) // sample)]
        total = squares = 0.0
        step = min(CHUNK, max(1, BLOCK_PIXELS // self.pixels[0].size))
        for start in range(0, len(chosen), step):
            block = read_rows(self.pixels, chosen[start : start + step]) * np.float64(self.scale)
            total += block.sum()
            squares += (block**2).sum()
        n_pixels = len(chosen) * self.pixels[0].size
        mean = total / n_pixels
        return mean, float(np.sqrt(max(squares / n_pixels - mean**2, 0.0)))


def sources_of(screen: Screen) -> list[Source]:
    """The files of each image of a screen, in the order of its table."""
    paths = screen.table.column("path").to_pylist()
    stacked = STACK_COLUMN in screen.table.column_names
    stacks = screen.table.column(STACK_COLUMN).to_pylist() if stacked else [None] * len(paths)
    return [tuple(screen.root / plane for plane in stack or (path,)) for path, stack in zip(paths, stacks, strict=True)]


def open_cache(
    folder: Path,
    sources: Sequence[Source],
    size: int | None,
    *,
    preparer: Preparer | None = None,
    progress: Callable[[int, int], None] | None = None,
    threads: int | None = None,
) -> PixelCache:
    """Open the cache of these images at this size, reading what is not in it yet. An interrupted reading goes on.

    ``sources``: the files of each image, absolute. ``size``: pixels of the shorter side, None for native size.
    ``preparer``: how pixels are prepared, as they are when not given.
    Raises TrainingError when no image can be read.
    """
    preparer = preparer or Preparer()
    shape = common_shape([source[0] for source in sources])
    if shape is None:
        raise TrainingError(f"none of the {len(sources):,} images can be read; the first is {sources[0][0]}")
    place = folder / _fingerprint(sources, size, preparer)
    place.mkdir(parents=True, exist_ok=True)
    state_file = place / "state.json"
    height, width = target_shape(shape, size)
    if state_file.exists():
        state = json.loads(state_file.read_text())
        pixels: Pixels = open_memmap(place / "pixels.npy", mode="r+")
    else:
        state = {"done": 0, "rejected": {}}
        dtype = _common_dtype(sources, preparer)
        pixels = open_memmap(place / "pixels.npy", mode="w+", dtype=dtype, shape=(len(sources), height, width))
    _fill(pixels, sources, preparer, size, shape, state, state_file, progress, threads)
    state_file.touch()
    _drop_old(folder, place)
    rejected = {int(row): reason for row, reason in state["rejected"].items()}
    if len(rejected) == len(sources):
        raise TrainingError(
            f"none of the {len(sources):,} images can be used; the first: {sources[0][0]}: {rejected[0]}"
        )
    return PixelCache(open_memmap(place / "pixels.npy", mode="r"), rejected, shape)


def _drop_old(folder: Path, used: Path) -> None:
    """Remove caches of screens and sizes that changed since, but for the last KEPT; they are read again if wanted.

    One that was touched within the hour may be another process's.
    """
    states = {path: path.stat().st_mtime for path in folder.glob("*/state.json") if path.parent != used}
    newest_first = sorted(states, key=lambda path: states[path], reverse=True)
    for path in newest_first[KEPT - 1 :]:
        if time.time() - states[path] > IN_USE_SECONDS:
            shutil.rmtree(path.parent, ignore_errors=True)


def _fill(
    pixels: Pixels,
    sources: Sequence[Source],
    preparer: Preparer,
    size: int | None,
    shape: tuple[int, int],
    state: dict[str, object],
    state_file: Path,
    progress: Callable[[int, int], None] | None,
    threads: int | None,
) -> None:
    done, rejected = int(state["done"]), dict(state["rejected"])  # type: ignore[call-overload]

    def read(row: int) -> str | None:
        try:
            found = preparer.read(sources[row], row)
            check_shape(found, shape)
            if found.dtype != pixels.dtype:
                raise ImageError(f"pixels are {found.dtype}; the images of this screen are {pixels.dtype}")
        except ImageError as error:
            return str(error)
        pixels[row] = resize(found, size)
        return None

    with ThreadPoolExecutor(threads or min(8, (os.cpu_count() or 1) + 2)) as pool:
        while done < len(sources):
            rows = range(done, min(done + CHUNK, len(sources)))
            rejected |= {str(row): reason for row, reason in zip(rows, pool.map(read, rows), strict=True) if reason}
            done = rows.stop
            pixels.flush()  # type: ignore[union-attr]
            let_go(pixels)
            state |= {"done": done, "rejected": rejected}
            with whole(state_file) as beside:
                beside.write_text(json.dumps(state))
            if progress:
                progress(done, len(sources))


def _common_dtype(sources: Sequence[Source], preparer: Preparer) -> np.dtype[np.uint8] | np.dtype[np.uint16]:
    """The type most images of a sample have."""
    found = []
    for row in range(0, len(sources), max(1, len(sources) // 16)):
        try:
            found.append(preparer.read(sources[row][:1], row).dtype)
        except ImageError:
            continue
    return max(sorted(set(found), key=str), key=found.count) if found else np.dtype(np.uint16)


def _fingerprint(sources: Sequence[Source], size: int | None, preparer: Preparer) -> str:
    digest = hashlib.sha256(str(size).encode() + preparer.digest())
    for source in sources:
        for path in source:
            try:
                n_bytes, mtime_ns = size_and_time((path,))
                digest.update(f"{path}\0{n_bytes}\0{mtime_ns}\n".encode())
            except (OSError, ImageError):
                digest.update(f"{path}\0missing\n".encode())
    return digest.hexdigest()[:16]
