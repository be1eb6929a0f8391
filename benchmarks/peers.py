"""The peers, each behind the same calls: built from vectors and metadata, then asked, with or without a filter.

Each is tuned on queries of its own: the fastest of its settings that reaches the recall wanted. What takes minutes to
build is kept in the benchmark's folder, with the seconds it took, and opened there the next time.
"""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from truth import recall

RECALL_WANTED = 0.999
Asked = tuple[np.ndarray, str | None]
"""A query vector, and a filter in SQL."""
Ask = Callable[[np.ndarray, str | None], list[int]]


@dataclass(frozen=True)
class Peer:
    """A peer that is ready. ``settings``: keywords that ``ask`` takes; ``filters``: whether it takes filters."""

    name: str
    built_s: float
    ask: Callable[..., list[int]]
    settings: Sequence[dict[str, Any]] = field(default_factory=lambda: [{}])
    filters: bool = False

    def tuned(self, asked: Sequence[Asked], truth: Sequence[set[int]]) -> tuple[Ask, dict[str, Any]]:
        """``ask`` with the fastest settings that reach the recall (the best recall, where none does).

        Settings stand in the order of their cost: once two of them reach it, the others would only be slower.
        """
        found = []
        for setting in self.settings:
            self.ask(*asked[0], **setting)
            start = time.perf_counter()
            hits = [set(self.ask(vector, where, **setting)) for vector, where in asked]
            seconds, reached = time.perf_counter() - start, recall(hits, truth)
            enough = reached >= RECALL_WANTED
            found.append((enough, -seconds if enough else reached, setting))
            if sum(one[0] for one in found) == 2:
                break
        _, _, best = max(found, key=lambda one: one[:2])
        return (lambda vector, where: self.ask(vector, where, **best)), best


def kept_seconds(folder: Path, name: str, build: Callable[[], object]) -> float:
    """Seconds that ``build`` took, now or when what it made was put in the folder."""
    note = folder / f"{name}.json"
    if not note.is_file():
        start = time.perf_counter()
        build()
        note.write_text(json.dumps(time.perf_counter() - start))
    return float(json.loads(note.read_text()))


def lancedb_peers(folder: Path, vectors: np.ndarray, metadata: pa.Table) -> list[Peer]:
    """LanceDB with scalar indexes and IVF-SQ, the fastest of its vector indexes here (IVF-PQ took 10 minutes to build
    at 138,240 x 512 and longer to search at equal recall): asked for row numbers only, and for the hits' metadata too,
    which is what ours returns."""
    import lancedb
    from lancedb.index import Bitmap, BTree, IvfSq

    partitions = int(np.sqrt(len(vectors)))
    database = lancedb.connect(str(folder / "lancedb"))
    if not (folder / "lancedb.json").is_file():
        flat = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), vectors.shape[1])
        table = metadata.append_column("vector", flat).append_column("n", pa.array(np.arange(len(vectors))))
        database.create_table("images", table, mode="overwrite")
    opened = database.open_table("images")

    def build() -> None:
        opened.create_index("vector", config=IvfSq(distance_type="cosine", num_partitions=partitions))
        for column, kind in (("u", BTree()), ("compound", Bitmap()), ("concentration_um", BTree())):
            opened.create_index(column, config=kind)

    built = kept_seconds(folder, "lancedb", build)

    def ask(
        query: np.ndarray, where: str | None, *, columns: Sequence[str], nprobes: int, refine_factor: int
    ) -> list[int]:
        asked = opened.search(query).distance_type("cosine").nprobes(nprobes).refine_factor(refine_factor)
        asked = asked.where(where, prefilter=True) if where else asked
        return asked.limit(10).select([*columns, "n", "_distance"]).to_arrow().column("n").to_pylist()

    probes = [1 << i for i in range(int(np.log2(partitions)) + 1)] + [partitions]
    settings = [{"nprobes": n, "refine_factor": r} for n, r in product(probes, (2, 4))]
    return [
        Peer(f"LanceDB, {returned}", built, partial(ask, columns=columns), settings, filters=True)
        for returned, columns in (("row numbers only", ()), ("hit's columns", metadata.column_names))
    ]


def hnswlib_peer(folder: Path, vectors: np.ndarray) -> Peer:
    import hnswlib

    def build() -> None:
        index = hnswlib.Index(space="cosine", dim=vectors.shape[1])
        index.init_index(len(vectors), ef_construction=100, M=16)
        index.add_items(vectors)
        index.save_index(str(folder / "hnswlib.bin"))

    built = kept_seconds(folder, "hnswlib", build)
    index = hnswlib.Index(space="cosine", dim=vectors.shape[1])
    index.load_index(str(folder / "hnswlib.bin"))

    def ask(query: np.ndarray, _: str | None, *, ef: int) -> list[int]:
        index.set_ef(ef)
        return index.knn_query(query, 10)[0][0].tolist()

    return Peer("hnswlib", built, ask, [{"ef": ef} for ef in (10, 20, 50, 100, 200, 400, 800)])


def sklearn_peer(_: Path, vectors: np.ndarray) -> Peer:
    from sklearn.neighbors import NearestNeighbors

    start = time.perf_counter()
    found = NearestNeighbors(n_neighbors=10, metric="cosine", algorithm="brute").fit(vectors)
    built = time.perf_counter() - start
    return Peer("scikit-learn brute", built, lambda q, _: found.kneighbors(q[None], return_distance=False)[0].tolist())


def qdrant_peer(_: Path, vectors: np.ndarray) -> Peer:
    """Qdrant's local mode, which compares with every vector in Python: small sizes only."""
    from qdrant_client import QdrantClient, models

    start = time.perf_counter()
    client = QdrantClient(":memory:")
    size = models.VectorParams(size=vectors.shape[1], distance=models.Distance.COSINE)
    client.create_collection("images", vectors_config=size)
    client.upload_collection("images", vectors=vectors, ids=list(range(len(vectors))))
    built = time.perf_counter() - start
    return Peer(
        "Qdrant local",
        built,
        lambda q, _: [int(p.id) for p in client.query_points("images", query=q.tolist(), limit=10).points],
    )
