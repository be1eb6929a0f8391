"""How should images become the embedding of a group and of a compound? Four ways, on profiles and simulated screens.

    python benchmarks/compare_aggregates.py DATA [STORE ...]

DATA: a folder of published profiles; STORE: simulated screens, trained on and indexed with ``phenoembed train`` (the
replicate split) and ``phenoembed index``. Of these the queries are groups of the replicate that the encoder never saw,
and its compounds' embeddings come from that replicate alone.

``mean``: the mean of the configurations; ``median``: their median; ``strongest``: the mean of the third of the
configurations farthest from the controls; ``matched``: the mean cosine of equal configurations. Judged by the nearest
neighbour: a group's of another replicate is the same compound; a compound's has the same mechanism.
"""

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

import phenoembed_store
from phenoembed_store.aggregate import l2_normalise

BBBC021 = Path("bbbc021-profiles")
INJURY = Path("cell-injury-profiles")


class Table(NamedTuple):
    """One table of profiles: its file, further tables, the column of the mechanism, the transform."""

    source: Path
    joined: tuple[Path, ...]
    mechanism: str
    transform: str


TABLES = {
    "BBBC021": Table(
        BBBC021 / "ljosa_jbiomolscreen_2013_per_well_mean.csv.gz",
        (BBBC021 / "BBBC021_v1_image.csv.gz", BBBC021 / "BBBC021_v1_moa.csv"),
        "moa",
        "percentile",
    ),
    "cell injury, plates": Table(INJURY / "aligned_plate_holdout.csv.gz", (), "injury_type", "none"),
    "cell injury, wells": Table(INJURY / "aligned_wells_holdout.csv.gz", (), "injury_type", "none"),
    "LINCS A549": Table(Path("lincs-a549-profiles/SQ00015054_normalized_feature_select.csv.gz"), (), "moa", "none"),
}


class Group(NamedTuple):
    """A group: who it is, and the mean vector of each of its configurations (dose, time)."""

    compound: str
    replicate: str
    configurations: dict[tuple[float, float], np.ndarray]


def main() -> None:
    data = Path(sys.argv[1])
    print(f"{'table':22s} {'way':10s} {'same compound, other replicate':>31s} {'same mechanism':>15s}")
    for name, table in TABLES.items():
        with tempfile.TemporaryDirectory() as folder:
            store = phenoembed_store.open(folder, create=True)
            joined = [data / path for path in table.joined]
            store.import_profiles(data / table.source, joined=joined, transform=table.transform)
            compare(name, *read(store, table.mechanism))
    for path in sys.argv[2:]:
        store = phenoembed_store.open(path)
        ((screen,),) = store.sql("SELECT DISTINCT screen FROM images").fetchall()
        compare(screen, *read(store, "moa"), new_replicate(store))


def compare(
    name: str, groups: list[Group], mechanism: dict[str, str], controls: np.ndarray, queries: str | None = None
) -> None:
    """Print the figures of a table; ``queries``: the replicate that asks (default: all do)."""
    asking = [group for group in groups if queries in (None, group.replicate)]
    for way in ("mean", "median", "strongest", "matched"):
        replicate = replicate_retrieval(groups, way, controls, queries)
        moa, n = mechanism_retrieval(asking, mechanism, way, controls)
        print(f"{name:22s} {way:10s} {replicate:31.3f} {moa:10.3f} ({n})", flush=True)


def new_replicate(store: phenoembed_store.Store) -> str:
    """The replicate that was held out whole when the store's default encoder was trained."""
    images = store._images_of(None)
    (encoder,) = (one for one in store.encoders() if one.id == images.encoder)
    assert encoder.split == "replicate"
    return str(sorted(images.column("replicate").unique().to_pylist())[int(encoder.fold or 0)])


def read(store: phenoembed_store.Store, mechanism_column: str) -> tuple[list[Group], dict[str, str], np.ndarray]:
    images = store._images_of(None)
    columns = ["compound", "replicate", "group_id", "concentration_um", "time_h", "role", mechanism_column]
    rows = images.table.select(columns).to_pylist()
    parts: dict[str, dict[tuple[float, float], list[np.ndarray]]] = {}
    who, mechanism = {}, {}
    for row, vector in zip(rows, images.scaled, strict=True):
        if row["role"] != "treated" or row["group_id"] is None:
            continue
        dose = (round(row["concentration_um"], 3), row["time_h"])
        parts.setdefault(row["group_id"], {}).setdefault(dose, []).append(vector)
        who[row["group_id"]] = (row["compound"], row["replicate"])
        mechanism[row["compound"]] = row[mechanism_column]
    groups = [Group(*who[key], {c: np.mean(v, axis=0) for c, v in found.items()}) for key, found in parts.items()]
    control = np.array([row["role"] == "control" for row in rows])
    return groups, mechanism, images.scaled[control].mean(axis=0)


