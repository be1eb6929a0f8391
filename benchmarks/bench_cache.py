"""Does the cache of a LOPAC-size screen need its own size in memory? Random groups of 138,240 images of 1000 x 1000.

    python benchmarks/bench_cache.py [FOLDER] [--batches 60] [--depth 8|16]

The file is sparse: its size is real, its pixels are zero and come from no disk, so images a second say what reading
costs beside the disk. Two processes read the same batches of 24 groups: ``training`` as training does, and ``mapping``
through numpy's memory map, as it was. Printed: the most anonymous and file-backed memory either held beyond what it
held before the first batch.
"""

import argparse
import multiprocessing
import os
import time
from pathlib import Path

import numpy as np
from numpy.lib.format import open_memmap
from phenoembed.batches import GroupBatches
from phenoembed.groups import Groups

N_IMAGES, PIXELS, GROUP_IMAGES, BATCH_GROUPS, N_CLASSES = 138_240, 1000, 6, 24, 1280


class Mapping:
    """The file as numpy maps it, whoever asks."""

    def __init__(self, pixels: np.ndarray) -> None:
        self.pixels = pixels

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        return self.pixels[rows]


def main() -> None:
    """Make the file, let two processes read it, and remove it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, default=Path("bench-cache"))
    parser.add_argument("--batches", type=int, default=60)
    parser.add_argument("--depth", type=int, choices=(8, 16), default=8)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    path = options.folder / "sparse.npy"
    open_memmap(path, "w+", np.dtype(f"uint{options.depth}"), (N_IMAGES, PIXELS, PIXELS))
    print(f"{path.stat().st_size / 1e9:.0f} GB, {path.stat().st_blocks * 512 / 1e6:.1f} MB of them on disk")
    print("| read through | images/s | anonymous, MB | file-backed, MB |")
    print("| --- " * 4 + "|")
    for through in ("training", "mapping"):
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            print(pool.apply(read, (through, path, options.batches)), flush=True)
    path.unlink()


def read(through: str, path: Path, n_batches: int) -> str:
    """A line of the table."""
    with path.open("rb") as file:  # what the other one read is not there already
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    pixels = open_memmap(path, "r")
    rows = tuple(np.arange(GROUP_IMAGES) + start for start in range(0, N_IMAGES, GROUP_IMAGES))
    groups = Groups(None, rows, tuple(np.arange(GROUP_IMAGES) for _ in rows))
    places = np.arange(len(rows))
    source = Mapping(pixels) if through == "mapping" else pixels
    batches = GroupBatches(source, groups, places, places % N_CLASSES, BATCH_GROUPS, 0)
    before = resident()
    most = dict.fromkeys(before, 0.0)
    started, n_images = time.perf_counter(), 0
    for number, batch in enumerate(batches, 1):
        n_images += len(batch.pixels)
        most = {kind: max(most[kind], value - before[kind]) for kind, value in resident().items()}
        if number == n_batches:
            break
    rate = n_images / (time.perf_counter() - started)
    return f"| {through} | {rate:.0f} | {most['RssAnon']:.0f} | {most['RssFile']:.0f} |"


def resident() -> dict[str, float]:
    """Anonymous and file-backed memory of this process, MB."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return {kind: int(status[kind].split()[0]) / 1e3 for kind in ("RssAnon", "RssFile")}


if __name__ == "__main__":
    main()
