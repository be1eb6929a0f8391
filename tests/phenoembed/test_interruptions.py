"""Training and indexing, killed at any moment and run again: nothing is lost, nothing is doubled."""

import random
import re
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest
from phenoembed.preparation import Preparation
from phenoembed.refinements import Refinements
from phenoembed.screen import Screen
from phenoembed.settings import Settings
from tests import kills
from tests.conftest import Trial
from tests.phenoembed import files
from tests.phenoembed.quick import pixels_as_vectors

import phenoembed_store
from phenoembed_store import Store

TRAINING = ("phenoembed.training", "phenoembed.readers")
INDEXING = ("phenoembed.indexing", "deltalake", "duckdb")

# Training


def train_aloud(screen: Screen, store: Path, settings: Settings) -> None:
    """Train, or go on; say which batch of which total is done, and what became of Ctrl-C."""
    from contextlib import contextmanager

    from phenoembed.training import train

    @contextmanager
    def stage(name: str) -> Iterator[Callable[[int, int], None]]:
        yield lambda done, total: kills.say("%s %d %d", name, done, total)
        kills.say("%s is done", name)

    rename = Path.replace

    def rename_slowly(path: Path, target: Path) -> Path:
        """A checkpoint stands beside the last one for a millisecond; long enough here for a kill to meet it."""
        time.sleep(0.05)
        return rename(path, target)

    Path.replace = rename_slowly  # type: ignore[method-assign,assignment]  # in this process, which ends
    try:
        trained = train(screen, store, settings, resume=None, stage=stage)
    except KeyboardInterrupt as stop:
        kills.say("stopped: %s", stop)
    else:
        kills.say("encoder %s", trained.encoder)


def batches_done(said: Sequence[str]) -> list[int]:
    """The number of each batch that was trained."""
    return [int(line.split()[1]) for line in said if line.startswith("training ") and line.split()[1].isdigit()]


