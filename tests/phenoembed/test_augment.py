"""Augmentations on batches."""

from dataclasses import fields, replace

import pytest
import torch
from phenoembed.augment import Augmentation

STILL = replace(Augmentation(), **{f.name: 0.0 for f in fields(Augmentation)})


@pytest.mark.parametrize("shape", [(5, 1, 32, 32), (1, 1, 33, 48), (4, 1, 40, 32)])
def test_the_shape_stays_and_values_are_finite(shape: tuple[int, ...]) -> None:
    """Square or not, one image or several."""
    torch.manual_seed(0)
    images = torch.randn(shape)
    for _ in range(5):
        found = Augmentation()(images)
        assert found.shape == shape
        assert torch.isfinite(found).all()
        assert not torch.equal(found, images)


def test_the_same_seed_draws_the_same() -> None:
    """Everything is drawn from torch's global generator, which a resumed training sets."""
    images = torch.randn(6, 1, 32, 32)
    found = []
    for seed in (7, 7, 8):
        torch.manual_seed(seed)
        found.append(Augmentation()(images))
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


def test_without_strengths_only_flips_and_quarter_turns_are_left() -> None:
    """Every image is then one of its eight symmetric twins, and all eight come up."""
    torch.manual_seed(0)
    image = torch.randn(1, 1, 8, 8)
    twins = [
        turned.flip(-1) if flip else turned for turned in (image.rot90(k, (2, 3)) for k in range(4)) for flip in (0, 1)
    ]
    found = STILL(image.repeat(200, 1, 1, 1))
    seen = [[torch.allclose(one, twin[0]) for twin in twins].index(True) for one in found]
    assert set(seen) == set(range(8))


def test_images_that_are_not_square_keep_their_sides() -> None:
    """They are turned by half turns only: 4 twins."""
    torch.manual_seed(0)
    image = torch.randn(1, 1, 6, 9)
    twins = [turned.flip(-1) if flip else turned for turned in (image, image.rot90(2, (2, 3))) for flip in (0, 1)]
    seen = [[torch.allclose(one, twin[0]) for twin in twins].index(True) for one in STILL(image.repeat(80, 1, 1, 1))]
    assert set(seen) == set(range(4))


def test_each_image_has_a_draw_of_its_own() -> None:
    """Copies of one image come out different."""
    torch.manual_seed(0)
    found = Augmentation()(torch.randn(1, 1, 32, 32).repeat(16, 1, 1, 1))
    assert len({one.numpy().tobytes() for one in found}) == 16


def test_a_blur_keeps_the_mean_and_lowers_the_spread() -> None:
    """The kernel sums to one; a constant image stays as it is."""
    torch.manual_seed(0)
    blurred = replace(STILL, blur_share=1.0, blur_sigma=1.0)
    noise = torch.randn(8, 1, 64, 64)
    found = blurred(noise)
    assert (found.std((1, 2, 3)) < noise.std((1, 2, 3)) + 1e-6).all()
    torch.testing.assert_close(blurred(torch.ones(3, 1, 16, 16)), torch.ones(3, 1, 16, 16))


def test_rotation_does_not_stretch() -> None:
    """A disc in the middle of an image that is not square is still a disc after any turn."""
    torch.manual_seed(0)
    y, x = torch.meshgrid(torch.arange(48.0) - 23.5, torch.arange(64.0) - 31.5, indexing="ij")
    disc = torch.sigmoid(12 - torch.hypot(x, y)).repeat(20, 1, 1, 1)
    turned = replace(STILL, affine_share=1.0)(disc)
    assert float((turned - disc).abs().mean()) < 0.01
