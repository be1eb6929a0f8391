"""Small stores for the dashboard: synthetic embeddings, real TIFF files, a head and its predictions; no training."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import tifffile
from tests.store.fakes import fake_rows

import phenoembed_store
from phenoembed_store import Head, Store
from phenoembed_store.heads import ATTENTION, CONTROL
from phenoembed_store.schema import PREDICTIONS_SCHEMA, REJECTED_SCHEMA

HOSTILE = (
    "<script>document.title='owned'</script><img src=x onerror=alert(1)>",
    "say \"hello\" & 'goodbye'; DROP TABLE images; --",
    "compound " + 29 * "with a very long name " + "end",
    "🔬 cell ✨ stain 🧫",
    "مركب دوائي",
    "[link](https://example.com) :red[*md*] $x^2$ `code`",
    "=cmd|' /C calc'!A0/%2F\\",
)
"""Names that a page may not stumble over, nor believe."""


def make_store(
    folder: Path,
    compounds: Sequence[str] = ("nocodazole", "taxol", "cytochalasin D", "staurosporine", "aspirin"),
    *,
    moa: bool = True,
    replicates: int = 2,
    probed: bool = True,
) -> Store:
    """A store of these compounds and DMSO: 3 doses, 2 times, 2 fields, an image file of 48 x 48 pixels each."""
    rows = fake_rows(["DMSO", *compounds], times=(24.0, 72.0), replicates=replicates)
    draw, paths = np.random.default_rng(0), []
    (folder / "plates").mkdir(parents=True)
    for i, row in enumerate(rows.select(["compound", "concentration_um"]).to_pylist()):
        paths.append(str(folder / "plates" / f"{i}.tif"))
        level = 9000 + 900 * row["concentration_um"]
        pixels = level + 4000 * np.kron(draw.random((6, 6)), np.ones((8, 8)))
        tifffile.imwrite(paths[-1], pixels.astype(np.uint16))
    for name, values in (
        ("path", paths),
        ("intensity_p01", [9000.0] * len(rows)),
        ("intensity_p99", [31000.0] * len(rows)),
    ):
        at = rows.schema.get_field_index(name)
        rows = rows.set_column(at, name, pa.array(values, rows.schema.field(name).type))
    store = phenoembed_store.open(folder / "store", create=True)
    store.write_images(rows if moa else rows.drop_columns(["moa"]))
    trained = {"id": "enc0", "method": "product", "split": "replicate", "fold": 0, "dim": 8, "trained_at": "2026-01-01"}
    (store.path / "encoders" / "enc0").mkdir()
    (store.path / "encoders" / "enc0" / "config.json").write_text(json.dumps(trained))
    if probed:
        save_head(store, compounds)
        save_predictions(store)
    return store


def save_head(store: Store, classes: Sequence[str], **config: object) -> str:
    """A head of random weights for the store's encoder."""
    draw = np.random.default_rng(1)
    shapes = ((16, 8), (16,), (len(classes), 16), (len(classes),))
    weights = [draw.normal(size=shape).astype(np.float32) / 3 for shape in shapes]
    extra = {}
    if config.get("method") == "attention":
        shapes = ((4, 8), (4,), (4, 8), (4,), (4,))
        extra = {
            name: draw.normal(size=shape).astype(np.float32) for name, shape in zip(ATTENTION, shapes, strict=True)
        }
    elif "configurations" in config:
        extra = {
            name: draw.normal(size=shape).astype(np.float32) for name, shape in zip(CONTROL, ((16,), (1,)), strict=True)
        }
    return store.save_head(
        Head("compound", tuple(classes), *weights, config={"encoder": "enc0", **config}, extra=extra)
    )


def save_predictions(store: Store) -> None:
    """Every second group of the first replicate is called right, the others are called the next class."""
    groups = [g for g in store.groups("enc0").to_pylist() if g["role"] == "treated"]
    names = sorted({group["compound"] for group in groups})
    rows = []
    for i, group in enumerate(groups):
        right = names.index(group["compound"])
        order = [names[(right + i % 2 + shift) % len(names)] for shift in range(min(5, len(names)))]
        rows.append(
            {
                "task": "compound",
                "split": "replicate",
                "fold": 0,
                "test": "new replicate" if group["replicate"] == "P1" else "known wells",
                "features": "encoder",
                "encoder": "enc0",
                "head": None,
                "group_id": group["group_id"],
                "compound": group["compound"],
                "replicate": group["replicate"],
                "label": group["compound"],
                "predicted": order[0],
                "p_label": 0.6 if i % 2 == 0 else 0.1,
                "p_predicted": 0.6,
                "rank_label": 1 if i % 2 == 0 else len(names),
                "top_classes": order,
                "top_probabilities": [0.6, 0.2, 0.1, 0.05, 0.05][: len(order)],
            }
        )
    store.write_predictions(pa.Table.from_pylist(rows, PREDICTIONS_SCHEMA))


def reject_one(store: Store) -> None:
    """Put an image into the table of the rejected."""
    row = dict.fromkeys(REJECTED_SCHEMA.names) | {
        "path": "/plates/bad.tif", "screen": "fake", "plate": "P1", "well": "P24", "field": 1, "time_h": 24.0,
        "channel": "phase", "z": 0, "reason": "truncated: 10 bytes of pixels are announced", "encoder": "enc0",
    }  # fmt: skip
    store.write_images(None, pa.Table.from_pylist([row], REJECTED_SCHEMA))


@pytest.fixture(scope="session")
def shared_store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """For tests that only read (a thumbnail that is made on demand is no change)."""
    return make_store(tmp_path_factory.mktemp("dashboard"))


@pytest.fixture
def store_maker(tmp_path: Path) -> Callable[..., Store]:
    """Makes a store of one's own."""
    return lambda **arguments: make_store(tmp_path / "made", **arguments)
