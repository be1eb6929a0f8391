"""Indexes: what is derived from the images so that a large store opens at once and finds neighbours fast.

An index is a folder below ``indexes/``, named by encoder, table version and transform, written beside and renamed:

    manifest.json   what it was made from, the kind, the measured recall, and a checksum of every block of every file
    rows.arrow      the images' metadata, sorted by key; memory-mapped
    vectors.npy     their embeddings; memory-mapped.  scaled.npy, norms.npy: under the transform, and their lengths
    ivf.faiss       FAISS: inverted lists of 8-bit vectors, whose candidates are ranked again by the exact ones

It can be deleted at any time. One that is missing, stale or damaged is made anew, never trusted.
"""

import json
import logging
import os
import shutil
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from phenoembed_store.aggregate import Floats, Integers
from phenoembed_store.errors import MissingExtra
from phenoembed_store.transforms import Transform

log = logging.getLogger("phenoembed")

FLAT_LIMIT = 20_000
"""Images below which there is no index: comparing with all of them takes a few milliseconds."""
TAIL_SHARE = 0.1
"""Share of images that may have come since the index was made: they are compared exactly, beside it."""
RECALL_WANTED = 0.999
SAMPLE = 200
"""Images whose ten nearest, by index and exactly, are compared to measure the recall."""
RERANKED = 4
"""Candidates fetched from the index for every hit wanted, to be ranked by their exact vectors."""
BLOCK = 1 << 20
CHECKED_AT_OPEN = 64
"""Blocks of each file that opening checks; ``verify`` checks all."""


@dataclass(frozen=True)
class Manifest:
    """What an index is, and what it was made from."""

    encoder: str
    version: int
    transform: str
    files: tuple[str, ...]
    kind: str
    vectors: int
    dim: int
    nprobe: int
    recall_at_10: float
    checksums: dict[str, list[int]]


@dataclass(frozen=True, eq=False)
class Index:
    """An open index. Its arrays are memory-mapped: only what is touched is read."""

    folder: Path
    manifest: Manifest
    rows: pa.Table
    vectors: Floats
    scaled: Floats
    norms: Floats
    faiss: Any

    def __len__(self) -> int:
        return self.manifest.vectors

    def nearest(self, query: Floats, k: int, allowed: npt.NDArray[np.bool_] | None = None) -> tuple[Integers, Floats]:
        """Rows of the k nearest (among the allowed) and their exact cosines, best first; fewer where it finds fewer.

        query: (dim,), of length one.
        """
        faiss = _faiss()
        fetched = min(len(self), RERANKED * k)
        nprobe, selector = self.manifest.nprobe, None
        if allowed is not None:
            share = max(float(allowed.mean()), 1e-6)
            nprobe = min(self.faiss.nlist, int(np.ceil(nprobe / share)))  # as many candidates as without a filter
            selector = faiss.IDSelectorBitmap(np.packbits(allowed, bitorder="little"))
        parameters = faiss.SearchParametersIVF(sel=selector, nprobe=nprobe)
        _, found = self.faiss.search(query[None], fetched, params=parameters)
        ids = found[0][found[0] >= 0]
        scores = (self.scaled[ids] @ query) / np.maximum(self.norms[ids], np.float32(1e-30))
        best = np.argsort(-scores, kind="stable")[:k]
        return ids[best], scores[best]


def build(
    folder: Path,
    encoder: str,
    version: int,
    files: Sequence[str],
    rows: pa.Table,
    vectors: Floats,
    transform: Transform | None,
) -> Path:
    """Make an index of these images, beside and renamed; the encoder's other ones are removed. Its folder."""
    name = f"{encoder}-v{version}-{transform.id if transform else 'none'}"
    beside, target = folder / f".{name}.{uuid4().hex[:8]}", folder / name
    beside.mkdir(parents=True)
    try:
        nprobe, recall = _write_files(beside, rows, vectors, transform)
        manifest = Manifest(
            encoder=encoder,
            version=version,
            transform=transform.id if transform else "none",
            files=tuple(files),
            kind="ivf-sq8",
            vectors=len(rows),
            dim=int(vectors.shape[1]),
            nprobe=nprobe,
            recall_at_10=recall,
            checksums={path.name: list(_checksums(path)) for path in sorted(beside.iterdir())},
        )
        (beside / "manifest.json").write_text(json.dumps(asdict(manifest)))
        remove(folder, encoder)
        os.rename(beside, target)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return target


def _write_files(folder: Path, rows: pa.Table, vectors: Floats, transform: Transform | None) -> tuple[int, float]:
    """Everything but the manifest; the lists to probe, and the recall they give."""
    scaled = vectors if transform is None else transform.apply(vectors, rows.column("plate").to_pylist())
    norms = np.linalg.norm(scaled, axis=1).astype(np.float32)
    with pa.OSFile(str(folder / "rows.arrow"), "wb") as file, pa.ipc.new_file(file, rows.schema) as writer:
        writer.write_table(rows.combine_chunks())
    np.save(folder / "vectors.npy", vectors)
    np.save(folder / "norms.npy", norms)
    if transform is not None:
        np.save(folder / "scaled.npy", scaled)
    return _build_faiss(scaled, norms, folder / "ivf.faiss")


def remove(folder: Path, encoder: str) -> None:
    """Remove an encoder's indexes. A process that has one open keeps what it has open."""
    for path, _ in manifests(folder, encoder):
        shutil.rmtree(path, ignore_errors=True)


