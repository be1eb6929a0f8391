"""Images that say nothing, shown in training as what they are: so that a dose that does nothing adds nothing.

DMSO images of the training groups are put into groups as further doses, the label unchanged, and stand as groups of
their own too, which may be any compound: outlier exposure (Hendrycks et al. 2019), the cross-entropy to uniform.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from phenoembed.groups import Groups
from phenoembed.methods import Members


class Shown(NamedTuple):
    """What a batch shows besides its groups. The drawn images stand behind those of the groups."""

    rows: np.ndarray  # (drawn images,) of the screen
    places: Tensor  # (members,) int64: which image of the batch each member is; an image may be several
    members: Members
    targets: Tensor  # (groups, classes) probabilities


@dataclass(frozen=True)
class NullEvidence:
    """``rows``: (control images,) of the screen, of training groups alone."""

    rows: np.ndarray
    n_classes: int
    further: bool = True
    flat: bool = True

    def show(self, members: Members, labels: Tensor, rng: np.random.Generator) -> Shown:
        """Draw one image for each group of a batch, shared by all: each group takes none of them, or up to as many as
        it has configurations; and each image makes a group of its own, all classes equally likely."""
        drawn = rng.choice(self.rows, members.n_groups, replace=len(self.rows) < members.n_groups)
        sizes = np.bincount(members.group.numpy(), minlength=members.n_groups) * self.further
        taken = [rng.permutation(len(drawn))[: rng.integers(0, size + 1)] for size in sizes]
        above = int(members.configuration.max()) + 1
        group = [members.group, torch.from_numpy(np.repeat(np.arange(len(taken)), [len(one) for one in taken]))]
        configuration = [members.configuration, *(above + torch.arange(len(one)) for one in taken)]
        image = [np.arange(len(members.group)), *(len(members.group) + one for one in taken)]
        targets = F.one_hot(labels, self.n_classes).float()
        if self.flat:
            group.append(members.n_groups + torch.arange(len(drawn)))
            configuration.append(torch.full((len(drawn),), above))
            image.append(len(members.group) + np.arange(len(drawn)))
            targets = torch.cat([targets, torch.full((len(drawn), self.n_classes), 1 / self.n_classes)])
        shown = Members(torch.cat(group), torch.cat(configuration), len(targets))
        return Shown(drawn, torch.from_numpy(np.concatenate(image)), shown, targets)


def control_rows(groups: Groups, ids: Sequence[str]) -> np.ndarray:
    """(images,) rows of the images of the control groups among these group ids; there may be none."""
    places = groups.places(ids)
    return np.concatenate([np.empty(0, int), *(groups.rows[p] for p in places if groups.roles[p] == "control")])
