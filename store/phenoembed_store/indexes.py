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
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pyarrow as pa

from phenoembed_store import ivf
from phenoembed_store.aggregate import Floats, Integers
from phenoembed_store.ivf import Lists, Measured, Probe, faiss_module, inner_products
from phenoembed_store.parts import Part
from phenoembed_store.subset import Subset

log = logging.getLogger("phenoembed")

VECTORS = "vectors.npy"
FLAT_LIMIT = 20_000
"""Images below which there is no index: comparing with all of them takes a few milliseconds."""
TAIL_SHARE = 0.1
"""Share of images that may have come since the index was made: they are compared exactly, beside it."""
BLOCK = 1 << 20
FEW = 1000
"""Images that are compared one by one in the time that a call of FAISS takes (0.15 ms)."""
CODES = 3
"""8-bit vectors of a list that are looked at in the time of comparing with one image that a filter lets pass."""
SPARE = 1.5
"""So many times the images are looked at that should do for a filter: by chance fewer pass around a query."""
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
    reach: dict[str, float]  # by depth: see ``ivf.Measured``
    reranked: int
    recall_at_10: float
    lists_probed: float
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
    lists: Lists

    def __len__(self) -> int:
        return self.manifest.vectors

    def nearest(self, query: Floats, k: int, among: Subset | None = None) -> tuple[Integers, Floats] | None:
        """Rows of the k nearest (among some of them) and their exact cosines, best first.

        query: (dim,), of length one. None where comparing every row is faster, or needed for all of the k to be found.
        """
        for depth, probe in self._probes(query, k, among):
            ids = self.lists.candidates(query, probe, min(depth * self.manifest.reranked, len(self)))
            if among is not None:
                passing = among.flags[ids]
                if np.count_nonzero(passing[:depth]) < k:  # around the query fewer pass than elsewhere
                    continue
                ids = ids[passing]
            norms = np.maximum(self.norms.take(ids), np.float32(1e-30))
            scores: Floats = np.divide(self.scaled.take(ids, axis=0).dot(query), norms)
            best = np.argsort(-scores, kind="stable")[:k]
            return ids[best], scores[best]
        return None

    def cosines(self, query: Floats, rows: Integers) -> Floats:
        """Exact cosines of these rows with the query (dim,), of length one."""
        found: Floats = np.divide(
            inner_products(self.scaled, rows, query), np.maximum(self.norms[rows], np.float32(1e-30))
        )
        return found

    def _probes(self, query: Floats, k: int, among: Subset | None) -> Iterator[tuple[int, Probe]]:
        """How many of the nearest have to be found for k of them to pass, as it seems, and the lists they are in.

        The next is for where it was not enough. None is more work than comparing every row that passes.
        """
        wanted, most = float(k), len(self.lists)
        if among is not None:
            wanted *= SPARE * len(self) / max(len(among), 1)
            most = CODES * (len(among) - FEW) * len(self.lists) // len(self)
        for depth, reach in self.manifest.reach.items():
            if int(depth) >= wanted:
                probe = self.lists.within(query, reach)
                if len(probe.lists) > most:
                    return
                yield int(depth), probe


@contextmanager
def beside(folder: Path, encoder: str) -> Iterator[Path]:
    """A folder beside the indexes to make one in; gone afterwards with whatever is left in it."""
    making = folder / f".{encoder}.{uuid4().hex[:8]}"
    making.mkdir(parents=True)
    try:
        yield making
    finally:
        shutil.rmtree(making, ignore_errors=True)


def build(making: Path, encoder: str, version: int, files: Sequence[str], part: Part, transform: str) -> Path:
    """Make an index of these images and rename it; the encoder's other ones are removed. Its folder.

    making: a folder beside the indexes that holds the part's vectors already, as VECTORS. transform: the id of the one
    under which they are scaled, ``none`` for none.
    """
    target = making.parent / f"{encoder}-v{version}-{transform}"
    measured, checksums = _write_files(making, part)
    manifest = Manifest(
        encoder=encoder,
        version=version,
        transform=transform,
        files=tuple(files),
        kind="ivf-sq8",
        vectors=len(part.rows),
        dim=int(part.vectors.shape[1]),
        **measured._asdict(),
        checksums=checksums,
    )
    (making / "manifest.json").write_text(json.dumps(asdict(manifest)))
    remove(making.parent, encoder)
    os.rename(making, target)
    return target


def _write_files(folder: Path, part: Part) -> tuple[Measured, dict[str, list[int]]]:
    """Everything but the manifest; the lists to probe, and the recall they give, and every file's checksums."""
    with ThreadPoolExecutor(1) as beside:  # a disk and a processor, each with its own work
        arrays = beside.submit(_write_arrays, folder, part)
        lists, theirs = ivf.make_lists(part.scaled, part.norms)
        filled = beside.submit(lists.fill, part.scaled, part.norms, theirs)
        written = beside.submit(_write_lists, folder / "ivf.faiss", lists.index)
        known = ivf.neighbours(part.scaled, part.norms)
        filled.result()
        measured = ivf.measure(lists, theirs, known)
        return measured, arrays.result() | written.result()


def _write_arrays(folder: Path, part: Part) -> dict[str, list[int]]:
    with pa.OSFile(str(folder / "rows.arrow"), "wb") as file, pa.ipc.new_file(file, part.rows.schema) as writer:
        writer.write_table(part.rows)
    np.save(folder / "norms.npy", part.norms)
    if part.scaled is not part.vectors:
        np.save(folder / "scaled.npy", part.scaled)
    return {path.name: _checksums(path) for path in sorted(folder.iterdir())}


def _write_lists(path: Path, index: Any) -> dict[str, list[int]]:
    faiss_module().write_index(index, str(path))
    return {path.name: _checksums(path)}


def remove(folder: Path, encoder: str) -> None:
    """Remove an encoder's indexes. A process that has one open keeps what it has open.

    Each is hidden first: of one that was being removed when the process was killed nobody sees what is left.
    """
    for path, _ in manifests(folder, encoder):
        hidden = folder / f".{path.name}.{uuid4().hex[:8]}"
        with suppress(OSError):  # another process may have been first
            os.rename(path, hidden)
        shutil.rmtree(hidden, ignore_errors=True)


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
    faiss = faiss_module()
    try:
        found = faiss.read_index(str(folder / "ivf.faiss"), faiss.IO_FLAG_MMAP)
        faiss.downcast_InvertedLists(found.invlists).prefetch_nthread = 0  # threads for every search, slower than it
        scaled = "scaled.npy" if "scaled.npy" in manifest.checksums else VECTORS
        names = (VECTORS, scaled, "norms.npy")
        # plain views: a memmap's own indexing costs more than the rows it fetches
        vectors, compared, norms = (np.asarray(np.load(folder / name, mmap_mode="r")) for name in names)
        rows = pa.ipc.open_file(pa.memory_map(str(folder / "rows.arrow"))).read_all()
    except (OSError, ValueError, RuntimeError, pa.ArrowInvalid) as error:
        log.warning("index %s: %s; making it anew", folder.name, str(error).splitlines()[0])
        return None
    return Index(folder, manifest, rows, vectors, compared, norms, Lists.of(found))


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


def _checksums(path: Path) -> list[int]:
    """Of each block of a file."""
    found = []
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            found.append(zlib.crc32(block))
    return found
