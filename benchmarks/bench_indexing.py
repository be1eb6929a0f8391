"""How fast does indexing go? Images a second from 16-bit TIFFs, beside the encoder alone and a plain loop.

    python benchmarks/bench_indexing.py speed  [FOLDER] [--cases 128 224 1000:224 1000] [--rounds 7]
    python benchmarks/bench_indexing.py memory [FOLDER] [--images 1000 20000]
    python benchmarks/bench_indexing.py append [FOLDER] [--rows 10000 1000000]

speed: a case is the images' side on disk and, after a colon, the encoder's input. ``index``: what ``phenoembed index``
does, from files to committed rows, without quality control; ``quality``, ``thumbnails``: with them. ``encoder``: the
same network on tensors that lie in memory: the limit. ``plain loop``: tifffile, torchvision's ResNet-18 in NCHW,
``numpy.save``. Every round runs each in turn; medians, of the ratios
too. What starts once (loading torch, the first batch) does not count.

memory: the largest resident memory of the command and its child, indexing so many images of 64 px.

append: seconds to index plates of 384 images into stores that hold so many rows already (embeddings at random), until
the rows are committed, and to make the groups and the index current; the first plate is a warm-up.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import tifffile
import torch
from phenoembed.embedding import BATCH_IMAGES
from phenoembed.encoders import save_encoder
from phenoembed.encoding import Work, Worker
from phenoembed.indexing import index_screen
from phenoembed.model import Encoder, to_network
from phenoembed.readers import read_screen
from phenoembed.thumbnails import make_thumbnails
from torchvision.models import resnet18
from torchvision.transforms import v2

import phenoembed_store
from phenoembed_store.schema import IMAGES_SCHEMA

MEAN, SD = 0.31, 0.05
DISTINCT = 64  # files; the others are links to them
SECONDS = 6.0  # of each measurement, more or less
PLATE = 384  # images


def main() -> None:
    """Run one of the three measurements."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="?", choices=["speed", "memory", "append"], default="speed")
    parser.add_argument("folder", nargs="?", type=Path, default=Path("bench-indexing"))
    parser.add_argument("--cases", nargs="+", default=["128", "224", "1000:224", "1000"])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--images", nargs="+", type=int, default=[1_000, 20_000])
    parser.add_argument("--rows", nargs="+", type=int, default=[10_000, 1_000_000])
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    if options.what == "speed":
        print(f"load average {os.getloadavg()[0]:.1f}, {torch.get_num_threads()} threads")
        print(
            "| px on disk | encoder's input | encoder | index | plain loop | index / encoder | index / plain loop |",
            end="",
        )
        print(" with quality | thumbnails, ms an image |\n" + "| --- " * 9 + "|")
        for case in options.cases:
            side, _, size = case.partition(":")
            speed(options.folder, int(side), int(size) if size else None, options.rounds)
    elif options.what == "memory":
        for count in options.images:
            memory(options.folder, count)
    else:
        for rows in options.rows:
            append(options.folder, rows)


