"""Every training option through a training: the same weights again, after a stop, and whatever is held out."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import torch
from phenoembed.encoders import load_encoder
from phenoembed.families import _recipe
from phenoembed.groups import group_images
from phenoembed.methods import METHODS, Balanced, Members, build_method
from phenoembed.progress import Progress
from phenoembed.refinements import Refinements, refinements_of
from phenoembed.settings import Settings, _content, _digest, family
from phenoembed.training import Trained, train
from tests.conftest import Trial
from tifffile import imwrite

from phenoembed import training
from phenoembed_store.errors import TrainingError

OPTIONS = {
    "none": Refinements(),
    "ema": Refinements(average="ema"),
    "swa": Refinements(average="swa"),
    "label smoothing": Refinements(label_smoothing=0.1),
    "consistency": Refinements(consistency=1.0),
    "warm start": Refinements(warm_start=2),
    "all": Refinements("ema", 0.1, 1.0, 2),
}


@dataclass(frozen=True, eq=False)
class Wholes:
    """Trainings of two epochs that nothing disturbs, one for each of OPTIONS, made when they are asked for."""

    trial: Trial
    store: Path

    @cache  # noqa: B019  # lives as long as the module's tests
    def trained(self, name: str) -> Trained:
        return train(self.trial.screen, self.store, settings_with(self.trial, OPTIONS[name]))

    def config(self, name: str) -> dict[str, Any]:
        return load_encoder(self.store, self.trained(name).encoder).config


@pytest.fixture(scope="module")
def wholes(trial: Trial, tmp_path_factory: pytest.TempPathFactory) -> Wholes:
    return Wholes(trial, tmp_path_factory.mktemp("refinements"))


def stopped(stage: str, share: float) -> Any:
    """Ctrl-C when more than this share of a stage's batches is done."""

    @contextmanager
    def stages(name: str) -> Iterator[Progress]:
        def advance(done: int, total: int) -> None:
            if name == stage and done > share * total:
                signal.raise_signal(signal.SIGINT)

        yield advance

    return stages


def settings_with(trial: Trial, refinements: Refinements) -> Settings:
    return replace(trial.settings, epochs=2, refinements=refinements)


def test_every_option_makes_another_encoder_and_says_so(wholes: Wholes) -> None:
    """Its config.json has the options, its family is its own, and all begin with the same weights."""
    configs = {name: wholes.config(name) for name in OPTIONS}
    assert {name: refinements_of(config) for name, config in configs.items()} == OPTIONS
    for key in ("id", "family"):
        assert len({config[key] for config in configs.values()}) == len(OPTIONS)
    assert len({config["untrained_encoder"] for config in configs.values()}) == 1


def test_methods_are_compared_where_options_are_the_same(wholes: Wholes) -> None:
    """Options are part of what two trainings have in common; an old config.json has none."""
    configs = {name: wholes.config(name) for name in OPTIONS}
    old = {key: value for key, value in configs["none"].items() if key != "refinements"}
    assert [name for name, config in configs.items() if _recipe(config) == _recipe(old)] == ["none"]
    assert len({str(_recipe(config)) for config in configs.values()}) == len(OPTIONS)


@pytest.mark.parametrize(
    ("name", "stage", "share", "said"),
    [
        ("ema", "training", 0.5, "1 of 2 epochs are saved"),
        ("swa", "training", 0.5, "1 of 2 epochs are saved"),
        ("all", "warm start", 0.5, "1 of 2 epochs of the warm start are saved"),
        ("all", "training", 0.0, "the warm start is saved"),
        ("all", "training", 0.5, "1 of 2 epochs are saved"),
    ],
)
def test_a_stopped_training_ends_with_the_same_weights(
    trial: Trial, wholes: Wholes, tmp_path: Path, name: str, stage: str, share: float, said: str
) -> None:
    """Options with a state of their own: averages so far, the expander, a warm start that is done."""
    settings = settings_with(trial, OPTIONS[name])
    with pytest.raises(KeyboardInterrupt, match=said):
        train(trial.screen, tmp_path, settings, stage=stopped(stage, share))
    assert train(trial.screen, tmp_path, settings, resume=True).encoder == wholes.trained(name).encoder


