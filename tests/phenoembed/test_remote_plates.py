"""Plates in object storage, on a server of S3's kind: the same table as from a folder, and errors in a line."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
from phenoembed.encoding import read_image
from phenoembed.indexing import index_screen
from phenoembed.readers import preview, read_screen
from tests.buckets import Bucket, new_bucket
from tests.conftest import Trial
from tests.phenoembed import files
from tests.phenoembed.quick import pixels_as_vectors
from tests.phenoembed.test_interruptions import empty_store, tables

import phenoembed_store
from phenoembed import indexing
from phenoembed_store import remote
from phenoembed_store.errors import ManifestError, PhenoembedError
from phenoembed_store.schema import IMAGE_KEY

pytest.importorskip("moto", reason="moto is not installed: pip install 'moto[s3,server]'")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")  # botocore's own


@pytest.fixture
def bucket(server: str) -> Bucket:
    return new_bucket()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(indexing, "embed_batches", pixels_as_vectors)


def without_places(rows: list[dict[str, object]]) -> list[dict[str, object]]:
    """Rows without what depends on where the files lie."""
    return [{name: value for name, value in row.items() if name not in ("path", "file_mtime_ns")} for row in rows]


def test_plates_in_a_bucket_make_the_table_of_a_folder(
    bucket: Bucket, trial: Trial, own_plates: Path, tmp_path: Path, quick: None
) -> None:
    """Row for row, rejected images and their reasons too; only paths and times differ. Again, nothing is left."""
    paths = sorted(own_plates.rglob("*.tif"))
    for number, kind in enumerate(("truncated", "text", "nothing")):
        files.BAD[kind][0](paths[20 * number])
    url = bucket.fill(own_plates, f"screens/{own_plates.name}")
    here, there = (phenoembed_store.open(empty_store(trial, tmp_path / name)) for name in ("here", "there"))
    index_screen(read_screen(own_plates), here)
    found = index_screen(read_screen(url), there)
    assert (found.indexed, len(found.rejected)) == (105, 3)
    ours, theirs = tables(there), tables(here)
    assert all(str(row["path"]).startswith(f"{url}/") for row in ours["images"])
    for name in ours:
        assert without_places(ours[name]) == without_places(theirs[name])
    again = index_screen(read_screen(url), there)
    assert (again.indexed, again.unchanged, len(again.rejected)) == (0, 105, 3)


def test_a_store_in_a_bucket_is_filled_as_one_in_a_folder(
    bucket: Bucket, trial: Trial, own_plates: Path, tmp_path: Path, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The encoders are brought from there, the light of the plates is kept there; the tables are the same."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    here = empty_store(trial, tmp_path / "here")
    there = phenoembed_store.open(bucket.fill(here, "store"))
    index_screen(read_screen(own_plates), phenoembed_store.open(here))
    found = index_screen(read_screen(own_plates), there)
    assert (found.store, found.indexed) == (f"{bucket.url}/store", 108)
    assert tables(there) == tables(phenoembed_store.open(here))
    again = index_screen(read_screen(own_plates), phenoembed_store.open(f"{bucket.url}/store"))
    assert (again.indexed, again.unchanged) == (0, 108)


def test_an_image_that_changes_in_the_bucket_is_indexed_again(
    bucket: Bucket, trial: Trial, own_plates: Path, tmp_path: Path, quick: None
) -> None:
    url = bucket.fill(own_plates, "plates")
    store = phenoembed_store.open(empty_store(trial, tmp_path / "store"))
    index_screen(read_screen(url), store)
    changed = sorted(own_plates.rglob("*.tif"))[5]
    tifffile.imwrite(changed, files.texture())
    remote.upload(own_plates, [str(changed.relative_to(own_plates))], url)
    found = index_screen(read_screen(url), store)
    assert (found.indexed, found.unchanged) == (1, 107)


def test_the_network_reads_a_bucket_too(bucket: Bucket, trial: Trial, plates: Path, tmp_path: Path) -> None:
    """In the child process, by name."""
    url = bucket.fill(plates, "plates")
    store = phenoembed_store.open(empty_store(trial, tmp_path / "store"))
    screen = read_screen(url)
    first = replace(screen, table=screen.table.slice(0, 12))
    assert index_screen(first, store, baseline=False).indexed == 12
    rows, ours = store.vectors(encoder=trial.trained.encoder)
    known, all_theirs = phenoembed_store.open(trial.path).vectors(encoder=trial.trained.encoder)
    key = [name for name in IMAGE_KEY if name != "screen"]
    places = {tuple(row.values()): i for i, row in enumerate(known.select(key).to_pylist())}
    theirs = all_theirs[[places[tuple(row.values())] for row in rows.select(key).to_pylist()]]
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


def test_a_dry_run_counts_what_lies_in_a_bucket(bucket: Bucket, plates: Path) -> None:
    assert preview(bucket.fill(plates, "plates")) == preview(plates)


def test_faults_name_the_bucket(bucket: Bucket, own_plates: Path) -> None:
    """As of a folder, with its address; nothing is left of what was brought here."""
    next(own_plates.rglob("*.tif")).unlink()
    url = bucket.fill(own_plates, "plates")
    with pytest.raises(ManifestError, match=f"{url}/manifest.csv.*is missing"):
        read_screen(url)


def test_what_is_not_there_is_said(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    """No such bucket, nothing below a prefix, a single image that is gone."""
    with pytest.raises(PhenoembedError, match=r"nothing (lies )?at 's3://no-such-bucket/plates"):
        read_screen("s3://no-such-bucket/plates")
    with pytest.raises(PhenoembedError, match=f"nothing lies at '{bucket.url}/empty/'"):
        read_screen(f"{bucket.url}/empty")
    with pytest.raises(PhenoembedError, match="cannot be read: No such file"):
        read_image((Path(f"{bucket.url}/gone.tif"),))


def test_a_server_that_is_not_there_is_a_line() -> None:
    """In a process of its own: clients are kept."""
    import subprocess
    import sys

    code = "from phenoembed_cli.main import main; main()"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "AWS_ENDPOINT_URL": "http://127.0.0.1:9"}
    environment |= {"AWS_MAX_ATTEMPTS": "1", "AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "s"}
    command = [sys.executable, "-c", code, "index", "s3://bucket/plates", "--dry-run"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False, timeout=120)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: 's3://bucket/plates' cannot be reached: ")


def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "botocore.exceptions", None)
    with pytest.raises(PhenoembedError, match=r"pip install 'phenoembed\[s3\]'"):
        read_screen("s3://bucket/plates")


@pytest.mark.parametrize(
    ("path", "url"),
    [
        ("s3://b/x/", "s3://b/x"),
        (Path("s3://b/x"), "s3://b/x"),
        ("s3:", None),
        ("/s3:/b", None),
        ("plates", None),
    ],
)
def test_a_path_of_a_bucket_keeps_its_address(path: str | Path, url: str | None) -> None:
    """However often it went through pathlib."""
    assert remote.url_of(path) == url
