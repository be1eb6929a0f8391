"""The nearest compounds of a compound, a well or an image, with what a person needs to judge each."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from phenoembed_dashboard.catalogue import Catalogue, Rows
from phenoembed_store import Store

KNOWN = ("rank", "compound", "role", "score", "n_images", "p_value", "q_value", "same_plate")


@dataclass(frozen=True)
class Query:
    """What is searched for: exactly one of the three."""

    compound: str | None = None
    well: tuple[str, str] | None = None  # plate, as the catalogue calls it, and well
    vector: tuple[float, ...] | None = None


@dataclass(frozen=True)
class Filters:
    """Among which images to search; empty means all. ``plates``: as the catalogue calls them."""

    doses: tuple[float, ...] = ()
    times: tuple[float, ...] = ()
    plates: tuple[str, ...] = ()
    moas: tuple[str, ...] = ()
    other_plates_only: bool = False

    def __bool__(self) -> bool:
        return any((self.doses, self.times, self.plates, self.moas, self.other_plates_only))

    def passes(self, catalogue: Catalogue, rows: Rows) -> npt.NDArray[np.bool_]:
        """Which of these images lie within the doses, times and plates; controls have no dose."""
        passing = np.ones(len(rows), np.bool_)
        if self.doses:
            control = catalogue.column("role")[rows] == "control"
            passing &= control | np.isin(catalogue.column("concentration_um")[rows], self.doses)
        if self.times:
            passing &= np.isin(catalogue.column("time_h")[rows], self.times)
        if self.plates:
            passing &= np.isin(catalogue.plate_codes[rows], [catalogue.plates[name].code for name in self.plates])
        return passing


@dataclass(frozen=True)
class Neighbour:
    """One compound that looks like the query."""

    rank: int
    compound: str
    role: str
    similarity: float
    n_images: int
    moa: str | None
    q_value: float | None
    same_plate: bool | None
    same_wells: tuple[str, ...]  # well positions it shares with the query, on any plate
    annotations: dict[str, Any]


@dataclass(frozen=True)
class Found:
    """The neighbours, best first, and how they were found (``exact`` or ``index``)."""

    neighbours: tuple[Neighbour, ...]
    path: str
    rows: list[dict[str, Any]]  # as the store gave them, for a download


def query_rows(catalogue: Catalogue, query: Query) -> Rows:
    """The query's images in the store; none for an image file."""
    if query.compound is not None:
        return catalogue.rows_of(query.compound)
    if query.well is not None:
        plate, well = query.well
        here = catalogue.plate_codes == catalogue.plates[plate].code
        return np.flatnonzero(here & (catalogue.column("well") == well))
    return np.zeros(0, np.int64)


def find_neighbours(store: Store, catalogue: Catalogue, query: Query, filters: Filters, k: int) -> Found:
    """Search at compound level. Raises NotInStore, QueryError."""
    hits = store.search(
        compound=query.compound,
        well=_address(catalogue, query),
        vector=None if query.vector is None else np.array(query.vector, np.float32),
        level="compound",
        k=k,
        where=where(catalogue, filters, query),
        not_same=("plate",) if filters.other_plates_only and query.vector is None else (),
        encoder=catalogue.encoder,
    )
    wells = catalogue.column("well")
    mine = set(wells[query_rows(catalogue, query)].tolist())
    rows: list[dict[str, Any]] = hits.to_pylist()
    found = []
    for row in rows:
        shared = mine & set(wells[catalogue.rows_of(row["compound"])].tolist()) if row["role"] != "control" else set()
        found.append(
            Neighbour(
                rank=row["rank"],
                compound=row["compound"],
                role=row["role"],
                similarity=row["score"],
                n_images=row["n_images"],
                moa=row.get("moa"),
                q_value=row.get("q_value"),
                same_plate=row["same_plate"],
                same_wells=tuple(sorted(shared)),
                annotations={name: value for name, value in row.items() if name not in KNOWN and value is not None},
            )
        )
    return Found(tuple(found), str(_described(hits).get("path", "exact")), rows)


def _address(catalogue: Catalogue, query: Query) -> str | None:
    """The query's well as a search takes it: with its screen, where another has a plate of that name."""
    if query.well is None:
        return None
    name, well = query.well
    plate = catalogue.plates[name]
    return f"{plate.name}:{well}" if name == plate.name else f"{plate.screen}/{plate.name}:{well}"


def where(catalogue: Catalogue, filters: Filters, query: Query) -> str | None:
    """The filters as one SQL expression over an image's columns."""
    parts = []
    if filters.doses:
        parts.append(f"(role = 'control' OR concentration_um IN ({_numbers(filters.doses)}))")
    if filters.times:
        parts.append(f"time_h IN ({_numbers(filters.times)})")
    if filters.plates:
        chosen = (catalogue.plates[name] for name in filters.plates)
        parts.append(f"({' OR '.join(f'screen = {quoted(p.screen)} AND plate = {quoted(p.name)}' for p in chosen)})")
    if filters.moas:
        known = f"moa IN ({', '.join(map(quoted, filters.moas))})"
        # the query keeps its own images, whatever its mechanism
        parts.append(known if query.compound is None else f"({known} OR compound = {quoted(query.compound)})")
    return " AND ".join(parts) or None


def quoted(text: str) -> str:
    """A string as an SQL literal."""
    return "'" + text.replace("'", "''") + "'"


def control_similarity(catalogue: Catalogue, rows: Rows) -> float | None:
    """Cosine between the mean of these images and the mean of the controls on their plates; None without controls."""
    plates = catalogue.plate_codes
    controls = catalogue.control_rows
    controls = controls[np.isin(plates[controls], np.unique(plates[rows]))]
    if not len(controls) or not len(rows):
        return None
    a, b = _unit_mean(catalogue.compared[rows]), _unit_mean(catalogue.compared[controls])
    return float(a @ b)


def _unit_mean(vectors: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    mean = vectors.mean(axis=0, dtype=np.float64)
    norm = float(np.linalg.norm(mean))
    return np.asarray(mean / norm if norm else mean)


def _numbers(values: Sequence[float]) -> str:
    return ", ".join(f"CAST('{value!r}' AS DOUBLE)" for value in map(float, values))


def _described(hits: Any) -> dict[str, Any]:
    text = (hits.schema.metadata or {}).get(b"phenoembed", b"{}")
    found: dict[str, Any] = json.loads(text)
    return found
