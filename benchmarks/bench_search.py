"""Search against peers: unfiltered, under filters not seen before and seen before. Alternating calls, medians, ratios.

python benchmarks/bench_search.py [--images 10000,138240,1000000] [--queries 100] [--peers lancedb,hnswlib,...]
                                  [--folder FOLDER [--build]]

In a folder that is named, stores and peers are kept: ``--build`` makes them, and a second run measures alone.
"""

import argparse
import json
import shutil
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import faiss
import numpy as np
from clustered import fill, milliseconds, queries
from peers import Ask, Asked, Peer, hnswlib_peer, kept_seconds, lancedb_peers, qdrant_peer, sklearn_peer
from truth import exact, recall

import phenoembed_store
from phenoembed_store.images import IMAGE_HIT

SHARES = (0.001, 0.02, 0.3)
TUNED_ON = 50
LARGEST = {"qdrant": 20_000, "sklearn": 200_000, "hnswlib": 200_000}
"""Images above which a peer is left out: it takes minutes to build, or seconds to ask."""


Seconds = dict[str, list[float]]
Hits = dict[str, list[list[int]]]


class Ours:
    """The store, its images, and the numbers that peers know them by."""

    def __init__(self, folder: Path, n: int) -> None:
        self.store = phenoembed_store.open(folder) if (folder / "images").is_dir() else fill(folder, n)
        if not (folder.parent / "ours.json").is_file():
            shutil.rmtree(folder / "indexes", ignore_errors=True)
        self.built_s = kept_seconds(folder.parent, "ours", lambda: self.store._images_of(None))
        self.images = self.store._images_of(None)
        self.unit = self.images.scaled / self.images.norms[:, None]
        self.u = self.images.rows.column("u").to_numpy()
        paths = self.images.rows.column("path").to_pylist()
        self.place = {path: i for i, path in enumerate(paths)}

    def ask(self, query: np.ndarray, where: str | None) -> list[str]:
        return self.store.search(vector=query, level="image", k=10, where=where).column("path").to_pylist()

    def path_of(self, asked: Asked) -> str:
        hits = self.store.search(vector=asked[0], level="image", k=10, where=asked[1])
        return str(json.loads(hits.schema.metadata[b"phenoembed"])["path"])

    def passing(self, where: str | None) -> np.ndarray | None:
        """Rows that one of the benchmark's filters lets pass, by a comparison of its own."""
        if where is None:
            return None
        low, high = float(where.split()[2]), float(where.split()[-1])
        return np.flatnonzero((self.u >= low) & (self.u < high))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", default="10000,138240,1000000")
    parser.add_argument("--queries", type=int, default=100)
    parser.add_argument("--peers", default="lancedb,hnswlib,sklearn,qdrant")
    parser.add_argument("--folder", type=Path, default=None, help="Where to make (or find) the stores and peers.")
    parser.add_argument("--build", action="store_true", help="Make them only.")
    asked = parser.parse_args()
    for n in map(int, asked.images.split(",")):
        folder = (asked.folder or Path(tempfile.mkdtemp())) / str(n)
        names = [name for name in asked.peers.split(",") if name and n <= LARGEST.get(name, n)]
        ours = Ours(folder / "store", n)
        vectors = np.ascontiguousarray(ours.images.vectors)
        peers = [peer for name in names for peer in _build(name, folder, ours, vectors)]
        if not asked.build:
            measure(ours, peers, vectors, asked.queries)
        if asked.folder is None:
            shutil.rmtree(folder.parent)


def measure(ours: Ours, peers: Sequence[Peer], vectors: np.ndarray, count: int) -> None:
    asking = queries(vectors, count + TUNED_ON)
    index = ours.images.index
    kind = f"{len(index.lists)} lists, {index.manifest.lists_probed:.1f} probed" if index else "flat"
    print(f"\n{len(vectors):,} x {vectors.shape[1]}, {count} queries; ours: {kind}")
    unfiltered(ours, peers, asking[TUNED_ON:], asking[:TUNED_ON])
    for share in SHARES:
        filtered(ours, [peer for peer in peers if peer.filters], share, asking[TUNED_ON:], asking[:TUNED_ON])


def _build(name: str, folder: Path, ours: Ours, vectors: np.ndarray) -> list[Peer]:
    if name == "lancedb":
        return lancedb_peers(folder, vectors, ours.images.rows.select([*IMAGE_HIT, "u"]))
    return [{"hnswlib": hnswlib_peer, "sklearn": sklearn_peer, "qdrant": qdrant_peer}[name](folder, vectors)]