def test_a_training_with_nothing_left_to_do_is_the_average_too(
    trial: Trial, wholes: Wholes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed after the last epoch and before the encoder was saved."""

    def killed(*_: Any) -> None:
        raise MemoryError

    settings = settings_with(trial, OPTIONS["ema"])
    with monkeypatch.context() as patch:
        patch.setattr(training, "fit_temperature", killed)
        with pytest.raises(MemoryError):
            train(trial.screen, tmp_path, settings)
    assert train(trial.screen, tmp_path, settings, resume=True).encoder == wholes.trained("ema").encoder


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="one processor")
def test_a_training_goes_on_with_as_many_threads_as_it_began_with(
    trial: Trial, wholes: Wholes, tmp_path: Path, n_threads: Callable[[int], None]
) -> None:
    """With one and with two the weights differ; one that two began and one should end is of two throughout."""
    one, settings = wholes.trained("none"), settings_with(trial, Refinements())
    n_threads(2)
    two = train(trial.screen, tmp_path / "two", settings)
    assert two.encoder != one.encoder
    with pytest.raises(KeyboardInterrupt):
        train(trial.screen, tmp_path / "stopped", settings, stage=stopped("training", 0.5))
    n_threads(1)
    assert train(trial.screen, tmp_path / "stopped", settings, resume=True).encoder == two.encoder


@pytest.fixture
def n_threads() -> Iterator[Callable[[int], None]]:
    """Sets the number of torch's threads; as it was, in the end."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def test_a_training_of_another_network_is_not_gone_on_with(
    trial: Trial, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One by `balanced` that was interrupted before controls were a class: an error line, and anew it trains."""
    settings = replace(trial.settings, method="balanced", epochs=2)
    with monkeypatch.context() as before:
        before.setattr(Balanced, "learns_controls", False)
        with pytest.raises(KeyboardInterrupt, match="1 of 2 epochs are saved"):
            train(trial.screen, tmp_path, settings, stage=stopped("training", 0.5))
    said = rf"another network \(head.classifier.5.bias\).*anew without --resume, or remove {tmp_path}/runs/\w+$"
    for resume in (True, None):
        with pytest.raises(TrainingError, match=said):
            train(trial.screen, tmp_path, settings, resume=resume)
    assert train(trial.screen, tmp_path, settings).test is not None


def test_what_is_held_out_is_not_seen(trial: Trial, wholes: Wholes, own_plates: Path, tmp_path: Path) -> None:
    """Noise in the place of every image outside of the training groups, controls too: the same weights, bit by bit."""
    from phenoembed.readers import read_screen

    found = wholes.trained("all")
    screen = read_screen(own_plates)
    groups = group_images(screen.table)
    rows = np.concatenate([groups.rows[place] for place in groups.places(found.fold.train)])
    held_out = np.setdiff1d(np.arange(screen.n_images), rows)
    assert "control" in screen.table.column("role").take(pa.array(held_out)).to_pylist()
    rng = np.random.default_rng(0)
    for row in held_out.tolist():
        path = screen.image_path(row)
        path.unlink()
        imwrite(path, rng.integers(0, 65535, (32, 32), dtype=np.uint16))
    assert train(screen, tmp_path / "other", settings_with(trial, OPTIONS["all"])).encoder == found.encoder


def test_names_of_trainings_without_options_are_as_before(trial: Trial) -> None:
    """What was trained before there were options is found again."""
    said = asdict(trial.settings)
    for name in ("preparation", "refinements", "fold", "split"):
        del said[name]
    expected = _digest([said, _content(trial.screen)])
    assert family(trial.screen, trial.settings) == expected


@pytest.mark.parametrize("method", METHODS)
def test_smoothing_spreads_a_share_of_the_label(method: str) -> None:
    """The loss is (1 - s) of the label's and s of the mean over classes of -log P, group by group or image by image."""
    torch.manual_seed(0)
    head = build_method(method, 5, 12).eval()
    features, group = torch.randn(9, 12), torch.tensor([0, 0, 0, 1, 1, 2, 2, 2, 2])
    members, labels, share = Members(group, torch.tensor([0, 1, 2, 0, 1, 0, 1, 2, 3]), 3), torch.tensor([4, 0, 2]), 0.3
    with torch.no_grad():
        images = method == "baseline"
        scores = head.classifier(features) if images else head(features, members)
        logs = torch.log_softmax(scores.double(), 1).numpy()
        found = float(head.loss(features, members, labels, share))
    own = logs[np.arange(len(logs)), (labels[group] if images else labels).numpy()]
    assert found == pytest.approx(-((1 - share) * own + share * logs.mean(1)).mean(), rel=1e-5)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"average": "mean"}, "--average 'mean' is not one of none, ema, swa"),
        ({"label_smoothing": 1.0}, "--label-smoothing 1.0: it lies between 0 and 1"),
        ({"label_smoothing": float("nan")}, "--label-smoothing nan"),
        ({"consistency": -1.0}, "--consistency -1.0: it is 0 or more"),
        ({"consistency": float("inf")}, "--consistency inf"),
        ({"warm_start": -1}, "--warm-start -1: a number of epochs is 0 or more"),
    ],
)
def test_options_that_cannot_be_meant_are_an_error_line(
    trial: Trial, tmp_path: Path, changed: dict[str, Any], said: str
) -> None:
    """Each names the value."""
    with pytest.raises(TrainingError, match=said):
        train(trial.screen, tmp_path / "store", settings_with(trial, Refinements(**changed)))


def test_consistency_needs_two_replicates_to_train_on(trial: Trial, tmp_path: Path) -> None:
    """Of two, one is held out: nothing is left to compare."""
    table = trial.screen.table
    two = sorted(set(table.column("replicate").to_pylist()))[:2]
    few = replace(trial.screen, table=table.filter(pc.is_in(table.column("replicate"), pa.array(two))))
    with pytest.raises(TrainingError, match="--consistency compares replicates"):
        train(few, tmp_path / "store", settings_with(trial, Refinements(consistency=1.0)))
