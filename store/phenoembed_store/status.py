"""What a store holds: counts, encoders, indexes, bytes."""

import os
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import pyarrow.compute as pc

from phenoembed_store import indexes
from phenoembed_store.contents import Contents
from phenoembed_store.encoders import EncoderInfo
from phenoembed_store.schema import IMAGE_KEY
from phenoembed_store.tables import Scan


@dataclass(frozen=True)
class Counts:
    """Images are counted once, however many encoders have embedded them; compounds where wells are treated with them.

    ``controls``: images of controls.
    """

    images: int
    compounds: int
    controls: int
    by_encoder: dict[str, int]


def count_images(scan: Scan) -> Counts:
    """Counts of the images table, without its embeddings."""
    rows = scan.read([*IMAGE_KEY, "compound", "role", "encoder"])
    by_encoder = rows.group_by("encoder").aggregate([([], "count_all")]).to_pylist()
    images = rows if len(by_encoder) < 2 else rows.group_by([*IMAGE_KEY, "role"]).aggregate([])
    treated = rows.filter(pc.field("role") == "treated")
    return Counts(
        images=len(images),
        compounds=len(treated.column("compound").unique()),
        controls=len(images.filter(pc.field("role") == "control")),
        by_encoder={row["encoder"]: row["count_all"] for row in by_encoder},
    )


def status(contents: Contents) -> dict[str, Any]:
    """The document that `phenoembed status --json` prints."""
    counts = count_images(contents.images.at())
    encoders = contents.reader.encoders()
    return {
        "store": contents.address,
        "version": contents.images.version(),
        "encoders": [_encoder(encoder, counts) for encoder in encoders],
        "images": counts.images,
        "groups": len(
            {key for name in counts.by_encoder for key in contents.groups_of(name).column("group_id").to_pylist()}
        ),
        "compounds": counts.compounds,
        "controls": counts.controls,
        "rejected": len(contents.rejected.at().read()),
        "bytes": stored_bytes(contents),
        "indexes": [_index(contents, name, count) for name, count in counts.by_encoder.items()],
    }


def _encoder(encoder: EncoderInfo, counts: Counts) -> dict[str, Any]:
    return {
        "id": encoder.id,
        "method": encoder.method,
        "split": encoder.split,
        "fold": encoder.fold,
        "dim": encoder.dim,
        "trained_at": encoder.trained_at,
        "untrained": encoder.untrained,
        "images": counts.by_encoder.get(encoder.id, 0),
    }


def _index(contents: Contents, encoder: str, vectors: int) -> dict[str, Any]:
    """How an encoder's images are searched: with an index on disk, or ``flat``, each compared."""
    files = set(contents.images.at().files)
    for path, manifest in reversed(indexes.manifests(contents.path / "indexes", encoder)):
        if manifest is not None:
            return {
                "name": path.name,
                "kind": manifest.kind,
                "vectors": manifest.vectors,
                "fresh": set(manifest.files) == files,
                "recall_at_10": manifest.recall_at_10,
            }
    flat = vectors < indexes.FLAT_LIMIT
    return {"name": encoder, "kind": "flat", "vectors": vectors, "fresh": flat, "recall_at_10": 1.0 if flat else None}


def stored_bytes(contents: Contents) -> int:
    """Bytes of every file of the store, where it lies."""
    if contents.mirror is not None:
        return contents.mirror.n_bytes()
    found = 0
    for folder, _, names in os.walk(contents.path):
        for name in names:
            with suppress(FileNotFoundError):  # removed meanwhile, as `compact` and every write do
                found += os.stat(f"{folder}/{name}").st_size
    return found
