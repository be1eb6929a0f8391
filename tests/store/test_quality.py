"""Outliers are flagged against their own plate, and each plate is summed up."""

import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pyarrow as pa
import pytest
from phenoembed.plates import draw_plates
from tests.store.fakes import fake_rows

import phenoembed_store
from phenoembed_store import Store
from phenoembed_store.errors import StoreError
from phenoembed_store.plate_layout import row_name
from phenoembed_store.quality import quality_flags
from phenoembed_store.schema import QUALITY, SCREEN_SCHEMA


def judged(rows: pa.Table, seed: int = 0, **changed: dict[int, float]) -> pa.Table:
    """The rows with ordinary figures of quality, but for some."""
    draw = np.random.default_rng(seed)
    n = len(rows)
    figures = {
        "focus": draw.lognormal(0, 0.1, n),
        "saturation": np.full(n, 1e-4),
        "emptiness": np.zeros(n),
        "confluence": draw.uniform(0.4, 0.9, n),
    }
    for name in QUALITY:
        for row, value in changed.get(name, {}).items():
            figures[name][row] = value
        rows = rows.append_column(name, pa.array(figures[name], pa.float32()))
    return rows


def test_outliers_are_flagged_against_their_plate() -> None:
    """Far from the plate's median focus; saturated; empty where cells should be. Everything else has no flag."""
    rows = judged(
        fake_rows(),
        focus={0: 0.1, 5: 9.0, 40: 0.0},
        saturation={1: 0.2, 0: 0.5},
        confluence={2: 0.001, 3: float("nan")},
        emptiness={7: 0.97, 8: 0.9},
    )
    flags = quality_flags(rows).to_pylist()
    assert {i: flag for i, flag in enumerate(flags) if flag} == {
        0: "out of focus, saturated",
        1: "saturated",
        2: "empty",
        5: "unusually sharp",
        7: "empty",
        40: "out of focus",
    }


def test_a_plate_that_is_blurred_as_a_whole_is_compared_with_itself() -> None:
    """Another plate's focus says nothing: microscopes and objectives differ."""
    rows = fake_rows()
    second = [i for i, plate in enumerate(rows.column("plate").to_pylist()) if plate == "P2"]
    ordinary = judged(rows).column("focus").to_pylist()
    assert quality_flags(judged(rows, focus={i: ordinary[i] / 50 for i in second})).null_count == len(rows)
    old = judged(rows, focus={0: 0.01}).drop_columns(["emptiness"])
    assert quality_flags(old)[0].as_py() == "out of focus", "a store of before emptiness was judged"
    few = judged(rows, focus={0: 0.01}).slice(0, 6)
    assert quality_flags(few).null_count == 6, "six images do not tell what is usual"


def test_flags_are_a_column_of_queries_and_filters(store: Store) -> None:
    """Images indexed before quality was judged have none; they stay readable, and new columns join them."""
    assert "quality_flag" not in store.vectors()[0].column_names
    old = len(store.vectors()[0])
    new = judged(fake_rows(replicates=3), focus={-1: 0.01})
    store.write_images(new.filter(pa.array([plate == "P3" for plate in new.column("plate").to_pylist()])), None)
    found = store.sql("SELECT plate, quality_flag FROM images WHERE quality_flag IS NOT NULL").fetchall()
    assert found == [("P3", "out of focus")]
    rows, _ = store.vectors("quality_flag IS NULL")
    assert len(rows) == old + 35
    assert store.sql("SELECT count(focus) FROM images").fetchall() == [(36,)]


def test_corrected_metadata_keeps_the_quality(store: Store) -> None:
    rows = judged(fake_rows(encoder="enc1"))
    store.write_images(rows, None)
    written = store.vectors(encoder="enc1")[0].sort_by("path").column("focus").to_pylist()
    bare = rows.select(SCREEN_SCHEMA.names)
    store.update_metadata(bare.append_column("moa", pa.array(["other"] * len(bare))), "enc1")
    after = store.vectors(encoder="enc1")[0].sort_by("path")
    assert set(after.column("moa").to_pylist()) == {"other"}
    assert after.column("focus").to_pylist() == written


