"""The paper's augmentations (Section 5.1), done on a whole batch at once, each image by its own draw.

The paper names flips, affine transforms, contrast and brightness, blur and noise, but not how strong they are; the
strengths here are ours, named below and kept in the encoder's config.json. Images are z-scored: their sd is about 1.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Augmentation:
    """Strengths. Every image is flipped and turned by quarters, which loses nothing; the rest blurs a little."""

    affine_share: float = 0.5  # of the images: any angle, scale and shift
    scale: float = 0.1  # of size: cells differ by more
    shift: float = 0.1  # of the image's side
    contrast: float = 0.2  # relative
    brightness: float = 0.2  # in sd of the pixels
    blur_share: float = 0.25  # of the images
    blur_sigma: float = 1.0  # pixels, at the most
    noise_sd: float = 0.1  # in sd of the pixels, at the most

    def __call__(self, images: Tensor) -> Tensor:
        """(images, 1, height, width) -> the same shape. Draws from torch's global generator."""
        images = _flip_and_turn(images)
        images = self._change_some(images, self.affine_share, self._affine)
        images = self._change_some(images, self.blur_share, self._blur)
        gain, offset = (torch.empty(len(images), 1, 1, 1, device=images.device).uniform_(-1, 1) for _ in range(2))
        images = images * (1 + self.contrast * gain) + self.brightness * offset
        sd = self.noise_sd * torch.rand(len(images), 1, 1, 1, device=images.device)
        return images + sd * torch.randn_like(images)

    @staticmethod
    def _change_some(images: Tensor, share: float, change: Callable[[Tensor], Tensor]) -> Tensor:
        chosen = torch.rand(len(images), device=images.device) < share
        if not chosen.any():
            return images
        changed = images.clone()
        changed[chosen] = change(images[chosen])
        return changed

    def _affine(self, images: Tensor) -> Tensor:
        n, device = len(images), images.device
        angle = torch.rand(n, device=device) * 2 * math.pi
        size = 1 + self.scale * torch.empty(n, device=device).uniform_(-1, 1)
        aspect = images.shape[-1] / images.shape[-2]
        cos, sin = torch.cos(angle) / size, torch.sin(angle) / size
        theta = torch.zeros(n, 2, 3, device=device)
        theta[:, 0, 0], theta[:, 0, 1] = cos, -sin / aspect
        theta[:, 1, 0], theta[:, 1, 1] = sin * aspect, cos
        theta[:, :, 2] = 2 * self.shift * torch.empty(n, 2, device=device).uniform_(-1, 1)
        grid = F.affine_grid(theta, list(images.shape), align_corners=False)
        return F.grid_sample(images, grid, mode="bilinear", padding_mode="reflection", align_corners=False)

    def _blur(self, images: Tensor) -> Tensor:
        """Gaussian blur, each image by a sigma of its own."""
        radius = math.ceil(2 * self.blur_sigma)
        sigma = self.blur_sigma * torch.rand(len(images), 1, device=images.device).clamp_min(0.05)
        offsets = torch.arange(-radius, radius + 1, device=images.device)
        kernel = torch.exp(-(offsets**2) / (2 * sigma**2))
        kernel = (kernel / kernel.sum(1, keepdim=True))[:, None, None]  # (images, 1, 1, taps)
        planes = F.pad(images.transpose(0, 1), [radius] * 4, mode="reflect")  # (1, images, height, width)
        planes = F.conv2d(planes, kernel, groups=len(images))
        planes = F.conv2d(planes, kernel.transpose(2, 3), groups=len(images))
        return planes.transpose(0, 1)


def _flip_and_turn(images: Tensor) -> Tensor:
    """Flip each image by chance; turn square ones by a random number of quarters, others by none or two."""
    square = images.shape[-1] == images.shape[-2]
    turns = torch.randint(0, 4 if square else 2, (len(images),), device=images.device) * (1 if square else 2)
    flips = torch.randint(0, 2, (len(images),), device=images.device)
    out = torch.empty_like(images)
    for quarters in range(4) if square else (0, 2):
        for flip in range(2):
            chosen = (turns == quarters) & (flips == flip)
            turned = torch.rot90(images[chosen], quarters, (2, 3))
            out[chosen] = turned.flip(-1) if flip else turned
    return out
