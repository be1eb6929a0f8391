"""The store as everyone uses it: one folder, one object. Each method hands over to the file of its subject."""

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from phenoembed_store import (
    annotations,
    encoders,
    export,
    groups,
    heads,
    importing,
    indexes,
    maintenance,
    posterior,
    predictions,
    status,
    transforms,
    writing,
)
from phenoembed_store.aggregate import Floats, Integers
from phenoembed_store.contents import open_contents
from phenoembed_store.encoders import EncoderInfo
from phenoembed_store.errors import NotInStore, StoreError
from phenoembed_store.heads import Head, HeadInfo
from phenoembed_store.images import GROUP_COLUMNS, UNSHOWN, Images
from phenoembed_store.levels import check_level
from phenoembed_store.maintenance import Fault
from phenoembed_store.mirror import Mirror
from phenoembed_store.plate_quality import plate_summaries
from phenoembed_store.queries import find_query
from phenoembed_store.schema import IMAGE_KEY
from phenoembed_store.search import Asked, search
from phenoembed_store.sql import locked, select
from phenoembed_store.turns import in_turn
from phenoembed_store.views import sql_views
from phenoembed_store.writing import KEY, Written

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection, DuckDBPyRelation

log = logging.getLogger("phenoembed")

LATE_SHARE = 0.02
"""Of the images: more than so many that are in no index are put into one. Of a million, that is fifty plates."""

Done = TypeVar("Done")