def test_replicate_correlation_is_that_of_the_wells(store: Store) -> None:
    """Against correlations computed well by well with numpy."""
    rows, vectors = store.vectors()
    profiles: dict[tuple[str, str, str, float], list[np.ndarray]] = {}
    for row, vector in zip(rows.to_pylist(), vectors, strict=True):
        key = (row["plate"], row["well"], row["compound"], row["concentration_um"])
        profiles.setdefault(key, []).append(vector.astype(float))
    means = {key: np.mean(each, axis=0) for key, each in profiles.items()}
    plates = sorted({key[0] for key in means})
    centre = {plate: np.mean([mean for key, mean in means.items() if key[0] == plate], axis=0) for plate in plates}

    def cosine(a: np.ndarray, b: np.ndarray) -> float:
        return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))

    for summary in store.plates():
        alike, other = [], []
        mine = [key for key in means if key[0] == summary["plate"] and key[2] != "DMSO"]
        for key in mine:
            scores: dict[str, list[float]] = {"alike": [], "other": []}
            for there in (there for there in means if there[0] != key[0] and there[2] != "DMSO"):
                score = cosine(means[key] - centre[key[0]], means[there] - centre[there[0]])
                if there[2:] == key[2:]:
                    scores["alike"].append(score)
                elif there[2] != key[2]:
                    scores["other"].append(score)
            alike.append(np.median(scores["alike"]))
            other.append(np.median(scores["other"]))
        assert summary["replicate_correlation"] == pytest.approx(np.median(alike), abs=1e-6)
        assert summary["other_correlation"] == pytest.approx(np.median(other), abs=1e-6)


def test_plates_of_1536_wells_are_quickly_compared(tmp_path: Path) -> None:
    """Three of them: not every pair of wells is looked at, and chance comes out the same to 0.01."""
    store = phenoembed_store.open(tmp_path / "store", create=True)
    for quarter in range(4):
        rows = fake_rows([f"drug {quarter}-{i}" for i in range(128)], replicates=3, fields=1, dim=512, seed=quarter)
        wells = [f"{row_name(quarter * 8 + i % 384 // 48 + 1)}{i % 48 + 1:02d}" for i in range(len(rows))]
        store.write_images(rows.set_column(rows.column_names.index("well"), "well", pa.array(wells)))
    started = time.process_time()
    found = store.plates()
    assert time.process_time() - started < 6
    assert [one["images"] for one in found] == [1536] * 3
    for one in found:
        assert one["replicate_correlation"] > 0.2
        assert abs(one["other_correlation"]) < 0.01


def test_plates_are_drawn(store: Store, tmp_path: Path) -> None:
    """A row a plate, whether quality was judged or not; an ending that is no picture's is an error."""
    assert draw_plates(store, tmp_path / "new" / "plates.png") == 2
    before = plt.imread(tmp_path / "new" / "plates.png").shape
    store.write_images(judged(fake_rows(replicates=3, encoder="enc1")), None)
    assert draw_plates(store, tmp_path / "plates.png", "enc1") == 3
    after = plt.imread(tmp_path / "plates.png").shape
    assert after[0] > before[0]
    assert after[1] > before[1]
    with pytest.raises(StoreError, match=r"name a \.png, \.pdf or \.svg file"):
        draw_plates(store, tmp_path / "plates.txt")


def test_the_edge_effect_is_that_of_the_controls(store: Store) -> None:
    """Rim wells of the controls brighter by a known amount; with too few controls, all wells count."""
    rows = fake_rows(compounds=("DMSO", "taxol"), doses=tuple(range(1, 25)), replicates=1, encoder="enc9")
    # 24 wells of DMSO fill row A (the rim); 24 of taxol row B, whose first and last well lie on it
    light = [2.0 if well.startswith("A") or well in ("B01", "B24") else 1.0 for well in rows.column("well").to_pylist()]
    rows = rows.set_column(rows.column_names.index("intensity_mean"), "intensity_mean", pa.array(light, pa.float32()))
    store.write_images(rows, None)
    (summary,) = [one for one in store.plates("enc9") if one["plate"] == "P1"]
    values = np.array([2.0] * 26 + [1.0] * 22)
    assert summary["edge_effect"] == pytest.approx(1.0 / values.std(), rel=1e-6)
