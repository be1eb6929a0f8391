"""Blur and noise on images that are encoded again: the trial's, 32 x 32."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from phenoembed.encoders import load_encoder
from phenoembed.evaluation.held_out import Trials, find_trials
from phenoembed.evaluation.perturbed import BLUR, NOISE, gaussian_noise, reencoded
from phenoembed.indexing import index_screen
from phenoembed.pixels import read_pixels
from phenoembed.readers import read_screen
from scipy.ndimage import correlate1d
from tests.conftest import Trial
from tests.phenoembed.quick import embed_here
from tifffile import imread, imwrite

import phenoembed_store
from phenoembed import indexing
from phenoembed.evaluation import evaluate
from phenoembed_store.errors import ImageError


@pytest.fixture
def trials(trial: Trial) -> Trials:
    return find_trials(phenoembed_store.open(trial.path), None)


def test_an_image_that_is_not_changed_has_the_stored_embedding(trials: Trials) -> None:
    """Read again, standardised and encoded: what indexing stored."""
    for held in trials.held_out():
        (same,) = reencoded(trials, held, {"same": lambda images: images}).values()
        np.testing.assert_allclose(same.vectors[held.rows], held.vectors[held.rows], atol=1e-4)


def test_images_of_another_depth_are_encoded_as_they_were_indexed(
    trial: Trial, own_plates: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Among images of 16 bits every third of 8: each is brought to 0..1 by its own range, as in indexing."""
    screen = read_screen(own_plates)
    for row in range(0, screen.n_images, 3):
        path = screen.image_path(row)
        imwrite(path, (imread(path) // 257).astype(np.uint8))
    store = phenoembed_store.open(tmp_path / "store", create=True)
    shutil.copytree(trial.path / "encoders", store.path / "encoders", dirs_exist_ok=True)
    monkeypatch.setattr(indexing, "embed_batches", embed_here)
    assert not index_screen(screen, store, baseline=False).rejected
    for held in find_trials(store, None).held_out():
        (same,) = reencoded(find_trials(store, None), held, {"same": lambda images: images}).values()
        np.testing.assert_allclose(same.vectors[held.rows], held.vectors[held.rows], atol=1e-4)


def test_blur_is_a_gaussian_kernel_of_that_many_pixels(trials: Trials) -> None:
    """One image, blurred by scipy with a kernel computed here, through the network: the embedding used."""
    from torchvision.transforms.v2 import functional

    held = next(trials.held_out())
    encoder = load_encoder(trials.store.path, held.encoder)
    row = held.rows[0]
    pixels = read_pixels(Path(held.images.column("path")[int(row)].as_py())) / 65535
    image = (pixels - encoder.config["pixel_mean"]) / encoder.config["pixel_sd"]
    for size in BLUR:
        sigma = 0.3 * ((size - 1) / 2 - 1) + 0.8
        weights = np.exp(-((np.arange(size) - size // 2) ** 2) / (2 * sigma**2))
        weights /= weights.sum()
        blurred = correlate1d(correlate1d(image, weights, axis=0, mode="mirror"), weights, axis=1, mode="mirror")
        with torch.inference_mode():
            expected = encoder.encoder(torch.from_numpy(blurred[None, None]).float())[0].numpy()
        change = {"blur": lambda images, size=size: functional.gaussian_blur(images, [size, size])}
        found = reencoded(trials, held, change)["blur"].vectors[row]  # type: ignore[arg-type]
        np.testing.assert_allclose(found, expected, atol=1e-3)


@pytest.mark.parametrize(("name", "strengths"), [("blur", BLUR), ("noise", NOISE)])
def test_perturbed_accuracy_of_every_strength(
    trial: Trial, tmp_path: Path, name: str, strengths: tuple[float, ...]
) -> None:
    """The original is the encoder's own test figure; each strength has one; the same on every run; a figure."""
    store = phenoembed_store.open(trial.path)
    found = evaluate(store, name)
    rows = [row for row in found.document()[name] if row["test"] == "new replicate"]
    assert [row["variant"] for row in rows] == ["original", *strengths]
    assert trial.trained.test is not None
    assert rows[0]["mean"]["top1"] == trial.trained.test["top1"]
    assert evaluate(store, name).document() == found.document()
    found.save_figure(tmp_path / "figure.svg")
    assert "top-1 accuracy" in (tmp_path / "figure.svg").read_text()


def test_no_two_images_get_the_same_noise() -> None:
    """Within a batch or beyond it; its sd is the one asked for, and a second run adds the same."""
    runs = []
    for _ in range(2):
        change = gaussian_noise(0.2)
        runs.append(torch.cat([change(torch.zeros(4, 1, 40, 40)) for _ in range(3)]).numpy().reshape(12, -1))
    np.testing.assert_array_equal(*runs)
    assert runs[0].std(axis=1) == pytest.approx(np.full(12, 0.2), rel=0.1)
    alike = np.corrcoef(runs[0])
    assert np.abs(alike[~np.eye(12, dtype=bool)]).max() < 0.15


def test_an_image_that_is_gone_is_named(trial: Trial, tmp_path: Path) -> None:
    """Blur reads images again, and says which it cannot."""
    trial.screen.root.rename(trial.screen.root.with_name("hidden"))
    try:
        with pytest.raises(ImageError, match=r"\.tif: .*blur and noise read the images again"):
            evaluate(phenoembed_store.open(trial.path), "blur")
    finally:
        trial.screen.root.with_name("hidden").rename(trial.screen.root)
