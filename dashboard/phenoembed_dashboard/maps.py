"""A map of groups: their embeddings in two dimensions, laid out once for each version and kept in the store."""

import hashlib
import json
import multiprocessing
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt
from phenoembed.spawning import without_main

from phenoembed_dashboard.catalogue import Catalogue, Rows, stamp
from phenoembed_dashboard.palette import DOSES, ORANGE, PALE, PALETTE
from phenoembed_dashboard.strips import dose_label, spread
from phenoembed_store import Store
from phenoembed_store.aggregate import Integers, l2_normalise, mean_by, number
from phenoembed_store.errors import StoreError, one_line
from phenoembed_store.whole import whole

Floats = npt.NDArray[np.float32]
POINTS = {"group": "a group of images", "dose": "one dose of a group"}
MAX_POINTS = 6000
"""More are not laid out: UMAP would take minutes, and nobody tells them apart on a screen."""
MAX_COLOURS = 7
MAX_STEPS = 12  # of a colour scale over doses


def methods() -> list[str]:
    """UMAP where umap-learn is installed."""
    return ["PCA", *(["UMAP"] if find_spec("umap") else [])]


@dataclass(frozen=True)
class Map:
    """Points in the plane. rows: one a point; n: how many points there would be without a cap; axes: their names."""

    rows: tuple[dict[str, Any], ...]
    n: int
    axes: tuple[str, str]


def make_map(store: Store, catalogue: Catalogue, method: str, point: str) -> Map:
    """Lay out the groups (or each dose of each group), at most MAX_POINTS of them, the same ones every time."""
    rows = np.flatnonzero(catalogue.table.column("group_id").is_valid().to_numpy(zero_copy_only=False))
    keys = [catalogue.codes("group_id")[rows]]
    if point == "dose":
        keys.append(catalogue.codes("concentration_um")[rows])
    unit, first = number(*keys)
    n = len(first)
    if n < 3:
        raise StoreError(f"a map needs three groups of images or more; the store has {n}")
    chosen = np.sort(np.random.default_rng(0).permutation(n)[:MAX_POINTS])
    renumbered = np.full(n, -1)
    renumbered[chosen] = np.arange(len(chosen))
    mine = renumbered[unit] >= 0
    points, axes = _points(store.path, catalogue, method, point, rows[mine], renumbered[unit[mine]])
    columns = ("group_id", "compound", "concentration_um", "replicate", "field", "role", "screen", "plate", "moa")
    found = []
    for at, record in zip(points.tolist(), catalogue.records(rows[first[chosen]], columns), strict=True):
        control = record["role"] == "control"
        found.append(
            {
                "x": round(at[0], 5),
                "y": round(at[1], 5),
                "group": record["group_id"],
                "compound": record["compound"],
                "moa": "control" if control else record.get("moa") or "",
                "dose": None if control or point != "dose" else record["concentration_um"],
                "replicate": record["replicate"],
                "field": record["field"],
                "role": "control" if control else "treated",
                "plate": catalogue.plate_of(record),
            }
        )
    return Map(tuple(found), n, axes)


def colouring(
    rows: Sequence[dict[str, Any]], by: str, named: str | None = None
) -> tuple[list[str], list[str], list[str]]:
    """Of each row its category, the categories, and their colours. ``named``: a compound that alone is to stand out."""
    if named:
        return ["others" if row["compound"] != named else named for row in rows], ["others", named], [PALE, ORANGE]
    if by == "dose":
        return _doses(rows)
    values, order = colours(rows, by)
    rest = order[-1] in ("other", "unknown")
    return values, order, [*PALETTE[: len(order) - 1], PALE] if rest else PALETTE[: len(order)]


def _doses(rows: Sequence[dict[str, Any]]) -> tuple[list[str], list[str], list[str]]:
    """Doses in the order of their size, from light to dark; those that are not told apart share a colour."""
    there = sorted({row["dose"] for row in rows if row["dose"] is not None})
    shown = spread(there, MAX_STEPS)
    nearest = {
        dose: dose_label(min(shown, key=lambda one: abs(np.log((one + 1e-9) / (dose + 1e-9))))) for dose in there
    }
    values = ["control" if row["dose"] is None else nearest[row["dose"]] for row in rows]
    steps = [DOSES[round(i * (len(DOSES) - 1) / max(1, len(shown) - 1))] for i in range(len(shown))]
    labels = list(dict.fromkeys(dose_label(dose) for dose in shown))
    return values, ["control", *labels], [PALE, *steps[: len(labels)]]


def point_data(
    rows: Sequence[dict[str, Any]], values: Sequence[str], order: Sequence[str], palette: Sequence[str]
) -> dict[str, Any]:
    """What the map's script draws: columns of numbers, and names once each."""
    names, replicates = ({}, {})  # type: tuple[dict[str, int], dict[str, int]]
    place = {name: i for i, name in enumerate(order)}
    said = [
        " · ".join(part for part in (r["compound"], r["moa"], r["dose"] and dose_label(r["dose"])) if part)
        for r in rows
    ]
    return {
        "x": [row["x"] for row in rows],
        "y": [row["y"] for row in rows],
        "colour": [place[value] for value in values],
        "control": [int(row["role"] == "control") for row in rows],
        "name": [names.setdefault(one, len(names)) for one in said],
        "names": list(names),
        "replicate": [replicates.setdefault(str(row["replicate"]), len(replicates)) for row in rows],
        "replicates": list(replicates),
        "field": [row["field"] for row in rows],
        "palette": list(palette),
        "size": 4 if len(rows) < 1500 else 3,
    }


