"""Indexing on a Ray cluster: the table is that of one machine, whatever dies on the way. Skips where Ray is not."""

import os
import random
import signal
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from phenoembed.encoding import Work
from phenoembed.indexing import index_screen
from phenoembed.ray_engine import embed_on_ray
from phenoembed.readers import read_screen
from phenoembed.screen import Screen
from tests.conftest import Trial
from tests.phenoembed import files
from tests.phenoembed.quick import QuickWorker, pixels_as_vectors
from tests.phenoembed.test_interruptions import empty_store, tables

import phenoembed_store
from phenoembed import indexing, ray_engine
from phenoembed_store import Store
from phenoembed_store.errors import StoreError

pytest.importorskip("ray", reason="Ray is not installed: pip install 'phenoembed[ray]'")
pytestmark = [
    pytest.mark.filterwarnings("ignore"),  # Ray and its processes warn of their own ways
    pytest.mark.timeout(900),  # a process of Ray takes seconds to start, and where a machine is busy, a minute
]


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers that need not load torch, which takes longer than their work."""
    monkeypatch.setattr(ray_engine, "Worker", QuickWorker)


BATCH = 4  # images: 27 batches of the trial's screen


@dataclass
class TwoNodes:
    """A cluster on this machine: one node stays, the second can be removed and added again."""

    cluster: Any
    second: Any = field(default=None)

    def restore(self) -> None:
        if self.second is None:
            self.second = self.cluster.add_node(num_cpus=1)
            self.cluster.wait_for_nodes()

    def remove(self) -> None:
        """Without a farewell, as when a machine is switched off."""
        self.cluster.remove_node(self.second, allow_graceful=False)
        self.second = None


@pytest.fixture(scope="module")
def nodes() -> Iterator[TwoNodes]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import ray
        from ray.cluster_utils import Cluster

        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
        ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
        try:
            yield TwoNodes(cluster)
        finally:
            ray.shutdown()
            cluster.shutdown()


def workers() -> dict[int, str]:
    """The processes that embed, now: pid -> node."""
    import ray

    known = [one for one in ray._private.state.actors().values() if "RayWorker" in one["ActorClassName"]]
    return {one["Pid"]: one["Address"]["NodeID"] for one in known if one["State"] == "ALIVE" and one["Pid"]}


@pytest.fixture(scope="module")
def damaged(trial: Trial, tmp_path_factory: pytest.TempPathFactory) -> Screen:
    """The trial's plates with six bad files."""
    import shutil

    plates = tmp_path_factory.mktemp("ray") / trial.screen.root.name
    shutil.copytree(trial.screen.root, plates)
    screen = read_screen(plates)
    for number, (make, _) in enumerate(files.BAD.values()):
        make(screen.image_path(17 * number))
    return screen


