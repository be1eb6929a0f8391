"""Indexing: every image in the store or in ``rejected``; only what is new or changed is encoded."""

import multiprocessing
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import tifffile
import torch
from phenoembed.embedding import FileEmbedder, embed_batches, embed_files
from phenoembed.encoders import load_classifier, load_encoder
from phenoembed.encoding import Batch, Embedded, Work
from phenoembed.groups import group_images
from phenoembed.indexing import Indexed, index_screen
from phenoembed.methods import Members
from phenoembed.model import Encoder, to_network
from phenoembed.pixels import intensity_statistics, read_pixels
from phenoembed.quality import image_quality
from phenoembed.readers import read_screen
from phenoembed.screen import Screen
from tests.conftest import Trial, with_column, with_moa
from tests.phenoembed import files
from tests.phenoembed.quick import pixels_as_vectors
from tests.phenoembed.test_interruptions import empty_store, tables

import phenoembed_store
from phenoembed import embedding, indexing
from phenoembed_store import Store
from phenoembed_store.errors import ImageError, NotInStore, StoreError
from phenoembed_store.schema import IMAGE_KEY


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A quick network in the place of the child process; the list counts the images it was asked for."""
    asked: list[int] = []

    def count(work: Work, batches: Iterator[Batch]) -> Iterator[Embedded]:
        def counted() -> Iterator[Batch]:
            for numbers, sources in batches:
                asked.extend(numbers)
                yield numbers, sources

        return pixels_as_vectors(work, counted())

    monkeypatch.setattr(indexing, "embed_batches", count)
    return asked


@pytest.fixture
def store(trial: Trial, tmp_path: Path) -> Store:
    """A store with trained encoders and no images."""
    return phenoembed_store.open(empty_store(trial, tmp_path / "store"))


@pytest.fixture
def own(own_plates: Path) -> Screen:
    return with_moa(read_screen(own_plates))


def counts(found: Indexed) -> tuple[int, int, int, int]:
    return found.indexed, found.unchanged, found.updated, len(found.rejected)


# With the real network


def test_stored_embeddings_are_those_of_the_network(trial: Trial) -> None:
    """Every row's embedding is that of a network built by hand from the saved weights, one image at a time."""
    store = phenoembed_store.open(trial.path)
    for name in (trial.trained.encoder, load_encoder(trial.path, trial.trained.encoder).config["untrained_encoder"]):
        loaded = load_encoder(trial.path, name)
        network = Encoder()
        network.load_state_dict(loaded.encoder.state_dict())
        network.eval()
        rows, vectors = store.vectors(encoder=name)
        assert rows.num_rows == 108
        for row in range(0, 108, 13):
            pixels = tifffile.imread(rows.column("path")[row].as_py()) / 65535
            image = torch.from_numpy((pixels - loaded.config["pixel_mean"]) / loaded.config["pixel_sd"]).float()
            with torch.inference_mode():
                np.testing.assert_allclose(vectors[row], network(image[None, None])[0].numpy(), atol=1e-4)


@pytest.mark.parametrize("where", [None, "concentration_um < 10", "field <> 2", "hash(path) % 3 <> 0"])
def test_the_stores_posterior_is_the_networks(trial: Trial, where: str | None) -> None:
    """From stored embeddings and the encoder's own head, with any images left out: the network's Q(y | X) to 1e-5.

    The network's at the head's temperature, which was fitted after it was trained.
    """
    store = phenoembed_store.open(trial.path)
    temperature = store.head("compound").temperature
    loaded, head = load_encoder(trial.path, trial.trained.encoder), load_classifier(trial.path, trial.trained.encoder)
    keys = ["compound", "replicate", "field"]
    treated = "role = 'treated'" + (f" AND {where}" if where else "")
    found = store.posterior("compound", where=treated, by=keys).to_pylist()
    images = store.vectors(treated, encoder=loaded.id)[0].to_pylist()
    assert len(found) == len({tuple(row[key] for key in keys) for row in images})
    for one in found:
        paths = [row["path"] for row in images if all(row[key] == one[key] for key in keys)]
        assert one["n_images"] == len(paths) > 0
        pixels = torch.from_numpy(np.stack([tifffile.imread(path) for path in paths]))
        batch = to_network(pixels, loaded.config["pixel_mean"], loaded.config["pixel_sd"], 1 / 65535)
        members = Members(torch.zeros(len(paths), dtype=torch.int64), torch.arange(len(paths)), 1)
        with torch.inference_mode():
            expected = (head(loaded.encoder(batch), members) / temperature).softmax(1)[0].numpy()
        np.testing.assert_allclose(one["probabilities"], expected, atol=1e-5)
        assert one["classes"] == loaded.config["classes"]


