"""Focus, saturation, emptiness and confluence of pixels whose truth is known."""

import numpy as np
import pytest
from phenoembed.quality import image_quality
from scipy.ndimage import gaussian_filter


def field(covered: float, seed: int = 0, noise: float = 8.0) -> np.ndarray:
    """A background with camera noise, whose upper part, that share of it, is covered with texture of 3 pixels."""
    draw = np.random.default_rng(seed)
    values = 2000 + draw.normal(0, noise, (256, 256))
    rows = round(256 * covered)
    texture = gaussian_filter(draw.normal(0, 1, (256, 256)), 1.5)
    values[:rows] += 300 * (texture / texture.std())[:rows]
    return values.round().clip(0, 65535).astype(np.uint16)


def test_focus_falls_with_blur() -> None:
    """The more an image is blurred, the lower its focus; brightness and contrast do not matter."""
    sharp = field(1.0, noise=0).astype(float)
    blurred = [gaussian_filter(sharp, sigma) if sigma else sharp for sigma in (0, 1, 2, 4)]
    focus = [image_quality(image.round().astype(np.uint16))["focus"] for image in blurred]
    assert focus == sorted(focus, reverse=True)
    assert focus[0] > 1.5 * focus[1]
    brighter = image_quality((3 * sharp + 500).round().astype(np.uint16))["focus"]
    assert brighter == pytest.approx(focus[0], rel=1e-3)


def test_saturation_is_the_share_at_the_highest_value() -> None:
    """Wherever the sensor's highest value lies: 4095 of 12 bits as well as 65535."""
    pixels = field(0.5)
    assert image_quality(pixels)["saturation"] < 1e-3
    for ceiling in (2200, 2100):
        clipped = np.minimum(pixels, ceiling).astype(np.uint16)
        assert image_quality(clipped)["saturation"] == pytest.approx((pixels >= ceiling).mean())


@pytest.mark.parametrize("covered", [0.0, 0.25, 0.5, 1.0])
@pytest.mark.parametrize("noise", [2.0, 8.0, 20.0])
def test_confluence_is_the_share_that_is_covered(covered: float, noise: float) -> None:
    """Whatever the camera's noise, and when all of it is covered too."""
    assert image_quality(field(covered, noise=noise))["confluence"] == pytest.approx(covered, abs=0.03)


def test_an_image_smaller_than_a_block_has_no_figures() -> None:
    found = image_quality(np.array([[1, 2], [3, 4]], np.uint8))
    assert np.isnan(found["focus"])
    assert np.isnan(found["confluence"])
    assert np.isnan(found["emptiness"])


def test_emptiness_tells_a_hole_from_cells_that_are_few() -> None:
    """Half of the field without cells is empty but for its rim; the same cells spread out leave no hole."""
    hole = image_quality(field(0.5))
    assert hole["emptiness"] == pytest.approx(0.5 - 2 * 8 / 256, abs=0.04)
    assert image_quality(field(0.0))["emptiness"] == 1.0
    assert image_quality(field(1.0))["emptiness"] == 0.0
    spread = field(0.0)
    texture = field(1.0)
    for row in range(0, 256, 32):  # a block in each 4 x 4 blocks
        for column in range(0, 256, 32):
            spread[row : row + 8, column : column + 8] = texture[row : row + 8, column : column + 8]
    found = image_quality(spread)
    assert found["confluence"] == pytest.approx(1 / 16, abs=0.02)
    assert found["emptiness"] < 0.1