def embed(group: Group, way: str, controls: np.ndarray) -> np.ndarray:
    vectors = np.stack(list(group.configurations.values()))
    if way == "median":
        return np.median(vectors, axis=0)
    if way == "strongest":
        far = np.argsort(-np.linalg.norm(vectors - controls, axis=1))
        vectors = vectors[far[: max(1, -(-len(vectors) // 3))]]
    return vectors.mean(axis=0)


def similarities(groups: list[Group], way: str, controls: np.ndarray) -> np.ndarray:
    """Cosine of every pair of groups, (groups, groups); for ``matched`` NaN where they share no configuration."""
    if way != "matched":
        unit = l2_normalise(np.stack([embed(group, way, controls) for group in groups]).astype(np.float32))
        return unit @ unit.T
    sums, counts = np.zeros((len(groups), len(groups))), np.zeros((len(groups), len(groups)))
    for dose in {dose for group in groups for dose in group.configurations}:
        rows = np.array([i for i, group in enumerate(groups) if dose in group.configurations])
        unit = l2_normalise(np.stack([groups[i].configurations[dose] for i in rows]).astype(np.float32))
        sums[np.ix_(rows, rows)] += unit @ unit.T
        counts[np.ix_(rows, rows)] += 1
    return np.divide(sums, counts, out=np.full_like(sums, np.nan), where=counts > 0)


def replicate_retrieval(groups: list[Group], way: str, controls: np.ndarray, queries: str | None = None) -> float:
    """Share of groups whose nearest group of another replicate is of the same compound, where there is one.

    queries: the replicate whose groups ask; None: all groups do.
    """
    found = similarities(groups, way, controls)
    compound = np.array([group.compound for group in groups], object)
    replicate = np.array([group.replicate for group in groups], object)
    found[replicate[:, None] == replicate[None]] = np.nan
    same = (compound[:, None] == compound[None]) & (replicate[:, None] != replicate[None])
    able = same.any(axis=1) & np.isfinite(found).any(axis=1)
    if queries is not None:
        able &= replicate == queries
    if not able.any():
        return float("nan")
    nearest = np.nanargmax(found[able], axis=1)
    return float((compound[nearest] == compound[able]).mean())


def mechanism_retrieval(
    groups: list[Group], mechanism: dict[str, str], way: str, controls: np.ndarray
) -> tuple[float, int]:
    """Share of compounds whose nearest compound has the same mechanism, of those that share theirs with another."""
    names = sorted({group.compound for group in groups})
    found = _COMPOUNDS.get(way, compound_cosines)(groups, names, way, controls)
    np.fill_diagonal(found, -9)
    labels = np.array([mechanism[name] or name for name in names], object)
    shared = np.array([(labels == label).sum() > 1 for label in labels])
    right = labels[np.nan_to_num(found, nan=-9).argmax(axis=1)] == labels
    return float(right[shared].mean()), int(shared.sum())


def compound_cosines(groups: list[Group], names: list[str], way: str, controls: np.ndarray) -> np.ndarray:
    pool = np.median if way == "median" else np.mean
    embedded = l2_normalise(np.stack([embed(group, way, controls) for group in groups]).astype(np.float32))
    owner = np.array([group.compound for group in groups], object)
    unit = l2_normalise(np.stack([pool(embedded[owner == name], axis=0) for name in names]).astype(np.float32))
    return unit @ unit.T


def matched_cosines(groups: list[Group], names: list[str], way: str, controls: np.ndarray) -> np.ndarray:
    found = similarities(groups, way, controls)
    owner = np.array([names.index(group.compound) for group in groups])
    sums, counts = np.zeros((len(names), len(names))), np.zeros((len(names), len(names)))
    pairs = np.ix_(owner, owner)
    np.add.at(sums, pairs, np.nan_to_num(found))
    np.add.at(counts, pairs, np.isfinite(found))
    return np.divide(sums, counts, out=np.full_like(sums, np.nan), where=counts > 0)


_COMPOUNDS: dict[str, Callable[[list[Group], list[str], str, np.ndarray], np.ndarray]] = {"matched": matched_cosines}

if __name__ == "__main__":
    main()
