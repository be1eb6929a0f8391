"""Bringing in embeddings that others made: looked through first, then written a piece at a time."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from phenoembed_store import encoders, transforms
from phenoembed_store.contents import Contents
from phenoembed_store.errors import StoreError
from phenoembed_store.profiles import Plan, as_images, describe, plan_profiles, profile_name
from phenoembed_store.reading import Source, opened
from phenoembed_store.remarks import Remarks
from phenoembed_store.schema import IMAGE_KEY, SCREEN_SCHEMA
from phenoembed_store.writing import Written

SHOWN = 20
"""Rejected rows that a report lists; the store has them all."""


class Importer(Protocol):
    """Who writes what an import brings: a store."""

    def choose_transform(self, kind: str | None, encoder: str, rows: pa.Table) -> None: ...
    def set_transform(self, kind: str, encoder: str | None = None) -> str | None: ...
    def write_images(self, accepted: pa.Table | None = None, rejected: pa.Table | None = None) -> Written: ...


def import_profiles(
    store: Importer,
    contents: Contents,
    source: Path | pa.Table,
    *,
    embedding: Sequence[str] | str | None,
    metadata: Mapping[str, str] | None,
    joined: Sequence[Path],
    name: str | None,
    screen: str | None,
    transform: str | None,
) -> dict[str, Any]:
    """What `Store.import_profiles` does. Nothing is written where any row does not fit."""
    encoder = name or (profile_name(source) if isinstance(source, Path) else "imported")
    folder = contents.path / "encoders"
    stored = encoder in contents.reader.dims()
    known = encoders.features_of(folder, encoder) if stored else None
    with opened(source) as table:
        plan = plan_profiles(
            table, encoder, embedding=embedding, metadata=metadata, joined=joined, screen=screen, known=known
        )
        rows, report = _look_through(plan, table)
        store.choose_transform(transform, encoder, rows)
        written, first, features, refusals = Written(), 0, list[str](), list[dict[str, Any]]()
        for piece in table.pieces():
            described, _ = describe(plan, piece, table.lines(first, len(piece)))
            accepted, refused = as_images(plan, piece, described)
            if not features and len(accepted):
                features = _names(plan, accepted)
                encoders.write_imported(
                    folder, encoder, features, str(source) if isinstance(source, Path) else "a table"
                )
            written += store.write_images(accepted, refused)
            refusals += refused.select(["path", "reason"]).slice(0, SHOWN - len(refusals)).to_pylist()
            first += len(piece)
    kind = transforms.chosen(contents.path / "transforms").get(encoder, "none")
    fitted = store.set_transform(kind, encoder) if kind != "none" and encoder in contents.reader.dims() else None
    return {
        "encoder": encoder,
        "transform": fitted,
        **asdict(written),
        **report,
        "features": len(features),
        "rejections": refusals,
    }


def _names(plan: Plan, images: pa.Table) -> list[str]:
    if not plan.listed:
        return list(plan.features)
    return [f"{plan.features[0]}_{i}" for i in range(len(images.column("embedding")[0]))]


def _look_through(plan: Plan, table: Source) -> tuple[pa.Table, dict[str, Any]]:
    """Everything but the features, read once: keys and roles of all rows, and what was matched to what."""
    pieces, kept, hits, first = [], list[str](), np.zeros(len(plan.further), np.int64), 0
    remarks = Remarks(plan)
    for piece in table.pieces(plan.described):
        lines = table.lines(first, len(piece))
        described, found = describe(plan, piece, lines)
        pieces.append(described.select([*IMAGE_KEY, "role"]))
        remarks.see(piece, described, lines)
        hits += np.array(found, np.int64)
        first += len(piece)
        kept = [one for one in described.column_names if one not in SCREEN_SCHEMA.names]
    if not first:
        raise StoreError(f"'{plan.source}' has no rows")
    rows = pa.concat_tables(pieces)
    _refuse_doubles(plan, rows, table.lines(0, first))
    joined = [
        {
            "table": one.name,
            "on": list(one.on),
            "columns": list(one.new),
            "matched": int(n),
            "unmatched": first - int(n),
        }
        for one, n in zip(plan.further, hits, strict=True)
    ]
    return rows, {
        "rows": first,
        "matched": {**plan.matched.ours, **plan.matched.constants},
        "joined": joined,
        "dropped_features": list(plan.dropped),
        "kept_metadata": kept,
        "remarks": remarks.lines(),
    }


def _refuse_doubles(plan: Plan, rows: pa.Table, lines: Sequence[int]) -> None:
    """Raise StoreError, naming the lines, where two rows are the same image."""
    if len(rows.group_by(list(IMAGE_KEY), use_threads=False).aggregate([])) == len(rows):
        return
    first = dict[tuple[Any, ...], int]()
    for line, *key in zip(lines, *(rows.column(name).to_pylist() for name in IMAGE_KEY), strict=True):
        if (other := first.setdefault(tuple(key), line)) != line:
            said = ", ".join(
                f"{name} {value}" for name, value in zip(IMAGE_KEY, key, strict=True) if value not in ("", 0)
            )
            told = ", ".join(name for name in IMAGE_KEY if name in plan.matched.ours)
            raise StoreError(
                f"lines {other} and {line} of '{plan.source}' are the same image ({said}), as far as {told} tell; "
                "a column that tells them apart is named by --map field=THEIRS"
            )
