"""Indexing: every image of a screen becomes a row with its embedding. Only what is new or changed is encoded."""

import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from phenoembed.cache import sources_of
from phenoembed.embedding import BATCH_IMAGES, embed_batches, with_weights
from phenoembed.embedding import embed_files as embed_files
from phenoembed.encoding import Batch, Embedded, FileFacts, Work
from phenoembed.pixels import common_shape
from phenoembed.planes import Source, content_hash, size_and_time
from phenoembed.plate_light import flat_field_name, preparer_for
from phenoembed.preparation import Preparer, agreed
from phenoembed.screen import Screen, choose_plane
from phenoembed.stacks import with_stacks
from phenoembed_store import Store, remote
from phenoembed_store.errors import ImageError, NotInStore, StoreError
from phenoembed_store.groups import vectors_column
from phenoembed_store.schema import IMAGE_KEY, REJECTED_SCHEMA, SCREEN_SCHEMA

COMMIT_ROWS = 4096  # small appends make a Delta log slow (design, "One store is one folder")
COMMIT_SECONDS = 30.0

Key = tuple[Any, ...]


@dataclass(frozen=True)
class Indexed:
    """What an indexing did. ``unchanged`` images were not read again; ``updated`` got new metadata only."""

    store: str  # where it lies
    version: int
    encoder: str
    indexed: int
    unchanged: int
    updated: int
    rejected: tuple[tuple[str, str], ...]  # path, reason
    images_per_second: float | None

    def document(self) -> dict[str, Any]:
        """What ``index --json`` prints."""
        rate = self.images_per_second
        return {
            "store": self.store,
            "version": self.version,
            "encoder": self.encoder,
            "indexed": self.indexed,
            "unchanged": self.unchanged,
            "updated": self.updated,
            "rejected": len(self.rejected),
            "images_per_second": None if rate is None else round(rate, 1),
        }


@dataclass(frozen=True)
class _Plan:
    """Rows of the screen by what is to be done with them."""

    encode: np.ndarray
    held: frozenset[int]  # of those to encode: rows that the store holds of an earlier content
    update: np.ndarray
    unchanged: int


@dataclass
class _Pending:
    """Encoded rows that are not committed yet."""

    answers: list[Embedded] = field(default_factory=list)  # taken in whole: Ctrl-C may come at any line
    since: float = field(default_factory=time.monotonic)

    @property
    def rows(self) -> list[int]:
        """Rows of the screen that were encoded, in the order of ``facts`` and ``embeddings``."""
        return [number for one in self.answers for number, facts in zip(one.numbers, one.facts, strict=True) if facts]

    @property
    def facts(self) -> list[FileFacts]:
        return [facts for one in self.answers for facts in one.facts if facts]

    @property
    def rejected(self) -> list[tuple[int, str]]:
        """Rows of the screen that cannot be used, and why."""
        both = [pair for one in self.answers for pair in zip(one.numbers, one.reasons, strict=True)]
        return [(number, reason) for number, reason in both if reason is not None]

    def embeddings(self, encoder: str) -> np.ndarray:
        """(rows, dim) float32."""
        return np.concatenate([one.embeddings[encoder] for one in self.answers])

    def due(self, commit_rows: int) -> bool:
        """Whether it is time to commit."""
        return len(self.rows) >= commit_rows or time.monotonic() - self.since > COMMIT_SECONDS


def index_screen(
    screen: Screen,
    store: Store,
    encoder: str | None = None,
    *,
    baseline: bool = True,
    quality: bool = True,
    engine: str = "local",
    workers: int | None = None,
    precision: str = "32",
    batch_images: int = BATCH_IMAGES,
    commit_rows: int = COMMIT_ROWS,
    progress: Callable[[int, int], None] | None = None,
    transform: str | None = None,
    preparing: Mapping[str, str | None] | None = None,
) -> Indexed:
    """Encode the images of ``screen`` that the store does not hold as they are, and commit them as they come.

    ``transform``: have the encoder's embeddings compared under ``robust`` or ``percentile``, fitted to each plate's
    controls; None: as they are already. Raises StoreError, before anything is read, where it cannot be.
    ``baseline``: embed with the untrained encoder too, which probes compare with; the pixels are read once for both.
    ``quality``: judge focus, saturation and confluence of each image. ``engine``: "local" embeds in a process of this
    machine, "ray" on a cluster's workers (see ``ray_engine``). ``workers``, ``precision``: see ``encoding.Work``.
    ``preparing``: how pixels are to be prepared (fields of ``Preparation``), as a check: it is what the encoder was
    trained with that is done, and PhenoembedError is raised where that is something else.
    Interrupted at any moment, the same call goes on where it stopped: what was committed is not encoded again.
    """
    chosen = with_weights(store, encoder)
    encoders = [chosen, *_untrained(store, chosen)] if baseline else [chosen]
    store.choose_transform(transform, chosen, screen.table)
    preparation = agreed(_configs(store)[chosen], _asked(preparing or {}))
    if preparation.plane is not None:
        screen = choose_plane(screen, preparation.plane)
    sources = sources_of(screen)
    screen = replace(screen, table=with_stacks(screen, preparation.z))
    plan = _plan(screen, sources, store, encoders)
    if len(plan.update):
        rows = _metadata(screen).take(pa.array(plan.update))
        for name in encoders:
            store.update_metadata(rows, name)
    if screen.rejected.num_rows:
        store.write_images(None, _reject_table(_unplaced(screen), chosen))
    shape = common_shape([source[0] for source in sources]) if len(plan.encode) else None
    preparer = preparer_for(screen.table, sources, preparation, store.path) if len(plan.encode) else Preparer()
    work = Work(Path(store.address), tuple(encoders), shape, quality, workers, precision, preparer)
    answers = _engine(engine)(work, _batches(plan.encode, sources, batch_images)) if len(plan.encode) else None
    n_indexed, rejected, rate = _commit_answers(screen, store, work, plan, answers, commit_rows, progress)
    with suppress(NotInStore):  # every image was rejected: nothing is there to derive from
        store.refresh(chosen)
    rejected += [(_named(row), row["reason"]) for row in screen.rejected.to_pylist()]
    return Indexed(
        store.address, store.version, chosen, n_indexed, plan.unchanged, len(plan.update), tuple(rejected), rate
    )


