"""What the pages know of a store's images without their embeddings: read once for each version of the store."""

import threading
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from phenoembed.thumbnails import NO_FILE, Contrast, Picture, has_file, picture_of, plate_contrasts

import phenoembed_store
from phenoembed_store import Store, remote
from phenoembed_store.aggregate import number
from phenoembed_store.errors import NotInStore
from phenoembed_store.mirror import FOLDERS

Rows = npt.NDArray[np.int64]
Stamp = tuple[tuple[str, str], ...]

SYNONYMS = ("synonyms", "synonym", "aliases", "alias", "inchikey", "broad_sample", "broad_id", "cas")
"""Annotations by which people know a compound, besides its name and mechanism."""

TABLES = ("images", "annotations", "predictions", "rejected")
REMOTE_SECONDS = 5.0  # between two looks at a store in object storage
HELD_BYTES = 1 << 29
"""Of catalogues that are held for visitors on several encoders or stores; one is held whatever its size."""


@dataclass(frozen=True)
class Compound:
    """One compound, as a person would choose it. ``known_as``: synonyms, InChIKey and the like."""

    name: str
    role: str
    n_images: int
    moa: str | None
    known_as: tuple[str, ...]


class Plate(NamedTuple):
    """A plate; two screens may each have one of a name. ``code``: its number in ``plate_codes``."""

    screen: str
    name: str
    code: int


