"""Images in, embeddings out, in a child process: torch and faiss never share one.

The child reads and decodes the next batch in threads while the network runs on the current one. It ends with its
parent, however that ends; Ctrl-C is the parent's to handle.
"""

import multiprocessing
import signal
import sys
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

import numpy as np

from phenoembed.encoding import Batch, Embedded, ReadImage, Work, Worker
from phenoembed.plate_light import lone_preparer
from phenoembed.spawning import without_main
from phenoembed_store.errors import ImageError, NotInStore, PhenoembedError, StoreError

if TYPE_CHECKING:
    from phenoembed_store import Store

BATCH_IMAGES = 64
SWITCH_SECONDS = 2e-4
"""After so long a thread that reads makes way for the network's, which asks for Python between any two layers."""
IN_FLIGHT = 3  # batches asked for but not answered: one encoded, one read, one waiting


def embed_batches(work: Work, batches: Iterable[Batch]) -> Generator[Embedded]:
    """Embed batches in order. Raises what the child could not do."""
    with _child(work) as connection:
        waiting = 0
        for batch in batches:
            _send(connection, batch)
            waiting += 1
            if waiting >= IN_FLIGHT:
                yield _receive(connection)
                waiting -= 1
        for _ in range(waiting):
            yield _receive(connection)


@contextmanager
def _child(work: Work) -> Iterator[Connection]:
    """A process that answers the batches that it is sent; it ends with the context."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    child = context.Process(target=_serve, args=(theirs, work), daemon=True)
    with without_main():
        child.start()
    theirs.close()
    try:
        yield ours
    finally:
        ours.close()
        child.kill()  # it has answered, and writes nothing; to take thousands of modules down takes it a second
        child.join()


def _send(connection: Connection, batch: Batch) -> None:
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


def _serve(connection: Connection, work: Work) -> None:
    """The child: answers batches until the pipe closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.setswitchinterval(SWITCH_SECONDS)
    try:
        worker = Worker(work, work.workers)
        with worker.pool, ThreadPoolExecutor(1) as reader:
            pending: deque[Future[list[ReadImage]]] = deque()
            while True:
                while not pending or (len(pending) < 2 and connection.poll()):
                    pending.append(reader.submit(worker.read, connection.recv()))
                connection.send(worker.embed(pending.popleft().result()))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return  # the parent is done, or gone
    except Exception as error:
        known = isinstance(error, PhenoembedError)
        connection.send(error if known else StoreError(f"encoding failed: {type(error).__name__}: {error}"))


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
    work = _work_on_files(store, with_weights(store, encoder))
    (answer,) = embed_batches(work, [_batch_of(paths)])
    return _embeddings(answer, paths)


class FileEmbedder:
    """Embeds image files for many threads, one at a time, in one child process that is kept for the next file.

    To start one takes seconds and half a gigabyte: many at once would take all of a machine's memory.
    """

    def __init__(self, store: "Store") -> None:
        self._store = store
        self._turn = Lock()
        self._running = ExitStack()
        self._encoder: str | None = None
        self._connection: Connection

    def embed(self, path: Path, encoder: str) -> np.ndarray:
        """The embedding of an image file, (dim,) float32. Raises ImageError naming it where it cannot be used."""
        chosen = with_weights(self._store, encoder)
        with self._turn:
            try:
                if self._encoder != chosen:
                    self.close()
                    self._connection = self._running.enter_context(_child(_work_on_files(self._store, chosen)))
                    self._encoder = chosen
                _send(self._connection, _batch_of([path]))
                answer = _receive(self._connection)
            except BaseException:  # what the child says next may be an answer to this
                self.close()
                raise
        found: np.ndarray = _embeddings(answer, [path])[0]
        return found

    def close(self) -> None:
        """End the child process; the next file starts another."""
        self._encoder = None
        self._running.close()


def _work_on_files(store: "Store", encoder: str) -> Work:
    config = next(info.config for info in store.encoders() if info.id == encoder)
    return Work(Path(store.address), (encoder,), quality=False, preparer=lone_preparer(config, store.path))


def _batch_of(paths: Sequence[Path]) -> Batch:
    return tuple(range(len(paths))), tuple((Path(path),) for path in paths)


def _embeddings(answer: Embedded, paths: Sequence[Path]) -> np.ndarray:
    for path, reason in zip(paths, answer.reasons, strict=True):
        if reason:
            raise ImageError(f"{path}: {reason}")
    (embeddings,) = answer.embeddings.values()
    return embeddings