def speed(folder: Path, side: int, size: int | None, rounds: int) -> None:
    """One row of the table: images a second of each, the median of the rounds."""
    store = new_store(folder / f"store-{side}-{size}", size)
    encoder = store.default_encoder()
    shown = size or side
    guess = 150 * (128 / shown) ** 2  # images a second
    count = max(24, min(2_048, round(SECONDS * guess)))
    plates = write_plates(folder / f"plates-{side}", side, count)
    paths = sorted(plates.glob("*.tif"))
    batch = max(8, min(BATCH_IMAGES, count // 4))
    index = lambda quality: indexed_rate(store, plates, quality, batch)  # noqa: E731
    ways: dict[str, Callable[[], float]] = {
        "encoder": lambda: encoder_rate(store.path, encoder, shown, count),
        "index": lambda: index(False),
        "plain": lambda: plain_rate(paths, size, folder / "plain.npy", batch),
        "quality": lambda: index(True),
        "thumbnails": lambda: thumbnail_ms(store),
    }
    found: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, measure in ways.items():
            found[name].append(measure())
    alone, ours, plain, judged, thumbnails = (statistics.median(found[name]) for name in ways)
    to_alone, to_plain = (
        statistics.median(one / other for one, other in zip(found["index"], found[name], strict=True))
        for name in ("encoder", "plain")
    )
    print(
        f"| {side} | {shown} | {alone:.1f} | {ours:.1f} | {plain:.1f} | {to_alone:.2f} | {to_plain:.2f} "
        f"| {judged:.1f} | {thumbnails:.1f} |",
        flush=True,
    )
    shutil.rmtree(plates)
    shutil.rmtree(store.path)


def new_store(path: Path, size: int | None) -> phenoembed_store.Store:
    """A store with one encoder, its weights drawn at random."""
    shutil.rmtree(path, ignore_errors=True)
    torch.manual_seed(0)
    config = {"method": "product", "epochs": 0, "untrained": False, "trained_at": "2026-01-01T00:00:00"}
    save_encoder(path, Encoder(), None, {**config, "pixel_mean": MEAN, "pixel_sd": SD, "size": size}, None)
    return phenoembed_store.open(path, create=True)


def write_plates(folder: Path, side: int, count: int, name: str = "P1") -> Path:
    """``count`` images of smooth noise with a manifest; every 64th is a link to the same file."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    draw = np.random.default_rng(side)
    lines = ["path,plate,well,field,time_h,compound,concentration_um"]
    for number in range(count):
        path = folder / f"{name}_{number:06d}.tif"
        if number < DISTINCT:
            coarse = draw.normal(20_000, 3_000, (side // 8 + 1, side // 8 + 1)).repeat(8, 0).repeat(8, 1)[:side, :side]
            tifffile.imwrite(path, (coarse + draw.normal(0, 300, (side, side))).clip(0, 65_535).astype(np.uint16))
        else:
            os.link(folder / f"{name}_{number % DISTINCT:06d}.tif", path)
        well, field = number % 384, number // 384
        place = f"{chr(65 + well // 24)}{well % 24 + 1:02d}"
        lines.append(f"{path.name},{name},{place},{field % 9 + 1},{24 * (field // 9 + 1)},c{well},1")
    (folder / "manifest.csv").write_text("\n".join(lines) + "\n")
    return folder


def encoder_rate(store: Path, encoder: str, side: int, count: int) -> float:
    """Images a second of the network alone, as indexing runs it, on tensors in memory."""
    worker = Worker(Work(store, (encoder,)))
    (network,) = worker.networks
    batch = network.batch_of((side, side))
    images = to_network(torch.randint(0, 65_535, (batch, side, side), dtype=torch.int32), MEAN, SD, 1 / 65_535)
    with torch.inference_mode():
        network.module(images)
        started = time.perf_counter()
        for _ in range(-(-count // batch)):
            network.module(images)
    worker.pool.shutdown()
    return -(-count // batch) * batch / (time.perf_counter() - started)


def indexed_rate(store: phenoembed_store.Store, plates: Path, quality: bool, batch: int) -> float:
    """Images a second of an indexing from nothing, files to committed rows."""
    shutil.rmtree(store.path / "images", ignore_errors=True)
    shutil.rmtree(store.path / "groups", ignore_errors=True)
    found = index_screen(read_screen(plates), phenoembed_store.open(store.path), quality=quality, batch_images=batch)
    assert found.images_per_second is not None
    assert not found.rejected
    return found.images_per_second


def thumbnail_ms(store: phenoembed_store.Store) -> float:
    """Milliseconds an image, of making all thumbnails anew."""
    shutil.rmtree(store.path / "thumbnails", ignore_errors=True)
    opened = phenoembed_store.open(store.path)
    started = time.perf_counter()
    made = make_thumbnails(opened).made
    return 1000 * (time.perf_counter() - started) / made


def plain_rate(paths: list[Path], size: int | None, out: Path, batch: int) -> float:
    """Images a second of what one would write in ten lines."""
    network = resnet18(weights=None)
    network.conv1 = torch.nn.Conv2d(1, 64, kernel_size=7, stride=2, padding=3, bias=False)
    network.fc = torch.nn.Identity()
    network.eval()
    resize = v2.Resize(size, antialias=True) if size else torch.nn.Identity()
    features, started = [], 0.0
    with torch.inference_mode():
        for start in range(0, len(paths), batch):
            if start == batch:
                started = time.perf_counter()  # the first batch is a warm-up, here as there
            stack = np.stack([tifffile.imread(path) for path in paths[start : start + batch]])
            images = resize(torch.from_numpy(stack.astype(np.float32) / 65_535)[:, None])
            features.append(network((images - MEAN) / SD).numpy())
    np.save(out, np.concatenate(features))
    return (len(paths) - batch) / (time.perf_counter() - started)


INDEX = """
import resource, sys
from pathlib import Path
from phenoembed.indexing import index_screen
from phenoembed.readers import read_screen
import phenoembed_store
found = index_screen(read_screen(Path(sys.argv[1])), phenoembed_store.open(sys.argv[2]))
own, child = (resource.getrusage(who).ru_maxrss / 1024 for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
print(f"| {found.indexed:,} | {own:,.0f} | {child:,.0f} | {found.images_per_second:,.0f} |")
"""


def memory(folder: Path, count: int) -> None:
    """Print images, the peak of the command and of the child that embeds (MB), and images a second."""
    store = new_store(folder / "store-memory", 64)
    plates = write_plates(folder / "plates-memory", 64, count)
    subprocess.run([sys.executable, "-c", INDEX, str(plates), str(store.path)], check=True)
    shutil.rmtree(store.path)
    shutil.rmtree(plates)


def append(folder: Path, rows: int) -> None:
    """Print rows, and the seconds that a plate more takes: until its rows are committed, and to derive from them."""
    store = new_store(folder / "store-append", 64)
    encoder = store.default_encoder()
    for start in range(0, rows, 50_000):
        store.write_images(random_rows(start, min(start + 50_000, rows), encoder))
    store.refresh(encoder)
    committed: list[float] = []
    real = store.refresh

    def refresh(name: str | None = None) -> None:
        committed.append(time.perf_counter())
        real(name)

    store.refresh = refresh  # type: ignore[method-assign]
    for number in range(3):
        plates = write_plates(folder / "plates-append", 64, PLATE, name=f"new{number}")
        started = time.perf_counter()
        found = index_screen(read_screen(plates), store, quality=False)
        ended = time.perf_counter()
        print(
            f"| {rows:,} | {found.indexed} | {committed[-1] - started:.1f} | {ended - committed[-1]:.1f} |", flush=True
        )
    shutil.rmtree(store.path)
    shutil.rmtree(plates)


def random_rows(first: int, last: int, encoder: str) -> pa.Table:
    """Rows of the images table for images that never were."""
    n = last - first
    place = np.arange(first, last)
    well = [f"{chr(65 + w // 24)}{w % 24 + 1:02d}" for w in (place % 384).tolist()]
    vectors = np.random.default_rng(first).normal(size=(n, 512)).astype(np.float32)
    known = {
        "path": [f"/nowhere/{i}.tif" for i in place.tolist()],
        "screen": ["old"] * n,
        "plate": [f"old{i // 3456}" for i in place.tolist()],
        "well": well,
        "field": (place // 384 % 9 + 1).astype(np.int32),
        "channel": ["1"] * n,
        "replicate": ["1"] * n,
        "compound": [f"c{i % 384}" for i in place.tolist()],
        "role": ["treated"] * n,
        "content_hash": [f"{i:032x}" for i in place.tolist()],
        "encoder": [encoder] * n,
        "embedding": pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), 512).cast(pa.list_(pa.float32())),
    }
    return pa.table([known.get(f.name, np.zeros(n)) if f.name in known else pa.array(np.zeros(n)).cast(f.type)
                     for f in IMAGES_SCHEMA], IMAGES_SCHEMA)  # fmt: skip


if __name__ == "__main__":
    main()
