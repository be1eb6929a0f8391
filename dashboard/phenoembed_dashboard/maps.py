"""A map of all groups: their embeddings in two dimensions, computed once for each version and kept in the store."""

import hashlib
import json
import multiprocessing
import os
from collections import Counter
from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from phenoembed_dashboard.catalogue import Catalogue, stamp
from phenoembed_store import Store
from phenoembed_store.errors import StoreError

Floats = npt.NDArray[np.float32]
METHODS = ("PCA", "UMAP")
MAX_POINTS = 6000  # more, and a browser's figure is slow to answer
MAX_COLOURS = 7


def methods() -> list[str]:
    """UMAP where umap-learn is installed."""
    return ["PCA", *(["UMAP"] if find_spec("umap") else [])]


def map_rows(store: Store, catalogue: Catalogue, method: str) -> tuple[list[dict[str, Any]], int, tuple[str, str]]:
    """A row a group (at most MAX_POINTS, the same ones every time), how many groups there are, and the axes' names."""
    groups = store.groups(catalogue.encoder)
    n = len(groups)
    if n < 3:
        raise StoreError(f"a map needs three groups of images or more; the store has {n}")
    places = np.sort(np.random.default_rng(0).permutation(n)[:MAX_POINTS])
    points, axes = _points(store.path, catalogue, method, groups)
    columns = ("group_id", "compound", "replicate", "field", "role", "plates")
    records = groups.select(list(columns)).take(places).to_pylist()
    rows = []
    for place, record in zip(places, records, strict=True):
        compound = catalogue.compounds.get(record["compound"])
        rows.append(
            {
                "x": float(points[place, 0]),
                "y": float(points[place, 1]),
                "group": record["group_id"],
                "compound": record["compound"],
                "moa": (compound.moa if compound else None) or ("control" if record["role"] == "control" else ""),
                "replicate": record["replicate"],
                "field": record["field"],
                "role": "control" if record["role"] == "control" else "treated",
                "plates": ", ".join(record["plates"]),
            }
        )
    return rows, n, axes


def colours(rows: Sequence[dict[str, Any]], by: str) -> tuple[list[str], list[str]]:
    """Of each row its category, and the categories by frequency; beyond the seven most frequent they are "other"."""
    values = [row[by] or "unknown" for row in rows]
    ranked = [name for name, _ in Counter(values).most_common()]
    if len(ranked) <= MAX_COLOURS:
        return values, sorted(ranked, key=lambda name: (name == "unknown", name.casefold()))
    kept = [name for name in ranked if name != "unknown"][:MAX_COLOURS]
    return [value if value in kept else "other" for value in values], [*sorted(kept, key=str.casefold), "other"]


def principal_components(vectors: Floats) -> tuple[Floats, tuple[float, float]]:
    """(rows, 2) scores on the first two principal components, and the share of variance of each."""
    centred = vectors.astype(np.float64) - vectors.mean(axis=0, dtype=np.float64)
    values, directions = np.linalg.eigh(centred.T @ centred)
    chosen = directions[:, ::-1][:, :2]
    chosen = chosen * np.where(chosen[np.abs(chosen).argmax(axis=0), [0, 1]] < 0, -1, 1)  # signs are free: fix them
    total = float(np.clip(values, 0, None).sum()) or 1.0
    return (centred @ chosen).astype(np.float32), (float(values[-1] / total), float(values[-2] / total))


def _points(path: Path, catalogue: Catalogue, method: str, groups: Any) -> tuple[Floats, tuple[str, str]]:
    key = json.dumps([catalogue.encoder, method, stamp(path, ("images",)), len(groups)])
    file = path / "maps" / f"{method.lower()}-{hashlib.sha256(key.encode()).hexdigest()[:16]}.npz"
    try:
        with np.load(file) as kept:
            return kept["points"], (str(kept["axes"][0]), str(kept["axes"][1]))
    except (OSError, ValueError, KeyError):
        pass  # not made yet, or damaged: it is derived
    vectors = np.array(groups.column("embedding").combine_chunks().flatten().to_numpy(), np.float32).reshape(
        len(groups), -1
    )
    if vectors.shape[1] < 2:
        raise StoreError("a map needs embeddings of two numbers or more")
    if method == "UMAP":
        points, axes = _umap_in_child(vectors), ("UMAP 1", "UMAP 2")
    else:
        points, (first, second) = principal_components(vectors)
        axes = (f"component 1 ({first:.0%} of the variance)", f"component 2 ({second:.0%})")
    _keep(file, points, axes)
    return points, axes


def _keep(file: Path, points: Floats, axes: tuple[str, str]) -> None:
    try:
        file.parent.mkdir(exist_ok=True)
        for old in file.parent.glob(f"{file.name.split('-')[0]}-*.npz"):
            old.unlink(missing_ok=True)
        beside = file.with_name(f".{os.getpid()}-{file.name}")
        np.savez(beside, points=points, axes=np.array(axes))
        beside.rename(file)
    except OSError:
        return  # a store that cannot be written: the map is made again next time


def _umap_in_child(vectors: Floats) -> Floats:
    """In a process of its own, so that its compiler's memory goes with it."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    child = context.Process(target=_umap, args=(theirs, vectors), daemon=True)
    child.start()
    theirs.close()
    try:
        points: Floats = ours.recv()
    except EOFError:
        raise StoreError("UMAP ended early (out of memory?); choose PCA") from None
    finally:
        ours.close()
        child.join()
    return points


def _umap(connection: Connection, vectors: Floats) -> None:
    n_neighbors = min(15, len(vectors) - 1)
    reducer = import_module("umap").UMAP(
        n_neighbors=n_neighbors,
        metric="cosine",
        random_state=0,
        n_jobs=1,
        init="random" if len(vectors) < 16 else "spectral",
    )
    connection.send(np.asarray(reducer.fit_transform(vectors), np.float32))
