"""What lies in a store's folder: its tables, and the reader that keeps what was read of them."""

from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from phenoembed_store import groups
from phenoembed_store.annotations import ANNOTATIONS_SCHEMA
from phenoembed_store.mirror import Mirror
from phenoembed_store.reader import Reader
from phenoembed_store.schema import GROUPS_SCHEMA, IMAGES_SCHEMA, PREDICTIONS_SCHEMA, REJECTED_SCHEMA
from phenoembed_store.tables import Table


@dataclass(frozen=True)
class Contents:
    """A store's folder, laid open for the modules that look after it. ``groups`` is derived, the others are truth."""

    path: Path
    images: Table
    rejected: Table
    groups: Table
    annotations: Table
    predictions: Table
    reader: Reader
    mirror: Mirror | None = None

    @property
    def address(self) -> str:
        """Where the store lies, as ``--store`` names it."""
        return str(self.path) if self.mirror is None else self.mirror.url

    def tables(self) -> dict[str, Table]:
        """Every table by the name of its folder."""
        return {name: getattr(self, name) for name in ("images", "rejected", "groups", "annotations", "predictions")}

    def groups_of(self, encoder: str | None) -> pa.Table:
        """One encoder's groups (GROUPS_SCHEMA) as the images are now, by group_id."""
        images = self.reader.images_of(encoder)
        stored = groups.stored_groups(self.groups, images)
        return groups.group_rows(images) if stored is None else stored  # reading never writes it, `refresh` does


def open_contents(path: Path, version: int | None, mirror: Mirror | None = None) -> Contents:
    """The contents of a folder, or of the address it stands for; ``version``: with the images as they were then."""

    def table(name: str, schema: pa.Schema, version: int | None = None) -> Table:
        return Table(path / name, schema, version, None if mirror is None else f"{mirror.url}/{name}")

    images, annotations = table("images", IMAGES_SCHEMA, version), table("annotations", ANNOTATIONS_SCHEMA)
    return Contents(
        path,
        images,
        table("rejected", REJECTED_SCHEMA),
        Table(path / "groups", GROUPS_SCHEMA),
        annotations,
        table("predictions", PREDICTIONS_SCHEMA),
        Reader(path, images, annotations, mirror),
        mirror,
    )
