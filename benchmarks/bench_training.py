"""How fast does training go? Groups a second from 16-bit TIFFs of 1000 px, at 64, 128 and 224 px, beside two others.

    python benchmarks/bench_training.py [FOLDER] [--sizes 64 128 224] [--rounds 5] [--steps 4] [--batch-groups 24]

``ours``: the training of ``phenoembed train``, its pixels read once into the cache (that time stands apart: it is paid
once, not in every epoch). ``plain loop``: the same network fed as most would, a Dataset that reads TIFFs, torchvision
transforms an image, a DataLoader with two workers, NCHW. ``bare step``: forward and backward on tensors that lie in
memory, channels last: the limit; it has neither augmentation nor optimiser.

Each is a process of its own. They take turns, all but one stopped (their workers too): a round is ``--steps`` steps of
each, timed from one step's end to another's, so that nobody prepares batches while another is timed. Printed are
medians over the rounds, of the ratios too, and the most memory that each held (workers included). An epoch of ours is
as long as LOPAC's (800 steps); its checkpoint is no part of a round.
"""

import argparse
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tifffile
import torch
from phenoembed.batches import GroupBatches, members_of
from phenoembed.cache import PixelCache, open_cache
from phenoembed.groups import Groups
from phenoembed.loop import run_loop
from phenoembed.methods import build_method
from phenoembed.model import Encoder, to_network
from phenoembed.settings import Settings
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

PIXELS, N_IMAGES, GROUP_IMAGES, N_CLASSES, EPOCH_STEPS = 1000, 192, 6, 16, 800
MEAN, SD = 0.5, 0.15
Tell = Callable[[int, int], object]  # called after each step
AUGMENT = v2.Compose(
    [
        v2.RandomHorizontalFlip(),
        v2.RandomVerticalFlip(),
        v2.RandomAffine(degrees=180, translate=(0.1, 0.1), scale=(0.9, 1.1)),
        v2.ColorJitter(brightness=0.2, contrast=0.2),
        v2.GaussianBlur(5, (0.1, 1.0)),
        v2.Normalize([MEAN], [SD]),
        v2.GaussianNoise(sigma=0.1, clip=False),
    ]
)


class Tiffs(Dataset[tuple[Tensor, int]]):
    """An image a time, as most would read them; as many times over as an epoch is long."""

    def __init__(self, paths: list[Path], size: int, n: int) -> None:
        self.paths, self.resize, self.n = paths, v2.Resize(size, antialias=True), n

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, row: int) -> tuple[Tensor, int]:
        pixels = torch.from_numpy(tifffile.imread(self.paths[row % len(self.paths)]).astype(np.float32) / 65535)[None]
        return AUGMENT(self.resize(pixels)), row


class Contestant:
    """A process that says after each step that it is done, and stands still but for its turns."""

    def __init__(self, name: str, size: int, options: argparse.Namespace) -> None:
        self.says, end = os.pipe()
        command = [
            sys.executable,
            __file__,
            str(options.folder),
            "--sizes",
            str(size),
            "--run",
            name,
            "--tell",
            str(end),
        ]
        command += ["--batch-groups", str(options.batch_groups), "--threads", str(options.threads)]
        self.process = subprocess.Popen(command, pass_fds=[end], start_new_session=True)
        os.close(end)
        self.turn(1)  # a warm-up

    def turn(self, steps: int) -> float:
        """Seconds a step, from the end of one to the end of the last."""
        os.killpg(self.process.pid, signal.SIGCONT)
        self._wait()
        started = time.perf_counter()
        for _ in range(steps):
            self._wait()
        seconds = time.perf_counter() - started
        os.killpg(self.process.pid, signal.SIGSTOP)
        return seconds / steps

    def end(self) -> float:
        """The most memory its processes held, in GB; ends them."""
        group = [one for one in Path("/proc").glob("[0-9]*") if _group_of(one) == self.process.pid]
        kilobytes = sum(int(_status(one)["VmHWM"].split()[0]) for one in group)
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        os.close(self.says)
        return kilobytes / 1e6

    def _wait(self) -> None:
        if not os.read(self.says, 1):
            raise SystemExit(f"{self.process.args} ended")


def _group_of(process: Path) -> int | None:
    try:
        return os.getpgid(int(process.name))
    except ProcessLookupError:
        return None


def _status(process: Path) -> dict[str, str]:
    return dict(line.split(":\t", 1) for line in (process / "status").read_text().splitlines())


