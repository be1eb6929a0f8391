"""The paper's augmentations (Section 5.1), done on a whole batch at once, each image by its own draw.

The paper names flips, affine transforms, contrast and brightness, blur and noise, but not how strong they are; the
strengths here are ours, named below and kept in the encoder's config.json. Images are z-scored: their sd is about 1.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Augmentation:
    """Strengths; the defaults were chosen for cells, which have no up or down and no fixed brightness."""

    rotation: bool = True  # any angle: a field of view has no orientation
    scale: float = 0.1  # of size: cells differ by more
    shift: float = 0.1  # of the image's side
    contrast: float = 0.2  # relative
    brightness: float = 0.2  # in sd of the pixels
    blur_sigma: float = 1.0  # pixels, at the most; on half of the images
    noise_sd: float = 0.1  # in sd of the pixels, at the most

    def __call__(self, images: Tensor) -> Tensor:
        """(images, 1, height, width) -> the same shape. Draws from torch's global generator."""
        images = self._affine(images)
        images = self._blur(images)
        gain, offset = (torch.empty(len(images), 1, 1, 1, device=images.device).uniform_(-1, 1) for _ in range(2))
        images = images * (1 + self.contrast * gain) + self.brightness * offset
        sd = self.noise_sd * torch.rand(len(images), 1, 1, 1, device=images.device)
        return images + sd * torch.randn_like(images)

    def _affine(self, images: Tensor) -> Tensor:
        n, device = len(images), images.device
        angle = torch.rand(n, device=device) * (2 * math.pi if self.rotation else 0)
        size = 1 + self.scale * torch.empty(n, device=device).uniform_(-1, 1)
        flip = torch.randint(0, 2, (n,), device=device) * 2.0 - 1  # with any rotation, one flip makes both
        aspect = images.shape[-1] / images.shape[-2]
        cos, sin = torch.cos(angle) / size, torch.sin(angle) / size
        theta = torch.zeros(n, 2, 3, device=device)
        theta[:, 0, 0], theta[:, 0, 1] = cos * flip, -sin / aspect
        theta[:, 1, 0], theta[:, 1, 1] = sin * flip * aspect, cos
        theta[:, :, 2] = 2 * self.shift * torch.empty(n, 2, device=device).uniform_(-1, 1)
        grid = F.affine_grid(theta, list(images.shape), align_corners=False)
        return F.grid_sample(images, grid, mode="bilinear", padding_mode="reflection", align_corners=False)

    def _blur(self, images: Tensor) -> Tensor:
        """Gaussian blur of half of the images, each by a sigma of its own."""
        if self.blur_sigma == 0:
            return images
        chosen = torch.rand(len(images), device=images.device) < 0.5
        if not chosen.any():
            return images
        radius = math.ceil(2 * self.blur_sigma)
        sigma = self.blur_sigma * torch.rand(int(chosen.sum()), 1, device=images.device).clamp_min(0.05)
        offsets = torch.arange(-radius, radius + 1, device=images.device)
        kernel = torch.exp(-(offsets**2) / (2 * sigma**2))
        kernel = (kernel / kernel.sum(1, keepdim=True))[:, None, None]  # (chosen, 1, 1, taps)
        planes = F.pad(images[chosen].transpose(0, 1), [radius] * 4, mode="reflect")  # (1, chosen, height, width)
        planes = F.conv2d(planes, kernel, groups=kernel.shape[0])
        planes = F.conv2d(planes, kernel.transpose(2, 3), groups=kernel.shape[0])
        out = images.clone()
        out[chosen] = planes.transpose(0, 1)
        return out
