"""``--engine ray``: batches embedded by the workers of a Ray cluster, by the same function as on one machine.

Workers answer, and the process that asked commits the answers in batches of its own: a worker that dies in the middle
had written nothing, and Ray gives its batch to another. A cluster's machines have to see the images and the store under
the same paths, or both in object storage.
"""

import logging
import os
import pickle
from collections.abc import Callable, Generator, Iterable
from typing import Any

import numpy as np

from phenoembed.encoding import Batch, Embedded, Work, Worker
from phenoembed_store.errors import MissingExtra, PhenoembedError, StoreError

AHEAD = 4  # answers fetched before they are asked for


class RayWorker:
    """A worker as Ray Data calls it: rows of a pickled batch in, rows of a pickled answer out."""

    def __init__(self, work: Work, make: Callable[[Work], Worker]) -> None:
        self.work, self.make = work, make
        self.worker: Worker | None = None

    def __call__(self, rows: dict[str, np.ndarray]) -> dict[str, list[bytes]]:
        return {"answer": [pickle.dumps(self._answer(pickle.loads(row))) for row in rows["batch"]]}

    def _answer(self, batch: Batch) -> Embedded | PhenoembedError:
        """What a batch gives, or the error that a person can mend: raised here, Ray would wrap it in pages."""
        try:
            self.worker = self.worker or self.make(self.work)
            return self.worker.embed(self.worker.read(batch))
        except PhenoembedError as error:
            return error


def embed_on_ray(work: Work, batches: Iterable[Batch]) -> Generator[Embedded]:
    """Embed batches, in any order, on the cluster that ``RAY_ADDRESS`` names, or on one made here.

    ``work.workers``: how many processes at most, a CPU (or GPU) each; None: as many as the cluster has.
    """
    ray = _ray()
    started = not ray.is_initialized()
    if started:
        address = os.environ.get("RAY_ADDRESS") or "local"  # Ray itself would join whatever cluster runs here
        ray.init(address, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    try:
        yield from _answers(ray, work, batches)
    finally:
        if started:
            ray.shutdown()


def _answers(ray: Any, work: Work, batches: Iterable[Batch]) -> Generator[Embedded]:
    resources = ray.cluster_resources()
    device = "num_gpus" if resources.get("GPU") else "num_cpus"
    most = work.workers or max(1, int(resources.get("GPU") or resources.get("CPU") or 1))
    _quiet(ray)
    asked = ray.data.from_items([{"batch": pickle.dumps(batch)} for batch in batches])
    answered = asked.map_batches(
        RayWorker,
        fn_constructor_args=(work, Worker),
        batch_size=1,  # a row is a batch of images
        compute=ray.data.ActorPoolStrategy(size=most),
        **{device: 1},
    )
    try:
        for rows in answered.iter_batches(batch_size=None, prefetch_batches=AHEAD):
            for row in rows["answer"]:
                answer = pickle.loads(row)
                if isinstance(answer, PhenoembedError):
                    raise answer
                yield answer
    except ray.exceptions.RayError as error:
        said = str(error).strip().splitlines()
        raise StoreError(
            f"Ray gave up: {said[-1] if said else type(error).__name__}; run the same command again"
        ) from error


def _ray() -> Any:
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise MissingExtra("ray", "ray") from error
    return ray


def _quiet(ray: Any) -> None:
    """Progress is ours to show, on standard error."""
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
