"""Two gloo processes on the CPU against one process that does the work of both, in plain PyTorch."""

import copy
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from phenoembed.augment import Augmentation
from phenoembed.batches import GroupBatches, members_of
from phenoembed.cache import open_cache, sources_of
from phenoembed.encoders import load_classifier, load_encoder, load_fold
from phenoembed.groups import Groups, group_images
from phenoembed.methods import build_method
from phenoembed.model import Encoder, to_network
from phenoembed.schedule import warm_restarts
from phenoembed.settings import Settings
from phenoembed.training import train
from tests.conftest import Trial
from torch import nn

import phenoembed_store
from phenoembed_store.errors import TrainingError

# AdamW's first steps are the gradient's sign: at a higher rate rounding alone (another number of threads) leads away
EPOCHS, BATCH, RATE, SEED = 2, 8, 1e-5, 5
# batch normalisation takes away what a bias before it adds: its gradient is rounding alone, and so is its way
NO_GRADIENT = ("head.classifier.1.bias", "head.classifier.2.running_mean")


def train_in_two_processes(plates: Path, store: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "--no-python"]
    command += [sys.executable, "-c", "from phenoembed_cli.main import main; main()", "train", str(plates)]
    command += ["--devices", "2", "--epochs", str(EPOCHS), "--batch-size", str(BATCH), "--learning-rate", str(RATE)]
    command += ["--seed", str(SEED), "--store", str(store), "--json"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False, timeout=280)


def new_model(n_classes: int) -> nn.ModuleDict:
    torch.manual_seed(SEED)
    return nn.ModuleDict({"encoder": Encoder(), "head": build_method("product", n_classes, 512)})


def train_both_halves(
    groups: Groups, pixels: np.ndarray, places: np.ndarray, labels: np.ndarray, config: dict[str, Any]
) -> nn.Module:
    """Every batch as two halves, each with its own random draws and batch-norm statistics; gradients are averaged.

    The running statistics that stay are those of the first half, as DistributedDataParallel has it.
    """
    model = new_model(len(config["classes"]))
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=1e-4)
    steps = -(-len(places) // BATCH)
    augment = Augmentation()
    model.train()
    for epoch in range(EPOCHS):
        draws = []
        for half in range(2):
            torch.manual_seed((SEED * 100_003 + epoch) * 1_009 + half)
            draws.append(torch.get_rng_state())
        order = np.random.default_rng((SEED, epoch)).permutation(len(places))
        for step, batch in enumerate(np.array_split(order, steps)):
            gradients = []
            replicas = [copy.deepcopy(model) for _ in range(2)]
            for half, chosen in enumerate(np.array_split(batch, 2)):
                torch.set_rng_state(draws[half])
                rows = np.concatenate([groups.rows[place] for place in places[chosen]])
                images = to_network(torch.from_numpy(pixels[rows]), config["pixel_mean"], config["pixel_sd"], 1 / 65535)
                features = replicas[half]["encoder"](augment(images))
                target = torch.from_numpy(labels[chosen])
                replicas[half]["head"].loss(features, members_of(groups, places[chosen]), target).backward()
                draws[half] = torch.get_rng_state()
                gradients.append([weight.grad for weight in replicas[half].parameters()])
            for weight, first, second in zip(model.parameters(), *gradients, strict=True):
                weight.grad = (first + second) / 2
            for buffer, kept in zip(model.buffers(), replicas[0].buffers(), strict=True):
                buffer.copy_(kept)
            for group in optimizer.param_groups:
                group["lr"] = RATE * warm_restarts((epoch * steps + step) / steps, EPOCHS)
            optimizer.step()
    return model


def test_two_processes_train_what_one_does_that_averages_their_gradients(
    trial: Trial, plates: Path, tmp_path: Path
) -> None:
    """The same weights and the same batch-norm statistics; one document is printed, by the first process."""
    done = train_in_two_processes(plates, tmp_path / "store")
    assert done.returncode == 0, done.stderr[-3000:]
    (found,) = [info for info in phenoembed_store.open(tmp_path / "store").encoders() if not info.untrained]
    assert done.stdout.count('"encoder"') == 1
    assert found.id in done.stdout
    encoder, head = load_encoder(tmp_path / "store", found.id), load_classifier(tmp_path / "store", found.id)
    assert (encoder.config["devices"], encoder.config["nodes"]) == (2, 1)
    groups = group_images(trial.screen.table)
    cache = open_cache(tmp_path / "store" / "cache", sources_of(trial.screen), None)
    fold = load_fold(tmp_path / "store", found.id)
    places = np.array([p for p in groups.places(fold.train) if groups.roles[p] == "treated"])
    labels = np.array([encoder.config["classes"].index(groups.compounds[p]) for p in places])
    expected = train_both_halves(groups, cache.pixels, places, labels, encoder.config)
    ours = {f"encoder.{k}": v for k, v in encoder.encoder.state_dict().items()}
    ours |= {f"head.{k}": v for k, v in head.state_dict().items()}
    start = new_model(len(encoder.config["classes"])).state_dict()
    for name, value in expected.state_dict().items():
        if name in NO_GRADIENT:
            continue
        off, moved = (float((value - other).double().norm()) for other in (ours[name], start[name]))
        # single weights whose gradient is nearly 0 may step the other way
        assert off <= max(0.02 * moved, 1e-6), f"{name}: {off} off after a way of {moved}"


@pytest.mark.parametrize("n", [1, 2, 3])
def test_every_group_of_a_batch_goes_to_one_process(trial: Trial, n: int) -> None:
    """The shares of a batch are disjoint, cover it, differ by one at the most, and have two groups or more."""
    groups = group_images(trial.screen.table)
    places = np.arange(len(groups.rows))
    pixels = np.zeros((trial.screen.n_images, 1, 1), np.uint8)
    batches = [GroupBatches(pixels, groups, places, places, 7, 3, (r, n)) for r in range(n)]
    assert len({len(one) for one in batches}) == 1
    seen: list[int] = []
    for shares in zip(*batches, strict=True):
        sizes = [len(share.labels) for share in shares]
        assert min(sizes) >= 2
        assert max(sizes) - min(sizes) <= 1
        seen += [label for share in shares for label in share.labels.tolist()]
    assert sorted(seen) == places.tolist()


def test_devices_without_processes_are_an_error_line(trial: Trial, tmp_path: Path) -> None:
    """It says how to start them; so does a batch too small to be dealt out."""
    with pytest.raises(TrainingError, match="need 2 processes, not 1: torchrun --nnodes 1 --nproc-per-node 2"):
        train(trial.screen, tmp_path / "store", Settings(epochs=1, devices=2))
    with pytest.raises(TrainingError, match="batch_groups is 3; 4 or more"):
        train(trial.screen, tmp_path / "store", Settings(epochs=1, devices=2, batch_groups=3))
