"""The paper's model as its authors published it, in plain PyTorch: the oracle of ours.

A group is a tensor (batch, n, 1, height, width), so all groups of a batch are of one size. Written from a description
of their model file; nothing of phenoembed is imported.
"""

from torch import Tensor, nn
from torchvision.models import resnet18


class AuthorsModel(nn.Module):
    """Encoder, classifier, and the sum of the logits of a group's images."""

    def __init__(self, n_classes: int) -> None:
        super().__init__()
        encoder = resnet18()
        encoder.conv1 = nn.Conv2d(1, 64, kernel_size=7, stride=2, padding=3, bias=False)
        encoder.fc = nn.Identity()
        self.encoder = encoder
        self.net = nn.Sequential(
            nn.Dropout(0.5),
            nn.Linear(512, 256),
            nn.BatchNorm1d(256),
            nn.ReLU(),
            nn.Dropout(0.5),
            nn.Linear(256, n_classes),
        )

    def forward(self, groups: Tensor) -> Tensor:
        """(batch, n, 1, height, width) -> (batch, classes) logits."""
        batch, n = groups.shape[:2]
        logits = self.net(self.encoder(groups.flatten(0, 1)))  # (batch * n, classes)
        return logits.view(batch, n, -1).sum(dim=1)
