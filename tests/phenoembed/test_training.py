"""Training: the same weights from the same seed, whatever happens on the way."""

import json
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import torch
from phenoembed.encoders import load_classifier, load_encoder, load_fold
from phenoembed.folds import make_fold
from phenoembed.groups import group_images
from phenoembed.progress import Progress, silent
from phenoembed.screen import Screen
from phenoembed.settings import Settings
from phenoembed.training import find_trained, train, train_folds
from tests.conftest import Trial, with_column
from tests.phenoembed import files

from phenoembed_store.errors import StoreError, TrainingError


def weights(store: Path, encoder: str) -> bytes:
    return (store / "encoders" / encoder / "model.safetensors").read_bytes()


def test_the_same_seed_gives_the_same_weights(trial: Trial, tmp_path: Path) -> None:
    """Bit by bit, with the rows of the manifest in another order: fold, batches and draws follow from the keys."""
    order = np.random.default_rng(0).permutation(trial.screen.n_images)
    shuffled = replace(trial.screen, table=trial.screen.table.take(pa.array(order)))
    groups = [group_images(screen.table).table for screen in (trial.screen, shuffled)]
    assert make_fold(groups[0], "replicate", 0) == make_fold(groups[1], "replicate", 0)
    settings = replace(trial.settings, epochs=1)
    found = [train(screen, tmp_path / name, settings) for screen, name in ((trial.screen, "a"), (shuffled, "b"))]
    assert found[0].encoder == found[1].encoder
    assert weights(tmp_path / "a", found[0].encoder) == weights(tmp_path / "b", found[1].encoder)
    assert found[0].fold == found[1].fold
    assert found[0].test == found[1].test
    assert found[0].encoder != trial.trained.encoder


def test_an_encoders_folder_holds_no_pickle(trial: Trial) -> None:
    """Weights as safetensors, the rest as JSON; the checkpoint and the run are gone."""
    folder = trial.path / "encoders" / trial.trained.encoder
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "fold.json", "model.safetensors"]
    config = json.loads((folder / "config.json").read_text())
    assert (config["id"], config["epochs"], config["method"], config["dim"]) == (folder.name, 3, "product", 512)
    assert config["augmentation"]["blur_sigma"] > 0
    assert list((trial.path / "runs").iterdir()) == []
    assert sorted(path.name for path in (trial.path / "encoders").iterdir()) == sorted(
        [trial.trained.encoder, config["untrained_encoder"]]
    )
    assert not [path for path in trial.path.iterdir() if path.name.endswith(".tmp")]


def test_the_saved_encoder_is_the_one_that_was_tested(trial: Trial) -> None:
    """Loaded again, network and classifier give the reported accuracy of the fold's test groups, group by group."""
    from phenoembed.cache import open_cache, sources_of
    from phenoembed.embedding import BATCH_IMAGES  # noqa: F401
    from phenoembed.methods import Members
    from phenoembed.model import to_network

    found = load_encoder(trial.path, trial.trained.encoder)
    head, fold = load_classifier(trial.path, found.id), load_fold(trial.path, found.id)
    cache = open_cache(trial.path / "cache", sources_of(trial.screen), None)
    groups = group_images(trial.screen.table)
    hits = []
    for place in groups.places(fold.test):
        if groups.roles[place] != "treated":
            continue
        pixels = torch.from_numpy(cache.pixels[groups.rows[place]])
        members = Members(torch.zeros(len(pixels), dtype=torch.int64), torch.arange(len(pixels)), 1)
        with torch.inference_mode():
            features = found.encoder(
                to_network(pixels, found.config["pixel_mean"], found.config["pixel_sd"], cache.scale)
            )
            scores = head(features, members)[0]
        hits.append(found.config["classes"][int(scores.argmax())] == groups.compounds[place])
    assert trial.trained.test is not None
    assert trial.trained.test["n_test"] == len(hits) == 12
    assert trial.trained.test["top1"] == pytest.approx(np.mean(hits))


