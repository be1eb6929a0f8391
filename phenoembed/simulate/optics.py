"""From a phase map to camera counts: Zernike phase contrast by Fourier optics, then illumination and camera.

Zernike, Physica 9 (1942) 686; the halo as the finite ring's low pass: Yin et al.,
Medical Image Analysis 16 (2012) 1047.
"""

from typing import Any

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from phenoembed.simulate.cell_lines import Optics

Image = NDArray[np.float32]


def zernike(phase: Image, optics: Optics, step_um: float, focus_um: float = 0.0) -> Image:
    """Intensity of a positive phase-contrast image, 1 where there is no cell.

    ``phase`` (radians, periodic) is sampled every ``step_um``. The ring turns the zero order by -pi/2 and passes
    ``ring_transmission`` t of its amplitude, so that a weak small object of phase p has the intensity 1 - 2 p / t.
    """
    wave = np.exp(1j * phase.astype(np.complex64))
    spectrum = scipy.fft.fft2(wave)
    field = scipy.fft.ifft2(spectrum * transfer(phase.shape[0], optics, step_um, focus_um))
    intensity: Image = (field.real**2 + field.imag**2) / np.float32(optics.ring_transmission**2)
    return intensity


def transfer(size: int, optics: Optics, step_um: float, focus_um: float) -> NDArray[np.complex64]:
    """What the objective does to each spatial frequency: aperture, defocus, and the ring on the low ones."""
    frequency = scipy.fft.fftfreq(size, step_um)
    squared = frequency[:, None] ** 2 + frequency[None, :] ** 2  # (size, size), 1/µm²
    cutoff = optics.numerical_aperture / optics.wavelength_um
    aperture = 1 / (1 + np.exp((np.sqrt(squared) - cutoff) / (0.06 * cutoff)))  # soft: the source is no point
    defocus = _separable(np.exp(-1j * np.pi * optics.wavelength_um * focus_um * frequency**2))
    ring = _separable(np.exp(-2 * (np.pi * optics.halo_um * frequency) ** 2))
    shifted = (1 - ring) - 1j * optics.ring_transmission * ring
    filtered: NDArray[np.complex64] = (aperture * defocus * shifted).astype(np.complex64)
    return filtered


def _separable(along: NDArray[Any]) -> NDArray[Any]:
    return np.asarray(along[:, None] * along[None, :])


def bin_pixels(image: Image, factor: int) -> Image:
    """Sum the fine grid over each camera pixel (as a mean)."""
    height, width = image.shape
    blocks = image.reshape(height // factor, factor, width // factor, factor)  # (rows, factor, columns, factor)
    binned: Image = blocks.mean(axis=(1, 3), dtype=np.float32)
    return binned


def meter(lit: Image, ceiling: float) -> Image:
    """Scale to a mean of 1, as recorded by a camera that saturates at ``ceiling``."""
    for _ in range(4):
        lit = lit / np.minimum(lit, ceiling).mean()
    return lit


def expose(
    intensity: Image, illumination: Image, veil: float, exposure: float, optics: Optics, rng: np.random.Generator
) -> NDArray[np.uint16]:
    """Camera counts of one field.

    The exposure is metered on the field's mean, as that of real screens often is, so that the mean tells nothing of the
    cells; ``exposure`` multiplies it. ``veil`` is the part of the light that misses the ring and carries no contrast.
    """
    lit = intensity * illumination
    lit = lit / lit.mean()
    lit = (1 - veil) * lit + veil * illumination
    electrons = meter(lit, (65_535 - optics.offset) / optics.counts) * (optics.electrons * exposure)
    noise = rng.standard_normal(electrons.shape, dtype=np.float32)
    electrons = electrons + noise * np.sqrt(electrons + optics.read_electrons**2)
    counts = optics.offset + electrons * (optics.counts / optics.electrons)
    pixels: NDArray[np.uint16] = np.clip(np.rint(counts), 0, 65_535).astype(np.uint16)
    return pixels
