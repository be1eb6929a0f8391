"""The peers, each behind the same three calls: build from vectors and metadata, search, search under a filter."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa


@dataclass
class Peer:
    """A peer that is ready: how long it took, and its searches. ``filtered`` takes SQL; None where there is none."""

    name: str
    built_s: float
    search: Callable[[np.ndarray], list[int]]
    filtered: Callable[[np.ndarray, str], list[int]] | None = None
    note: str = ""
    extra: dict[str, Any] = field(default_factory=dict)


def lancedb_peer(folder: Path, vectors: np.ndarray, metadata: pa.Table, *, nprobes: int = 20, refine: int = 30) -> Peer:
    """LanceDB with its vector index (IVF-PQ, refined with the full vectors) and scalar indexes."""
    import lancedb

    flat = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), vectors.shape[1])
    table = metadata.append_column("vector", flat).append_column("n", pa.array(np.arange(len(vectors))))
    start = time.perf_counter()
    opened = lancedb.connect(str(folder)).create_table("images", table, mode="overwrite")
    opened.create_index(metric="cosine", num_partitions=256, num_sub_vectors=vectors.shape[1] // 8)
    for column, kind in (("u", "BTREE"), ("compound", "BITMAP"), ("concentration_um", "BTREE")):
        opened.create_scalar_index(column, index_type=kind)
    built = time.perf_counter() - start

    def search(query: np.ndarray, where: str | None = None) -> list[int]:
        asked = opened.search(query).metric("cosine").nprobes(nprobes).refine_factor(refine).limit(10).select(["n"])
        asked = asked.where(where, prefilter=True) if where else asked
        return asked.to_arrow().column("n").to_pylist()

    return Peer("LanceDB IVF-PQ", built, search, search, f"nprobes {nprobes}, refine_factor {refine}")


def hnswlib_peer(vectors: np.ndarray) -> Peer:
    import hnswlib

    start = time.perf_counter()
    index = hnswlib.Index(space="cosine", dim=vectors.shape[1])
    index.init_index(len(vectors), ef_construction=100, M=16)
    index.add_items(vectors)
    index.set_ef(100)
    built = time.perf_counter() - start
    return Peer("hnswlib", built, lambda q: index.knn_query(q, 10)[0][0].tolist(), note="M 16, ef 100")


def sklearn_peer(vectors: np.ndarray) -> Peer:
    from sklearn.neighbors import NearestNeighbors

    start = time.perf_counter()
    found = NearestNeighbors(n_neighbors=10, metric="cosine", algorithm="brute").fit(vectors)
    built = time.perf_counter() - start
    return Peer("scikit-learn brute", built, lambda q: found.kneighbors(q[None], return_distance=False)[0].tolist())


def qdrant_peer(vectors: np.ndarray, metadata: pa.Table) -> Peer:
    """Qdrant's local mode, which compares with every vector in Python: small sizes only."""
    from qdrant_client import QdrantClient, models

    start = time.perf_counter()
    client = QdrantClient(":memory:")
    size = models.VectorParams(size=vectors.shape[1], distance=models.Distance.COSINE)
    client.create_collection("images", vectors_config=size)
    client.upload_collection(
        "images", vectors=vectors, payload=metadata.select(["u"]).to_pylist(), ids=list(range(len(vectors)))
    )
    built = time.perf_counter() - start
    return Peer(
        "Qdrant local",
        built,
        lambda q: [int(p.id) for p in client.query_points("images", query=q.tolist(), limit=10).points],
    )
