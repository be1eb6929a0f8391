"""Every training option through a training: the same weights again, after a stop, and whatever is held out."""

import json
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import torch
from phenoembed.encoders import load_encoder
from phenoembed.families import siblings
from phenoembed.groups import group_images
from phenoembed.indexing import index_screen
from phenoembed.methods import METHODS, Members, build_method
from phenoembed.progress import Progress
from phenoembed.refinements import Refinements, refinements_of
from phenoembed.training import Settings, _family, train
from tests.conftest import Trial
from tests.phenoembed.quick import embed_here
from tifffile import imwrite

import phenoembed_store
from phenoembed import indexing
from phenoembed_store.errors import TrainingError

EACH = {
    "ema": Refinements(average="ema"),
    "swa": Refinements(average="swa"),
    "label smoothing": Refinements(label_smoothing=0.1),
    "consistency": Refinements(consistency=1.0),
    "warm start": Refinements(warm_start=2),
}
ALL = Refinements("ema", 0.1, 1.0, 2)


@contextmanager
def undisturbed(_name: str) -> Iterator[Progress]:
    yield lambda _done, _total: None


def stopped(stage: str) -> Any:
    """Ctrl-C in the second of the two epochs of this stage."""

    @contextmanager
    def stages(name: str) -> Iterator[Progress]:
        def advance(done: int, total: int) -> None:
            if name == stage and done > total // 2:
                signal.raise_signal(signal.SIGINT)

        yield advance

    return stages


def settings_with(trial: Trial, refinements: Refinements) -> Settings:
    return replace(trial.settings, epochs=2, refinements=refinements)


@pytest.mark.parametrize("name", EACH)
def test_an_option_makes_another_encoder_and_says_so(trial: Trial, tmp_path: Path, name: str) -> None:
    """Its config.json has the option, and its family is its own."""
    plain, own = settings_with(trial, Refinements()), settings_with(trial, EACH[name])
    ids = [train(trial.screen, tmp_path / "store", settings).encoder for settings in (plain, own)]
    configs = [load_encoder(tmp_path / "store", identifier).config for identifier in ids]
    assert [refinements_of(config) for config in configs] == [Refinements(), EACH[name]]
    assert configs[0]["family"] != configs[1]["family"]
    assert configs[0]["untrained_encoder"] == configs[1]["untrained_encoder"]
    assert ids[0] != ids[1]


@pytest.mark.parametrize(
    ("name", "stage"), [("ema", "training"), ("swa", "training"), ("all", "warm start"), ("all", "training")]
)
def test_a_stopped_training_ends_with_the_same_weights(trial: Trial, tmp_path: Path, name: str, stage: str) -> None:
    """Options with a state of their own: averages so far, the expander, a warm start that is done."""
    settings = settings_with(trial, (EACH | {"all": ALL})[name])
    whole = train(trial.screen, tmp_path / "whole", settings)
    with pytest.raises(KeyboardInterrupt, match="1 of 2 epochs"):
        train(trial.screen, tmp_path / "halved", settings, stage=stopped(stage))
    assert train(trial.screen, tmp_path / "halved", settings, resume=True).encoder == whole.encoder


def test_what_is_held_out_is_not_seen(trial: Trial, own_plates: Path, tmp_path: Path) -> None:
    """Noise in the place of every image outside of the training groups, controls too: the same weights, bit by bit."""
    from phenoembed.readers import read_screen

    settings = settings_with(trial, ALL)
    found = train(trial.screen, tmp_path / "store", settings)
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
    assert train(screen, tmp_path / "other", settings).encoder == found.encoder


def test_names_of_trainings_without_options_are_as_before(trial: Trial) -> None:
    """What was trained before there were options is found again."""
    said = asdict(trial.settings)
    for name in ("preparation", "refinements", "fold", "split"):
        del said[name]
    from phenoembed import training

    expected = training._digest([said, training._content(trial.screen)])
    assert _family(trial.screen, trial.settings) == expected


def test_methods_are_compared_where_options_are_the_same(
    trial: Trial, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An encoder of another method is a sibling with the same options alone; an old config.json has none."""
    monkeypatch.setattr(indexing, "embed_batches", embed_here)
    smooth = Refinements(label_smoothing=0.1)
    store = phenoembed_store.open(tmp_path / "store", create=True)
    ids = []
    for method, refinements in (("product", Refinements()), ("baseline", smooth), ("baseline", Refinements())):
        settings = replace(trial.settings, epochs=1, method=method, refinements=refinements)
        ids.append(train(trial.screen, store.path, settings).encoder)
        index_screen(trial.screen, store, ids[-1], baseline=False)
    config = store.path / "encoders" / ids[0] / "config.json"
    old = json.loads(config.read_text())
    del old["refinements"]
    config.write_text(json.dumps(old))
    folds, _ = siblings(store, ids[0])
    assert {one.encoder for one in folds} == {ids[0], ids[2]}
    assert [one.encoder for one in siblings(store, ids[1])[0]] == [ids[1]]


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
