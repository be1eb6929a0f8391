"""A store whose truth is damaged: one line that names the table, and what `verify` says of it."""

import hashlib
import json
import shutil
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from deltalake import DeltaTable
from safetensors.numpy import save_file
from tests.store.fakes import fake_rows

import phenoembed_store
from phenoembed_store import Store, checksums
from phenoembed_store.errors import NotInStore, PhenoembedError, StoreError
from phenoembed_store.heads import Head
from phenoembed_store.schema import PREDICTIONS_SCHEMA
from phenoembed_store.tables import Table


def a_file(store: Store, pattern: str) -> Path:
    return min(store.path.glob(pattern))


def truncate(store: Store) -> None:
    file = a_file(store, "images/*.parquet")
    file.write_bytes(file.read_bytes()[:1000])


def empty(store: Store) -> None:
    a_file(store, "images/*.parquet").write_bytes(b"")


def delete(store: Store) -> None:
    a_file(store, "images/*.parquet").unlink()


def flip(store: Store) -> None:
    file = a_file(store, "images/*.parquet")
    content = bytearray(file.read_bytes())
    content[len(content) // 3 : len(content) // 3 + 400] = bytes(400)
    file.write_bytes(content)


def garble_the_log(store: Store) -> None:
    a_file(store, "images/_delta_log/*.json").write_text("garbage")


ASKED: dict[str, Callable[[Store], object]] = {
    "search": lambda store: store.search(compound="taxol"),
    "vectors": lambda store: store.vectors(),
    "sql": lambda store: store.sql("SELECT max(embedding) FROM images"),
    "status": lambda store: store.status(),
    "write": lambda store: store.delete_images("compound = 'taxol'"),
}


@pytest.mark.parametrize("harm", [truncate, empty, delete, garble_the_log])
@pytest.mark.parametrize("asked", ASKED)
def test_damage_is_one_line_wherever_it_is_met(store: Store, harm: Callable[[Store], None], asked: str) -> None:
    """No exception of a library comes through, and no answer is made of what is left."""
    harm(store)
    with pytest.raises(PhenoembedError) as caught:
        ASKED[asked](phenoembed_store.open(store.path))
    assert len(str(caught.value).splitlines()) == 1
    assert "images" in str(caught.value)


@pytest.mark.parametrize("harm", [truncate, empty, delete, flip, garble_the_log])
def test_verify_names_the_damage_and_the_way_out(store: Store, harm: Callable[[Store], None]) -> None:
    """Flipped bytes too, which a query may pass over."""
    harm(store)
    (fault,) = phenoembed_store.open(store.path).verify()
    assert "images" in fault.what
    assert "backup" in fault.fix


def used(store: Store) -> Store:
    """The store, every table written: appended to, updated, deleted from."""
    rows = fake_rows()
    changed = rows.slice(0, 10).set_column(rows.column_names.index("content_hash"), "content_hash", [["new"] * 10])
    refused = rows.slice(70, 2).append_column("reason", pa.array(["truncated"] * 2))
    store.write_images(changed, refused)
    store.delete_images("plate = 'P2' AND field = 2")
    store.annotate(pa.table({"compound": ["taxol"], "target": ["TUBB"]}))
    predicted = {"task": "moa", "split": "field", "fold": 0, "test": "known wells", "features": "encoder"}
    predicted |= {"encoder": "enc0", "label": "actin"}
    store.write_predictions(pa.Table.from_pylist([predicted], PREDICTIONS_SCHEMA))
    store.refresh()
    return store


def flip_a_bit(file: Path, place: float) -> None:
    """One bit of a file, at that share of its length."""
    content = bytearray(file.read_bytes())
    content[int(len(content) * place)] ^= 0x10
    file.write_bytes(content)


def living(store: Store) -> list[Path]:
    """The files that the newest versions of the tables consist of, as the Delta library says."""
    return [Path(file) for log in store.path.glob("*/_delta_log") for file in DeltaTable(log.parent).file_uris()]


@pytest.mark.parametrize("compacted", [False, True])
def test_verify_finds_every_flipped_bit_of_every_table(store: Store, compacted: bool) -> None:
    """Where Parquet decodes it to another value too: each file has a checksum, however it was written."""
    if compacted:
        used(store).compact(0)
    else:
        used(store)
    assert store.verify() == []
    files = living(store)
    assert {file.parent.name for file in files} == {"images", "rejected", "groups", "annotations", "predictions"}
    assert set(store.path.glob("*/_checksums/*")) >= {f.parent / "_checksums" / f"{f.name}.crc32" for f in files}
    for file in files:
        whole = file.read_bytes()
        for place in (0.01, 0.3, 0.5, 0.7, 0.99):
            flip_a_bit(file, place)
            (fault,) = store.verify()
            assert file.name in fault.what
            file.write_bytes(whole)


def test_a_checksum_is_the_crc_32_of_the_file(store: Store) -> None:
    """As zlib has it; none is left of files that `compact` has removed."""
    used(store).compact(0)
    kept = {path.parent.parent / path.stem: path.read_text() for path in store.path.glob("*/_checksums/*")}
    assert kept == {file: f"{zlib.crc32(file.read_bytes()):08x}\n" for file in living(store)}


def test_files_without_a_checksum_are_read_all_the_same(store: Store) -> None:
    """Those of earlier versions of phenoembed: nothing is said of them, and what is written next has one."""
    shutil.rmtree(store.path / "images" / "_checksums")
    assert store.verify() == []
    rows = fake_rows(["late"], seed=1)
    store.write_images(rows.set_column(rows.column_names.index("screen"), "screen", [["other"] * len(rows)]))
    assert len(list(store.path.glob("images/_checksums/*"))) == 1
    assert store.verify() == []


def flip_an_embedding(store: Store) -> None:
    """A byte that no reader of Parquet misses: it knows of no checksums."""
    file = a_file(store, "groups/*.parquet")
    content = bytearray(file.read_bytes())
    value = store.groups().column("embedding")[0].values.to_numpy()[:4].tobytes()
    content[content.index(value) + 2] ^= 0x10
    file.write_bytes(content)


def cut(store: Store) -> None:
    file = a_file(store, "groups/*.parquet")
    file.write_bytes(file.read_bytes()[:500])


HARMS: dict[str, Callable[[Store], None]] = {
    "flip": flip_an_embedding,
    "cut": cut,
    "delete": lambda store: a_file(store, "groups/*.parquet").unlink(),
    "log": lambda store: a_file(store, "groups/_delta_log/*.json").write_text("garbage"),
}


@pytest.mark.parametrize("harm", HARMS)
def test_damaged_groups_are_made_anew(store: Store, harm: str, caplog: pytest.LogCaptureFixture) -> None:
    """They are derived: the answer is the same, the log says so, and `refresh` leaves a sound table."""
    store.refresh()
    expected = store.groups()
    HARMS[harm](store)
    again = phenoembed_store.open(store.path)
    assert again.groups().equals(expected)
    assert "the groups are made anew" in caplog.text
    assert len(caplog.text.splitlines()) == 1
    again.refresh()
    caplog.clear()
    assert phenoembed_store.open(store.path).groups().equals(expected)
    assert caplog.text == ""
    assert again.verify() == []


@pytest.mark.parametrize("content", [b"garbage", b"\xff\xfe\x00", b"", None])
def test_a_lost_choice_of_transform_is_an_error(store: Store, content: bytes | None) -> None:
    """Nothing is compared without the transform that was chosen."""
    store.set_transform("robust")
    chosen = store.path / "transforms" / "chosen.json"
    chosen.unlink() if content is None else chosen.write_bytes(content)
    again = phenoembed_store.open(store.path)
    with pytest.raises(PhenoembedError, match=r"chosen\.json.*restore it from a backup"):
        again.search(compound="taxol")
    assert "chosen.json" in str(again.verify()[0])


def trained_encoder(store: Store) -> Path:
    """The folder of an encoder with weights of its own; its id is the hash of them."""
    draw = np.random.default_rng(0)
    weights = {name: draw.normal(size=(40, 3)).astype(np.float32) for name in ("head.b", "encoder.a")}
    name = hashlib.sha256(b"encoder.a" + weights["encoder.a"].tobytes() + b"head.b" + weights["head.b"].tobytes())
    folder = store.path / "encoders" / name.hexdigest()[:12]
    folder.mkdir()
    save_file(weights, folder / "model.safetensors")
    config = {"id": folder.name, "dim": 3, "method": "product", "split": "field", "fold": 0, "untrained": False}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "fold.json").write_text("{}")
    return folder


