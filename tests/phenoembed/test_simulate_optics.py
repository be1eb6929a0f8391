"""The microscope against what Zernike's theory says of simple objects."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from phenoembed.simulate.cell_lines import Optics
from phenoembed.simulate.optics import bin_pixels, expose, meter, zernike

OPTICS = Optics()
STEP_UM = 0.75
FULL_RING = replace(OPTICS, ring_transmission=1.0, halo_um=40.0)  # a narrow ring that takes no light away


def disk(radius_um: float, phase: float, size: int = 160) -> np.ndarray:
    axis = (np.arange(size) - size / 2) * STEP_UM
    return np.where(np.hypot(*np.meshgrid(axis, axis)) < radius_um, phase, 0).astype(np.float32)


@given(st.floats(-20, 20))
def test_no_cell_gives_a_flat_image(focus_um: float) -> None:
    """Zero phase gives intensity 1 everywhere, in focus or not."""
    image = zernike(np.zeros((48, 48), np.float32), OPTICS, STEP_UM, focus_um)
    np.testing.assert_allclose(image, 1, atol=1e-5)


@pytest.mark.parametrize("phase", [0.02, 0.05, -0.05])
def test_a_weak_disk_has_the_contrast_of_theory(phase: float) -> None:
    """Positive phase contrast: a thin disk of phase p is darker than the medium by about 2 p (Zernike, 1942)."""
    image = zernike(disk(5.0, phase), FULL_RING, STEP_UM)
    centre = float(image[78:83, 78:83].mean()) - 1
    assert centre == pytest.approx(-2 * phase, rel=0.1)


def test_a_dimmer_ring_raises_the_contrast() -> None:
    """A ring that passes t of the amplitude gives 2 p / t."""
    image = zernike(disk(5.0, 0.03), replace(FULL_RING, ring_transmission=0.5), STEP_UM)
    assert float(image[78:83, 78:83].mean()) - 1 == pytest.approx(-2 * 0.03 / 0.5, rel=0.15)


def test_a_wide_ring_gives_halo_and_shade_off() -> None:
    """Outside the disk there is a bright halo; the middle of a wide disk fades towards the medium."""
    image = zernike(disk(15.0, 0.1), OPTICS, STEP_UM)
    row = image[80]
    assert row[80 + 23] > 1.03  # 17 µm from the centre
    assert 1 - row[80] < 0.7 * (1 - row[80 + 16])  # the middle against 12 µm


def test_the_wave_theory_agrees_with_a_direct_fourier_sum() -> None:
    """The image equals one summed over frequencies by hand, without FFT."""
    size, step = 12, 0.75
    phase = np.random.default_rng(0).normal(0, 0.3, (size, size)).astype(np.float32)
    dft = np.exp(-2j * np.pi * np.outer(np.arange(size), np.arange(size)) / size)
    frequency = ((np.arange(size) + size // 2) % size - size // 2) / (size * step)
    f2 = frequency[:, None] ** 2 + frequency[None, :] ** 2
    cutoff = OPTICS.numerical_aperture / OPTICS.wavelength_um
    pupil = 1 / (1 + np.exp((np.sqrt(f2) - cutoff) / (0.06 * cutoff)))
    pupil = pupil * np.exp(-1j * np.pi * OPTICS.wavelength_um * 3.0 * f2)
    ring = np.exp(-2 * np.pi**2 * OPTICS.halo_um**2 * f2)
    spectrum = dft @ np.exp(1j * phase) @ dft.T * pupil * (1 - ring - 1j * OPTICS.ring_transmission * ring)
    field = dft.conj() @ spectrum @ dft.conj().T / size**2
    expected = np.abs(field) ** 2 / OPTICS.ring_transmission**2
    np.testing.assert_allclose(zernike(phase, OPTICS, step, 3.0), expected, rtol=1e-3, atol=1e-4)


def test_binning_is_the_mean_of_each_pixel() -> None:
    """A camera pixel collects all of the fine grid over it."""
    fine = np.arange(16, dtype=np.float32).reshape(4, 4)
    np.testing.assert_array_equal(bin_pixels(fine, 2), [[2.5, 4.5], [10.5, 12.5]])


def test_exposure_is_metered_on_the_recorded_mean() -> None:
    """Bright specks beyond the camera's range do not darken the rest, and the mean is the metered one."""
    rng = np.random.default_rng(0)
    image = np.ones((64, 64), np.float32)
    image[:6, :6] = 40
    assert np.minimum(meter(image, 2.4), 2.4).mean() == pytest.approx(1, abs=0.01)
    counts = expose(image, np.ones_like(image), 0.0, 1.0, OPTICS, rng)
    assert counts.dtype == np.uint16
    assert counts.max() == 65_535
    assert counts.mean() == pytest.approx(OPTICS.offset + OPTICS.counts, rel=0.02)


def test_a_veil_takes_contrast_and_leaves_the_mean() -> None:
    """Light that misses the ring halves the sd and keeps the brightness."""
    image = zernike(disk(10.0, 0.3, 64), OPTICS, STEP_UM)
    flat = np.ones_like(image)
    clear, veiled = (
        expose(image, flat, veil, 1.0, OPTICS, np.random.default_rng(0)).astype(float) for veil in (0.0, 0.5)
    )
    assert veiled.mean() == pytest.approx(clear.mean(), rel=0.01)
    assert veiled.std() == pytest.approx(0.5 * clear.std(), rel=0.1)