def test_pixels_are_standardised_by_the_training_images(trial: Trial) -> None:
    """Mean and sd in config.json are those of the fold's treated training images, and of no other."""
    from tifffile import imread

    groups, config = group_images(trial.screen.table), load_encoder(trial.path, trial.trained.encoder).config
    rows = [
        row
        for place in groups.places(trial.trained.fold.train)
        if groups.roles[place] == "treated"
        for row in groups.rows[place]
    ]
    pixels = np.stack([imread(trial.screen.image_path(row)) for row in rows]) / 65535
    assert (config["pixel_mean"], config["pixel_sd"]) == pytest.approx((pixels.mean(), pixels.std()))


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_a_damaged_encoder_is_an_error_line(trial: Trial, tmp_path: Path, name: str) -> None:
    """A flipped bit, half a file, no file: each names the encoder and what to do."""
    store = trial.copy(tmp_path / "store")
    path = store.path / "encoders" / trial.trained.encoder / name
    data = path.read_bytes()
    path.unlink()
    flipped = bytearray(data)
    flipped[-1000 if name.startswith("model") else 0] ^= 1
    for damaged in (bytes(flipped), data[: len(data) // 2], b"", None):
        path.unlink(missing_ok=True)
        if damaged is not None:
            path.write_bytes(damaged)
        with pytest.raises(StoreError, match=f"encoder {trial.trained.encoder}"):
            load_encoder(store.path, trial.trained.encoder)


def test_training_again_mends_a_damaged_encoder(trial: Trial, tmp_path: Path) -> None:
    """The id is a hash of the weights, so the same training writes to the same folder; it also becomes the newest."""
    store = trial.copy(tmp_path / "store")
    folder = store.path / "encoders" / trial.trained.encoder
    before = json.loads((folder / "config.json").read_text())["trained_at"]
    good = weights(store.path, trial.trained.encoder)
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors").write_bytes(good[:-4] + b"xxxx")
    assert train(trial.screen, store.path, trial.settings).encoder == trial.trained.encoder
    assert weights(store.path, trial.trained.encoder) == good
    assert json.loads((folder / "config.json").read_text())["trained_at"] > before
    assert find_trained(store.path, trial.screen, trial.settings) == trial.trained.encoder


def test_bad_images_are_left_out_and_named(trial: Trial, own_plates: Path, tmp_path: Path) -> None:
    """Training goes on without them; groups that lose images stay, and a group of one image trains too."""
    from phenoembed.readers import read_screen

    screen = read_screen(own_plates)
    paths = screen.table.column("path").to_pylist()
    for number, (make, _) in enumerate(files.BAD.values()):
        make(own_plates / paths[7 * number])
    found = train(screen, tmp_path / "store", Settings(epochs=1, batch_groups=4, seed=3))
    assert set(found.rejected) == {paths[7 * number] for number in range(6)}
    assert found.document()["rejected"] == 6


def test_every_fold_is_trained_and_what_is_done_is_kept(trial: Trial, tmp_path: Path) -> None:
    """``all`` makes an encoder a fold; with resume, folds that are done are not trained again."""
    settings = Settings(epochs=1, batch_groups=100, split="compound")
    compounds = trial.screen.table.column("compound")
    three = sorted(set(compounds.to_pylist()) - {"DMSO"})[:3]
    few = replace(trial.screen, table=trial.screen.table.filter(pc.is_in(compounds, pa.array(three))))
    store = tmp_path / "store"
    first = train(few, store, replace(settings, fold=1))
    assert first.test is None, "held-out compounds are no classes"
    stages: list[str] = []

    def stage(name: str) -> AbstractContextManager[Progress]:
        stages.append(name)
        return silent(name)

    rest = train_folds(few, store, settings, "all", resume=True, stage=stage)
    assert [one.settings.fold for one in rest] == [0, 2]
    assert stages == [f"{what}, fold {fold} of 3" for fold in (0, 2) for what in ("reading", "training")]
    assert len({first.encoder, *(one.encoder for one in rest)}) == 3
    tested = [set(one.fold.test) for one in (first, *rest)]
    assert sum(map(len, tested)) == len(set().union(*tested))
    with pytest.raises(TrainingError, match="all 3 folds of the compound split are trained already"):
        train_folds(few, store, settings, "all", resume=True)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"epochs": 0}, "epochs is 0; 1 or more"),
        ({"batch_groups": 1}, "batch_groups is 1; 2 or more"),
        ({"devices": 0}, "devices is 0; 1 or more"),
        ({"size": 31}, "size is 31 pixels; ResNet-18 needs 32 or more"),
        ({"learning_rate": float("nan")}, "learning_rate is nan"),
        ({"split": "plate"}, "split 'plate' is not one of"),
        ({"method": "max"}, "method 'max' is not one of"),
        ({"fold": 9}, "fold 9 of the replicate split does not exist"),
    ],
)
def test_settings_that_cannot_be_meant_are_an_error_line(
    trial: Trial, tmp_path: Path, changed: dict[str, object], said: str
) -> None:
    """Each names the value."""
    with pytest.raises(TrainingError, match=said):
        train(trial.screen, tmp_path / "store", replace(trial.settings, **changed))


