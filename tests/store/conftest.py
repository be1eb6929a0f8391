"""Small stores made of random vectors: the database does not care where embeddings come from."""

from pathlib import Path

import pytest
from tests.store.fakes import fake_rows

import phenoembed_store
from phenoembed_store import Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A store of one screen: 5 compounds and controls, 3 concentrations, 2 replicates, 2 fields, 8 numbers an image."""
    opened = phenoembed_store.open(tmp_path / "store", create=True)
    opened.write_images(fake_rows())
    return opened


@pytest.fixture(scope="session")
def shared_store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """The same store for tests that only read."""
    opened = phenoembed_store.open(tmp_path_factory.mktemp("shared") / "store", create=True)
    opened.write_images(fake_rows())
    return opened
