"""Images in, embeddings out, in a child process: torch and faiss never share one.

The child reads and decodes the next batch in threads while the network runs on the current one. It ends with its
parent, however that ends; Ctrl-C is the parent's to handle.
"""

import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from phenoembed.pixels import Pixels, check_shape, intensity_statistics, read_pixels, resize
from phenoembed.planes import Source, content_hash, size_and_time
from phenoembed.quality import image_quality
from phenoembed.spawning import without_main
from phenoembed_store.errors import ImageError, NotInStore, PhenoembedError, StoreError

if TYPE_CHECKING:
    from phenoembed.encoders import TrainedEncoder
    from phenoembed_store import Store

BATCH_IMAGES = 64
IN_FLIGHT = 3  # batches asked for but not answered: one encoded, one read, one waiting


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


def embed_batches(
    store: Path,
    encoders: Sequence[str],
    batches: Iterable[tuple[tuple[int, ...], tuple[Source, ...]]],
    expected_shape: tuple[int, int] | None = None,
    quality: bool = True,
) -> Generator[Embedded]:
    """Embed batches of (numbers, sources) with each encoder, in order; ``quality``: judge the pixels' quality too.

    Raises what the child could not do.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    child = context.Process(target=_serve, args=(theirs, store, tuple(encoders), expected_shape, quality), daemon=True)
    with without_main():
        child.start()
    theirs.close()
    try:
        waiting = 0
        for batch in batches:
            _send(ours, batch)
            waiting += 1
            if waiting >= IN_FLIGHT:
                yield _receive(ours)
                waiting -= 1
        for _ in range(waiting):
            yield _receive(ours)
    finally:
        ours.close()
        child.join(timeout=5)
        if child.is_alive():
            child.kill()


def _send(connection: Connection, batch: tuple[tuple[int, ...], tuple[Source, ...]]) -> None:
    try:
        connection.send(batch)
    except (BrokenPipeError, ConnectionResetError):
        _receive(connection)  # raises what the child left to say
        raise


def _receive(connection: Connection) -> Embedded:
    try:
        answer = connection.recv()
    except (EOFError, ConnectionResetError) as error:
        raise StoreError("the encoding process ended early (out of memory?); run the same command again") from error
    if isinstance(answer, Exception):
        raise answer
    embedded: Embedded = answer
    return embedded


def _serve(
    connection: Connection,
    store: Path,
    encoder_ids: Sequence[str],
    expected_shape: tuple[int, int] | None,
    quality: bool,
) -> None:
    """The child: answers batches until the pipe closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        from phenoembed.encoders import load_encoder

        encoders = [load_encoder(store, name) for name in encoder_ids]
        sizes = {encoder.size for encoder in encoders}
        if len(sizes) > 1:
            raise StoreError(f"encoders of different image sizes ({sizes}) cannot be indexed in one run")
        size = sizes.pop()
        threads = min(8, (os.cpu_count() or 1) + 2)
        with ThreadPoolExecutor(threads) as pool, ThreadPoolExecutor(1) as reader:
            pending: deque[Future[list[Any]]] = deque()
            while True:
                while not pending or (len(pending) < 2 and connection.poll()):
                    request = connection.recv()
                    pending.append(reader.submit(_read_batch, request, size, expected_shape, pool, quality))
                connection.send(_embed(encoders, pending.popleft().result()))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return  # the parent is done, or gone
    except Exception as error:
        known = isinstance(error, PhenoembedError)
        connection.send(error if known else StoreError(f"encoding failed: {type(error).__name__}: {error}"))


def _read_batch(
    request: tuple[tuple[int, ...], tuple[Source, ...]],
    size: int | None,
    expected_shape: tuple[int, int] | None,
    pool: ThreadPoolExecutor,
    quality: bool = True,
) -> list[tuple[int, FileFacts | None, str | None, Pixels | None]]:
    numbers, sources = request

    def read(number: int, source: Source) -> tuple[int, FileFacts | None, str | None, Pixels | None]:
        try:
            pixels, facts = read_image(source, quality)
            if expected_shape is not None:
                check_shape(pixels, expected_shape)
            return number, facts, None, resize(pixels, size)
        except ImageError as error:
            return number, None, str(error), None

    return list(pool.map(read, numbers, sources))


def read_image(source: Source, quality: bool = True) -> tuple[Pixels, FileFacts]:
    """Pixels of one image, planes max-projected, and the facts of its files and pixels. Raises ImageError."""
    try:
        n_bytes, mtime_ns = size_and_time(source)
    except OSError as error:
        raise ImageError(f"cannot be read: {error.strerror}") from error
    pixels = read_pixels(source[0], source[1:])
    facts = FileFacts(
        content_hash(source),
        n_bytes,
        mtime_ns,
        intensity_statistics(pixels) | (image_quality(pixels) if quality else {}),
    )
    return pixels, facts


def _embed(
    encoders: "Sequence[TrainedEncoder]", read: list[tuple[int, FileFacts | None, str | None, Pixels | None]]
) -> Embedded:
    kept = [pixels for _, _, _, pixels in read if pixels is not None]
    return Embedded(
        tuple(number for number, *_ in read),
        tuple(facts for _, facts, _, _ in read),
        tuple(reason for _, _, reason, _ in read),
        {encoder.id: _run_network(encoder, kept) for encoder in encoders},
    )


def _run_network(encoder: "TrainedEncoder", images: Sequence[Pixels]) -> np.ndarray:
    """(images, dim) float32; images of one shape and type run together."""
    import torch

    from phenoembed.model import to_network

    out = np.empty((len(images), encoder.config["dim"]), np.float32)
    device = next(encoder.encoder.parameters()).device
    kinds: dict[Any, list[int]] = {}
    for i, pixels in enumerate(images):
        kinds.setdefault((pixels.shape, pixels.dtype), []).append(i)
    mean, sd = encoder.config["pixel_mean"], encoder.config["pixel_sd"]
    with torch.inference_mode():
        for (_, dtype), members in kinds.items():
            stack = torch.from_numpy(np.stack([images[i] for i in members])).to(device)
            batch = to_network(stack, mean, sd, 1.0 / np.iinfo(dtype).max)
            out[members] = encoder.encoder(batch).float().cpu().numpy()
    return out


def with_weights(store: "Store", encoder: str | None) -> str:
    """The id of an encoder that can embed images (the last trained for None). Raises NotInStore."""
    chosen = store.resolve_encoder(encoder)
    infos = store.encoders()
    if not any(info.id == chosen and info.imported for info in infos):
        return chosen
    trained = [info.id for info in infos if not info.imported and not info.untrained]
    fix = f"choose --encoder {trained[-1]}" if trained else "train one: phenoembed train PLATES"
    raise NotInStore(f"the embeddings of '{chosen}' were imported; it has no network that could embed images: {fix}")


def embed_files(paths: Sequence[Path], store: "Store", encoder: str) -> np.ndarray:
    """(files, dim) float32 embeddings of image files. Raises ImageError naming the first that cannot be used."""
    encoder = with_weights(store, encoder)
    sources = tuple((Path(path),) for path in paths)
    (answer,) = embed_batches(store.path, [encoder], [(tuple(range(len(sources))), sources)])
    for path, reason in zip(paths, answer.reasons, strict=True):
        if reason:
            raise ImageError(f"{path}: {reason}")
    return answer.embeddings[encoder]
