"""The dashboard on a store of 138,240 images: first paint of each page and a compound switch in a browser; memory.

Embeddings and images are synthetic, thumbnails are not: every image has one before anything is timed. Times are
medians of ten, from navigation to the moment the page's pictures (or figure, or table) stand.

    python benchmarks/bench_dashboard.py [--images 138240] [--store FOLDER]
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
from phenoembed.thumbnails import Thumbnails, pictures_of, render

import phenoembed_store
from phenoembed_store.schema import IMAGES_SCHEMA, INTENSITY_STATISTICS, PREDICTIONS_SCHEMA

DOSES, TIMES, FIELDS, REPLICATES = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0), (24.0, 48.0, 72.0), 8, 4
PORT = 8629
REPEATS = 10
READY = {
    "": ".st-key-query img",
    "evidence": "figure svg .mark-rect path",
    "map": ".map canvas[data-points]",
    "plate": ".plate svg .mark-rect path >> nth=400",
    "probes": ".pe-strip img",
    "store": ".pe-tile",
}


def make_store(folder: Path, n_images: int) -> phenoembed_store.Store:
    """A screen of compounds over six doses and three times in four replicates, and its thumbnails."""
    store = phenoembed_store.open(folder, create=True)
    if store.version >= 0:
        return store
    per_compound = len(DOSES) * len(TIMES) * FIELDS * REPLICATES
    compounds = [f"compound {i:04d}" for i in range(n_images // per_compound)]
    draw = np.random.default_rng(0)
    files = _files(folder / "files", draw)
    moas = {name: f"mechanism {i % 40}" for i, name in enumerate(compounds)}
    n_controls = max(1, len(compounds) // 10)
    rows = []
    for replicate in range(REPLICATES):
        wells = ((p, f"{chr(65 + i % 16)}{i // 16 + 1:02d}") for p in range(100) for i in range(384))
        for i, compound in enumerate(compounds):
            control = i < n_controls
            for dose in DOSES:
                plate, well = next(wells)
                rows += [
                    (f"R{replicate + 1}P{plate:02d}", well, field, hours, f"R{replicate + 1}",
                     "DMSO" if control else compound, 0.0 if control else dose, "control" if control else "treated")
                    for hours in TIMES
                    for field in range(1, FIELDS + 1)
                ]  # fmt: skip
    names = ("plate", "well", "field", "time_h", "replicate", "compound", "concentration_um", "role")
    columns = dict(zip(names, zip(*rows, strict=True), strict=True))
    n = len(rows)
    centres = {name: draw.normal(size=512).astype(np.float32) for name in ["DMSO", *compounds]}
    vectors = draw.standard_normal((n, 512), np.float32) + np.stack([centres[row[5]] for row in rows])
    table = pa.table(
        {
            **columns,
            "path": [str(files[i % len(files)]) for i in range(n)],
            "screen": ["synthetic"] * n,
            "channel": ["phase"] * n,
            "z": [0] * n,
            "content_hash": [f"{i:032x}" for i in range(n)],
            "file_bytes": [1] * n,
            "file_mtime_ns": [1] * n,
            **{
                name: np.full(n, 60000.0 if name.endswith("p99") else 2000.0, np.float32)
                for name in INTENSITY_STATISTICS
            },
            "encoder": ["synthetic"] * n,
            "embedding": pa.ListArray.from_arrays(np.arange(0, n * 512 + 1, 512, dtype=np.int32), vectors.reshape(-1)),
            "moa": [moas.get(row[5]) for row in rows],
        }
    )
    table = table.select([*IMAGES_SCHEMA.names, "moa"])
    store.write_images(table.cast(pa.schema([*IMAGES_SCHEMA, ("moa", pa.string())])))
    store.refresh("synthetic")
    _heads_and_predictions(store, compounds[n_controls:], draw)
    _thumbnails(store)
    return store


def _files(folder: Path, draw: np.random.Generator) -> list[Path]:
    import tifffile

    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / f"{i}.tif" for i in range(64)]
    for file in files:
        coarse = np.kron(draw.random((16, 16)), np.ones((8, 8))) * 40000 + draw.random((128, 128)) * 9000
        tifffile.imwrite(file, coarse.astype(np.uint16))
    return files


def _thumbnails(store: phenoembed_store.Store) -> None:
    """A thumbnail for every image; the 64 files are rendered once each, which is not what is measured here."""
    pictures = pictures_of(store.known_images("synthetic"))
    drawn = {path: render(picture, 128) for path, picture in {p.path: p for p in pictures}.items()}
    thumbnails = Thumbnails(store.path)
    for start in range(0, len(pictures), 16_384):
        thumbnails.keep({p.key: drawn[p.path] for p in pictures[start : start + 16_384]})


def _heads_and_predictions(store: phenoembed_store.Store, compounds: list[str], draw: np.random.Generator) -> None:
    n = len(compounds)
    weights = [draw.normal(size=shape).astype(np.float32) / 20 for shape in ((256, 512), (256,), (n, 256), (n,))]
    config = {"encoder": "synthetic", "method": "product", "split": "replicate", "fold": 0}
    store.save_head(phenoembed_store.Head("compound", tuple(compounds), *weights, config=config))
    groups = store.groups("synthetic").select(["group_id", "compound", "replicate", "role"]).to_pylist()
    tested = [group for group in groups if group["role"] == "treated" and group["replicate"] == "R1"]
    rows = []
    for group in tested:
        best = draw.choice(compounds, 5, replace=False).tolist()
        best[0] = group["compound"] if draw.random() < 0.5 else best[0]
        rank = 1 if best[0] == group["compound"] else int(draw.integers(2, n))
        rows.append(
            {
                "task": "compound", "split": "replicate", "fold": 0, "test": "new replicate", "features": "encoder",
                "encoder": "synthetic", "head": None, "group_id": group["group_id"], "compound": group["compound"],
                "replicate": "R1", "label": group["compound"], "predicted": best[0], "p_label": 0.3, "p_predicted": 0.5,
                "rank_label": rank, "top_classes": best, "top_probabilities": [0.5, 0.2, 0.1, 0.05, 0.02],
            }
        )  # fmt: skip
    store.write_predictions(pa.Table.from_pylist(rows, PREDICTIONS_SCHEMA))


def measure(store: Path) -> None:
    """Start the dashboard, open each page ten times in fresh visits, switch compounds ten times."""
    from playwright.sync_api import sync_playwright

    server = subprocess.Popen(
        [Path(sys.executable).with_name("phenoembed"), "dashboard", "--store", store, f"--port={PORT}", "--headless"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    base = f"http://localhost:{PORT}"
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(
                executable_path="/usr/bin/chromium",
                args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
            )
            page = browser.new_context(viewport={"width": 1440, "height": 900}).new_page()
            started = time.perf_counter()
            while True:
                try:
                    page.goto(base)
                    break
                except Exception:
                    time.sleep(0.1)
            page.wait_for_selector(READY[""], timeout=120_000)
            print(f"the very first visit, the store being read: {time.perf_counter() - started:.2f} s")
            for name, ready in READY.items():
                times = []
                for _ in range(REPEATS + 1):  # the first fills the caches of this version of the store
                    started = time.perf_counter()
                    page.goto(f"{base}/{name}")
                    page.wait_for_selector(ready, timeout=120_000)
                    times.append(time.perf_counter() - started)
                middle = statistics.median(times[1:])
                print(f"{name or 'compound':9s} first {times[0]:.2f} s, median of {REPEATS} {middle:.2f} s")
            _switches(page, base)
            browser.close()
        print(f"memory of the server: {_peak(server.pid):,.0f} MB at its peak, {_now(server.pid):,.0f} MB at the end")
    finally:
        server.terminate()
        server.wait(20)


def _switches(page: object, base: str) -> None:
    page.goto(base)  # type: ignore[attr-defined]
    page.wait_for_selector(READY[""])  # type: ignore[attr-defined]
    times = []
    for _ in range(REPEATS):
        before = page.inner_text(".st-key-query .pe-name")  # type: ignore[attr-defined]
        started = time.perf_counter()
        page.click(".st-key-go1 button")  # type: ignore[attr-defined]
        page.wait_for_function(  # type: ignore[attr-defined]
            "before => { const name = document.querySelector('.st-key-query .pe-name');"
            " const images = [...document.querySelectorAll('.pe-t img')];"
            " return name && name.innerText !== before && images.length > 60 && images.every(i => i.complete)"
            " && !document.querySelector('[data-stale=true]'); }",
            arg=before,
            polling=20,
        )
        times.append(time.perf_counter() - started)
        page.wait_for_timeout(500)  # type: ignore[attr-defined]
    print(f"compound switch: median of {REPEATS} {statistics.median(times):.2f} s (worst {max(times):.2f} s)")


def _peak(pid: int) -> float:
    return _field(pid, "VmHWM")


def _now(pid: int) -> float:
    return _field(pid, "VmRSS")


def _field(pid: int, name: str) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) / 1024


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=138_240)
    parser.add_argument("--store", type=Path, default=None)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        place = asked.store or Path(temporary) / "store"
        print(make_store(place, asked.images), f"load average {os.getloadavg()[0]:.1f}")
        measure(place)
