"""What is done with a batch of images, whichever process, worker or machine does it: read, judge, embed."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np

from phenoembed.pixels import Pixels, Raw, check_shape, intensity_statistics, read_bytes, read_pixels, resize
from phenoembed.planes import Source, content_hash, hash_bytes, plane_of, size_and_time
from phenoembed.preparation import Preparer
from phenoembed.quality import image_quality
from phenoembed_store.errors import ImageError, StoreError
from phenoembed_store.mirror import folder_of

PRECISIONS = ("32", "bf16")
"""Of the network's arithmetic: float32, or bfloat16 where the device gains by it. Embeddings are float32 always."""

RUN = 4
"""Images that a thread reads before it reports: to hand over each by itself takes as long as to read a small one."""

Batch = tuple[tuple[int, ...], tuple[Source, ...]]  # numbers of images, and the files of each


@dataclass(frozen=True)
class FileFacts:
    """What indexing keeps of an image's files."""

    content_hash: str
    file_bytes: int
    file_mtime_ns: int
    statistics: dict[str, float]  # of INTENSITY_STATISTICS, and of QUALITY where it is judged


@dataclass(frozen=True)
class Embedded:
    """One batch's answer: a reason for each image that cannot be used, facts and embeddings of the others.

    ``embeddings``: a float32 array (images that can be used, dim) for each encoder asked for, in their order.
    """

    numbers: tuple[int, ...]  # as asked
    facts: tuple[FileFacts | None, ...]
    reasons: tuple[str | None, ...]
    embeddings: dict[str, np.ndarray]


@dataclass(frozen=True)
class Work:
    """What is to be done with every batch: the encoders, and how.

    ``store``: where it lies; in object storage any machine can work.
    ``expected_shape``: of the screen's images; another one is a reason. ``quality``: judge the pixels' quality too.
    ``preparer``: what prepares the pixels; it knows the images by their numbers.
    ``workers``: threads that read, or on a cluster processes that read and embed; None: as fits the machine.
    """

    store: Path
    encoders: tuple[str, ...]
    expected_shape: tuple[int, int] | None = None
    quality: bool = True
    workers: int | None = None
    precision: str = "32"
    preparer: Preparer = field(default_factory=Preparer)

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise StoreError(f"precision '{self.precision}' is none of {', '.join(PRECISIONS)}")
        if self.workers is not None and self.workers < 1:
            raise StoreError(f"{self.workers} workers cannot work; give 1 or more")


class ReadImage(NamedTuple):
    """One image of a batch: its pixels and facts, or the reason why there are none."""

    number: int
    facts: FileFacts | None
    reason: str | None
    pixels: Pixels | None


class Worker:
    """Encoders in memory, and threads that read. Raises StoreError where an encoder's files are damaged."""

    def __init__(self, work: Work, threads: int | None = None) -> None:
        from phenoembed.inference import Network

        self.work = work
        folder = folder_of(work.store)
        self.networks = [Network(folder, name) for name in work.encoders]
        sizes = {network.size for network in self.networks}
        if len(sizes) > 1:
            raise StoreError(f"encoders of different image sizes ({sizes}) cannot be indexed in one run")
        self.size = sizes.pop()
        self.pool = ThreadPoolExecutor(threads or min(8, (os.cpu_count() or 1) + 2))

    def read(self, batch: Batch) -> list[ReadImage]:
        """The images of a batch, at the encoders' size."""
        return read_batch(batch, self.work, self.size, self.pool)

    def embed(self, read: Sequence[ReadImage]) -> Embedded:
        """The embeddings of what was read."""
        kept = [image.pixels for image in read if image.pixels is not None]
        return answer_of(read, {one.id: one.embed(kept, self.work.precision) for one in self.networks})


def read_batch(batch: Batch, work: Work, size: int | None, pool: ThreadPoolExecutor) -> list[ReadImage]:
    """Read the images of a batch and shrink them so that the shorter side has ``size`` pixels."""

    def read(number: int, source: Source) -> ReadImage:
        try:
            raw, facts = read_image(source, work.quality, work.preparer.preparation.z)
            if work.expected_shape is not None:
                check_shape(raw, work.expected_shape)
            return ReadImage(number, facts, None, resize(work.preparer.prepare(raw, number), size))
        except ImageError as error:
            return ReadImage(number, None, str(error), None)

    def read_run(start: int) -> list[ReadImage]:
        return [read(*one) for one in zip(*(part[start : start + RUN] for part in batch), strict=True)]

    return list(chain.from_iterable(pool.map(read_run, range(0, len(batch[0]), RUN))))


def answer_of(read: Sequence[ReadImage], embeddings: dict[str, np.ndarray]) -> Embedded:
    """The answer to a batch, from what was read of it and the embeddings of its images that have pixels."""
    return Embedded(
        tuple(image.number for image in read),
        tuple(image.facts for image in read),
        tuple(image.reason for image in read),
        embeddings,
    )


def read_image(source: Source, quality: bool = True, z: str = "max") -> tuple[Raw, FileFacts]:
    """Raw pixels of one image, of a stack what ``z`` says, and the facts of its files and pixels. Raises ImageError."""
    try:
        n_bytes, mtime_ns = size_and_time(source)
    except OSError as error:
        raise ImageError(f"cannot be read: {error.strerror}") from error
    if len(source) == 1 and plane_of(source[0]) is None:
        content = read_bytes(source[0])  # once, for its pixels and its hash
        pixels, hashed = read_pixels(content, z=z), hash_bytes(content)
    else:
        pixels, hashed = read_pixels(source[0], source[1:], z), content_hash(source)
    statistics = intensity_statistics(pixels) | (image_quality(pixels) if quality else {})
    return pixels, FileFacts(hashed, n_bytes, mtime_ns, statistics)