def unfiltered(ours: Ours, peers: Sequence[Peer], asking: np.ndarray, tuning: np.ndarray) -> None:
    asked: list[Asked] = [(query, None) for query in asking]
    calls, notes = _tuned(ours, peers, [(query, None) for query in tuning])
    index = ours.images.index
    if index:
        parameters = faiss.SearchParametersIVF(nprobe=max(1, int(index.manifest.lists_probed)))
        raw = index.lists.index
        calls["raw FAISS, same index"] = lambda query, _: raw.search(query[None], 10, params=parameters)[1][0]
    seconds, found = alternate(calls, asked)
    truth = exact(ours.unit, asking, [None] * len(asked))
    built = {"ours": ours.built_s} | {peer.name: peer.built_s for peer in peers}
    print(f"\n{'unfiltered top-10':29s} {'p50 ms':>9s} {'x ours':>8s} {'recall':>8s} {'built s':>9s} {'x ours':>8s}")
    for name in calls:
        ms, times = milliseconds(seconds[name]), milliseconds(seconds[name]) / milliseconds(seconds["ours"])
        line = f"{name:29s} {ms:9.3f} {times:8.2f} {recall(_rows(ours, name, found), truth):8.4f}"
        line += f" {built[name]:9.1f} {built[name] / ours.built_s:8.2f}" if name in built else f" {'':18s}"
        print(f"{line}  {notes.get(name, '')}", flush=True)
    if index:
        alone, _ = alternate({name: calls[name] for name in ("ours", "raw FAISS, same index")}, asked)
        times = ", ".join(f"{name} {milliseconds(one):.3f} ms" for name, one in alone.items())
        print(f"the two of them alone, in turn, the files read before: {times}")


def filtered(ours: Ours, peers: Sequence[Peer], share: float, asking: np.ndarray, tuning: np.ndarray) -> None:
    """New filters, each once; then the last of them again and again."""
    lows = np.linspace(0, 1 - share, len(asking) + len(tuning))
    wheres = [f"u >= {low:.6f} AND u < {low + share:.6f}" for low in np.random.default_rng(2).permutation(lows)]
    calls, notes = _tuned(ours, peers, list(zip(tuning, wheres, strict=False)))
    asked: list[Asked] = list(zip(asking, wheres[len(tuning) :], strict=True))
    new, found = alternate(calls, asked)
    again, _ = alternate(calls, [(query, asked[-1][1]) for query in asking])
    truth = exact(ours.unit, asking, [ours.passing(where) for _, where in asked])
    fewest = [min(10, len(rows)) for rows in (ours.passing(where) for _, where in asked)]
    print(
        f"\n{f'filtered, {share:.1%} pass':29s} {'new ms':>9s} {'x ours':>8s} {'again ms':>9s} {'x ours':>8s} "
        f"{'recall':>8s} {'fewer':>6s}"
    )
    for name in calls:
        ms, ms_again = milliseconds(new[name]), milliseconds(again[name])
        rows = _rows(ours, name, found)
        fewer = sum(len(hits) < wanted for hits, wanted in zip(rows, fewest, strict=True))
        print(
            f"{name:29s} {ms:9.3f} {ms / milliseconds(new['ours']):8.2f} {ms_again:9.3f} "
            f"{ms_again / milliseconds(again['ours']):8.2f} {recall(rows, truth):8.4f} {fewer:6d}  "
            f"{notes.get(name, '') if name != 'ours' else ours.path_of(asked[0])}",
            flush=True,
        )


def _tuned(ours: Ours, peers: Sequence[Peer], asked: Sequence[Asked]) -> tuple[dict[str, Ask], dict[str, str]]:
    truth = exact(ours.unit, np.stack([query for query, _ in asked]), [ours.passing(where) for _, where in asked])
    calls: dict[str, Ask] = {"ours": ours.ask}
    notes = {}
    for peer in peers:
        calls[peer.name], setting = peer.tuned(asked, truth)
        notes[peer.name] = ", ".join(f"{name} {value}" for name, value in setting.items())
    return calls, notes


def _rows(ours: Ours, name: str, found: Hits) -> list[set[int]]:
    return [{ours.place[hit] for hit in hits} if name == "ours" else set(hits) for hits in found[name]]


def alternate(calls: dict[str, Ask], asked: Sequence[Asked]) -> tuple[Seconds, Hits]:
    """Seconds and hits of every call for every query, in turn, so that each meets the same load."""
    seconds: Seconds = {name: [] for name in calls}
    hits: Hits = {name: [] for name in calls}
    for call in calls.values():
        call(asked[0][0], "u < 0.5" if asked[0][1] else None)
    for number, (query, where) in enumerate(asked):
        for name in list(calls) if number % 2 else list(calls)[::-1]:
            start = time.perf_counter()
            found = calls[name](query, where)
            seconds[name].append(time.perf_counter() - start)
            hits[name].append(found)
    return seconds, hits


if __name__ == "__main__":
    main()