def colours(rows: Sequence[dict[str, Any]], by: str) -> tuple[list[str], list[str]]:
    """Of each row its category, and the categories; beyond the seven most frequent that are known they are "other"."""
    values = [str(row[by] or "unknown") for row in rows]
    ranked = [name for name, _ in Counter(values).most_common()]
    if len(ranked) <= MAX_COLOURS:
        return values, sorted(ranked, key=lambda name: (name == "unknown", name.casefold()))
    kept = [name for name in ranked if name != "unknown"][:MAX_COLOURS]
    rest = "other" if len(ranked) > len(kept) + 1 or "unknown" not in ranked else "unknown"
    return [value if value in kept else rest for value in values], [*sorted(kept, key=str.casefold), rest]


def principal_components(vectors: Floats) -> tuple[Floats, tuple[float, float]]:
    """(rows, 2) scores on the first two principal components, and the share of variance of each."""
    centred = vectors.astype(np.float64) - vectors.mean(axis=0, dtype=np.float64)
    values, directions = np.linalg.eigh(centred.T @ centred)
    chosen = directions[:, ::-1][:, :2]
    chosen = chosen * np.where(chosen[np.abs(chosen).argmax(axis=0), [0, 1]] < 0, -1, 1)  # signs are free: fix them
    total = float(np.clip(values, 0, None).sum()) or 1.0
    return (centred @ chosen).astype(np.float32), (float(values[-1] / total), float(values[-2] / total))


def _points(
    path: Path, catalogue: Catalogue, method: str, point: str, rows: Rows, unit: Integers
) -> tuple[Floats, tuple[str, str]]:
    """(units, 2) places of the means of these images' vectors by unit, and the axes' names: kept in the store."""
    version = [dict(catalogue.stamp)["images"], stamp(path, ("transforms",))]
    encoder, laid_out = (
        hashlib.sha256(json.dumps(key).encode()).hexdigest()[:16]
        for key in (catalogue.encoder, [catalogue.encoder, method, point, MAX_POINTS, version])
    )
    file = path / "maps" / f"{method.lower()}-{point}-{encoder}-{laid_out}.npz"
    try:
        with file.open("rb") as opened, np.load(opened) as kept:
            if len(kept["points"]) == int(unit.max()) + 1:
                return kept["points"], (str(kept["axes"][0]), str(kept["axes"][1]))
    except (OSError, ValueError, KeyError, EOFError, BadZipFile):
        pass  # not made yet, or damaged: it is derived
    vectors = l2_normalise(mean_by(catalogue.compared[rows], unit))
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
    """Keep a map, in the place of those of the encoder's earlier versions, and of names without an encoder's hash."""
    try:
        file.parent.mkdir(exist_ok=True)
        with whole(file) as beside:
            np.savez(beside, points=points, axes=np.array(axes))
        kind, _, laid_out = file.stem.rpartition("-")
        method_and_point, unhashed = kind.rpartition("-")[0], "?" * len(laid_out)
        for old in (*file.parent.glob(f"{kind}-*.npz"), *file.parent.glob(f"{method_and_point}-{unhashed}.npz")):
            if old != file:
                old.unlink(missing_ok=True)
    except OSError:
        return  # a store that cannot be written: the map is made again next time


def _umap_in_child(vectors: Floats) -> Floats:
    """In a process of its own, so that its compiler's memory goes with it. Raises StoreError where that fails."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    child = context.Process(target=_umap, args=(theirs, vectors), daemon=True)
    with without_main():
        child.start()
    theirs.close()
    try:
        points: Floats | str = ours.recv()
    except EOFError:
        points = ""
    finally:
        ours.close()
        child.join()
    if isinstance(points, str):
        signal = -(child.exitcode or 0)
        why = points or (f"killed by signal {signal}, for memory perhaps" if signal > 0 else "it ended early")
        raise StoreError(f"UMAP failed ({why}); choose PCA")
    return points


def _umap(connection: Connection, vectors: Floats) -> None:
    """Send the places, or why there are none."""
    try:
        connection.send(_umap_of(vectors))
    except Exception as error:  # umap-learn's, numba's and what they are built on
        connection.send(f"{type(error).__name__}: {one_line(str(error))}")


def _umap_of(vectors: Floats) -> Floats:
    n_neighbors = min(15, len(vectors) - 1)
    reducer = import_module("umap").UMAP(
        n_neighbors=n_neighbors,
        metric="cosine",
        random_state=0,
        n_jobs=1,
        init="random" if len(vectors) < 16 else "spectral",
    )
    return np.asarray(reducer.fit_transform(vectors), np.float32)
