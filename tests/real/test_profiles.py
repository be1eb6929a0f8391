"""Profiles that others published: each table imports with one command, and gives the figures they are known for."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import phenoembed_store
from phenoembed_store import Store

BBBC021 = (
    "bbbc021-profiles/ljosa_jbiomolscreen_2013_per_well_mean.csv.gz",
    "bbbc021-profiles/BBBC021_v1_image.csv.gz",
    "bbbc021-profiles/BBBC021_v1_moa.csv",
)


def run_import(folder: Path, *arguments: str) -> dict[str, Any]:
    script = "from phenoembed_cli.main import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", script, "import", *arguments, "--store", str(folder), "--json"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def moa_of_nearest(store: Store, encoder: str) -> float:
    """How often the nearest treatment of another compound has the same mechanism."""
    treatments = store.sql(
        f"SELECT DISTINCT compound, concentration_um, moa FROM images WHERE role = 'treated' AND encoder = '{encoder}'"
    ).fetchall()
    assert len(treatments) == 103
    right = []
    for compound, dose, moa in treatments:
        hits = store.search(
            compound=compound, concentration_um=dose, level="treatment", k=1, where="role = 'treated'", encoder=encoder
        )
        right.append(hits.column("moa")[0].as_py() == moa)
    return float(np.mean(right))


def test_bbbc021_reproduces_the_published_figure(real_data: Path, tmp_path: Path) -> None:
    """Treatment medians, cosine, through import and search alone: 0.79 scaled to DMSO, 0.46 raw."""
    profiles, images, moa = (str(real_data / name) for name in BBBC021)
    further = ["--metadata", images, "--metadata", moa]
    report = run_import(tmp_path / "s", profiles, *further, "--transform", "percentile", "--name", "scaled")
    assert (report["added"], report["features"]) == (632, 516)
    assert [joined["unmatched"] for joined in report["joined"]] == [0, 0]
    run_import(tmp_path / "s", profiles, *further, "--name", "raw")
    store = phenoembed_store.open(tmp_path / "s")
    assert moa_of_nearest(store, "scaled") == pytest.approx(0.786, abs=0.001)
    assert moa_of_nearest(store, "raw") == pytest.approx(0.456, abs=0.001)


@pytest.mark.parametrize(
    ("name", "wells", "features", "compounds", "controls"),
    [
        ("cell-injury-profiles/aligned_plate_holdout.csv.gz", 1948, 352, 91, 1073),
        ("cell-injury-profiles/aligned_wells_holdout.csv.gz", 1125, 221, 55, 375),
        ("lincs-a549-profiles/SQ00015054_normalized_feature_select.csv.gz", 384, 454, 59, 24),
    ],
)
def test_every_table_imports_with_one_command(
    real_data: Path, tmp_path: Path, name: str, wells: int, features: int, compounds: int, controls: int
) -> None:
    report = run_import(tmp_path / "s", str(real_data / name), "--transform", "none")
    assert (report["added"], report["features"], report["rejected"]) == (wells, features, 0)
    store = phenoembed_store.open(tmp_path / "s")
    found = store.sql("SELECT count(DISTINCT compound), count(*) FILTER (role = 'control') FROM images").fetchall()
    assert found == [(compounds, controls)]
    assert store.verify() == []


def test_a549_treatments_find_their_own_compound(real_data: Path, tmp_path: Path) -> None:
    """At 3.3 µM and up the nearest well is of the same compound about half the time; chance is 2%."""
    store = phenoembed_store.open(tmp_path / "s", create=True)
    store.import_profiles(real_data / "lincs-a549-profiles/SQ00015054_normalized_feature_select.csv.gz")
    where = "role = 'treated' AND concentration_um >= 3.3"
    wells = store.sql(f"SELECT plate || ':' || well, compound FROM images WHERE {where}").fetchall()
    right = []
    for well, compound in wells:
        hits = store.search(well=well, level="image", k=2, where=where, include_self=True).to_pylist()
        right.append(next(hit for hit in hits if f"{hit['plate']}:{hit['well']}" != well)["compound"] == compound)
    assert np.mean(right) > 0.4