@dataclass(frozen=True, eq=False)
class Catalogue:
    """One encoder's images, sorted as the store sorts them: ``table`` a row an image, ``vectors`` (images, dim).

    compared: the vectors as a search compares them, which differ where a transform to controls was chosen.
    """

    encoder: str
    stamp: Stamp
    table: pa.Table
    vectors: npt.NDArray[np.float32]
    compared: npt.NDArray[np.float32]

    @cached_property
    def compounds(self) -> dict[str, Compound]:
        """Every compound by name, treated ones first, each in the order of the alphabet."""
        first = {name: rows[0] for name, rows in self._by_compound.items()}
        shown = self.records(list(first.values()))
        found = []
        for (name, _), record in zip(first.items(), shown, strict=True):
            known_as = tuple(str(record[column]) for column in SYNONYMS if record.get(column))
            moa = record.get("moa")
            found.append(
                Compound(
                    name,
                    str(record["role"]),
                    len(self._by_compound[name]),
                    None if moa is None else str(moa),
                    known_as,
                )
            )
        found.sort(key=lambda compound: (compound.role != "treated", compound.name.casefold(), compound.name))
        return {compound.name: compound for compound in found}

    @cached_property
    def treated(self) -> tuple[str, ...]:
        return tuple(name for name, compound in self.compounds.items() if compound.role == "treated")

    @cached_property
    def contrasts(self) -> dict[tuple[str, ...], Contrast]:
        return plate_contrasts(self.table)

    @cached_property
    def plate_codes(self) -> npt.NDArray[np.int64]:
        """The plate of each image as a number; plates of one name in two screens are two."""
        found: npt.NDArray[np.int64] = number(self.codes("screen"), self.codes("plate"))[0]
        return found

    @cached_property
    def plates(self) -> dict[str, Plate]:
        """Every plate by what it is called here: its name, and its screen too where several have a plate so named."""
        first = np.unique(self.plate_codes, return_index=True)[1]
        records = self.records(first, ("screen", "plate"))
        there = [Plate(record["screen"], record["plate"], code) for code, record in enumerate(records)]
        namesakes = Counter(plate.name for plate in there)
        called = {one.name if namesakes[one.name] == 1 else f"{one.name} ({one.screen})": one for one in there}
        return dict(sorted(called.items()))

    def plate_of(self, record: dict[str, Any]) -> str:
        """What the plate of an image is called here."""
        return self._called[record["screen"], record["plate"]]

    def plates_of(self, records: Iterable[dict[str, Any]]) -> tuple[int, ...]:
        """The plates of some images, as in ``plate_codes``."""
        return tuple(sorted({self.plates[self.plate_of(record)].code for record in records}))

    @cached_property
    def control_rows(self) -> Rows:
        return np.flatnonzero(self.column("role") == "control")

    @cached_property
    def moas(self) -> tuple[str, ...]:
        treated = (compound for compound in self.compounds.values() if compound.role == "treated")
        return tuple(sorted({compound.moa for compound in treated if compound.moa}, key=str.casefold))

    def rows_of(self, compound: str) -> Rows:
        """Numbers of the compound's images. Raises NotInStore."""
        if compound not in self._by_compound:
            raise NotInStore(f"no compound '{compound}' in the store")
        return self._by_compound[compound]

    def column(self, name: str) -> npt.NDArray[Any]:
        """The values of a column of all images."""
        if name not in self._columns:
            column = self.table.column(name).combine_chunks()
            self._columns[name] = column.to_numpy(zero_copy_only=False)
        return self._columns[name]

    def codes(self, name: str) -> npt.NDArray[np.int64]:
        """The values of a column as numbers, equal where the values are (null is a value too)."""
        if name not in self._codes:
            encoded = self.table.column(name).combine_chunks().dictionary_encode(null_encoding="encode")
            self._codes[name] = np.asarray(encoded.indices, np.int64)
        return self._codes[name]

    def values(self, name: str) -> list[Any]:
        """The distinct values of a column, sorted; null is none of them."""
        if name not in self.table.column_names:
            return []
        return sorted(value for value in self.table.column(name).unique().to_pylist() if value is not None)

    def records(self, rows: Sequence[int] | Rows, columns: Iterable[str] | None = None) -> list[dict[str, Any]]:
        """Some images as dictionaries."""
        names = self.table.column_names if columns is None else [c for c in columns if c in self.table.column_names]
        found: list[dict[str, Any]] = self.table.select(names).take(pa.array(rows, pa.int64())).to_pylist()
        return found

    def picture(self, record: dict[str, Any]) -> Picture | None:
        """How an image is shown; None where the store knows no file of it (imported profiles)."""
        if not has_file(record):
            return None
        contrast = self.contrasts.get((record["screen"], record["plate"], record["channel"]), (0.0, 0.0))
        return picture_of(record, contrast)

    @property
    def n_bytes(self) -> int:
        """Of its vectors and rows, not of what was worked out from them."""
        arrays = {id(array): int(array.nbytes) for array in (self.vectors, self.compared)}
        return sum(arrays.values()) + int(self.table.nbytes)

    @cached_property
    def kept(self) -> dict[Any, Any]:
        """What other modules worked out from these rows alone, by a key of theirs."""
        return {}

    @cached_property
    def simulated(self) -> bool:
        """Whether any screen is called so, as those of ``phenoembed simulate`` are."""
        return any("simulated" in screen.lower() for screen in self.values("screen"))

    @cached_property
    def timed(self) -> bool:
        """Whether times say anything; profiles of others often come without, and stand at 0 h."""
        return self.values("time_h") not in ([], [0.0])

    @cached_property
    def pictured(self) -> bool:
        """Whether there are images to look at, not profiles alone."""
        import pyarrow.compute as pc

        paths = self.table.column("path").cast(pa.string()).fill_null("")
        return bool(pc.any(pc.invert(pc.match_substring_regex(paths, NO_FILE))).as_py())

    @cached_property
    def _columns(self) -> dict[str, npt.NDArray[Any]]:
        return {}

    @cached_property
    def _called(self) -> dict[tuple[str, str], str]:
        return {(plate.screen, plate.name): called for called, plate in self.plates.items()}

    @cached_property
    def _codes(self) -> dict[str, npt.NDArray[np.int64]]:
        return {}

    @cached_property
    def _by_compound(self) -> dict[str, Rows]:
        encoded = self.table.column("compound").combine_chunks().dictionary_encode()
        codes = np.asarray(encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False), np.int64)
        order = np.argsort(codes, kind="stable")
        names = encoded.dictionary.to_pylist()
        starts = np.searchsorted(codes[order], np.arange(len(names) + 1))
        return {name: order[starts[i] : starts[i + 1]] for i, name in enumerate(names) if name}


