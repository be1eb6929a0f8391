"""Clustered vectors with the metadata of a screen: what every benchmark searches."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa

import phenoembed_store
from phenoembed_store import Store
from phenoembed_store.groups import vectors_column
from phenoembed_store.schema import FILE_SCHEMA

DIM = 512
BATCH = 34_560  # ten plates of 384 wells x 9 fields
ENCODER = "bench"


def batches(n: int, seed: int = 0, first: int = 0, screen: str = "bench") -> Iterator[pa.Table]:
    """``n`` images; two hundred lie around each centre. ``u`` is uniform in 0..1: ``u < 0.02`` passes 2%."""
    draw = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(size=(max(n // 200, 1), DIM)).astype(np.float32)
    for start in range(first, first + n, BATCH):
        numbers = np.arange(start, min(start + BATCH, first + n))
        yield _table(numbers, centres, draw, screen)


def _table(numbers: np.ndarray, centres: np.ndarray, draw: np.random.Generator, screen: str) -> pa.Table:
    m = len(numbers)
    noise = draw.normal(size=(m, DIM)).astype(np.float32)
    vectors = centres[draw.integers(0, len(centres), m)] + np.float32(0.8) * noise
    plates = [f"P{i // 3456:05d}" for i in numbers]
    wells = [f"{chr(65 + i // 9 % 384 // 24)}{i // 9 % 384 % 24 + 1:02d}" for i in numbers]
    columns = {
        "path": [f"{i}.tif" for i in numbers],
        "screen": [screen] * m,
        "plate": plates,
        "well": wells,
        "field": pa.array(numbers % 9 + 1, pa.int32()),
        "time_h": np.full(m, 24.0),
        "channel": ["phase"] * m,
        "z": np.zeros(m, np.int32),
        "replicate": plates,
        "compound": [f"c{i // 9 % 1280:04d}" for i in numbers],
        "concentration_um": draw.choice([1.0, 3.0, 10.0], m),
        "role": ["treated"] * m,
        **{f.name: pa.nulls(m, f.type) for f in FILE_SCHEMA},
        "content_hash": [f"h{i}" for i in numbers],
        "encoder": [ENCODER] * m,
        "embedding": vectors_column(vectors),
        "u": draw.random(m),
    }
    return pa.table(columns)


def fill(folder: Path, n: int) -> Store:
    """A store of ``n`` images, written in batches."""
    store = phenoembed_store.open(folder, create=True)
    for batch in batches(n):
        store.write_images(batch)
    return store


def queries(vectors: np.ndarray, count: int, seed: int = 5) -> np.ndarray:
    """Vectors near stored ones, (count, dim), of length one."""
    draw = np.random.default_rng(seed)
    near = np.array(vectors[draw.integers(0, len(vectors), count)])
    near += np.float32(0.3) * draw.normal(size=near.shape).astype(np.float32)
    return near / np.linalg.norm(near, axis=1, keepdims=True)


def milliseconds(seconds: list[float]) -> float:
    """Median, in milliseconds."""
    return float(np.median(seconds) * 1e3)