def _untrained(store: Store, encoder: str) -> list[str]:
    """The untrained encoder that this one started from, if it is kept."""
    configs = _configs(store)
    untrained = configs.get(encoder, {}).get("untrained_encoder")
    return [untrained] if untrained in configs else []


def _named(rejected: Mapping[str, Any]) -> str:
    """The file that a reader rejected, or the place of which there is none."""
    return rejected["path"] or f"plate '{rejected['plate']}', well {rejected['well']} (no file)"


def _asked(preparing: Mapping[str, str | None]) -> dict[str, str | None]:
    """What is asked of the pixels, a flat field's file by what is in it."""
    flat_field = preparing.get("flat_field")
    return {**preparing, "flat_field": None if flat_field is None else flat_field_name(flat_field)}


def _configs(store: Store) -> dict[str, Any]:
    return {info.id: info.config for info in store.encoders()}


def _engine(name: str) -> Callable[[Work, Iterator[Batch]], Generator[Embedded]]:
    """What embeds the batches."""
    if name == "local":
        return embed_batches
    if name == "ray":
        from phenoembed.ray_engine import embed_on_ray

        return embed_on_ray
    raise StoreError(f"no engine '{name}'; there is local, ray")


def _commit_answers(
    screen: Screen,
    store: Store,
    work: Work,
    plan: _Plan,
    answers: Generator[Embedded] | None,
    commit_rows: int,
    progress: Callable[[int, int], None] | None,
) -> tuple[int, list[tuple[str, str]], float | None]:
    """Commit what the engine answers as it comes; what is encoded is committed even when Ctrl-C ends it."""
    if answers is None:
        return 0, [], None
    metadata, paths = _metadata(screen), screen.table.column("path").to_pylist()
    pending, rejected = _Pending(), list[tuple[str, str]]()
    done = n_indexed = 0
    started = last = 0.0  # the first batch carries the engine's start, which does not count, nor does its end
    first = 0
    try:
        for answer in answers:
            done += len(answer.numbers)
            if not first:
                started, first = time.perf_counter(), done
            pending.answers.append(answer)
            if progress:
                progress(done, len(plan.encode))
            if pending.due(commit_rows):
                n_indexed += _commit(store, metadata, pending, work.encoders, plan)
                rejected += [(paths[row], reason) for row, reason in pending.rejected]
                pending = _Pending()
            last = time.perf_counter()
    finally:
        committing = time.perf_counter()
        try:
            n_indexed += _commit(store, metadata, pending, work.encoders, plan)
            committed = time.perf_counter()
        finally:
            answers.close()  # a full disk must not leave the encoding process behind
        rejected += [(paths[row], reason) for row, reason in pending.rejected]
        elapsed = last - started + committed - committing
    return n_indexed, rejected, (done - first) / elapsed if done > first else None


def _batches(rows: np.ndarray, sources: Sequence[Source], batch_images: int) -> Iterator[Batch]:
    for start in range(0, len(rows), batch_images):
        numbers = tuple(rows[start : start + batch_images].tolist())
        yield numbers, tuple(sources[number] for number in numbers)


def _commit(store: Store, metadata: pa.Table, pending: _Pending, encoders: Sequence[str], plan: _Plan) -> int:
    """Write what is pending. The encoder asked for goes last: an image that has it has the others too."""
    if not pending.answers:
        return 0
    rows = pending.rows
    gone = [row for row, _ in pending.rejected if row in plan.held]
    if gone:
        store.delete_images(_any_of(metadata.select(list(IMAGE_KEY)).take(pa.array(gone))))
    bad = metadata.select(SCREEN_SCHEMA.names).take(pa.array([row for row, _ in pending.rejected], pa.int64()))
    bad = bad.append_column("reason", pa.array([reason for _, reason in pending.rejected], pa.string()))
    for name in reversed(encoders):
        accepted = None
        if rows:
            accepted = metadata.take(pa.array(rows))
            for column, values in _facts_columns(pending.facts).items():
                accepted = accepted.append_column(column, values)
            accepted = accepted.append_column("encoder", pa.array([name] * len(rows)))
            accepted = accepted.append_column("embedding", vectors_column(pending.embeddings(name)))
        rejected = _reject_table(bad, name) if bad.num_rows and name == encoders[0] else None
        store.write_images(accepted, rejected)
    return len(rows)


