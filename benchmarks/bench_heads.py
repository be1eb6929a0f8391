"""Heads at the size of LOPAC: 138,240 frozen features, 23,040 groups of six, 1,280 classes, six folds, 50 epochs.

    python benchmarks/bench_heads.py [--folds 0 1 2 3 4 5] [--epochs 50] [--beside 0] [--linear 0] [--classes 1280]

``ours``: ``fit_head``, as ``phenoembed probe`` calls it. ``plain loop``: the same network, batches of groups, learning
rates and dropout, written as most would over features in memory: scores of every image, added up; torch's dropout and
AdamW as they come. On the folds named by ``--beside`` the two take turns, an epoch each. The features are drawn: a
centre a compound, a shift a group, noise an image; a linear head is made for just that (``--linear``, the folds to fit
one on: ``phenoembed probe --head linear``). Top-1 is of the test groups of a field split.
"""

import argparse
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from phenoembed.batches import members_of
from phenoembed.groups import Groups
from phenoembed.heads import FitSettings, fit_head
from phenoembed.linear_heads import fit_linear_head
from phenoembed.methods import GroupClassifier
from sklearn.model_selection import StratifiedKFold
from torch import Tensor, nn

DIM, GROUP_IMAGES, CLASS_GROUPS, N_FOLDS = 512, 6, 18, 6
SIGNAL, SHIFT = 0.12, 0.12  # sd of centres and of groups' shifts, where images vary by 1


