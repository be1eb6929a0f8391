"""The networks: encoder f and classifier g of the paper (Section 4.2; details from the authors' published model)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import resnet18

EMBEDDING_DIM = 512  # D, the paper, Fig. 4
HIDDEN_DIM = 256  # the paper, Fig. 4
DROPOUT = 0.5  # the authors' model


class Encoder(nn.Module):
    """ResNet-18 on one channel: (images, 1, height, width) z-scored pixels -> (images, 512) features."""

    def __init__(self) -> None:
        super().__init__()
        self.net = resnet18(weights=None)
        self.net.conv1 = nn.Conv2d(1, 64, kernel_size=7, stride=2, padding=3, bias=False)
        self.net.fc = nn.Identity()

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.net(images)
        return features


class Dropout(nn.Dropout):
    """Torch's dropout; on a CPU drawn from uniform floats, a quarter of the time of its Bernoulli draws."""

    def forward(self, values: Tensor) -> Tensor:
        if values.is_cuda or not self.training:
            return super().forward(values)
        return values * torch.rand_like(values).ge_(self.p).mul_(1 / (1 - self.p))


class Classifier(nn.Sequential):
    """g: (images, 512) features -> (images, classes) scores; the 256 activations before the last layer add up."""

    def __init__(self, n_classes: int, dim: int = EMBEDDING_DIM, hidden: int = HIDDEN_DIM) -> None:
        super().__init__(
            Dropout(DROPOUT),
            nn.Linear(dim, hidden),
            nn.BatchNorm1d(hidden),
            nn.ReLU(),
            Dropout(DROPOUT),
            nn.Linear(hidden, n_classes),
        )

    def hidden(self, features: Tensor) -> Tensor:
        """(images, dim) -> (images, 256): what adds up over images, under the dropout before the last layer."""
        for layer in list(self)[:-1]:
            features = layer(features)
        return features

    def scores_of_sums(self, hidden: Tensor, counts: Tensor) -> Tensor:
        """Sums of the scores of images from sums of their hidden activations, the last layer once for all of them.

        ``hidden``: (groups, 256). ``counts``: (groups,) how many images (or parts that weigh 1) each sum is of.
        """
        last = self[5]
        assert isinstance(last, nn.Linear)
        return F.linear(hidden, last.weight) + counts[:, None] * last.bias


def pick_device() -> torch.device:
    """The device everything runs on, chosen once."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def to_network(pixels: Tensor, mean: float, sd: float, scale: float) -> Tensor:
    """Stored pixels (images, height, width) -> z-scored (images, 1, height, width) float32, channels last."""
    scaled = pixels.to(torch.float32).mul_(scale / sd).sub_(mean / sd)
    return scaled.unsqueeze(1).contiguous(memory_format=torch.channels_last)
