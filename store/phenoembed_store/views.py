"""The views that SQL sees: images, groups, annotations, predictions, rejected."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import pyarrow as pa

from phenoembed_store.annotations import ANNOTATIONS_SCHEMA
from phenoembed_store.groups import vectors_column
from phenoembed_store.schema import GROUPS_SCHEMA, PREDICTIONS_SCHEMA, REJECTED_SCHEMA

if TYPE_CHECKING:
    from phenoembed_store.store import Store


def sql_views(store: "Store", query: str) -> dict[str, pa.Table]:
    """The views by name, as Arrow tables that share their memory with the store.

    Those that the query does not name are left empty: working out the groups of a large store takes seconds.
    """
    asked = query.lower()
    everything = "query" in asked  # query('...') and query_table(...) may put a name together
    return {
        name: fill(store) if everything or name in asked else empty(store) for name, (fill, empty) in _VIEWS.items()
    }


def _images(store: "Store") -> pa.Table:
    tables = [_with_embeddings(store, name) for name in store._reader.dims()]
    return pa.concat_tables(tables, promote_options="permissive") if tables else _no_images(store)


def _no_images(store: "Store") -> pa.Table:
    places = [("group_id", pa.string()), ("set", pa.int32()), ("configuration", pa.int32())]
    known = store._images.at().schema
    return pa.schema([*known, *(pa.field(*place) for place in places)]).empty_table()


def _groups(store: "Store") -> pa.Table:
    tables = [store.groups(name) for name in store._reader.dims()]
    return pa.concat_tables(tables) if tables else GROUPS_SCHEMA.empty_table()


def _annotations(store: "Store") -> pa.Table:
    return store._annotations.at().read()


def _with_embeddings(store: "Store", encoder: str) -> pa.Table:
    images = store._images_of(encoder)
    return images.table.append_column("embedding", vectors_column(images.vectors))


_VIEWS: dict[str, tuple[Callable[["Store"], pa.Table], Callable[["Store"], pa.Table]]] = {
    "images": (_images, _no_images),
    "groups": (_groups, lambda _: GROUPS_SCHEMA.empty_table()),
    "annotations": (_annotations, lambda _: ANNOTATIONS_SCHEMA.empty_table()),
    "predictions": (lambda store: store.predictions(), lambda _: PREDICTIONS_SCHEMA.empty_table()),
    "rejected": (lambda store: store.rejected(), lambda _: REJECTED_SCHEMA.empty_table()),
}
