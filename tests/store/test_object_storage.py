"""A store at s3://, on a server of S3's kind: the answers of a store in a folder, whoever writes and whatever dies."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from tests.buckets import Bucket, new_bucket
from tests.store import fakes

import phenoembed_store
from phenoembed_store import Store, remote
from phenoembed_store.errors import NotInStore, Overtaken, StoreError
from phenoembed_store.heads import Head

pytest.importorskip("moto", reason="moto is not installed: pip install 'moto[s3,server]'")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")  # botocore's own

WRITER = """
import sys
import phenoembed_store
from tests.store.fakes import fake_rows
import pyarrow as pa

rows = fake_rows()
store = phenoembed_store.open(sys.argv[1], create=True)
print("ready", flush=True)
sys.stdin.readline()
for number in range(int(sys.argv[3])):
    at = rows.column_names.index("screen")
    name = pa.array([f"{sys.argv[2]}{number}"] * len(rows))
    print(store.write_images(rows.set_column(at, "screen", name)).added, flush=True)
"""
QUERY = "SELECT compound, plate, count(*) AS n, sum(file_bytes) AS b FROM images GROUP BY 1, 2 ORDER BY 1, 2"


@pytest.fixture
def bucket(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return new_bucket()


def elsewhere(url: str, place: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """The store as another machine opens it: with a cache of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(place))
    return phenoembed_store.open(url)


def writer(bucket: Bucket, name: str, times: int, cache: Path) -> "subprocess.Popen[str]":
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([*sys.path, "."]), "XDG_CACHE_HOME": str(cache)}
    command = [sys.executable, "-W", "ignore", "-c", WRITER, f"{bucket.url}/store", name, str(times)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)


def go(process: "subprocess.Popen[str]") -> None:
    assert process.stdin
    process.stdin.write("\n")
    process.stdin.flush()


def answers(store: Store) -> list[object]:
    """What a store says, but for where and in how many transactions it was written."""
    hits = store.search(compound="nocodazole", level="compound", k=5)
    table, vectors = store.vectors()
    groups = store.groups().to_pylist()
    about = {name: value for name, value in store.status().items() if name not in ("store", "bytes", "version")}
    rejected = store.rejected().to_pylist()
    return [hits.to_pylist(), table.to_pylist(), vectors.tolist(), groups, about, rejected, store.sql(QUERY).fetchall()]


def use(store: Store) -> None:
    """Everything a user does to a store, one after the other."""
    rows = fakes.fake_rows()
    assert store.write_images(rows.slice(0, 50)).added == 50
    assert store.write_images(rows).added == len(rows) - 50
    again = rows.slice(0, 10)
    again = again.set_column(again.column_names.index("content_hash"), "content_hash", pa.array(["new"] * 10))
    assert store.write_images(again).updated == 10
    assert store.delete_images("plate = 'P2' AND field = 2") == 18
    assert store.annotate(pa.table({"compound": ["taxol", "nobody"], "target": ["TUBB", "?"]}))["matched"] == 1
    store.save_head(head())
    store.set_transform("robust")
    store.refresh()
    store.compact(0)


