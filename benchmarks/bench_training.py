"""How fast does training go? Groups a second from 16-bit TIFFs of 1000 px, at 64, 128 and 224 px, beside two others.

    python benchmarks/bench_training.py [FOLDER] [--sizes 64 128 224] [--steps 6] [--batch-groups 8]

``ours``: the training of ``phenoembed train``, its pixels read once into the cache (that time stands apart: it is paid
once, not in every epoch). ``plain loop``: the same network fed as most would, a Dataset that reads TIFFs, torchvision
transforms an image, a DataLoader with two workers, NCHW. ``bare step``: forward and backward on tensors that lie in
memory, channels last: the limit. The first batch of each, a warm-up, does not count.
"""

import argparse
import resource
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tifffile
import torch
from phenoembed.batches import GroupBatches, members_of
from phenoembed.cache import open_cache
from phenoembed.groups import Groups
from phenoembed.loop import run_loop
from phenoembed.methods import build_method
from phenoembed.model import Encoder, to_network
from phenoembed.training import Settings
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

PIXELS, GROUP_IMAGES, N_GROUPS, N_CLASSES = 1000, 6, 32, 16
MEAN, SD = 0.5, 0.15
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
    """An image a time, as most would read them."""

    def __init__(self, paths: list[Path], size: int) -> None:
        self.paths, self.resize = paths, v2.Resize(size, antialias=True)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, row: int) -> tuple[Tensor, int]:
        pixels = torch.from_numpy(tifffile.imread(self.paths[row]).astype(np.float32) / 65535)[None]
        return AUGMENT(self.resize(pixels)), row


def main() -> None:
    """Measure each size in turn, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, default=Path("bench-training"))
    parser.add_argument("--sizes", nargs="+", type=int, default=[64, 128, 224])
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--batch-groups", type=int, default=8)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    paths = write_tiffs(options.folder)
    groups = grouped()
    print("| px | ours, groups/s | plain loop | bare step | ours / plain | ours / bare | reading, images/s | peak GB |")
    print("| --- " * 8 + "|")
    for size in options.sizes:
        started = time.perf_counter()
        cache = open_cache(options.folder / f"cache-{time.time_ns()}", [(path,) for path in paths], size)
        reading = len(paths) / (time.perf_counter() - started)
        bare = rate(bare_steps(cache.pixels, cache.scale, groups, options.steps, options.batch_groups))
        ours = our_rate(cache.pixels, cache.scale, groups, options.steps, options.batch_groups, options.folder)
        plain = rate(plain_steps(paths, size, groups, options.steps, options.batch_groups))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
        cells = (f"{ours:.2f}", f"{plain:.2f}", f"{bare:.2f}", f"{ours / plain:.2f}", f"{ours / bare:.2f}")
        print(f"| {size} | {' | '.join(cells)} | {reading:.0f} | {peak:.1f} |", flush=True)


def write_tiffs(folder: Path) -> list[Path]:
    """Noise as 16-bit TIFFs: 2 MB each, as a screen's are."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    paths = [folder / f"{row:04d}.tif" for row in range(N_GROUPS * GROUP_IMAGES)]
    for path in paths:
        if not path.exists():
            tifffile.imwrite(path, rng.integers(20_000, 45_000, (PIXELS, PIXELS), dtype=np.uint16))
    return paths


def grouped() -> Groups:
    """Groups of six images, one after the other; their table is never asked for."""
    rows = tuple(np.arange(GROUP_IMAGES) + GROUP_IMAGES * number for number in range(N_GROUPS))
    return Groups(None, rows, tuple(np.arange(GROUP_IMAGES) for _ in rows))


def our_rate(pixels: np.ndarray, scale: float, groups: Groups, steps: int, batch_groups: int, folder: Path) -> float:
    """Groups a second of our loop, from the images a second that it measures itself."""
    places = np.arange(N_GROUPS)
    batches = GroupBatches(pixels, groups, places, places % N_CLASSES, batch_groups, 0)
    epochs = -(-(steps + 1) // len(batches))
    settings = Settings(epochs=epochs, batch_groups=batch_groups)
    checkpoint = folder / "last.ckpt"
    checkpoint.unlink(missing_ok=True)
    head = build_method("product", N_CLASSES, 512)
    found = run_loop(Encoder(), head, batches, settings, MEAN, SD, scale, checkpoint, lambda _done, _total: None)
    assert found is not None
    return found / GROUP_IMAGES


def bare_steps(pixels: np.ndarray, scale: float, groups: Groups, steps: int, batch_groups: int) -> Iterator[int]:
    """Forward and backward on one batch that lies in memory; no augmentation."""
    encoder, head = Encoder().to(memory_format=torch.channels_last), build_method("product", N_CLASSES, 512)
    places = np.arange(batch_groups)
    images = to_network(torch.from_numpy(np.array(pixels[: batch_groups * GROUP_IMAGES])), MEAN, SD, scale)
    labels = torch.from_numpy(places % N_CLASSES)
    for _ in range(steps + 1):
        head.loss(encoder(images), members_of(groups, places), labels).backward()
        yield batch_groups


def plain_steps(paths: list[Path], size: int, groups: Groups, steps: int, batch_groups: int) -> Iterator[int]:
    """The same network, fed by a DataLoader of images."""
    encoder, head = Encoder(), build_method("product", N_CLASSES, 512)
    optimizer = torch.optim.AdamW([*encoder.parameters(), *head.parameters()], lr=1e-4)
    loader = DataLoader(Tiffs(paths, size), batch_size=batch_groups * GROUP_IMAGES, num_workers=2, drop_last=True)
    places = np.arange(batch_groups)
    labels = torch.from_numpy(places % N_CLASSES)
    done = 0
    while done <= steps:
        for images, _ in loader:
            optimizer.zero_grad()
            head.loss(encoder(images), members_of(groups, places), labels).backward()
            optimizer.step()
            yield batch_groups
            done += 1
            if done > steps:
                return


def rate(steps: Iterator[int]) -> float:
    """Groups a second, the first batch apart."""
    next(steps)
    started, n_groups = time.perf_counter(), 0
    for n in steps:
        n_groups += n
    return n_groups / (time.perf_counter() - started)


if __name__ == "__main__":
    main()
