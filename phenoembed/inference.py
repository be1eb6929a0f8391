"""A trained encoder made ready to embed: batch norms folded into the convolutions, images in runs that fit the cache.

Folding is exact but for rounding (a batch norm in eval mode is an affine map, and so is what comes before it).
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from phenoembed.encoders import load_encoder
from phenoembed.model import Encoder, to_network
from phenoembed.pixels import Pixels
from phenoembed.preparation import preparation_of

CPU_PIXELS = 1 << 18
"""Pixels of the images that run through a CPU at once: more of them and the activations leave its caches."""


class Network:
    """One encoder in memory. ``size``: pixels of the shorter side that it takes; None for native size."""

    def __init__(self, store: Path, identifier: str) -> None:
        """Raises StoreError where the encoder's files are damaged."""
        trained = load_encoder(store, identifier)
        self.id, self.size, self.dim = identifier, trained.size, int(trained.config["dim"])
        self.mean, self.sd = trained.config["pixel_mean"], trained.config["pixel_sd"]
        self.preparation = preparation_of(trained.config)
        self.device = next(trained.encoder.parameters()).device
        self.module = folded(trained.encoder)

    def embed(
        self, images: Sequence[Pixels], precision: str = "32", change: Callable[[Tensor], Tensor] = lambda image: image
    ) -> np.ndarray:
        """(images, dim) float32; images of one shape and type run together.

        ``change``: what is done to standardised pixels, (images, 1, height, width), before the network sees them.
        """
        out = np.empty((len(images), self.dim), np.float32)
        kinds: dict[Any, list[int]] = {}
        for i, pixels in enumerate(images):
            kinds.setdefault((pixels.shape, pixels.dtype), []).append(i)
        with torch.inference_mode(), torch.autocast(self.device.type, torch.bfloat16, enabled=precision == "bf16"):
            for (shape, dtype), members in kinds.items():
                step = self.batch_of(shape)
                for start in range(0, len(members), step):
                    rows = members[start : start + step]
                    stack = torch.from_numpy(np.stack([images[i] for i in rows])).to(self.device)
                    batch = to_network(stack, self.mean, self.sd, 1.0 / np.iinfo(dtype).max)
                    out[rows] = self.module(change(batch)).float().cpu().numpy()
        return out

    def batch_of(self, shape: tuple[int, int]) -> int:
        """How many images of this shape run at once; on a GPU all that come."""
        return max(1, CPU_PIXELS // (shape[0] * shape[1])) if self.device.type == "cpu" else 1 << 20


def folded(encoder: Encoder) -> nn.Module:
    """The encoder, in eval mode, without its batch norms: they become part of the convolutions before them."""
    for module in list(encoder.modules()):
        children = dict(module.named_children())
        for name, child in children.items():
            norm = children.get(name.replace("conv", "bn"))
            if name.startswith("conv") and isinstance(child, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                _fold(module, name, child, name.replace("conv", "bn"), norm)
        if isinstance(module, nn.Sequential) and isinstance(children.get("0"), nn.Conv2d):  # a block's shortcut
            _fold(module, "0", children["0"], "1", children["1"])
    return encoder.to(memory_format=torch.channels_last)


def _fold(module: nn.Module, conv_name: str, conv: Any, norm_name: str, norm: Any) -> None:
    setattr(module, conv_name, fuse_conv_bn_eval(conv, norm))
    setattr(module, norm_name, nn.Identity())