def test_a_training_killed_at_any_moment_ends_with_the_undisturbed_weights(
    trial: Trial, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """SIGKILL in an epoch, within the writing of a checkpoint (twice), and after the last epoch; SIGINT in an epoch.

    Each run goes on less than an epoch before the batch that was hit, and the weights are those of the training that
    nothing disturbed, bit by bit.
    """
    store, draw = tmp_path / "store", random.Random(0)
    per_epoch = 3  # batches: 20 training groups of treated wells, 8 a batch

    def checkpoint_begun() -> list[Path]:
        return list((store / "runs").glob("*/last.tmp"))

    def after_batch(number: int) -> Callable[[Sequence[str]], bool]:
        return lambda said: number <= max(batches_done(said), default=0)

    plan: list[tuple[int, Callable[[Sequence[str]], object]]] = [
        (signal.SIGKILL, lambda _said: checkpoint_begun()),
        (signal.SIGKILL, after_batch(2)),
        (signal.SIGINT, after_batch(4)),
        (signal.SIGKILL, lambda _said: checkpoint_begun()),
        (signal.SIGKILL, lambda said: "training is done" in said),
    ]
    landed, reached = [], 0
    told: re.Match[str] | None = None
    for kind, when in plan:
        for left_over in checkpoint_begun():
            left_over.unlink()
        ended = kills.run(
            train_aloud, trial.screen, store, trial.settings,
            kill=kind, when=when, after=draw.uniform(0, 0.005), preload=TRAINING,
        )  # fmt: skip
        steps = batches_done(ended.said)
        assert steps[0] > reached - per_epoch, "more than an epoch was lost"
        assert told is None or steps[0] == int(told[1]) * per_epoch + 1
        told = None
        reached = steps[-1]
        landed.append(
            f"{signal.Signals(kind).name}: " + ("writing a checkpoint" * bool(checkpoint_begun()) or ended.stage)
        )
        if kind == signal.SIGINT:
            told = re.fullmatch(
                r"stopped: interrupted; (\d) of 3 epochs are saved: the same command with --resume goes on", ended.stage
            )
            assert told is not None
        else:
            assert ended.code == -kind
        assert not (store / "encoders" / trial.trained.encoder).exists()
    last = kills.run(train_aloud, trial.screen, store, trial.settings, preload=TRAINING)
    with capsys.disabled():
        print("\ntraining was hit while:", *(f"  {line}" for line in landed), sep="\n")
    assert sum(line.endswith("writing a checkpoint") for line in landed) == 2
    assert batches_done(last.said) == [], "after the last epoch nothing is left to train"
    assert last.stage == f"encoder {trial.trained.encoder}"
    weights = [path / "encoders" / trial.trained.encoder / "model.safetensors" for path in (store, trial.path)]
    assert weights[0].read_bytes() == weights[1].read_bytes()
    assert list((store / "runs").iterdir()) == []


def test_a_killed_training_with_every_option_ends_with_the_undisturbed_weights(trial: Trial, tmp_path: Path) -> None:
    """SIGKILL in the warm start and in the second epoch, each training in a process of its own: the same encoder."""
    options = Refinements("ema", label_smoothing=0.1, consistency=1.0, warm_start=2)
    light = Preparation(flat_field="plate", normalise="plate")
    settings = replace(trial.settings, method="balanced", epochs=2, refinements=options, preparation=light)
    whole = kills.run(train_aloud, trial.screen, tmp_path / "whole", settings, preload=TRAINING)
    assert whole.stage.startswith("encoder ")
    batches = len(batches_done(whole.said)) // 2
    for line in ("warm start 2 2", f"training {batches + 1} {2 * batches}"):
        ended = kills.run(
            train_aloud, trial.screen, tmp_path / "killed", settings,
            when=lambda said, line=line: line in said, preload=TRAINING,
        )  # fmt: skip
        assert ended.code == -signal.SIGKILL
    last = kills.run(train_aloud, trial.screen, tmp_path / "killed", settings, preload=TRAINING)
    assert batches_done(last.said)[0] > 1, "it began anew"
    assert last.stage == whole.stage


# Indexing


def index_aloud(screen: Screen, store: Path) -> None:
    """Index in small commits with the quick network; say what is done."""
    import phenoembed.indexing as indexing

    indexing.embed_batches = pixels_as_vectors  # type: ignore[assignment]
    try:
        found = indexing.index_screen(
            screen,
            phenoembed_store.open(store),
            batch_images=8,
            commit_rows=8,
            progress=lambda done, total: kills.say("encoded %d of %d", done, total),
        )
    except KeyboardInterrupt:
        kills.say("stopped")
    else:
        kills.say("indexed %d, unchanged %d, rejected %d", found.indexed, found.unchanged, len(found.rejected))


def tables(store: Store) -> dict[str, list[dict[str, object]]]:
    """Every row of the truth and of what is derived from it, in one order."""
    found = {}
    for name, order in (("images", ("path", "encoder")), ("rejected", ("path", "encoder"))):
        table = store.sql(f"SELECT * FROM {name}").to_arrow_table()
        found[name] = table.sort_by([(column, "ascending") for column in order]).to_pylist()
    found["groups"] = store.groups().to_pylist()
    return found


def empty_store(trial: Trial, folder: Path) -> Path:
    """The trial's store before anything was indexed."""
    trial.copy(folder)
    import shutil

    for name in ("images", "groups", "rejected"):
        shutil.rmtree(folder / name, ignore_errors=True)
    return folder


@pytest.fixture
def damaged(own_plates: Path) -> Screen:
    """The screen with six bad files, spread over its plates."""
    from phenoembed.readers import read_screen

    screen = read_screen(own_plates)
    paths = screen.table.column("path").to_pylist()
    for number, (make, _) in enumerate(files.BAD.values()):
        make(own_plates / paths[17 * number])
    return screen


def writing(line: str) -> bool:
    return line.startswith("writing")


def kill_indexing(trial: Trial, screen: Screen, folder: Path, n_kills: int, seed: int) -> list[str]:
    """Kill ``n_kills`` indexings, at random moments and, three times in five, within a write. Where each landed."""
    draw = random.Random(seed)
    undisturbed = empty_store(trial, folder / "undisturbed")
    whole = kills.run(index_aloud, screen, undisturbed, preload=INDEXING)
    assert whole.stage == "indexed 102, unchanged 0, rejected 6"
    expected = tables(phenoembed_store.open(undisturbed))
    assert (len(expected["images"]), len(expected["rejected"])) == (2 * 102, 6)
    landed = []
    store = empty_store(trial, folder / "store0")
    for number in range(n_kills):
        kind = signal.SIGINT if number % 5 == 4 else signal.SIGKILL
        if number % 5 in (0, 2, 3):
            nth = draw.randint(1, 4)
            ended = kills.run(
                index_aloud, screen, store, kill=kind, preload=INDEXING,
                when=lambda said, nth=nth: sum(map(writing, said)) >= nth and writing(said[-1]),
                after=draw.uniform(0, 0.004),
            )  # fmt: skip
        else:
            nth = draw.randint(1, 3)
            when = lambda said, nth=nth: len(said) >= nth  # noqa: E731
            ended = kills.run(
                index_aloud, screen, store, kill=kind, preload=INDEXING, when=when, after=draw.uniform(0, 0.05)
            )
        # a Ctrl-C in the middle of a library's call may come out as that library's error; the tables are what counts
        assert ended.code in ((-kind, 0, 1) if kind == signal.SIGINT else (-kind, 0))
        landed.append(f"{kind.name}: {ended.stage}" if ended.code else f"{kind.name}: after the end ({ended.stage})")
        if ended.stage.startswith("indexed") or number % 5 == 4:
            again = kills.run(index_aloud, screen, store, preload=INDEXING)
            assert again.stage.startswith("indexed")
            assert tables(phenoembed_store.open(store)) == expected
            store = empty_store(trial, folder / f"store{number + 1}")
    kills.run(index_aloud, screen, store, preload=INDEXING)
    assert tables(phenoembed_store.open(store)) == expected
    assert not phenoembed_store.open(store).verify()
    return landed


def test_an_indexing_killed_at_any_moment_is_completed(
    trial: Trial, damaged: Screen, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ten kills, most of them within a write: the next run ends with the very rows of an undisturbed one."""
    landed = kill_indexing(trial, damaged, tmp_path, 10, seed=0)
    with capsys.disabled():
        print("\nindexing was hit while:", *(f"  {line}" for line in landed), sep="\n")
    assert sum(": writing" in line for line in landed) >= len(landed) // 2


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(1, 11))
def test_an_indexing_killed_a_hundred_times_is_completed(
    trial: Trial, damaged: Screen, tmp_path: Path, seed: int
) -> None:
    """The same with other moments."""
    landed = kill_indexing(trial, damaged, tmp_path, 10, seed=seed)
    print(*landed, sep="\n")
    assert sum(": writing" in line for line in landed) >= len(landed) // 2


def test_what_was_committed_is_not_encoded_again(trial: Trial, damaged: Screen, tmp_path: Path) -> None:
    """After a kill, only images that are in neither table are encoded."""
    store = empty_store(trial, tmp_path / "store")
    kills.run(index_aloud, damaged, store, when=lambda said: sum(map(writing, said)) >= 4, preload=INDEXING)
    opened = phenoembed_store.open(store)
    kept = opened.known_images(trial.trained.encoder).num_rows
    again = kills.run(index_aloud, damaged, store, preload=INDEXING)
    assert again.stage == f"indexed {102 - kept}, unchanged {kept}, rejected 6"
    assert isinstance(opened.known_images(trial.trained.encoder), pa.Table)