def main() -> None:
    """Measure each size in turn, and print a table; with ``--run``, be one of those that take turns."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, default=Path("bench-training"))
    parser.add_argument("--sizes", nargs="+", type=int, default=[64, 128, 224])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--batch-groups", type=int, default=24)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--run", choices=RUNS, help=argparse.SUPPRESS)
    parser.add_argument("--tell", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    paths = write_tiffs(options.folder)
    if options.run:
        cache = open_cache(options.folder / "cache", [(path,) for path in paths], options.sizes[0])
        RUNS[options.run](cache, paths, options, lambda *_: os.write(options.tell, b"."))
        return
    print("| px | ours, groups/s | plain loop | bare step | ours / plain | ours / bare | GB: ours | plain | bare |")
    print("| --- " * 9 + "|")
    for size in options.sizes:
        print(measure(paths, size, options), flush=True)


def measure(paths: list[Path], size: int, options: argparse.Namespace) -> str:
    """A line of the table."""
    started = time.perf_counter()
    open_cache(options.folder / "cache", [(path,) for path in paths], size)
    print(f"cache of {size} px: {len(paths) / (time.perf_counter() - started):.0f} images/s", file=sys.stderr)
    contestants = {name: Contestant(name, size, options) for name in RUNS}
    rounds = [{name: one.turn(options.steps) for name, one in contestants.items()} for _ in range(options.rounds)]
    memory = {name: one.end() for name, one in contestants.items()}
    rates = [options.batch_groups / statistics.median(one[name] for one in rounds) for name in RUNS]
    ratios = [statistics.median(one[other] / one["ours"] for one in rounds) for other in ("plain", "bare")]
    cells = [f"{value:.2f}" for value in (*rates, *ratios)] + [f"{memory[name]:.1f}" for name in RUNS]
    return f"| {size} | {' | '.join(cells)} |"


def write_tiffs(folder: Path) -> list[Path]:
    """Noise as 16-bit TIFFs: 2 MB each, as a screen's are."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    paths = [folder / f"{row:04d}.tif" for row in range(N_IMAGES)]
    for path in paths:
        if not path.exists():
            tifffile.imwrite(path, rng.integers(20_000, 45_000, (PIXELS, PIXELS), dtype=np.uint16))
    return paths


def grouped(n_groups: int) -> Groups:
    """Groups of six images, over the images again and again; their table is never asked for."""
    rows = tuple((np.arange(GROUP_IMAGES) + GROUP_IMAGES * number) % N_IMAGES for number in range(n_groups))
    return Groups(None, rows, tuple(np.arange(GROUP_IMAGES) for _ in rows))


def our_steps(cache: PixelCache, _paths: list[Path], options: argparse.Namespace, tell: Tell) -> None:
    """Our loop."""
    places = np.arange(EPOCH_STEPS * options.batch_groups)
    batches = GroupBatches(cache.pixels, grouped(len(places)), places, places % N_CLASSES, options.batch_groups, 0)
    checkpoint = options.folder / "last.ckpt"
    checkpoint.unlink(missing_ok=True)
    head = build_method("product", N_CLASSES, 512)
    settings = Settings(epochs=1, batch_groups=options.batch_groups)
    run_loop(Encoder(), head, batches, settings, MEAN, SD, cache.scale, checkpoint, tell)


def bare_steps(cache: PixelCache, _paths: list[Path], options: argparse.Namespace, tell: Tell) -> None:
    """Forward and backward on one batch that lies in memory; no augmentation."""
    encoder, head = Encoder().to(memory_format=torch.channels_last), build_method("product", N_CLASSES, 512)
    places = np.arange(options.batch_groups)
    rows = np.arange(len(places) * GROUP_IMAGES) % N_IMAGES
    images = to_network(torch.from_numpy(cache.pixels[rows]), MEAN, SD, cache.scale)
    labels, groups = torch.from_numpy(places % N_CLASSES), grouped(len(places))
    while True:
        head.loss(encoder(images), members_of(groups, places), labels).backward()
        tell(0, 0)


def plain_steps(_cache: PixelCache, paths: list[Path], options: argparse.Namespace, tell: Tell) -> None:
    """The same network, fed by a DataLoader of images."""
    encoder, head = Encoder(), build_method("product", N_CLASSES, 512)
    optimizer = torch.optim.AdamW([*encoder.parameters(), *head.parameters()], lr=1e-4)
    n_images = options.batch_groups * GROUP_IMAGES
    loader = DataLoader(Tiffs(paths, options.sizes[0], n_images * EPOCH_STEPS), batch_size=n_images, num_workers=2)
    places = np.arange(options.batch_groups)
    labels, groups = torch.from_numpy(places % N_CLASSES), grouped(len(places))
    for images, _ in loader:
        optimizer.zero_grad()
        head.loss(encoder(images), members_of(groups, places), labels).backward()
        optimizer.step()
        tell(0, 0)


RUNS: dict[str, Callable[[PixelCache, list[Path], argparse.Namespace, Tell], None]] = {
    "ours": our_steps,
    "plain": plain_steps,
    "bare": bare_steps,
}

if __name__ == "__main__":
    main()