def _any_of(keys: pa.Table) -> str:
    """SQL that holds for the images with these keys."""

    def literal(value: Any) -> str:
        return "'" + value.replace("'", "''") + "'" if isinstance(value, str) else str(value)

    rows = [", ".join(map(literal, row.values())) for row in keys.to_pylist()]
    return f"({', '.join(keys.column_names)}) IN (({'), ('.join(rows)}))"


def _facts_columns(facts: Sequence[FileFacts]) -> dict[str, pa.Array]:
    return {
        "content_hash": pa.array([one.content_hash for one in facts]),
        "file_bytes": pa.array([one.file_bytes for one in facts], pa.int64()),
        "file_mtime_ns": pa.array([one.file_mtime_ns for one in facts], pa.int64()),
        **{name: pa.array([one.statistics[name] for one in facts], pa.float32()) for name in facts[0].statistics},
    }


def _unplaced(screen: Screen) -> pa.Table:
    """What the reader rejected, each with a key of its own: without a place, or where it is taken, z is below 0."""
    nothing = {name: "" if pa.types.is_string(SCREEN_SCHEMA.field(name).type) else 0 for name in IMAGE_KEY}
    taken = set(zip(*(screen.table.column(name).to_pylist() for name in IMAGE_KEY), strict=True))
    rows = screen.rejected.sort_by("path").to_pylist()
    for row in rows:
        if any(row[name] is None for name in IMAGE_KEY):
            row |= {name: row[name] if row[name] is not None else nothing[name] for name in IMAGE_KEY} | {"z": -1}
        while (key := tuple(row[name] for name in IMAGE_KEY)) in taken:
            row["z"] = min(row["z"], 0) - 1
        taken.add(key)
    return pa.Table.from_pylist(rows, schema=screen.rejected.schema)


def _reject_table(rows: pa.Table, encoder: str) -> pa.Table:
    table = rows.append_column("encoder", pa.array([encoder] * rows.num_rows, pa.string()))
    return table.select(REJECTED_SCHEMA.names).cast(REJECTED_SCHEMA)


def _metadata(screen: Screen) -> pa.Table:
    """The screen's columns as the store keeps them: paths absolute, so that they can be opened from anywhere."""
    table = screen.table
    paths = pa.array([remote.absolute(screen.root / path) for path in table.column("path").to_pylist()])
    return table.set_column(table.column_names.index("path"), "path", paths)


def _plan(screen: Screen, sources: Sequence[Source], store: Store, encoders: Sequence[str]) -> _Plan:
    """Compare the screen with what the store knows of each encoder."""
    metadata = _metadata(screen)
    known = [_known(store, name, metadata) for name in encoders]
    keys = list(zip(*(metadata.column(name).to_pylist() for name in IMAGE_KEY), strict=True))
    values = list(zip(*(metadata.column(name).to_pylist() for name in metadata.column_names), strict=True))
    encode, held, update, unchanged = [], list[int](), [], 0
    for row, key in enumerate(keys):
        found = [table.get(key) for table in known]
        if not all(_same_content(sources[row], one) for one in found):
            encode.append(row)
            if any(one is not None for one in found):
                held.append(row)
        elif any(one is not None and str(one.values) != str(values[row]) for one in found):  # as text: NaN is NaN
            update.append(row)
        else:
            unchanged += 1
    return _Plan(np.array(encode, dtype=int), frozenset(held), np.array(update, dtype=int), unchanged)


class _Known(NamedTuple):
    """What the store has of an image: its files' facts, and its metadata in the order of the screen's columns."""

    content_hash: str
    file_bytes: int
    file_mtime_ns: int
    values: tuple[Any, ...]


def _known(store: Store, encoder: str, metadata: pa.Table) -> dict[Key, _Known]:
    table = store.known_images(encoder, metadata)
    if not table.num_rows:
        return {}

    def column(name: str) -> list[Any]:
        return table.column(name).to_pylist() if name in table.column_names else [None] * table.num_rows

    keys = zip(*(column(name) for name in IMAGE_KEY), strict=True)
    facts = [column(name) for name in _Known._fields[:3]]
    values = zip(*(column(name) for name in metadata.column_names), strict=True)
    return {key: _Known(*known) for key, *known in zip(keys, *facts, values, strict=True)}


def _same_content(source: Source, known: _Known | None) -> bool:
    """Size and time of the files first; where they differ, the bytes decide."""
    if known is None:
        return False
    try:
        n_bytes, mtime_ns = size_and_time(source)
        if n_bytes != known.file_bytes:
            return False
        return mtime_ns == known.file_mtime_ns or content_hash(source) == known.content_hash
    except (OSError, ImageError):
        return False  # reading it again says why
