"""A store whose encoders were trained alike but for method, split and fold; its embeddings are drawn, not encoded."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from phenoembed.calibration import fit_temperature
from phenoembed.encoders import save_encoder
from phenoembed.folds import Fold, Split, keep_back, make_fold
from phenoembed.groups import Groups, group_images
from phenoembed.heads import FitSettings, fit_head
from phenoembed.model import Encoder
from phenoembed.settings import Settings
from tests.phenoembed.networks import network_scores
from tests.phenoembed.screens import layout, table_of

import phenoembed_store
from phenoembed_store import Store
from phenoembed_store.schema import INTENSITY_STATISTICS

DIM = 512
DOSES, TIMES = (0.5, 5.0, 50.0), (24.0, 72.0)
STRENGTH = {0.0: 0.0, 0.5: 0.05, 5.0: 0.2, 50.0: 0.5}  # of a compound's own direction, by dose
COMPOUNDS = [f"c{i}" for i in range(8)]
TRAINED: tuple[tuple[str, Split, int], ...] = (
    ("product", "replicate", 0),
    ("product", "replicate", 1),
    ("product", "field", 0),
    ("balanced", "replicate", 0),
    ("attention", "replicate", 0),
)


@dataclass(frozen=True)
class Drawn:
    """The store, the images of its screen in the order of ``features``, and which encoder is which."""

    store: Store
    table: pa.Table
    groups: Groups
    features: np.ndarray
    encoders: dict[tuple[str, Split, int], str]
    folds: dict[tuple[str, Split, int], Fold]


def screen_table(screen: str = "simulated-s", seed: int = 0) -> tuple[pa.Table, np.ndarray]:
    """Images of 8 compounds over dose and time, and features that show a compound the better the higher the dose."""
    rows = layout(compounds=8, doses=DOSES, times=TIMES, fields=3, controls=9, moa=3)
    table = table_of([row | {"screen": screen} for row in rows])
    rng = np.random.default_rng(seed)
    centre = {name: rng.normal(size=DIM) for name in [*COMPOUNDS, "DMSO"]}
    signal = [
        STRENGTH[dose] * centre[name]
        for name, dose in zip(*(table.column(c).to_pylist() for c in ("compound", "concentration_um")), strict=True)
    ]
    return table, (rng.normal(size=(table.num_rows, DIM)) + np.array(signal)).astype(np.float32)


def write(store: Store, encoder: str, table: pa.Table, features: np.ndarray) -> None:
    """Put images into the store as indexing would."""
    rng = np.random.default_rng(1)
    for name in INTENSITY_STATISTICS:
        table = table.append_column(name, pa.array(rng.random(table.num_rows), pa.float32()))
    for name, kind in (("content_hash", pa.string()), ("file_bytes", pa.int64()), ("file_mtime_ns", pa.int64())):
        table = table.append_column(name, pa.nulls(table.num_rows, kind))
    table = table.append_column("encoder", pa.array([encoder] * table.num_rows))
    store.write_images(table.append_column("embedding", pa.array(list(features), pa.list_(pa.float32()))))


def annotations() -> pa.Table:
    """Every second compound kills; the targets of c0, c1, ... are genes along a chain."""
    return pa.table(
        {
            "compound": COMPOUNDS,
            "cytotoxic": ["true", "false"] * 4,
            "viability_lfc": [-2.0, 0.1, -1.5, -0.1, -3.0, 0.0, -1.0, None],
            "targets": ["G0", "G1", "G2|G7", "G3", "G4", "G9", "", None],
        }
    )


@pytest.fixture(scope="package")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Drawn:
    store = phenoembed_store.open(tmp_path_factory.mktemp("drawn") / "store", create=True)
    table, features = screen_table()
    groups = group_images(table)
    encoders, folds = {}, {}
    for key in TRAINED:
        folds[key] = keep_back(make_fold(groups.table, *key[1:]), groups.table)
        encoders[key] = train_on_drawn(store, groups, features, folds[key], Settings(*key, epochs=1))
        write(store, encoders[key], table, features)
    store.annotate(annotations())
    return Drawn(store, table, groups, features, encoders, folds)


def train_on_drawn(
    store: Store,
    groups: Groups,
    features: np.ndarray,
    fold: Fold,
    settings: Settings,
    compounds: Sequence[str] = COMPOUNDS,
) -> str:
    """An encoder that was never trained, with a classifier fitted to the features that stand for its embeddings."""
    treated = np.flatnonzero((groups.roles == "treated") & np.isin(groups.compounds.astype(str), compounds))
    train, back = (np.intersect1d(groups.places(ids), treated) for ids in (fold.train, fold.calibration))
    number = {name: i for i, name in enumerate(compounds)}
    labels, others = (np.array([number[name] for name in groups.compounds[part]], int) for part in (train, back))
    head = fit_head(features, groups, train, labels, len(compounds), settings.method, FitSettings(epochs=8))
    torch.manual_seed(len(store.encoders()))
    config: dict[str, Any] = {
        **asdict(settings),
        "untrained": False,
        "family": f"{settings.method}",
        "screens": ["simulated-s"],
        "classes": list(compounds),
        "pixel_mean": 0.5,
        "pixel_sd": 0.1,
        "trained_at": f"2026-01-01T00:00:0{len(store.encoders())}",
        "temperature": fit_temperature(network_scores(head, features, groups, back), others),
    }
    return save_encoder(store.path, Encoder(), head, config, fold)


@pytest.fixture
def writable(drawn: Drawn, tmp_path: Path) -> Store:
    """The same store, for tests that write to it."""
    import os
    import shutil

    shutil.copytree(drawn.store.path, tmp_path / "store", copy_function=os.link)
    return phenoembed_store.open(tmp_path / "store")