def manifests(folder: Path, encoder: str | None = None) -> list[tuple[Path, Manifest | None]]:
    """The indexes (of an encoder), the newest version last; None for one whose manifest cannot be read."""
    found: list[tuple[Path, Manifest | None]] = []
    for path in sorted(folder.glob("[!.]*")):
        try:
            fields = json.loads((path / "manifest.json").read_text())
            manifest = Manifest(**{**fields, "files": tuple(fields["files"])})
        except (OSError, ValueError, TypeError, KeyError):
            manifest = None
        if encoder is None or (manifest.encoder if manifest else path.name.rpartition("-v")[0]) == encoder:
            found.append((path, manifest))
    return sorted(found, key=lambda one: one[1].version if one[1] else -1)


def open_index(folder: Path, manifest: Manifest) -> Index | None:
    """An index ready to search; None (and a word in the log) where a file is missing or damaged."""
    if damage := first_damage(folder, manifest, CHECKED_AT_OPEN):
        log.warning("index %s: %s; making it anew", folder.name, damage)
        return None
    faiss = _faiss()
    try:
        found = faiss.read_index(str(folder / "ivf.faiss"), faiss.IO_FLAG_MMAP)
        scaled = "scaled.npy" if "scaled.npy" in manifest.checksums else "vectors.npy"
        names = ("vectors.npy", scaled, "norms.npy")
        # plain views: a memmap's own indexing costs more than the rows it fetches
        vectors, compared, norms = (np.asarray(np.load(folder / name, mmap_mode="r")) for name in names)
        rows = pa.ipc.open_file(pa.memory_map(str(folder / "rows.arrow"))).read_all()
    except (OSError, ValueError, RuntimeError, pa.ArrowInvalid) as error:
        log.warning("index %s: %s; making it anew", folder.name, str(error).splitlines()[0])
        return None
    return Index(folder, manifest, rows, vectors, compared, norms, found)


def first_damage(folder: Path, manifest: Manifest, blocks: int | None = None) -> str | None:
    """What is wrong with an index's files, looking at so many blocks of each (all: None); None when nothing is."""
    for name, expected in manifest.checksums.items():
        path = folder / name
        if not path.is_file():
            return f"{name} is missing"
        if -(-path.stat().st_size // BLOCK) != len(expected):
            return f"{name} is cut short"
        count = len(expected) if blocks is None else min(blocks, len(expected))
        chosen = np.unique(np.linspace(0, len(expected) - 1, count).astype(np.int64)).tolist() if expected else []
        with path.open("rb") as file:
            for block in chosen:
                file.seek(block * BLOCK)
                if zlib.crc32(file.read(BLOCK)) != expected[block]:
                    return f"{name} is damaged in block {block}"
    return None


def _faiss() -> Any:
    try:
        return import_module("faiss")
    except ImportError:
        raise MissingExtra("faiss", "cpu") from None


def _checksums(path: Path) -> Iterator[int]:
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            yield zlib.crc32(block)


def _build_faiss(scaled: Floats, norms: Floats, path: Path) -> tuple[int, float]:
    """Write the FAISS file; the number of lists to probe for the wanted recall, and the recall it gives."""
    faiss = _faiss()
    n, dim = scaled.shape
    nlist = 1 << int(np.log2(4 * np.sqrt(n)))
    quantizer = faiss.IndexFlatIP(dim)
    index = faiss.IndexIVFScalarQuantizer(
        quantizer, dim, nlist, faiss.ScalarQuantizer.QT_8bit, faiss.METRIC_INNER_PRODUCT
    )
    index.cp.niter = 6  # more moves the lists little, and costs the most of all
    index.cp.max_points_per_centroid = 64
    sample = np.sort(np.random.default_rng(0).choice(n, min(n, 64 * nlist), replace=False))
    index.train(_unit(scaled[sample], norms[sample]))
    for start in range(0, n, 65_536):
        part = slice(start, start + 65_536)
        index.add(_unit(scaled[part], norms[part]))
    faiss.write_index(index, str(path))
    return _probes_wanted(index, scaled, norms)


def _probes_wanted(index: Any, scaled: Floats, norms: Floats) -> tuple[int, float]:
    """The fewest lists (a power of two) that reach the wanted recall@10 on a sample of the vectors themselves."""
    faiss = _faiss()
    picked = np.random.default_rng(1).choice(len(scaled), min(SAMPLE, len(scaled)), replace=False)
    queries = _unit(scaled[picked], norms[picked])
    truth = exact_neighbours(scaled, norms, queries, 10)
    nprobe = 1
    while True:
        _, found = index.search(queries, 10 * RERANKED, params=faiss.SearchParametersIVF(nprobe=nprobe))
        recall = float(np.mean([len(np.intersect1d(a, b)) / len(b) for a, b in zip(found, truth, strict=True)]))
        if recall >= RECALL_WANTED or nprobe >= index.nlist:
            return nprobe, recall
        nprobe *= 2


def exact_neighbours(scaled: Floats, norms: Floats, queries: Floats, k: int) -> Integers:
    """Rows of the k nearest of every query, (queries, k), in no order, in bounded memory."""
    best_ids = np.zeros((len(queries), 0), np.int64)
    best = np.zeros((len(queries), 0), np.float32)
    for start in range(0, len(scaled), 65_536):
        part = slice(start, start + 65_536)
        scores = np.concatenate([best, queries @ _unit(scaled[part], norms[part]).T], axis=1)
        here = np.arange(start, start + scores.shape[1] - best.shape[1])
        ids = np.concatenate([best_ids, np.broadcast_to(here, (len(queries), len(here)))], axis=1)
        top = np.argpartition(-scores, min(k, scores.shape[1]) - 1, axis=1)[:, :k]
        best, best_ids = np.take_along_axis(scores, top, 1), np.take_along_axis(ids, top, 1)
    return best_ids


def _unit(vectors: Floats, norms: Floats) -> Floats:
    return np.ascontiguousarray(vectors / np.maximum(norms, np.float32(1e-30))[:, None], np.float32)