_LOCK = threading.RLock()
_STORES: dict[Path, tuple[Store, Stamp]] = {}
_HELD: dict[tuple[Path, str], Catalogue] = {}
_DEFAULTS: dict[Path, tuple[Stamp, str]] = {}


def open_store(path: Path) -> Store:
    """The store at a path, opened once for all pages and visitors. Raises NotInStore, StoreError.

    One in object storage is opened again when it changes: that brings the heads and encoders that others wrote.
    """
    with _LOCK:
        remote_at = stamp(path, (*TABLES, *FOLDERS)) if remote.url_of(path) else ()
        held = _STORES.get(path)
        if held is None or held[1] != remote_at or not held[0].path.is_dir():
            _STORES.pop(path, None)
            held = _STORES[path] = (phenoembed_store.open(path), remote_at)
        return held[0]


def open_catalogue(path: Path, encoder: str | None = None) -> Catalogue:
    """The catalogue of an encoder (default: the last trained that has images), as the store is now.

    Those asked for last are held, HELD_BYTES of them or one; a newer version takes the older one's place. Raises
    NotInStore.
    """
    store = open_store(path)
    with _LOCK:
        now = stamp(path, ("images", "annotations", "encoders"))
        then, default = _DEFAULTS.get(path, ((), ""))
        wanted = encoder or (default if then == now else None)  # what is held may be another visitor's choice
        for key, old in list(_HELD.items()):
            if key[0] == path and old.stamp != now:
                del _HELD[key]
        held = _HELD.pop((path, wanted or ""), None)
        if held is None:
            _make_room(HELD_BYTES // 2)  # the other half is for the one that comes
            held = _first_with_images(store, wanted, now)
        _HELD[path, held.encoder] = held  # the last asked for stands last
        if encoder is None:
            _DEFAULTS[path] = now, held.encoder
        return held


def _make_room(limit: int) -> None:
    """Let go of the catalogues that were asked for longest ago, until the others are no more bytes than this."""
    while sum(held.n_bytes for held in _HELD.values()) > limit:
        del _HELD[next(iter(_HELD))]


def stamp(path: Path, tables: Sequence[str] = TABLES) -> Stamp:
    """Changes whenever one of these parts of a store does; read from the names in its folders alone.

    Object storage is looked at every ``REMOTE_SECONDS``.
    """
    url, found = remote.url_of(path), []
    for table in tables:
        names = _names(path / table) if url is None else _remote_names(f"{url}/{table}", _now())
        found.append((table, max((name for name in names if name.endswith(".json")), default="|".join(sorted(names)))))
    return tuple(found)


def _names(folder: Path) -> list[str]:
    log = folder / "_delta_log"
    return [entry.name for entry in (log if log.is_dir() else folder).glob("*") if not entry.name.startswith(".")]


@lru_cache(maxsize=64)
def _remote_names(url: str, _when: int) -> list[str]:
    """The names of a table's log; of another folder, of what lies in it."""
    return list(remote.listing(f"{url}/_delta_log")) or sorted(remote.listing(url))


def _now() -> int:
    return int(time.monotonic() // REMOTE_SECONDS)


def _first_with_images(store: Store, encoder: str | None, now: Stamp) -> Catalogue:
    """An encoder that was trained last may have no images yet: then the one before it is shown."""
    if encoder is not None:
        names = [store.resolve_encoder(encoder)]
    else:
        trained = [info.id for info in store.encoders() if not info.untrained and not info.imported]
        names = [*reversed(trained), *(info.id for info in store.encoders() if info.imported)]
        names = names or [store.default_encoder()]
    for name in names:
        try:
            return _read(store, name, now)
        except NotInStore:
            if name == names[-1]:
                raise
    raise NotInStore("the store has no trained encoder; run: phenoembed train PLATES")


def _read(store: Store, encoder: str, now: Stamp) -> Catalogue:
    """Rows and vectors of one version, though a writer may come in between."""
    while True:
        version = store.version
        table, vectors = store.vectors(encoder=encoder)
        _, compared = store.vectors(encoder=encoder, columns=[], compared=True)
        if store.version == version:
            return Catalogue(encoder, now, table, vectors, compared)