def test_facts_of_the_files_are_kept(trial: Trial) -> None:
    """Statistics, size and time of each file, and the screen's columns as they are in the manifest."""
    rows = {row["path"]: row for row in phenoembed_store.open(trial.path).vectors()[0].to_pylist()}
    for number, row in enumerate(trial.screen.table.to_pylist()):
        path = trial.screen.image_path(number).resolve()
        kept = rows[str(path)]
        assert {name: kept[name] for name in row if name != "path"} == {k: v for k, v in row.items() if k != "path"}
        assert (kept["file_bytes"], kept["file_mtime_ns"]) == (path.stat().st_size, path.stat().st_mtime_ns)
        pixels = read_pixels(path)
        for name, value in (intensity_statistics(pixels) | image_quality(pixels)).items():
            assert kept[name] == pytest.approx(value, rel=1e-6)


def test_files_are_embedded_like_images_of_the_screen(trial: Trial) -> None:
    """A search by image file finds the image itself."""
    store = phenoembed_store.open(trial.path)
    vector = embed_files([trial.screen.image_path(5)], store, trial.trained.encoder)[0]
    (best,) = store.search(vector=vector, level="image", k=1).to_pylist()
    assert best["path"] == str(trial.screen.image_path(5).resolve())
    assert best["score"] == pytest.approx(1, abs=1e-5)


def test_many_callers_share_one_encoding_process(trial: Trial, tmp_path: Path) -> None:
    """Each has the vector that indexing had; a file that is no image ends nothing; one that was killed is replaced."""
    store = phenoembed_store.open(trial.path)
    stored, vectors = store.vectors()
    expected = dict(zip(stored.column("path").to_pylist(), vectors, strict=True))
    paths = list(expected)[:12]
    embedder = FileEmbedder(store)
    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(lambda path: embedder.embed(Path(path), trial.trained.encoder), paths))
    np.testing.assert_allclose(found, [expected[path] for path in paths], atol=1e-4)
    files.text(tmp_path / "no.tif")
    with pytest.raises(ImageError, match=r"no\.tif: not an image"):
        embedder.embed(tmp_path / "no.tif", trial.trained.encoder)
    (child,) = multiprocessing.active_children()
    child.kill()
    child.join()
    with pytest.raises(StoreError, match="ended early"):
        embedder.embed(Path(paths[0]), trial.trained.encoder)
    np.testing.assert_allclose(embedder.embed(Path(paths[0]), trial.trained.encoder), expected[paths[0]], atol=1e-4)
    embedder.close()
    assert not multiprocessing.active_children()


def test_an_imported_encoder_embeds_nothing(trial: Trial, tmp_path: Path) -> None:
    """It has no network: that is said at once, with the encoder that has one; an empty id is none."""
    store = trial.copy(tmp_path / "store")
    profiles = pa.table({"plate": ["P1"], "well": ["A01"], "compound": ["x"], "a": [1.0], "b": [2.0]})
    store.import_profiles(profiles, embedding=["a", "b"], name="others")
    for ask in (
        lambda: embed_files([trial.screen.image_path(0)], store, "others"),
        lambda: index_screen(trial.screen, store, "others"),
    ):
        with pytest.raises(NotInStore, match=f"no network .* choose --encoder {trial.trained.encoder}"):
            ask()
    with pytest.raises(NotInStore, match="an encoder's id cannot be empty"):
        index_screen(trial.screen, store, "")


