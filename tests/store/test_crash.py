"""SIGKILL at random moments of every kind of write: the store opens, verifies clean, and holds whole writes only."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pytest
from tests.store.fakes import fake_rows

import phenoembed_store
from phenoembed_store.schema import IMAGE_KEY

WRITER = """
import os, sys
from pathlib import Path
import pyarrow as pa
import phenoembed_store
from phenoembed_store import indexes
from tests.store.fakes import fake_rows

indexes.FLAT_LIMIT = 100
store = phenoembed_store.open(Path(sys.argv[1]))
rows = fake_rows(replicates=4, fields=6, dim=64)  # 432 images
number = int(sys.argv[2])

def say(stage):
    print(stage, flush=True)

def put(table, column, value):
    at = table.column_names.index(column)
    return table.set_column(at, column, pa.array([value] * len(table), table.schema.field(column).type))

def append():
    store.write_images(put(rows, "screen", f"s{number}"))

def upsert():
    kept = rows.filter(pa.array([field != 1 for field in rows.column("field").to_pylist()]))  # what no delete removes
    store.write_images(put(put(kept, "screen", f"s{number}"), "content_hash", f"v{os.getpid()}"))

def index():
    store.refresh()

def delete():
    store.delete_images(f"screen = 's{number}' AND field = 1")

def compact():
    store.compact(0)

steps = [append, upsert, index, delete, compact]
at = [step.__name__ for step in steps].index(sys.argv[3])
while True:
    number += steps[at] is append
    say(f"begin {steps[at].__name__} {number}")
    steps[at]()
    say(f"end {steps[at].__name__} {number}")
    at = (at + 1) % len(steps)
"""


def write_until_killed(path: Path, number: int, first: str, seconds: float) -> list[str]:
    """Run the writer from this step on, kill it this long after the step began; what it said."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path), str(number), first],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=environment,
    )
    assert writer.stdout is not None
    said = [writer.stdout.readline().strip()]
    time.sleep(seconds)
    writer.send_signal(signal.SIGKILL)
    rest, _ = writer.communicate(timeout=60)
    return [*said, *rest.split("\n")[:-1]]


def expected_counts(said: list[str], counts: dict[str, int]) -> tuple[dict[str, int], str, set[int]]:
    """What each screen must hold after what was said, the stage that was cut, and what its screen may hold."""
    for line in said:
        word, stage, number = line.split()
        if word == "end" and stage == "append":
            counts[f"s{number}"] = 432
        if word == "end" and stage == "delete" and counts.get(f"s{number}"):
            counts[f"s{number}"] = 360
    word, stage, number = said[-1].split()
    screen = f"s{number}"
    either = {counts.get(screen, 0)}
    if word == "begin":
        either |= {"append": {432}, "delete": {360}}.get(stage, set())
    return counts, stage if word == "begin" else f"after {stage}", either


def crash(path: Path, kills: int, seed: int) -> list[str]:
    """Kill so many writers, checking the store after each; the stages that were cut."""
    draw = random.Random(seed)
    store = phenoembed_store.open(path, create=True)
    counts: dict[str, int] = {}
    stages, number = [], 0
    for _ in range(kills):
        there = counts.get(f"s{number}")  # an upsert and a delete change what is there
        first = (
            draw.choice(["append", *(["upsert", "delete"] if there else []), "index", "compact"])
            if counts
            else "append"
        )
        said = write_until_killed(path, number, first, draw.random() * draw.choice([0.02, 0.1, 0.4, 0.8]))
        number = int(said[-1].split()[2])
        counts, stage, either = expected_counts(said, counts)
        stages.append(stage)
        store = phenoembed_store.open(path)
        assert store.verify() == [], stage
        rows = store.known_images("enc0")
        there = rows.group_by("screen").aggregate([([], "count_all")]).to_pydict() if len(rows) else {"screen": []}
        found = dict(zip(there["screen"], there.get("count_all", []), strict=True))
        last = f"s{number}"
        assert found.get(last, 0) in either, (stage, found)
        assert {s: n for s, n in found.items() if s != last} == {s: n for s, n in counts.items() if s != last}, stage
        assert len(rows.group_by(list(IMAGE_KEY)).aggregate([])) == len(rows)
        if len(rows):
            assert len(store.search(vector=[1.0] * 64, level="image", k=5)) == 5
        if last in found:
            counts[last] = found[last]
        if len(counts) > 5:  # keep the store small: a long run must stay quick
            store.delete_images(f"screen <> '{last}'")
            counts = {s: n for s, n in counts.items() if s == last}
    return stages


def report(stages: list[str]) -> None:
    cut = [stage for stage in stages if not stage.startswith("after")]
    print(
        f"{len(stages)} kills, {len(cut)} inside a write:",
        json.dumps({s: stages.count(s) for s in sorted(set(stages))}),
    )
    assert len(cut) >= len(stages) / 2


@pytest.mark.timeout(600)
def test_a_killed_writer_leaves_whole_writes_only(tmp_path: Path) -> None:
    report(crash(tmp_path / "store", 20, seed=11))


@pytest.mark.soak
@pytest.mark.timeout(7200)
def test_two_hundred_kills(tmp_path: Path) -> None:
    report(crash(tmp_path / "store", 200, seed=7))


TWO = """
import sys
from pathlib import Path
import phenoembed_store, pyarrow as pa
from tests.store.fakes import fake_rows
store = phenoembed_store.open(Path(sys.argv[1]))
rows = fake_rows(replicates=4, fields=3, dim=16)
mine = rows.slice(0, 144) if sys.argv[2] == "same" else rows.slice(108 * int(sys.argv[2]), 108)
for start in range(0, len(mine), 36):
    store.write_images(mine.slice(start, 36))
"""


@pytest.mark.parametrize(("which", "images"), [(("same", "same"), 144), (("0", "1"), 216)])
def test_two_processes_write_at_once(tmp_path: Path, which: tuple[str, str], images: int) -> None:
    """Different rows all land; the same rows land once each."""
    store = phenoembed_store.open(tmp_path / "s", create=True)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    writers = [subprocess.Popen([sys.executable, "-c", TWO, str(store.path), one], env=environment) for one in which]
    assert [writer.wait(timeout=120) for writer in writers] == [0, 0]
    rows = store.known_images("enc0")
    assert len(rows) == images
    assert len(rows.group_by(list(IMAGE_KEY)).aggregate([])) == images
    assert store.verify() == []


def test_readers_see_whole_writes_while_a_writer_writes(tmp_path: Path) -> None:
    """A reader beside a writer never waits and never sees a part of an append."""
    rows = fake_rows(replicates=4, fields=3, dim=16)  # 216 images an append
    store = phenoembed_store.open(tmp_path / "s", create=True)
    store.write_images(rows)
    script = (
        "import sys, pyarrow as pa, phenoembed_store\n"
        "from tests.store.fakes import fake_rows\n"
        "store, rows = phenoembed_store.open(sys.argv[1]), fake_rows(replicates=4, fields=3, dim=16)\n"
        "for i in range(8):\n"
        "    at = rows.column_names.index('screen')\n"
        "    store.write_images(rows.set_column(at, 'screen', pa.array([f's{i}'] * len(rows))))\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    writer = subprocess.Popen([sys.executable, "-c", script, str(store.path)], env=environment)
    seen = set()
    while writer.poll() is None:
        seen.add(store.vectors()[1].shape[0])
    assert writer.returncode == 0
    assert all(count % 216 == 0 for count in seen)
    assert store.vectors()[1].shape[0] == 9 * 216
    assert isinstance(store.known_images("enc0"), pa.Table)