@dataclass
class Frozen:
    """A screen's features, and which compound each group has. Groups stand one after the other."""

    features: np.ndarray  # (images, DIM) float32
    labels: np.ndarray  # (groups,)
    groups: Groups

    def folds(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Places of training and test groups, six times."""
        return list(StratifiedKFold(N_FOLDS, shuffle=True, random_state=0).split(self.labels, self.labels))


@dataclass
class Turns:
    """Called after each of our epochs: notes its time, then lets the plain loop do one."""

    plain: Iterator[nn.Module] | None
    ours_s: list[float] = field(default_factory=list)
    plain_s: list[float] = field(default_factory=list)
    net: nn.Module | None = None
    started: float = field(default_factory=time.perf_counter)

    def __call__(self, done: int, total: int) -> None:
        self.ours_s.append(time.perf_counter() - self.started)
        if self.plain:
            started = time.perf_counter()
            self.net = next(self.plain)
            self.plain_s.append(time.perf_counter() - started)
        if done % 10 == 0:
            print(f"  epoch {done} of {total}: ours {np.median(self.ours_s):.2f} s", flush=True)
        self.started = time.perf_counter()


def main() -> None:
    """Fit the folds in turn and print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folds", nargs="*", type=int, default=list(range(N_FOLDS)))
    parser.add_argument("--beside", nargs="*", type=int, default=[0])
    parser.add_argument("--linear", nargs="*", type=int, default=[0])
    parser.add_argument("--epochs", type=int, default=50)
    parser.add_argument("--batch-groups", type=int, default=FitSettings.batch_groups)
    parser.add_argument("--learning-rate", type=float, default=FitSettings.learning_rate)
    parser.add_argument("--classes", type=int, default=1280)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    screen = draw(options.classes)
    settings = FitSettings(options.epochs, options.batch_groups, options.learning_rate)
    print(f"{screen.groups}, {options.classes} classes, {settings}")
    total = 0.0
    for number in options.folds:
        train, test = screen.folds()[number]
        total += one_fold(screen, train, test, settings, number, number in options.beside)
    for number in options.linear:
        one_linear_fold(screen, *screen.folds()[number], number)
    print(f"{len(options.folds)} folds: {total / 60:.1f} minutes of ours")


def one_fold(
    screen: Frozen, train: np.ndarray, test: np.ndarray, settings: FitSettings, number: int, beside: bool
) -> float:
    """Fit one fold, alone or in turns with the plain loop; the seconds that ours took."""
    labels, n_classes = screen.labels, int(screen.labels.max()) + 1
    turns = Turns(plain_epochs(screen, train, n_classes, settings) if beside else None)
    head = fit_head(screen.features, screen.groups, train, labels[train], n_classes, "product", settings, turns)
    top1 = top1_of(head, screen, test)
    ours = sum(turns.ours_s)
    said = f"fold {number}: ours {ours:.0f} s, top-1 {top1:.4f} of {len(test):,} test groups"
    if turns.net is not None:
        ratio = np.median(turns.plain_s[1:]) / np.median(turns.ours_s[1:])
        said += f"; plain loop {sum(turns.plain_s):.0f} s, top-1 {plain_top1(turns.net, screen, train, test):.4f}"
        said += f"; an epoch of ours {ratio:.2f} times as fast (medians)"
    print(said, flush=True)
    return ours


def one_linear_fold(screen: Frozen, train: np.ndarray, test: np.ndarray, number: int) -> None:
    """Fit a linear head on one fold."""
    labels, started = screen.labels, time.perf_counter()
    head = fit_linear_head(screen.features, screen.groups, train, labels[train], int(labels.max()) + 1)
    seconds = time.perf_counter() - started
    top1 = top1_of(head, screen, test)
    print(f"fold {number}: linear {seconds:.0f} s, top-1 {top1:.4f} of {len(test):,} test groups", flush=True)


@torch.inference_mode()
def top1_of(head: GroupClassifier, screen: Frozen, places: np.ndarray) -> float:
    """Top-1 of a head on these groups."""
    rows = np.concatenate([screen.groups.rows[place] for place in places])
    scores = head(torch.from_numpy(screen.features[rows]), members_of(screen.groups, places))
    return float((scores.argmax(1).numpy() == screen.labels[places]).mean())


def draw(n_classes: int) -> Frozen:
    """Features whose compounds overlap: one image says little, six together something."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(n_classes), CLASS_GROUPS)
    centres = SIGNAL * rng.standard_normal((n_classes, DIM), dtype=np.float32)
    shifts = np.float32(SHIFT) * rng.standard_normal((len(labels), DIM), dtype=np.float32)
    features = rng.standard_normal((len(labels) * GROUP_IMAGES, DIM), dtype=np.float32)
    features += np.repeat(centres[labels] + shifts, GROUP_IMAGES, axis=0)
    rows = tuple(np.arange(GROUP_IMAGES) + GROUP_IMAGES * number for number in range(len(labels)))
    return Frozen(features, labels, Groups(None, rows, tuple(np.arange(GROUP_IMAGES) for _ in rows)))


def standardised(screen: Frozen, train: np.ndarray) -> Tensor:
    """(groups, GROUP_IMAGES, DIM) features, by the training images' statistics."""
    grouped = torch.from_numpy(screen.features).view(-1, GROUP_IMAGES, DIM)
    own = grouped[torch.from_numpy(train)]
    return (grouped - own.mean((0, 1))) / own.std((0, 1))


def plain_epochs(screen: Frozen, train: np.ndarray, n_classes: int, settings: FitSettings) -> Iterator[nn.Module]:
    """The loop most would write; gives its network after each epoch."""
    torch.manual_seed(settings.seed)
    features, labels = standardised(screen, train), torch.from_numpy(screen.labels)
    net = nn.Sequential(
        nn.Dropout(0.5),
        nn.Linear(DIM, 256),
        nn.BatchNorm1d(256),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Linear(256, n_classes),
    )
    optimizer = torch.optim.AdamW(net.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay)
    n_batches = -(-len(train) // settings.batch_groups)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, settings.epochs * n_batches)
    for _ in range(settings.epochs):
        net.train()
        for chosen in torch.from_numpy(train)[torch.randperm(len(train))].tensor_split(n_batches):
            scores = net(features[chosen].flatten(0, 1)).view(len(chosen), GROUP_IMAGES, n_classes).sum(1)
            loss = F.cross_entropy(scores, labels[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        yield net


@torch.inference_mode()
def plain_top1(net: nn.Module, screen: Frozen, train: np.ndarray, test: np.ndarray) -> float:
    """Top-1 of the plain loop's network on the same test groups."""
    own = standardised(screen, train)[torch.from_numpy(test)]
    scores = net.eval()(own.flatten(0, 1)).view(len(test), GROUP_IMAGES, -1).sum(1)
    return float((scores.argmax(1).numpy() == screen.labels[test]).mean())


if __name__ == "__main__":
    main()