def saved_head(store: Store) -> Path:
    """The folder of a head whose config has what JSON changes: a tuple, and keys that are numbers."""
    draw = np.random.default_rng(0)
    shapes = {"w1": (4, 8), "b1": (4,), "w2": (2, 4), "b2": (2,)}
    arrays = {name: draw.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    config = {"encoder": "enc0", "pair": (1, 2.5), "by_dose": {10: 1, 9: 2}, "temperature": 1.7}
    return store.path / "heads" / "moa" / store.save_head(Head("moa", ("a", "b"), **arrays, config=config))


def harm_by_name(file: Path, harm: str) -> None:
    if harm == "missing":
        file.unlink()
    elif harm == "truncated":
        file.write_bytes(file.read_bytes()[:-40])
    elif harm == "no JSON":
        file.write_text("{\n")
    elif harm == "a list":
        file.write_text("[]")
    else:
        flip_a_bit(file, 0.9)


FILES = [("model.safetensors", "missing"), ("model.safetensors", "truncated"), ("model.safetensors", "flipped")]
FILES += [(name, harm) for name in ("config.json", "fold.json") for harm in ("missing", "no JSON", "a list")]


@pytest.mark.parametrize(("name", "harm"), FILES)
def test_verify_names_the_damaged_file_of_an_encoder(store: Store, name: str, harm: str) -> None:
    """Its weights prove themselves: their hash is its id."""
    folder = trained_encoder(store)
    assert store.verify() == []
    harm_by_name(folder / name, harm)
    (fault,) = store.verify()
    assert str(folder / name) in fault.what
    assert "backup" in fault.fix
    assert "train again" in fault.fix
    if name == "config.json":  # nor is it taken for one whose embeddings were imported
        with pytest.raises(PhenoembedError, match=r"config\.json' .*; restore it from a backup, or delete its folder"):
            store.encoders()


HEAD_FILES = [("head.safetensors", harm) for harm in ("missing", "truncated", "flipped")]
HEAD_FILES += [("config.json", harm) for harm in ("missing", "no JSON", "a list", "flipped")]


@pytest.mark.parametrize(("name", "harm"), HEAD_FILES)
def test_a_damaged_head_is_named_and_not_used(store: Store, name: str, harm: str) -> None:
    folder = saved_head(store)
    assert store.verify() == []
    if (name, harm) == ("config.json", "flipped"):
        (folder / name).write_text((folder / name).read_text().replace("1.7", "1.3"))
    else:
        harm_by_name(folder / name, harm)
    (fault,) = store.verify()
    assert str(folder) in fault.what
    assert "probe again" in fault.fix
    with pytest.raises(PhenoembedError, match=f"{folder}.* probe again"):
        store.posterior("moa")


def test_an_import_that_failed_leaves_no_encoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk is full at the first write: no encoder of no images is listed, none is the default; then it goes on."""
    store = phenoembed_store.open(tmp_path / "store", create=True)
    rows = pa.table(
        {"plate": ["P"] * 2, "well": ["A01", "A02"], "compound": ["a", "b"], "f1": [1.0, 2], "f2": [2.0, 1]}
    )
    with monkeypatch.context() as full:
        full.setattr(Table, "append", lambda *_: (_ for _ in ()).throw(StoreError("the table cannot be written")))
        with pytest.raises(StoreError, match="cannot be written"):
            store.import_profiles(rows, embedding=["f1", "f2"], name="mine")
    assert store.encoders() == []
    assert store.status()["encoders"] == []
    with pytest.raises(NotInStore, match="no trained encoder"):
        store.default_encoder()
    store.import_profiles(rows, embedding=["f1", "f2"], name="mine")
    assert [encoder.id for encoder in store.encoders()] == [store.default_encoder()] == ["mine"]
    assert store.verify() == []


def rewrite(store: Store) -> None:
    """As another process: new files, and those of all earlier versions are gone."""
    other = phenoembed_store.open(store.path)
    rows = fake_rows(["late"])
    other.write_images(
        rows.set_column(rows.column_names.index("screen"), "screen", pa.array([f"late {other.version}"] * len(rows)))
    )
    other.compact(keep_days=0)


def test_who_reads_while_a_table_is_compacted_is_told_so(store: Store) -> None:
    """Its files are gone for good, and nothing is lost: no word of a backup."""
    scan = store._contents.images.at()
    rewrite(store)
    with pytest.raises(StoreError, match="the table 'images' was compacted while it was read; run the same again"):
        scan.read(["path"])
    assert len(store.vectors()[0]) == 84


def test_verify_finds_no_damage_in_what_others_write_meanwhile(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A table that is compacted while it is checked, before and after its files are looked for."""
    for look in ("is_file", "is_damaged"):
        rewriting = [rewrite]

        def first_rewrite(file: Path, look: str = look, rewriting: list[Callable[[Store], None]] = rewriting) -> bool:
            if file.parent.name == "images" and rewriting:
                rewriting.pop()(store)
            return file.exists() if look == "is_file" else False

        with monkeypatch.context() as patch:
            patch.setattr(*((Path, "is_file") if look == "is_file" else (checksums, "is_damaged")), first_rewrite)
            assert not store.verify()
        assert not rewriting