def head() -> Head:
    draw = np.random.default_rng(0)
    shapes = {"w1": (4, 8), "b1": (4,), "w2": (2, 4), "b2": (2,)}
    arrays = {name: draw.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    return Head("moa", ("a", "b"), **arrays, config={"encoder": "enc0"})


def test_a_bucket_answers_as_a_folder_does(bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Written, changed, deleted from, annotated, compacted; opened here, on another machine, and copied to a folder."""
    url = f"{bucket.url}/lab/store"
    here, there = phenoembed_store.open(tmp_path / "store", create=True), phenoembed_store.open(url, create=True)
    for store in (here, there):
        use(store)
        assert store.verify() == []
    assert (there.address, str(tmp_path / "cache") in str(there.path)) == (url, True)
    expected = answers(here)
    assert answers(there) == expected
    other = elsewhere(url, tmp_path / "other", monkeypatch)
    assert answers(other) == expected
    assert other.posterior("moa").to_pylist() == here.posterior("moa").to_pylist()
    shutil.rmtree(tmp_path / "other")
    assert answers(phenoembed_store.open(url)) == expected
    remote.download(url, list(remote.listing(url)), tmp_path / "copy")
    assert answers(phenoembed_store.open(tmp_path / "copy")) == expected
    assert there.status()["bytes"] == sum(entry.n_bytes for entry in remote.listing(url).values())


def test_a_store_that_is_open_sees_what_others_write(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Images, deletions, encoders and transforms that another machine brought; earlier versions can be asked for."""
    url = f"{bucket.url}/store"
    ours = phenoembed_store.open(url, create=True)
    ours.write_images(fakes.fake_rows())
    first, before = ours.version, answers(ours)
    theirs = elsewhere(url, tmp_path / "other", monkeypatch)
    theirs.set_transform("percentile")
    theirs.delete_images("compound = 'aspirin'")
    assert answers(ours) == answers(theirs) != before
    assert ours.search(compound="taxol").schema.metadata == theirs.search(compound="taxol").schema.metadata
    assert len(ours.at(first).vectors()[0]) == len(fakes.fake_rows())


def test_two_machines_that_write_at_once_both_land(bucket: Bucket, tmp_path: Path) -> None:
    """The table is made, and appended to, by two that share no lock; of an image that both bring one stays."""
    writers = [writer(bucket, name, 5, tmp_path / name) for name in ("x", "y")]
    for each in writers:
        assert each.stdout
        assert each.stdout.readline() == "ready\n"
    for each in writers:
        go(each)
    n = len(fakes.fake_rows())
    assert [each.communicate(timeout=120)[0] for each in writers] == [f"{n}\n" * 5] * 2
    store = phenoembed_store.open(f"{bucket.url}/store")
    found = store.sql("SELECT screen, count(*) FROM images GROUP BY 1 ORDER BY 1").fetchall()
    assert found == [(f"{name}{number}", n) for name in "xy" for number in range(5)]
    assert store.verify() == []
    both = [writer(bucket, "same", 1, tmp_path / name) for name in ("x", "y")]
    for each in both:
        go(each)
    assert sorted(each.communicate(timeout=120)[0] for each in both) == ["ready\n0\n", f"ready\n{n}\n"]


def test_a_write_upon_an_older_version_is_made_again(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows that came between reading and writing are compared with too; who is always too late is told so."""
    store = phenoembed_store.open(f"{bucket.url}/store", create=True)
    rows = fakes.fake_rows()
    store.write_images(rows.slice(0, 30))
    images, real, turns = store._contents.images, type(store._contents.images).append, iter(range(100))

    def late(table: object, wanted: pa.Table, since: int) -> None:
        if table is not images:
            return real(table, wanted, since)  # type: ignore[arg-type]
        start = 30 + next(turns)
        real(images, rows.slice(start, 1), since)  # another machine is faster, with a row that we bring too
        return real(images, wanted, since)

    with monkeypatch.context() as others:
        others.setattr(type(images), "append", late)
        others.setattr("phenoembed_store.turns.ATTEMPTS", 3)
        with pytest.raises(Overtaken, match="another machine writes to the table 'images'; try again"):
            store.write_images(rows)
    assert store.write_images(rows).added == len(rows) - 33
    assert len(store.vectors()[0]) == len(rows)


def test_a_writer_that_is_killed_loses_nothing(bucket: Bucket, tmp_path: Path) -> None:
    """What it said it wrote is there, whole writes only; the next one goes on at once."""
    process = writer(bucket, "x", 1000, tmp_path / "x")
    assert process.stdout
    process.stdout.readline()
    go(process)
    for _ in range(3):
        process.stdout.readline()
    time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    rest = process.communicate()[0].split()
    n = len(fakes.fake_rows())
    store = phenoembed_store.open(f"{bucket.url}/store")
    counts = [count for (count,) in store.sql("SELECT count(*) FROM images GROUP BY screen").fetchall()]
    assert set(counts) == {n}
    assert len(counts) in (3 + len(rest), 4 + len(rest))
    assert store.verify() == []
    assert store.write_images(fakes.fake_rows()).added == n


def test_what_is_missing_or_damaged_there_is_a_fault(bucket: Bucket) -> None:
    """Verify reads every byte from the bucket, whatever copies there are."""
    import s3fs

    url = f"{bucket.url}/store"
    store = phenoembed_store.open(url, create=True)
    store.write_images(fakes.fake_rows())
    (name,) = (name for name in remote.listing(f"{url}/images") if name.endswith(".parquet"))
    files = s3fs.S3FileSystem()
    whole = files.cat_file(f"{url}/images/{name}")
    vector = whole.index(store.vectors()[1][0].tobytes())  # where a flipped bit makes another number
    files.pipe_file(f"{url}/images/{name}", whole[:200] + bytes(100) + whole[300:])
    (fault,) = store.verify()
    assert f"restore '{url}/images' from a backup" in str(fault)
    files.pipe_file(f"{url}/images/{name}", whole[:vector] + bytes([whole[vector] ^ 1]) + whole[vector + 1 :])
    (fault,) = store.verify()
    assert f"'{name}' is damaged (its checksum differs)" in str(fault)
    files.pipe_file(f"{url}/images/{name}", whole)
    store.save_head(head())
    (weights,) = (name for name in remote.listing(f"{url}/heads") if name.endswith(".safetensors"))
    size = len(files.cat_file(f"{url}/heads/{weights}"))
    files.pipe_file(f"{url}/heads/{weights}", bytes(size))
    (fault,) = store.verify()
    assert "cannot be read" in str(fault)
    files.rm(f"{url}/heads", recursive=True)
    files.rm_file(f"{url}/images/{name}")
    (fault,) = store.verify()
    assert f"lacks its file '{name}'" in str(fault)


def test_what_is_not_there_is_said_in_a_line(bucket: Bucket) -> None:
    with pytest.raises(NotInStore, match=f"no store at '{bucket.url}/none'; run `phenoembed train PLATES`"):
        phenoembed_store.open(f"{bucket.url}/none")
    for create in (True, False):
        with pytest.raises(StoreError, match="nothing at 's3://no-such-bucket/"):
            phenoembed_store.open("s3://no-such-bucket/store", create=create)
    with pytest.raises(StoreError, match="'s3://' names no bucket"):
        phenoembed_store.open("s3://", create=True)
    with pytest.raises(StoreError, match="a store cannot lie at"):
        phenoembed_store.open(f"{bucket.url}/a[b]", create=True)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"AWS_ENDPOINT_URL": "http://127.0.0.1:9", "AWS_MAX_ATTEMPTS": "1"}, "cannot be reached"),
        ({"AWS_ACCESS_KEY_ID": None, "AWS_SECRET_ACCESS_KEY": None}, "no credentials for 's3://bucket/store"),
    ],
)
def test_commands_say_what_is_wrong_in_a_line(
    server: str, tmp_path: Path, changed: dict[str, str | None], said: str
) -> None:
    """In a process of its own: clients are kept."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "HOME": str(tmp_path)}
    environment = {name: value for name, value in (environment | changed).items() if value is not None}
    code = "from phenoembed_cli.main import main; main()"
    command = [sys.executable, "-c", code, "status", "--store", "s3://bucket/store"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False, timeout=120)
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert said in line


def test_files_of_tables_and_exports_are_on_this_machine(tmp_path: Path) -> None:
    """An address where they were to be is named as it was typed, with what to do."""
    store = phenoembed_store.open(tmp_path / "s", create=True)
    store.write_images(fakes.fake_rows())
    with pytest.raises(StoreError, match=r"'s3://b/out.csv' is in object storage, and files are written on"):
        store.export("s3://b/out.csv")
    with pytest.raises(StoreError, match=r"'s3://b/in.csv' is in object storage, and tables are read on"):
        store.import_profiles("s3://b/in.csv")


def test_a_table_whose_log_lost_its_beginning_is_seen(bucket: Bucket) -> None:
    """Behind a checkpoint the Delta library drops old entries of the log: version 0 need not be there."""
    store = phenoembed_store.open(f"{bucket.url}/store", create=True)
    store.write_images(fakes.fake_rows())
    store.compact()
    kept = [name for name in remote.listing(f"{bucket.url}/store/images/_delta_log") if "checkpoint" in name]
    remote.remove(f"{bucket.url}/store/images/_delta_log", [f"{0:020d}.json"])
    assert kept
    assert phenoembed_store.open(f"{bucket.url}/store")._contents.images.newest(-1) == store.version
