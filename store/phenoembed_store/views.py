"""The views that SQL sees: images, groups, annotations, predictions, rejected."""

from collections.abc import Callable

import pyarrow as pa

from phenoembed_store.annotations import ANNOTATIONS_SCHEMA
from phenoembed_store.contents import Contents
from phenoembed_store.groups import vectors_column
from phenoembed_store.schema import GROUPS_SCHEMA, PREDICTIONS_SCHEMA, REJECTED_SCHEMA


def sql_views(contents: Contents, query: str) -> dict[str, pa.Table]:
    """The views by name, as Arrow tables that share their memory with the store.

    Those that the query does not name are left empty: working out the groups of a large store takes seconds.
    """
    asked = query.lower()
    everything = "query" in asked  # query('...') and query_table(...) may put a name together
    return {
        name: fill(contents) if everything or name in asked else empty(contents)
        for name, (fill, empty) in _VIEWS.items()
    }


def _images(contents: Contents) -> pa.Table:
    tables = [_with_embeddings(contents, name) for name in contents.reader.dims()]
    return pa.concat_tables(tables, promote_options="permissive") if tables else _no_images(contents)


def _no_images(contents: Contents) -> pa.Table:
    places = [("group_id", pa.string()), ("set", pa.int32()), ("configuration", pa.int32())]
    known = contents.images.at().schema
    return pa.schema([*known, *(pa.field(*place) for place in places)]).empty_table()


def _groups(contents: Contents) -> pa.Table:
    tables = [contents.groups_of(name) for name in contents.reader.dims()]
    return pa.concat_tables(tables) if tables else GROUPS_SCHEMA.empty_table()


def _annotations(contents: Contents) -> pa.Table:
    return contents.annotations.at().read()


def _with_embeddings(contents: Contents, encoder: str) -> pa.Table:
    images = contents.reader.images_of(encoder)
    return images.table.append_column("embedding", vectors_column(images.vectors))


_VIEWS: dict[str, tuple[Callable[[Contents], pa.Table], Callable[[Contents], pa.Table]]] = {
    "images": (_images, _no_images),
    "groups": (_groups, lambda _: GROUPS_SCHEMA.empty_table()),
    "annotations": (_annotations, lambda _: ANNOTATIONS_SCHEMA.empty_table()),
    "predictions": (lambda contents: contents.predictions.at().read(), lambda _: PREDICTIONS_SCHEMA.empty_table()),
    "rejected": (lambda contents: contents.rejected.at().read(), lambda _: REJECTED_SCHEMA.empty_table()),
}