@pytest.mark.parametrize("fold", ["one", "-1", "²", ""])
def test_a_fold_is_a_number_or_all(trial: Trial, tmp_path: Path, fold: str) -> None:
    with pytest.raises(TrainingError, match="is neither a number from 0 nor 'all'"):
        train_folds(trial.screen, tmp_path / "store", trial.settings, fold)


def test_nothing_to_resume_is_said(trial: Trial, tmp_path: Path) -> None:
    """--resume without an interrupted training of these settings does not start anew by itself."""
    with pytest.raises(TrainingError, match="nothing to resume in"):
        train(trial.screen, tmp_path / "store", trial.settings, resume=True)


def test_one_compound_is_no_task(trial: Trial, tmp_path: Path) -> None:
    """Two classes are needed, in the training groups."""
    table = trial.screen.table
    one = next(name for name in table.column("compound").to_pylist() if name != "DMSO")
    alone = replace(trial.screen, table=table.filter(pc.equal(table.column("compound"), one)))
    with pytest.raises(TrainingError, match=r"1 treated compound\(s\) in the training groups; two or more are needed"):
        train(alone, tmp_path / "store", Settings(epochs=1, split="replicate"))


ODD_NAMES = ("12345", "a/b", 'it\'s "N,N"', "βι")


def odd_names(screen: Screen) -> Screen:
    """Compounds called by numbers, slashes, quotes and letters of other alphabets; a replicate with a slash."""
    compounds, replicates = (screen.table.column(name).to_pylist() for name in ("compound", "replicate"))
    new = {"DMSO": "DMSO", **dict(zip(sorted(set(compounds) - {"DMSO"}), ODD_NAMES, strict=True))}
    table = with_column(screen.table, "compound", pa.array([new[name] for name in compounds]))
    return replace(screen, table=with_column(table, "replicate", pa.array([f"r/{name}" for name in replicates])))


def test_odd_names_and_sizes_go_through_the_whole_chain(trial: Trial, tmp_path: Path) -> None:
    """Numbers, slashes, quotes and other alphabets as names; images asked for larger than they are; one epoch."""
    from phenoembed.indexing import index_screen
    from phenoembed.probes import probe

    import phenoembed_store

    screen = odd_names(trial.screen)
    found = train(screen, tmp_path / "store", Settings(epochs=1, size=500, batch_groups=3))
    store = phenoembed_store.open(tmp_path / "store")
    assert index_screen(screen, store).indexed == screen.n_images
    report = probe(store, "compound")
    assert report.document("replicate")["classes"] == 4
    assert set(store.predictions().column("label").to_pylist()) == set(ODD_NAMES)
    hits = store.search(compound=ODD_NAMES[2], k=5).column("compound").to_pylist()
    assert sorted(hits) == ["12345", "DMSO", "a/b", "βι"]
    assert found.fold.held_out.endswith("/r/R1")