@pytest.fixture(scope="module")
def expected(
    trial: Trial, damaged: Screen, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, list[dict[str, object]]]:
    """The tables that one machine makes, with the quick network."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(indexing, "embed_batches", pixels_as_vectors)
        store = phenoembed_store.open(empty_store(trial, tmp_path_factory.mktemp("local") / "store"))
        index_screen(damaged, store, batch_images=BATCH)
    return tables(store)


def index(screen: Screen, store: Store, progress: Callable[[int, int], None] | None = None) -> Any:
    return index_screen(screen, store, engine="ray", workers=2, batch_images=BATCH, commit_rows=16, progress=progress)


def assert_same(store: Store, expected: dict[str, list[dict[str, object]]]) -> None:
    """Row for row, every column; embeddings to the last digits of float32, as threads may add in another order."""
    found = tables(store)
    for name, rows in expected.items():
        assert len(found[name]) == len(rows)
        for one, other in zip(found[name], rows, strict=True):
            np.testing.assert_allclose(one.pop("embedding", []), other.get("embedding", []), rtol=1e-4, atol=1e-6)
            assert one == {column: value for column, value in other.items() if column != "embedding"}
    assert not store.verify()


def test_a_cluster_makes_the_table_of_one_machine(nodes: TwoNodes, trial: Trial, tmp_path: Path) -> None:
    """With the real network: derived groups and all columns are the same; again, nothing is left."""
    nodes.restore()
    store = phenoembed_store.open(empty_store(trial, tmp_path / "store"))
    assert index_screen(trial.screen, store, engine="ray", workers=1, batch_images=16).indexed == 108
    assert_same(store, tables(phenoembed_store.open(trial.path)))
    assert index_screen(trial.screen, store, engine="ray").unchanged == 108


def test_a_node_that_is_removed_loses_and_doubles_nothing(
    nodes: TwoNodes,
    trial: Trial,
    damaged: Screen,
    expected: dict[str, list[dict[str, object]]],
    tmp_path: Path,
    quick: None,
) -> None:
    """Both nodes work, until one is gone; its batches are given to the other one."""
    nodes.restore()
    store = phenoembed_store.open(empty_store(trial, tmp_path / "store"))

    def remove(_done: int, _total: int) -> None:
        if nodes.second is not None and len(set(workers().values())) == 2:
            nodes.remove()

    found = index(damaged, store, remove)
    assert nodes.second is None, "the node was never removed"
    assert (found.indexed, len(found.rejected)) == (102, 6)
    assert_same(store, expected)


def kill_workers(
    trial: Trial, screen: Screen, expected: dict[str, list[dict[str, object]]], folder: Path, kills: int, seed: int
) -> int:
    """Index until so many workers were killed at random moments; every table is the expected one. How many landed."""
    draw, landed, run = random.Random(seed), 0, 0
    while landed < kills:
        store = phenoembed_store.open(empty_store(trial, folder / f"store{run}"))

        def kill(_done: int, _total: int) -> None:
            nonlocal landed
            alive = list(workers())
            if landed < kills and alive and draw.random() < 0.3:
                os.kill(draw.choice(alive), signal.SIGKILL)
                landed += 1

        found = index(screen, store, kill)
        assert (found.indexed, len(found.rejected)) == (102, 6)
        assert_same(store, expected)
        run += 1
    return landed


def test_workers_that_are_killed_lose_and_double_nothing(
    nodes: TwoNodes,
    trial: Trial,
    damaged: Screen,
    expected: dict[str, list[dict[str, object]]],
    tmp_path: Path,
    quick: None,
) -> None:
    """Two SIGKILLs to workers while they work: the table is that of an undisturbed run."""
    nodes.restore()
    assert kill_workers(trial, damaged, expected, tmp_path, 2, seed=0) == 2


@pytest.mark.soak
def test_two_nodes_make_the_table_of_one(
    nodes: TwoNodes,
    trial: Trial,
    damaged: Screen,
    expected: dict[str, list[dict[str, object]]],
    tmp_path: Path,
    quick: None,
) -> None:
    """Both take part, undisturbed; indexed again, nothing is left to do."""
    nodes.restore()
    store = phenoembed_store.open(empty_store(trial, tmp_path / "store"))
    seen: dict[int, str] = {}
    found = index(damaged, store, lambda _done, _total: seen.update(workers()))
    assert (found.indexed, len(found.rejected)) == (102, 6)
    assert len(set(seen.values())) == 2, "one node did all of it"
    assert_same(store, expected)
    good = replace(damaged, table=damaged.table.filter(pa.array([i % 17 != 0 or i > 85 for i in range(108)])))
    assert (index(good, store).unchanged, index(good, store).indexed) == (102, 0)


@pytest.mark.soak
def test_a_hundred_workers_are_killed(
    nodes: TwoNodes,
    trial: Trial,
    damaged: Screen,
    expected: dict[str, list[dict[str, object]]],
    tmp_path: Path,
    quick: None,
) -> None:
    nodes.restore()
    assert kill_workers(trial, damaged, expected, tmp_path, 100, seed=1) == 100


def test_what_a_worker_cannot_do_is_said(nodes: TwoNodes, trial: Trial, tmp_path: Path) -> None:
    """A damaged encoder is one line, not the pages of a cluster."""
    store = trial.copy(tmp_path / "store")
    path = store.path / "encoders" / trial.trained.encoder / "model.safetensors"
    path.unlink()
    path.write_bytes(b"nothing")
    with pytest.raises(StoreError, match=f"encoder {trial.trained.encoder} cannot be read"):
        list(embed_on_ray(Work(store.path, (trial.trained.encoder,)), [((0,), ((trial.screen.image_path(0),),))]))


@pytest.mark.parametrize(("named", "joined"), [(None, "local"), ("ray://head:10001", "ray://head:10001")])
def test_no_cluster_is_joined_that_was_not_named(
    named: str | None, joined: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray itself would join one that someone else has running on this machine."""

    class Joined(Exception):  # noqa: N818
        pass

    class Recorder:
        def is_initialized(self) -> bool:
            return False

        def init(self, address: str, **_: Any) -> None:
            raise Joined(address)

    monkeypatch.setattr(ray_engine, "_ray", Recorder)
    monkeypatch.setenv("RAY_ADDRESS", named) if named else monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with pytest.raises(Joined, match=joined):
        list(embed_on_ray(Work(Path("store"), ("enc",)), []))
