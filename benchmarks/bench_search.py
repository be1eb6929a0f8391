"""Search against its peers: unfiltered, and under filters not seen before and seen before. Alternating, medians.

python benchmarks/bench_search.py [--images 138240] [--queries 100] [--peers lancedb,hnswlib,sklearn,qdrant]
"""

import argparse
import json
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import faiss
import numpy as np
import pyarrow as pa
from clustered import fill, milliseconds, queries
from peers import Peer, hnswlib_peer, lancedb_peer, qdrant_peer, sklearn_peer

from phenoembed_store import Store

SHARES = (0.001, 0.02, 0.3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=138_240)
    parser.add_argument("--queries", type=int, default=100)
    parser.add_argument("--peers", default="lancedb,hnswlib,sklearn")
    parser.add_argument("--folder", type=Path, default=None, help="Where to make (or find) the store.")
    asked = parser.parse_args()
    folder = asked.folder or Path(tempfile.mkdtemp())
    store, built = ours(folder / "store", asked.images)
    images = store._images_of(None)
    metadata = images.rows.select(["u", "compound", "concentration_um", "plate"])
    vectors = np.ascontiguousarray(images.vectors)
    peers = [_PEERS[name](folder, vectors, metadata) for name in asked.peers.split(",") if name]
    asking = queries(vectors, asked.queries)
    print(
        f"\n{asked.images:,} x {vectors.shape[1]}, {asked.queries} queries, ours {images.index.manifest.kind} "
        f"nlist {images.index.faiss.nlist} nprobe {images.index.manifest.nprobe}"
    )
    unfiltered(store, asking, peers, built)
    filtered(store, asking, peers)
    if asked.folder is None:
        shutil.rmtree(folder)


def ours(folder: Path, n: int) -> tuple[Store, float]:
    """The store, and the seconds from table to searchable index."""
    import phenoembed_store

    store = phenoembed_store.open(folder) if (folder / "images").is_dir() else fill(folder, n)
    shutil.rmtree(folder / "indexes", ignore_errors=True)
    start = time.perf_counter()
    store._images_of(None)
    return store, time.perf_counter() - start


def our_rows(store: Store, query: np.ndarray, where: str | None = None) -> list[int]:
    hits = store.search(vector=query, level="image", k=10, where=where)
    return [int(path.removesuffix(".tif")) for path in hits.column("path").to_pylist()]


def unfiltered(store: Store, asking: np.ndarray, peers: list[Peer], built: float) -> None:
    images = store._images_of(None)
    names = np.array([int(p.removesuffix(".tif")) for p in images.rows.column("path").to_pylist()])
    truth = [set(row) for row in exact(images.scaled / images.norms[:, None], asking)]
    parameters = faiss.SearchParametersIVF(nprobe=images.index.manifest.nprobe)

    def public(query: np.ndarray) -> object:
        return store.search(vector=query, level="image", k=10)

    def raw(query: np.ndarray) -> object:
        return images.index.faiss.search(query[None], 10, params=parameters)

    timed = alternate({"ours": public, "raw FAISS": raw, **{peer.name: peer.search for peer in peers}}, asking)
    place = {name: i for i, name in enumerate(names)}
    mine = [{place[row] for row in our_rows(store, query)} for query in asking]
    print(f"\n{'unfiltered top-10':24s} {'p50 ms':>9s} {'recall@10':>10s} {'built s':>9s}")
    print(f"{'ours, public call':24s} {milliseconds(timed['ours']):9.3f} {recall(mine, truth):10.4f} {built:9.1f}")
    print(f"{'raw FAISS, same index':24s} {milliseconds(timed['raw FAISS']):9.3f} {'':10s} {'':9s}")
    for peer in peers:
        found = [set(peer.search(query)) for query in asking]
        ms = milliseconds(timed[peer.name])
        print(f"{peer.name:24s} {ms:9.3f} {recall(found, truth):10.4f} {peer.built_s:9.1f}  {peer.note}")


def filtered(store: Store, asking: np.ndarray, peers: list[Peer]) -> None:
    images = store._images_of(None)
    u = images.rows.column("u").to_numpy()
    unit = images.scaled / images.norms[:, None]
    names = np.array([int(p.removesuffix(".tif")) for p in images.rows.column("path").to_pylist()])
    place = {name: i for i, name in enumerate(names)}
    peers = [peer for peer in peers if peer.filtered]
    print(f"\n{'filtered top-10':24s} {'share':>7s} {'new ms':>9s} {'again ms':>9s} {'recall':>8s} {'path':>7s}")
    for share in SHARES:
        wheres = [f"u >= {low:.6f} AND u < {low + share:.6f}" for low in np.linspace(0, 1 - share, len(asking))]
        truth = []
        for query, where in zip(asking, wheres, strict=True):
            low = float(where.split()[2])
            rows = np.flatnonzero((u >= low) & (u < float(where.split()[-1])))
            truth.append(set(rows[np.argsort(-(unit[rows] @ query))[:10]]))
        calls: dict[str, Callable[[np.ndarray, str], list[int]]] = {"ours": lambda q, w: our_rows(store, q, w)}
        calls |= {peer.name: peer.filtered for peer in peers if peer.filtered}
        for name, call in calls.items():
            call(asking[0], "u < 0.5")
            new, found = timed_pairs(call, asking, wheres)
            again, _ = timed_pairs(call, asking[:20], [wheres[-1]] * 20)
            rows = [{place[r] for r in hits} if name == "ours" else set(hits) for hits in found]
            path = _path(store, asking[0], wheres[0]) if name == "ours" else ""
            print(
                f"{name:24s} {share:7.1%} {milliseconds(new):9.2f} {milliseconds(again):9.2f} "
                f"{recall(rows, truth):8.4f} {path:>7s}"
            )


def alternate(calls: dict[str, Callable[[np.ndarray], object]], asking: np.ndarray) -> dict[str, list[float]]:
    """Seconds of every call for every query, in turn, so that each meets the same load."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        call(asking[0])
    for number, query in enumerate(asking):
        names = list(calls) if number % 2 else list(calls)[::-1]
        for name in names:
            start = time.perf_counter()
            calls[name](query)
            times[name].append(time.perf_counter() - start)
    return times


def timed_pairs(
    call: Callable[[np.ndarray, str], list[int]], asking: np.ndarray, wheres: list[str]
) -> tuple[list[float], list[list[int]]]:
    times, found = [], []
    for query, where in zip(asking, wheres, strict=False):
        start = time.perf_counter()
        found.append(call(query, where))
        times.append(time.perf_counter() - start)
    return times, found


def exact(unit: np.ndarray, asking: np.ndarray) -> np.ndarray:
    return np.argsort(-(asking @ unit.T), axis=1)[:, :10]


def recall(found: list[set[int]], truth: list[set[int]]) -> float:
    return float(np.mean([len(f & t) / max(len(t), 1) for f, t in zip(found, truth, strict=True)]))


def _path(store: Store, query: np.ndarray, where: str) -> str:
    hits = store.search(vector=query, level="image", k=10, where=where)
    return str(json.loads(hits.schema.metadata[b"phenoembed"])["path"])


_PEERS: dict[str, Callable[[Path, np.ndarray, pa.Table], Peer]] = {
    "lancedb": lambda folder, vectors, metadata: lancedb_peer(folder / "lance", vectors, metadata),
    "hnswlib": lambda _, vectors, __: hnswlib_peer(vectors),
    "sklearn": lambda _, vectors, __: sklearn_peer(vectors),
    "qdrant": lambda _, vectors, metadata: qdrant_peer(vectors, metadata),
}

if __name__ == "__main__":
    main()
