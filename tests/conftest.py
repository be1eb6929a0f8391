"""What several tests share: a tiny simulated screen, and a store with an encoder trained on it and its images."""

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from phenoembed.screen import Screen
    from phenoembed.settings import Settings
    from phenoembed.training import Trained

    from phenoembed_store import Store

settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")  # how fast a machine is says nothing about the code
os.environ.setdefault("OMP_NUM_THREADS", "1")  # sums are the same in every process only with as many threads


@dataclass(frozen=True)
class Trial:
    """An encoder trained on ``screen``, which nothing disturbed, and the store that holds it and every image."""

    screen: "Screen"
    settings: "Settings"
    trained: "Trained"
    path: Path

    def copy(self, folder: Path) -> "Store":
        """The store once more, to be written to. Its files are linked: nothing in a store is changed in place."""
        import phenoembed_store

        shutil.copytree(self.path, folder, copy_function=os.link)
        return phenoembed_store.open(folder)


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    """A server of S3's kind, to which the environment leads from then on: its clients are kept by their library."""
    from tests.buckets import s3_server

    with s3_server() as address:
        yield address


@pytest.fixture(scope="session")
def plates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A simulated screen of 108 images of 32 x 32: 4 compounds, 2 concentrations, DMSO, 3 replicates, 3 fields."""
    from phenoembed.simulate import simulate_screen

    folder = tmp_path_factory.mktemp("simulated") / "plates"
    simulate_screen(
        folder, compounds=4, replicates=3, fields=3, size=32, concentrations_um=(5, 50), times_h=(24,), dmso_wells=4
    )
    return folder


@pytest.fixture
def own_plates(plates: Path, tmp_path: Path) -> Path:
    """The same plates, for tests that damage them."""
    folder = tmp_path / "plates"
    shutil.copytree(plates, folder)
    return folder


@pytest.fixture(scope="session")
def screen(plates: Path) -> "Screen":
    """The tiny screen, read; two mechanisms of two compounds each."""
    from phenoembed.readers import read_screen

    return with_moa(read_screen(plates))


def with_moa(screen: "Screen") -> "Screen":
    """Mechanisms "even" and "odd" by the compound's place in the alphabet, so that none is rare."""
    table = screen.table
    compounds = table.column("compound").to_pylist()
    names = sorted({name for name in compounds if name != "DMSO"})
    moa = [None if name == "DMSO" else ("even", "odd")[names.index(name) % 2] for name in compounds]
    return replace(screen, table=with_column(table, "moa", pa.array(moa, pa.string())))


def with_column(table: pa.Table, name: str, values: pa.Array) -> pa.Table:
    """The table with this column in place of the one of that name."""
    if name not in table.column_names:
        return table.append_column(name, values)
    return table.set_column(table.column_names.index(name), name, values)


@pytest.fixture(scope="session")
def trial(screen: "Screen", tmp_path_factory: pytest.TempPathFactory) -> Trial:
    """A training that nothing disturbed, and its images indexed."""
    from phenoembed.indexing import index_screen
    from phenoembed.settings import Settings
    from phenoembed.training import train

    import phenoembed_store

    settings = Settings(epochs=3, batch_groups=8, learning_rate=1e-3)
    path = tmp_path_factory.mktemp("trial") / "store"
    trained = train(screen, path, settings)
    index_screen(screen, phenoembed_store.open(path))
    return Trial(screen, settings, trained, path)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)