class Store:
    """An embedding database in one folder. Readers never wait; writers take turns.

    ``path``: the folder; of a store in object storage the one that stands for it here (see ``mirror``). ``address``:
    where the store lies, as ``--store`` names it.
    """

    def __init__(self, path: Path, version: int | None = None, mirror: Mirror | None = None) -> None:
        self.path = path
        self._contents = open_contents(path, version, mirror)
        self._reader = self._contents.reader
        self.address = self._contents.address

    def __repr__(self) -> str:
        counts = status.count_images(self._contents.images.at())
        n_images, n_compounds, n_encoders = counts.images, counts.compounds, len(self.encoders())
        return (
            f"Store({n_images:,} image{'' if n_images == 1 else 's'}, "
            f"{n_compounds:,} compound{'' if n_compounds == 1 else 's'}, "
            f"{n_encoders} encoder{'' if n_encoders == 1 else 's'})"
        )

    @property
    def version(self) -> int:
        """The version of the images table; -1 before anything was written."""
        return self._contents.images.version()

    def at(self, version: int) -> "Store":
        """The store as its images were at an earlier version, to be read only. Raises NotInStore.

        Versions can be asked for until `compact` has removed their files. Annotations are today's.
        """
        then = Store(self.path, version, self._contents.mirror)
        try:
            missing = [file for file in then._contents.images.at().files if not Path(file).is_file()]
        except Exception as error:  # whatever the library raises for a version that its log does not have
            raise NotInStore(f"no version {version} in the store; the newest is {self.version}") from error
        if missing:
            raise NotInStore(f"version {version} is gone: `compact` has removed its files")
        return then

    # Writing

    def write_images(self, accepted: pa.Table | None = None, rejected: pa.Table | None = None) -> Written:
        """Append new images and update changed ones; keep what was rejected, and why.

        accepted: IMAGES_SCHEMA's columns (one encoder), annotations behind them; rejected: REJECTED_SCHEMA's.
        Writing the same rows again changes nothing. A key accepted leaves ``rejected``, a key rejected leaves
        ``images``. Raises StoreError for rows that do not fit the table.
        """
        done, tables = Written(), (self._contents.images, self._contents.rejected)
        if accepted is not None and len(accepted):
            done += self._write(lambda: writing.write_accepted(*tables, accepted))
        if rejected is not None and len(rejected):
            done += self._write(lambda: writing.write_rejected(*tables, rejected))
        return done

    def import_profiles(
        self,
        source: pa.Table | str | Path,
        *,
        embedding: Sequence[str] | str | None = None,
        metadata: Mapping[str, str] | None = None,
        joined: Sequence[str | Path] = (),
        name: str | None = None,
        screen: str | None = None,
        transform: str | None = None,
    ) -> dict[str, Any]:
        """Bring in anyone's profiles as embeddings, a row a well or field; what was matched to what.

        source: a table, or a CSV, CSV.gz, TSV, Parquet or AnnData file. embedding: its feature columns, or its one
        column of lists; recognised by default. metadata: ours -> theirs, for columns that are not recognised.
        joined: further files that know the compounds of the wells, or more of the compounds. name: what these
        embeddings are called here (their encoder). transform: none | robust | percentile. Raises StoreError.
        """
        return importing.import_profiles(
            self,
            self._contents,
            Path(source) if isinstance(source, str) else source,
            embedding=embedding,
            metadata=metadata,
            joined=[Path(one) for one in joined],
            name=name,
            screen=screen,
            transform=transform,
        )

    def update_metadata(self, rows: pa.Table, encoder: str) -> int:
        """Rewrite the metadata of images whose file did not change; their embeddings stay. How many had changed.

        rows: SCREEN_SCHEMA's columns, annotations behind them; images that are not in the store are passed over.
        """
        return self._write(lambda: writing.update_metadata(self._contents.images, rows, encoder)) if len(rows) else 0

    def delete_images(self, where: str, *, dry_run: bool = False) -> int:
        """Delete the images (of every encoder, at once) for which the expression is true. How many there were.

        dry_run: only count them. Earlier versions (``at``) have them until ``compact`` removes their files.
        """
        keys = self._keys(where) if dry_run else self._write(lambda: self._delete(where))
        return len(keys.group_by(list(IMAGE_KEY)).aggregate([]))

    def _delete(self, where: str) -> pa.Table:
        version = self.version
        keys = self._keys(where)
        if len(keys):
            self._contents.images.remove(keys, KEY, version)
        return keys

    def _keys(self, where: str) -> pa.Table:
        """The keys of the images that pass, of every encoder."""
        found = [self._contents.images.schema.empty_table().select(list(KEY))]
        for encoder in self._reader.dims():
            images = self._images_of(encoder)
            rows = images.matching(where)
            found.append(images.rows.select(list(KEY)).take(pa.array([] if rows is None else rows, pa.int64())))
        return pa.concat_tables(found)

    def plates(self, encoder: str | None = None) -> list[dict[str, Any]]:
        """How each plate did: images, flagged images, edge effect, replicate correlation (see ``quality``)."""
        return plate_summaries(self._images_of(encoder))

    def annotate(
        self, source: pa.Table | str | Path, on: str = "compound", mapping: Mapping[str, str] | None = None
    ) -> dict[str, Any]:
        """Join a table of annotations to the images: its rows replace those of the same key.

        on: compound | inchikey | plate,well | compound,concentration_um. mapping: our column -> theirs. Returns what
        was matched: ``matched`` and ``unmatched`` keys of the table, and how many of the store's have no annotation.
        """
        table = annotations.read_annotations(Path(source) if isinstance(source, str) else source, on, mapping)

        def merge() -> None:
            scan = self._contents.annotations.at()
            merged = annotations.merge_annotations(scan.read(), table, on)
            self._contents.annotations.replace(merged, scan.version)

        self._write(merge)
        return annotations.match_report(table, self._described(annotations.KEYS[on]), on)

    def write_predictions(self, rows: pa.Table) -> None:
        """Keep a probe's predictions (PREDICTIONS_SCHEMA), in the place of earlier ones of the same fold."""
        self._write(lambda: predictions.write(self._contents.predictions, rows))

    # What the store holds

    def known_images(self, encoder: str, near: pa.Table | None = None) -> pa.Table:
        """Everything that is stored of one encoder's images but their embeddings.

        near: images (``plate``) whose plates are wanted; what is stored of others may be left out, and is not read.
        """
        scan = self._contents.images.at()
        columns = [name for name in scan.schema.names if name != "embedding"]
        if near is None or not len(near):
            return scan.read(columns, '"encoder" = $p0', [encoder])
        return scan.read(columns, *writing.near(near, encoder))

    def rejected(self) -> pa.Table:
        """The images that could not be indexed, and why."""
        return self._contents.rejected.at().read()

    def predictions(self) -> pa.Table:
        """The predictions that probes wrote."""
        return self._contents.predictions.at().read()

    def encoders(self) -> list[EncoderInfo]:
        """The encoders of this store, oldest first."""
        return self._reader.encoders()

    def default_encoder(self) -> str:
        """The last trained encoder; where none was trained, the one whose embeddings were imported.

        Raises NotInStore where there is none.
        """
        return self._reader.default_encoder()

    def resolve_encoder(self, prefix: str | None) -> str:
        """The encoder whose id starts with ``prefix``; the default one for None. Raises NotInStore."""
        return self._reader.resolve_encoder(prefix)

    def compact(self, keep_days: float = 7) -> dict[str, int]:
        """Bring the tables' many small files together, and remove files that no version of these days needs.

        Returns the bytes before and after. Versions older than that can no longer be asked for.
        """
        return self._write(lambda: maintenance.compact(self._contents, keep_days))

    def verify(self) -> list[Fault]:
        """Check every invariant of the store, down to the bytes; what is wrong, each with what to do."""
        return maintenance.verify(self._contents)

    def status(self) -> dict[str, Any]:
        """What the store holds, as the document that ``phenoembed status --json`` prints."""
        return status.status(self._contents)

    # Asking

    def search(
        self,
        *,
        compound: str | None = None,
        concentration_um: float | None = None,
        well: str | None = None,
        group: str | None = None,
        vector: npt.ArrayLike | None = None,
        level: str = "compound",
        k: int = 10,
        where: str | None = None,
        not_same: Sequence[str] = (),
        include_self: bool = False,
        encoder: str | None = None,
        exact: bool = False,
    ) -> pa.Table:
        """The k nearest neighbours of a compound, a well, a group or a vector, best first.

        well: ``PLATE:WELL``, or ``SCREEN/PLATE:WELL`` where several screens have a plate of that name.
        concentration_um: of the compound's images only those at this concentration ask (micromolar).
        level: image | group | treatment | compound. where: SQL over an image's columns; above image level, query and
        candidates are aggregated again from the images that pass. not_same: columns that a neighbour must not share
        with the query; above image level, pairs of groups that share one are left out. The query's own images and
        compound are no hits, unless ``include_self``. Always min(k, matches) hits.
        Columns: rank, the level's keys, score (cosine), n_images, p_value, q_value, annotations, same_plate; the
        schema's metadata ``phenoembed`` says how it was found. Raises NotInStore, QueryError, StoreError.
        """
        check_level(level)
        columns = (not_same,) if isinstance(not_same, str) else tuple(not_same)
        asked = Asked(level, k, where, columns, include_self, exact)
        images = self._images_of(encoder)
        query = find_query(images, compound, well, group, vector, concentration_um)
        return search(
            images, query, asked, self._reader.level(images, level) if level != "image" and not where else None
        )

    def sql(self, query: str) -> "DuckDBPyRelation":
        """One SELECT over the views images, groups, annotations, predictions and rejected, as a DuckDB relation.

        It reads these views and nothing else. Raises QueryError.
        """
        return select(self.connect(query), query)

    def connect(self, query: str) -> "DuckDBPyConnection":
        """A locked-down connection that sees the views which a query names, and nothing else."""
        return locked(sql_views(self._contents, query))

    def vectors(
        self,
        where: str | None = None,
        *,
        encoder: str | None = None,
        columns: Sequence[str] | None = None,
        compared: bool = False,
    ) -> tuple[pa.Table, Floats]:
        """Rows (every column but the embedding, or ``columns``) and their embeddings (n, dim), sorted by image key.

        The embeddings are as the encoder made them; ``compared``: as a search compares them, under the transform that
        was chosen for the encoder.
        """
        images = self._images_of(encoder)
        table = images.table if columns is None else pa.table({name: images.column(name) for name in columns})
        vectors = images.scaled if compared else images.vectors
        rows = images.matching(where)
        if len(images.parts) > 1:  # each is sorted; together they are not
            order = images.sort_order()
            rows = order if rows is None else order[np.isin(order, rows)]
        return (table, vectors) if rows is None else (table.take(pa.array(rows)), vectors[rows])

    def export(self, out: str | Path, where: str | None = None, *, encoder: str | None = None) -> dict[str, Any]:
        """Write images and embeddings to .parquet, .csv, .csv.gz or .h5ad, or to a folder for TensorBoard's projector.

        CSV and AnnData carry the field's names (``Metadata_Plate``). Returns the format, and how many images.
        """
        name = self.resolve_encoder(encoder)
        rows, vectors = self.vectors(where, encoder=name)
        if not len(rows):
            raise NotInStore(f"nothing to export: no image passes where {where!r}")
        stored = [column for column in rows.column_names if column not in (*GROUP_COLUMNS, *UNSHOWN)]
        features = encoders.features_of(self.path / "encoders", name) or [
            f"embedding_{i}" for i in range(vectors.shape[1])
        ]
        form = export.export_embeddings(rows.select(stored), vectors, features, Path(out))
        return {"out": str(out), "format": form, "images": len(rows), "encoder": name}

    def groups(self, encoder: str | None = None) -> pa.Table:
        """One encoder's groups with their embeddings (GROUPS_SCHEMA), as the images are now, by group_id."""
        return self._contents.groups_of(encoder)

    def refresh(self, encoder: str | None = None) -> None:
        """Make everything that is derived from the images current, for one encoder: the groups table, the index.

        Images that came after the index was made, and are few, are compared one by one: making it anew for each plate
        would take the longer the larger the store is.
        """
        images = self._images_of(encoder)
        self._write(lambda: self._derive(images))
        if sum(len(part.rows) for part in images.parts[1:]) > LATE_SHARE * len(images):
            indexes.remove(self.path / "indexes", images.encoder)
            self._reader.forget(images.encoder)
            self._images_of(images.encoder)

    def choose_transform(self, kind: str | None, encoder: str, rows: pa.Table) -> None:
        """Before images like these rows (``plate``, ``role``) come: have them compared under this kind of transform.

        None: as the encoder's are already. Raises StoreError where its images are compared under another kind, or where
        a plate has no controls.
        """
        known = transforms.chosen(self.path / "transforms").get(encoder, "none")
        kind = known if kind is None else transforms.check_kind(kind)
        if kind != known and encoder in self._reader.dims():
            raise StoreError(
                f"the embeddings '{encoder}' are compared under '{known}' in this store, and two transforms cannot be "
                "mixed; bring them into another store, or profiles under another --name"
            )
        if kind != "none":
            there = [rows, self.known_images(encoder)]
            controlled = {plate for table in there for plate in transforms.controlled_plates(table)}
            transforms.check_controls(kind, rows.column("plate").to_pylist(), controlled)
        if kind != known:
            self._write(lambda: transforms.choose(self.path / "transforms", encoder, kind))

    def set_transform(self, kind: str, encoder: str | None = None) -> str | None:
        """Compare an encoder's embeddings under ``none``, ``robust`` or ``percentile`` from now on.

        It is fitted to the controls of each plate, and fitted anew as plates come. Returns its id, None for ``none``.
        Raises StoreError for a plate without controls.
        """
        name = self.resolve_encoder(encoder)
        images = self._reader.load(name, transforms.check_kind(kind))
        self._write(lambda: transforms.choose(self.path / "transforms", name, kind))
        if images.transform is not None:
            self._write(partial(transforms.save, self.path / "transforms", images.transform))
        return images.transform.id if images.transform else None

    # Heads

    def save_head(self, head: Head) -> str:
        """Keep a head; its id, a hash of its content."""
        return self._write(lambda: heads.save_head(self.path / "heads", head))

    def heads(self) -> list[HeadInfo]:
        """Every head of the store, oldest first."""
        return heads.list_heads(self.path / "heads")

    def head(self, task_or_id: str, encoder: str | None = None) -> Head:
        """The newest head of a task, or the one whose id starts so. Raises NotInStore."""
        return heads.load_head(self.path / "heads", task_or_id, self.resolve_encoder(encoder) if encoder else None)

    def posterior(self, head: Head | str, where: str | None = None, by: Sequence[str] | None = None) -> pa.Table:
        """Class probabilities of a group of images, from stored embeddings alone.

        All images that pass ``where`` are one group; with ``by``, those that agree in these columns are.
        Columns: ``by``, n_images, predicted, p_predicted, classes, probabilities (two lists in the head's order).
        Raises NotInStore where no image passes.
        """
        head = self.head(head) if isinstance(head, str) else head
        images = self._images_of(str(head.config["encoder"]) if "encoder" in head.config else None)
        passing = images.matching(where)
        rows: Integers = np.arange(len(images)) if passing is None else passing
        if not len(rows):
            raise NotInStore(f"no image passes where {where!r}")
        return posterior.posterior_table(head, images, rows, (by,) if isinstance(by, str) else tuple(by or ()))

    # Within

    def _images_of(self, encoder: str | None) -> Images:
        return self._reader.images_of(encoder)

    def _described(self, columns: Sequence[str]) -> pa.Table:
        """These columns of every image, as annotated; empty where the store does not have them."""
        tables = [self._images_of(name).table for name in self._reader.dims()]
        there = [table.select(list(columns)) for table in tables if set(columns) <= set(table.column_names)]
        return pa.concat_tables(there) if there else pa.table({name: pa.array([], pa.string()) for name in columns})

    def _derive(self, images: Images) -> None:
        if groups.stored_groups(self._contents.groups, images) is None:
            log.info("making the groups of encoder %s for version %d", images.encoder, images.version)
            groups.write_groups(self._contents.groups, images, self._contents.images)
        if images.transform is not None:
            transforms.save(self.path / "transforms", images.transform)

    def _write(self, change: Callable[[], Done]) -> Done:
        """Make a change in turn (see ``turns``). Raises StoreError for the store as it was."""
        pinned = self._contents.images.pinned
        if pinned is not None:
            raise StoreError(f"this is the store as it was at version {pinned}: it can only be read")
        return in_turn(self.path, self._contents.mirror, change)
