"""The chain on images that nobody here made."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
from phenoembed.cache import open_cache
from phenoembed.indexing import index_screen
from phenoembed.pixels import intensity_statistics, peek_shape, read_pixels, resize
from phenoembed.probes import probe
from phenoembed.readers import read_screen
from phenoembed.settings import Settings
from phenoembed.training import train

import phenoembed_store

MAPPING = {"concentration_um": "dose_um", "channel": "channel_index"}


def test_true_phase_contrast_images_are_read(real_data: Path, tmp_path: Path) -> None:
    """Zernike phase-contrast TIFFs of a microscope: 16 bits, not square; read whole, shrunk and cached as they are."""
    paths = sorted((real_data / "phase-contrast").glob("*.tif"))
    assert len(paths) == 6
    for path in paths:
        pixels, expected = read_pixels(path), tifffile.imread(path)
        assert (pixels.shape, pixels.dtype, peek_shape(path)) == ((1022, 1024), np.uint16, (1022, 1024))
        np.testing.assert_array_equal(pixels, expected)
        assert resize(pixels, 64).shape == (64, 64)
        assert resize(pixels, 511).shape == (511, 512)
        np.testing.assert_allclose(
            resize(pixels, 511), expected.reshape(511, 2, 512, 2).astype(float).mean((1, 3)), atol=0.51
        )
        found = intensity_statistics(pixels)
        assert found["intensity_mean"] == pytest.approx(expected.mean())
        assert found["intensity_sd"] == pytest.approx(expected.astype(float).std())
    cache = open_cache(tmp_path / "cache", [(path,) for path in paths], 64)
    assert (cache.pixels.shape, cache.native_shape, cache.rejected) == ((6, 64, 64), (1022, 1024), {})


def test_real_screen_goes_through_the_chain(real_data: Path, tmp_path: Path) -> None:
    """108 fluorescence images of 3 plates: train with a plate held out, index, probe, search by well."""
    screen = read_screen(real_data / "lincs-a549-images", mapping=MAPPING)
    trained = train(screen, tmp_path / "store", Settings(epochs=2, size=64, batch_groups=8, learning_rate=1e-3))
    assert trained.rejected == {}
    assert trained.test is not None
    assert set(trained.fold.test) == {key for key in _ids(screen) if key.split("/")[2] == trained.fold.held_out[-10:]}
    store = phenoembed_store.open(tmp_path / "store")
    indexed = index_screen(screen, store)
    assert (indexed.indexed, len(indexed.rejected)) == (108, 0)
    assert index_screen(screen, store).unchanged == 108
    for task, classes in (("treatment", 2), ("compound", 2)):
        document = probe(store, task).document("replicate")
        assert (document["classes"], document["chance"], document["simulated"]) == (classes, 1 / classes, False)
        assert 0 <= document["mean"]["top1"] <= 1
        assert all(document["baselines"].values())
    row = screen.table.to_pylist()[20]
    hits = store.search(well=f"{row['plate']}:{row['well']}", level="image", k=5, not_same=["plate"]).to_pylist()
    assert len(hits) == 5
    assert row["plate"] not in {hit["plate"] for hit in hits}
    assert all(-1 <= hit["score"] <= 1 + 1e-6 for hit in hits)


def _ids(screen: object) -> list[str]:
    from phenoembed.groups import group_images

    return group_images(screen.table).table.column("group_id").to_pylist()  # type: ignore[attr-defined,no-any-return]
