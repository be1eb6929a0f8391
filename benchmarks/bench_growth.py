"""A store that grows: writing in bounded memory, opening in a fresh process, appending and searching what was appended.

python benchmarks/bench_growth.py [--images 10000,1000000]
"""

import argparse
import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from clustered import DIM, batches, fill

import phenoembed_store

OPEN = """
import json, sys, time
start = time.perf_counter()
import numpy as np
import phenoembed_store
store = phenoembed_store.open(sys.argv[1])
hits = store.search(vector=np.ones(int(sys.argv[2])), level="image", k=10)
seconds = time.perf_counter() - start
said = dict(line.split(":", 1) for line in open("/proc/self/status"))  # ru_maxrss would be the parent's
peak, own = (int(said[name].split()[0]) / 1024 for name in ("VmHWM", "RssAnon"))
print(json.dumps({"seconds": seconds, "peak_mb": peak, "own_mb": own, "hits": len(hits)}))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", default="10000,1000000")
    parser.add_argument("--folder", type=Path, default=None, help="Where to make (or find) the stores.")
    asked = parser.parse_args()
    folder = asked.folder or Path(tempfile.mkdtemp())
    for n in (int(size) for size in asked.images.split(",")):
        measure(folder / f"store{n}", n)
    if asked.folder is None:
        shutil.rmtree(folder)


def measure(folder: Path, n: int) -> None:
    start = time.perf_counter()
    store = phenoembed_store.open(folder) if (folder / "images").is_dir() else fill(folder, n)
    written = time.perf_counter() - start
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    start = time.perf_counter()
    store._images_of(None)
    built = time.perf_counter() - start
    print(f"{n:,} x {DIM}: written in {written:.1f} s (peak {memory:,.0f} MB), searchable {built:.1f} s later")
    files = [path.stat().st_size for path in (folder / "indexes").glob("*/*")]
    for _ in range(2):  # the first may find a cold disk
        done = subprocess.run(
            [sys.executable, "-c", OPEN, str(folder), str(DIM)], capture_output=True, text=True, check=True
        )
        found = json.loads(done.stdout)
        print(
            f"  fresh process: first answer after {found['seconds']:.2f} s, peak {found['peak_mb']:,.0f} MB "
            f"({found['own_mb']:,.0f} MB its own); index {sum(files) / 1e6:,.0f} MB"
        )
    append(store, n)


def append(store: phenoembed_store.Store, n: int) -> None:
    """A thousand new images, five times: written, and the first of them found by its own vector."""
    seconds = []
    for number in range(5):
        (late,) = batches(1000, seed=number + 1, first=10_000_000 + 3456 * number, screen=f"late {number} of {n}")
        target = np.asarray(late.column("embedding")[0].as_py())
        start = time.perf_counter()
        store.write_images(late)
        (hit,) = store.search(vector=target, level="image", k=1).to_pylist()
        seconds.append(time.perf_counter() - start)
        assert hit["path"] == "10000000.tif" or hit["screen"].startswith("late")
    print(f"  1,000 images appended and searched: {np.median(seconds):.2f} s")


if __name__ == "__main__":
    main()