def test_a_file_that_is_no_image_cannot_be_searched_by(
    trial: Trial, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error names the file and the reason."""
    monkeypatch.setattr(embedding, "embed_batches", pixels_as_vectors)
    files.text(tmp_path / "no.tif")
    store = phenoembed_store.open(trial.path)
    with pytest.raises(ImageError, match=r"no\.tif: not an image"):
        embed_files([tmp_path / "no.tif"], store, trial.trained.encoder)


def test_what_the_encoding_process_cannot_do_is_said(trial: Trial, tmp_path: Path) -> None:
    """A damaged encoder ends the child; its reason arrives, however many batches are still under way."""
    store = trial.copy(tmp_path / "store")
    path = store.path / "encoders" / trial.trained.encoder / "model.safetensors"
    path.unlink()
    path.write_bytes(b"nothing")
    source = (trial.screen.image_path(0),)
    batches = [((number,) * 64, (source,) * 64) for number in range(200)]
    with pytest.raises(StoreError, match=f"encoder {trial.trained.encoder} cannot be read"):
        list(embed_batches(Work(store.path, (trial.trained.encoder,)), batches))


# With the quick network: what is encoded, what is written


def test_running_again_encodes_nothing(trial: Trial, own: Screen, store: Store, quick: list[int]) -> None:
    """A second run reads no image, writes nothing, and says so."""
    first = index_screen(own, store)
    assert counts(first) == (108, 0, 0, 0)
    assert len(quick) == 108
    version, before = store.version, tables(store)
    again = index_screen(own, store)
    assert counts(again) == (0, 108, 0, 0)
    assert (len(quick), store.version, again.images_per_second) == (108, version, None)
    assert tables(store) == before
    assert list(again.document()) == [
        "store", "version", "encoder", "indexed", "unchanged", "updated", "rejected", "images_per_second",
    ]  # fmt: skip


def test_a_file_that_changed_is_encoded_again(own: Screen, store: Store, quick: list[int]) -> None:
    """A new content gives new embeddings; touching a file does not, and nothing else is encoded."""
    index_screen(own, store)
    quick.clear()
    changed, touched = own.image_path(10), own.image_path(20)
    old = tifffile.imread(changed)
    tifffile.imwrite(changed, old.T.copy())
    os.utime(touched, ns=(1, 1))
    assert counts(index_screen(own, store)) == (1, 107, 0, 0)
    assert quick == [10]
    for name in {info.id for info in store.encoders()}:
        rows, vectors = store.vectors(f"path = '{changed}'", encoder=name)
        assert rows.num_rows == 1
        np.testing.assert_allclose(vectors[0] / np.linalg.norm(vectors[0]), _unit(old.T.ravel()[:512]), rtol=1e-5)


def _unit(values: np.ndarray) -> np.ndarray:
    return np.asarray(values / np.linalg.norm(values.astype(float)))


def test_corrected_metadata_is_updated_without_encoding(own: Screen, store: Store, quick: list[int]) -> None:
    """A compound and an annotation corrected in the manifest reach the rows of every encoder, and the groups."""
    index_screen(own, store)
    quick.clear()
    compounds = own.table.column("compound")
    wrong = next(name for name in compounds.to_pylist() if name != "DMSO")
    right = pc.if_else(pc.equal(compounds, wrong), "corrected", compounds)
    table = with_column(own.table, "compound", right.combine_chunks())
    table = with_column(
        table, "moa", pc.if_else(pc.equal(right, "corrected"), "new", table.column("moa")).combine_chunks()
    )
    corrected = replace(own, table=table)
    n_changed = right.to_pylist().count("corrected")
    assert counts(index_screen(corrected, store)) == (0, 108 - n_changed, n_changed, 0)
    assert quick == []
    for name in {info.id for info in store.encoders()}:
        found = store.vectors("compound = 'corrected'", encoder=name)[0]
        assert found.num_rows == n_changed
        assert set(found.column("moa").to_pylist()) == {"new"}
    assert wrong not in store.groups().column("compound").to_pylist()
    assert counts(index_screen(corrected, store)) == (0, 108, 0, 0)


def test_annotations_that_are_not_a_number_are_not_changed_for_ever(
    own: Screen, store: Store, quick: list[int]
) -> None:
    """NaN is NaN: a second run finds nothing to update. A column that is new is an update."""
    index_screen(own, store)
    viability = with_column(own.table, "viability_lfc", pa.array([float("nan"), 1.0] * 54))
    assert counts(index_screen(replace(own, table=viability), store)) == (0, 0, 108, 0)
    assert counts(index_screen(replace(own, table=viability), store)) == (0, 108, 0, 0)
    assert len(quick) == 108


def test_bad_files_are_rejected_with_their_reason_and_the_rest_is_indexed(
    own: Screen, store: Store, quick: list[int]
) -> None:
    """Six kinds of bad files: each in ``rejected`` once, with all of its columns, and none in ``images``."""
    bad = {}
    for number, (make, reason) in enumerate(files.BAD.values()):
        make(own.image_path(17 * number))
        bad[str(own.image_path(17 * number).resolve())] = reason
    for _ in range(2):  # a second run says the same, and doubles nothing
        found = index_screen(own, store)
        assert len(found.rejected) == 6
        rows = {row["path"]: row for row in store.rejected().to_pylist()}
        assert len(rows) == store.rejected().num_rows == 6
        for path, reason in bad.items():
            assert pc.match_substring_regex(pa.array([rows[path]["reason"]]), f"^{reason}")[0].as_py(), rows[path]
            assert rows[path]["well"] in own.table.column("well").to_pylist()
        assert not set(store.vectors()[0].column("path").to_pylist()) & set(bad)
        assert store.vectors()[0].num_rows == 102
    assert counts(found) == (0, 102, 0, 6)


def test_a_repaired_file_leaves_rejected(own: Screen, store: Store, quick: list[int]) -> None:
    """And a file that went bad leaves the images, of every encoder."""
    path = own.image_path(30)
    good = path.read_bytes()
    files.nothing(path)
    assert counts(index_screen(own, store)) == (107, 0, 0, 1)
    path.write_bytes(good)
    assert counts(index_screen(own, store)) == (1, 107, 0, 0)
    assert store.rejected().num_rows == 0
    assert store.vectors()[0].num_rows == 108
    files.black(path)
    assert counts(index_screen(own, store)) == (0, 107, 0, 1)
    assert store.rejected().num_rows == 1
    kept = store.sql("SELECT encoder, count(*) AS n FROM images GROUP BY 1").to_arrow_table().column("n").to_pylist()
    assert kept == [107, 107]


def test_a_screen_of_bad_files_only_is_rejected_whole(own: Screen, store: Store, quick: list[int]) -> None:
    """The summary says so; nothing else fails."""
    few = replace(own, table=own.table.slice(0, 3))
    for row in range(3):
        files.text(few.image_path(row))
    assert counts(index_screen(few, store)) == (0, 0, 0, 3)


def test_images_a_reader_rejected_are_rejected_once(own: Screen, store: Store, quick: list[int]) -> None:
    """Files without a place on the plate, or of an image's place, are kept, not doubled, and cost no image."""
    nowhere = {"screen": "plates", "plate": "P9", "channel": "1", "reason": "no record"}
    second = {**{name: own.table.column(name)[0].as_py() for name in IMAGE_KEY}, "reason": "a second file"}
    rows = [{"path": "a.tif", **nowhere}, {"path": "b.tif", **nowhere}, {"path": "c.tif", **second}]
    lost = replace(own, rejected=pa.Table.from_pylist(rows, schema=own.rejected.schema))
    for _ in range(2):
        assert len(index_screen(lost, store).rejected) == 3
        kept = sorted((row["path"], row["plate"], row["reason"]) for row in store.rejected().to_pylist())
        assert kept == [
            ("a.tif", "P9", "no record"),
            ("b.tif", "P9", "no record"),
            ("c.tif", second["plate"], "a second file"),
        ]
        assert store.vectors()[0].num_rows == 108


def test_two_screens_share_a_store(own: Screen, store: Store, quick: list[int]) -> None:
    """The same plates under another screen's name are other images; each screen's groups are its own."""
    index_screen(own, store)
    other = replace(own, table=with_column(own.table, "screen", pa.array(["other"] * 108)))
    assert counts(index_screen(other, store)) == (108, 0, 0, 0)
    groups = store.groups()
    assert groups.num_rows == 2 * len(group_images(own.table).rows)
    assert counts(index_screen(own, store)) == (0, 108, 0, 0)


def test_a_transform_is_chosen_at_indexing(own: Screen, store: Store, quick: list[int]) -> None:
    """Query and candidates are scaled to their plates' controls; another transform later is refused before encoding."""
    indexing.index_screen(own, store, transform="robust")
    hits = store.search(compound="SIM-0001", k=3)
    assert '"transform": "robust-' in hits.schema.metadata[b"phenoembed"].decode()
    assert store.groups().num_rows
    done = len(quick)
    indexing.index_screen(own, store)  # without a word: as they are
    with pytest.raises(StoreError, match="compared under 'robust' in this store, and two transforms cannot be mixed"):
        indexing.index_screen(own, store, transform="percentile")
    assert len(quick) == done


def test_a_transform_needs_controls_on_every_plate(own: Screen, store: Store, quick: list[int]) -> None:
    roles = own.table.column("role").to_pylist()
    plates = own.table.column("plate").to_pylist()
    first = plates[0]
    kept = [not (plate == first and role == "control") for plate, role in zip(plates, roles, strict=True)]
    with pytest.raises(StoreError, match=f"control wells of each plate, and {first} has none"):
        indexing.index_screen(replace(own, table=own.table.filter(pa.array(kept))), store, transform="robust")
    assert quick == []
    assert store.version == -1


def test_without_the_baseline_one_encoder_is_written(own: Screen, store: Store, quick: list[int]) -> None:
    """And with it, later, only the other one is added; a file that changed in between is encoded for both."""
    index_screen(own, store, baseline=False)
    assert {row["n"] for row in store.sql("SELECT count(*) AS n FROM images").to_arrow_table().to_pylist()} == {108}
    assert counts(index_screen(own, store)) == (108, 0, 0, 0)
    tifffile.imwrite(own.image_path(0), tifffile.imread(own.image_path(0)).T.copy())
    index_screen(own, store, baseline=False)
    index_screen(own, store)
    hashes = store.sql(f"SELECT count(DISTINCT content_hash) AS n FROM images WHERE path = '{own.image_path(0)}'")
    assert hashes.fetchall() == [(1,)]


def test_what_is_encoded_is_committed_on_ctrl_c(own: Screen, store: Store, quick: list[int]) -> None:
    """Batches that were answered are kept, whole; the next run encodes the rest."""

    def interrupt(done: int, _total: int) -> None:
        if done == 48:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        index_screen(own, store, batch_images=16, progress=interrupt)
    assert store.vectors()[0].num_rows == 48
    assert counts(index_screen(own, store)) == (60, 48, 0, 0)


def test_two_encoders_stand_side_by_side(trial: Trial, own: Screen, store: Store, quick: list[int]) -> None:
    """Of another size than the first and from the same seed: each indexes, and none touches the other's rows."""
    from phenoembed.training import train

    first = index_screen(own, store)
    rows = store.vectors(encoder=first.encoder)[1].copy()
    second = train(own, store.path, replace(trial.settings, epochs=1, batch_groups=100, size=64, seed=0))
    assert second.encoder != first.encoder
    configs = {info.id: info.config for info in store.encoders()}
    assert configs[second.encoder]["untrained_encoder"] != configs[first.encoder]["untrained_encoder"]
    assert configs[configs[second.encoder]["untrained_encoder"]]["size"] == 64
    assert store.default_encoder() == second.encoder
    assert index_screen(own, store).encoder == second.encoder
    np.testing.assert_array_equal(store.vectors(encoder=first.encoder)[1], rows)
    assert store.sql("SELECT count(*), count(DISTINCT encoder) FROM images").fetchall() == [(4 * 108, 4)]


def test_the_child_does_not_run_its_parents_script(trial: Trial, tmp_path: Path) -> None:
    """A script without the guard that multiprocessing asks for indexes once, not once more in the child."""
    import subprocess
    import sys

    store = empty_store(trial, tmp_path / "store")
    script = tmp_path / "script.py"
    script.write_text(
        "print('once', flush=True)\n"
        "import phenoembed\nfrom phenoembed.indexing import index_screen\nfrom phenoembed.readers import read_screen\n"
        f"screen, store = read_screen({str(trial.screen.root)!r}), phenoembed.open({str(store)!r})\n"
        "print(index_screen(screen, store, baseline=False).indexed)\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, env=environment, check=False)
    assert (done.returncode, done.stdout.split(), done.stderr) == (0, ["once", "108"], "")
