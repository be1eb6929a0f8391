"""A training's curve, as a CSV file."""

import csv
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest
from phenoembed.logs import epoch_log
from phenoembed.schedule import warm_restarts
from phenoembed.training import train
from tests.conftest import Trial

from phenoembed_store.errors import MissingExtra, TrainingError


def rows(path: Path) -> list[dict[str, float]]:
    with path.open() as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


def test_every_epoch_is_a_row(trial: Trial, tmp_path: Path) -> None:
    """Its number, the mean loss of its batches, and the rate that the next epoch begins with; the loss starts near
    that of guessing, log K, and nothing of it changes the weights."""
    settings = replace(trial.settings, epochs=3)
    trained = train(trial.screen, tmp_path, settings, log="csv")
    (path,) = tmp_path.glob("logs/*/version_0/metrics.csv")
    found = rows(path)
    assert [row["step"] for row in found] == [1, 2, 3]
    expected = [settings.learning_rate * warm_restarts(epoch, 3) for epoch in (1, 2, 3)]
    assert [row["learning_rate"] for row in found] == pytest.approx(expected)
    assert all(0 < row["loss"] < 20 for row in found)
    assert found[0]["loss"] != found[1]["loss"]
    assert trained.encoder == trial.trained.encoder


def test_no_log_leaves_nothing_and_an_unknown_one_is_refused(tmp_path: Path) -> None:
    assert epoch_log("none", tmp_path / "logs" / "run") == []
    with pytest.raises(TrainingError, match="--log 'wandb' is not one of csv, tensorboard, none"):
        epoch_log("wandb", tmp_path / "logs" / "run")
    assert not (tmp_path / "logs").exists()


@pytest.mark.skipif(any(map(find_spec, ("tensorboard", "tensorboardX"))), reason="tensorboard is installed")
def test_without_tensorboard_its_extra_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingExtra, match=r"phenoembed\[tensorboard\]"):
        epoch_log("tensorboard", tmp_path / "logs" / "run")
