"""What a search starts from: a compound, a well or a group of the store, or a bare vector."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from phenoembed_store.aggregate import Floats, Integers
from phenoembed_store.errors import NotInStore, StoreError
from phenoembed_store.images import Images
from phenoembed_store.plate_layout import well_name


@dataclass(frozen=True)
class Query:
    """``rows``: the query's images in the store, None for a bare ``vector`` (dim,), which then is given."""

    asked: dict[str, Any]
    rows: Integers | None = None
    vector: Floats | None = None


def find_query(
    images: Images,
    compound: str | None = None,
    well: str | None = None,
    group: str | None = None,
    vector: npt.ArrayLike | None = None,
    concentration_um: float | None = None,
) -> Query:
    """The query that was asked for; exactly one of the four is given. Raises NotInStore, StoreError."""
    given = [
        name
        for name, value in (("compound", compound), ("well", well), ("group", group), ("vector", vector))
        if value is not None
    ]
    if len(given) != 1:
        raise StoreError(f"a search takes one of compound, well, group or vector, not {' and '.join(given) or 'none'}")
    if concentration_um is not None and compound is None:
        raise StoreError("a concentration belongs to a compound: name one")
    if compound is not None:
        rows = _rows_of(images, "compound", compound)
        if concentration_um is None:
            return Query({"compound": compound}, rows)
        asked = {"compound": compound, "concentration_um": concentration_um}
        return Query(asked, _at_concentration(images, rows, compound, concentration_um))
    if group is not None:
        return Query({"group": group}, _rows_of(images, "group_id", group, "group"))
    if well is not None:
        return Query({"well": well}, _well_rows(images, well))
    return Query({"vector": images.dim}, vector=_checked_vector(vector, images.dim))


def closest(name: str, names: Iterable[str]) -> str:
    """``; did you mean 'nocodazole'?`` or nothing."""
    by_folded = {candidate.casefold(): candidate for candidate in names}
    found = [by_folded[key] for key in get_close_matches(name.casefold(), by_folded, n=3, cutoff=0.6)]
    return f"; did you mean {' or '.join(repr(candidate) for candidate in found)}?" if found else ""


def _rows_of(images: Images, column: str, value: str, called: str | None = None) -> Integers:
    rows = images.value_rows(column, value)
    if not len(rows):
        names = [name for name in images.column(column).unique().to_pylist() if name is not None]
        hint = closest(value, names) or f"; the store has {_few(sorted(names))}"
        raise NotInStore(f"no {called or column} '{value}'{hint}")
    return rows


def _at_concentration(images: Images, rows: Integers, compound: str, concentration_um: float) -> Integers:
    doses = images.rows.column("concentration_um").combine_chunks().take(pa.array(rows)).to_numpy(zero_copy_only=False)
    found: Integers = rows[np.isclose(doses, concentration_um, rtol=1e-6, atol=0)]
    if not len(found):
        there = ", ".join(f"{dose:g}" for dose in sorted(set(doses.tolist())))
        raise NotInStore(f"'{compound}' is not in the store at {concentration_um:g} µM; it is at {there}")
    return found


def _well_rows(images: Images, place: str) -> Integers:
    """The images of PLATE:WELL; of SCREEN/PLATE:WELL, where several screens have a plate of that name."""
    plate, separator, name = place.rpartition(":")
    if not separator:
        raise StoreError(f"a well is named PLATE:WELL, e.g. P1:B03, not '{place}'")
    screen, slash, of_screen = plate.partition("/")
    if slash and not len(images.value_rows("plate", plate)):
        on_plate = np.intersect1d(_rows_of(images, "screen", screen), _rows_of(images, "plate", of_screen))
    else:
        on_plate = _rows_of(images, "plate", plate)
    screens, wells = (
        images.column(column).combine_chunks().take(pa.array(on_plate)).to_numpy(zero_copy_only=False)
        for column in ("screen", "well")
    )
    here = wells == (well_name(name.strip()) or name)
    if not here.any():
        raise NotInStore(f"plate '{plate}' has no well '{name}'; it has {_few(sorted(set(wells.tolist())))}")
    having = sorted(set(screens[here].tolist()))
    if len(having) > 1:
        raise StoreError(
            f"'{place}' is a well of {len(having)} screens ({_few(having)}): name one, e.g. {having[0]}/{place}"
        )
    found: Integers = on_plate[here]
    return found


def _few(names: Sequence[str]) -> str:
    if len(names) <= 6:
        return ", ".join(names) or "none"
    return f"{', '.join(names[:3])} .. {names[-1]} ({len(names):,} in all)"


def _checked_vector(vector: npt.ArrayLike | None, dim: int) -> Floats:
    try:
        found = np.asarray(vector, np.float32).squeeze()
    except (TypeError, ValueError) as error:
        raise StoreError(f"a query vector holds {dim} numbers: {error}") from None
    if found.shape != (dim,):
        raise StoreError(f"the query vector has the shape {found.shape}; the embeddings have {dim} numbers")
    wide = found.astype(np.float64)  # no square of a float32 is too large or small for it
    if not 0 < float(wide.dot(wide)) < np.inf:  # one look at the numbers where there is nothing to say
        if not np.isfinite(found).all():
            raise StoreError("the query vector holds NaN or infinite numbers")
        if not found.any():
            raise StoreError("the query vector is zero everywhere: it is like nothing")
    return found
