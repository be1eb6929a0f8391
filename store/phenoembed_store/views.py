"""The views that SQL sees: images, groups, annotations, predictions, rejected."""

from typing import TYPE_CHECKING

import pyarrow as pa

from phenoembed_store.groups import vectors_column
from phenoembed_store.schema import GROUPS_SCHEMA, IMAGES_SCHEMA

if TYPE_CHECKING:
    from phenoembed_store.store import Store

VIEWS = ("images", "groups", "annotations", "predictions", "rejected")


def sql_views(store: "Store") -> dict[str, pa.Table]:
    """Every view by name, as Arrow tables that share their memory with the store; empty ones have their columns."""
    names = store._encoders_with_images()
    images = [_with_embeddings(store, name) for name in names]
    groups = [store.groups(name) for name in names]
    empty = IMAGES_SCHEMA
    for field in (("group_id", pa.string()), ("set", pa.int32()), ("configuration", pa.int32())):
        empty = empty.append(pa.field(*field))
    return {
        "images": pa.concat_tables(images, promote_options="permissive") if images else empty.empty_table(),
        "groups": pa.concat_tables(groups) if groups else GROUPS_SCHEMA.empty_table(),
        "annotations": store._annotations.at().read(),
        "predictions": store.predictions(),
        "rejected": store.rejected(),
    }


def _with_embeddings(store: "Store", encoder: str) -> pa.Table:
    images = store._images_of(encoder)
    return images.table.append_column("embedding", vectors_column(images.vectors))
