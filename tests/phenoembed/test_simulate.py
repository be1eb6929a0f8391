"""The simulated screen as a user gets it: a folder of TIFFs, a manifest and a truth."""

import csv
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import tifffile
from phenoembed.simulate import simulate_screen
from phenoembed.simulate.cell_lines import CELL_LINES
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from phenoembed_store.errors import PhenoembedError
from phenoembed_store.schema import SCREEN_SCHEMA

SMALL = {"compounds": 2, "replicates": 2, "fields": 2, "size": 32, "seed": 5}


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("simulated") / "screen"
    assert simulate_screen(out, **SMALL) == out / "manifest.csv"
    return out


@pytest.fixture(scope="module")
def medium(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Enough groups to test what intensity alone tells."""
    out = tmp_path_factory.mktemp("simulated") / "screen"
    simulate_screen(out, compounds=8, replicates=3, fields=1, size=32, seed=1, dmso_wells=0)
    return out


def test_the_manifest_has_the_columns_of_a_screen(small: Path) -> None:
    """The columns of SCREEN_SCHEMA, then the annotated mechanism; a row an image."""
    manifest = rows(small / "manifest.csv")
    assert list(manifest[0]) == [*SCREEN_SCHEMA.names, "moa"]
    wells = 2 * (2 * 3 + 6)  # replicates x (compounds x doses + controls)
    assert len(manifest) == wells * 2 * 2
    assert {row["path"] for row in manifest} == {name for name in contents(small) if name.endswith(".tif")}
    assert Counter(row["role"] for row in manifest) == {"treated": 48, "control": 48}


def test_controls_and_inactive_compounds_carry_no_mechanism(small: Path, medium: Path) -> None:
    """DMSO has dose 0; the truth alone says which compound is inactive."""
    for row in rows(small / "manifest.csv"):
        if row["role"] == "control":
            assert (row["compound"], float(row["concentration_um"]), row["moa"]) == ("DMSO", 0.0, "")
    truth = {row["compound"]: row for row in rows(medium / "truth.csv")}
    assert sum(row["inactive"] == "true" for row in truth.values()) == 1
    for row in rows(medium / "manifest.csv"):
        if row["role"] == "treated":
            told = truth[row["compound"]]
            assert row["moa"] == ("" if told["inactive"] == "true" else told["mechanism"])


def test_images_are_16_bit_and_named_as_a_yokogawa_names_them(small: Path) -> None:
    """uint16, of the size asked for, with the pixel size in the tags, neither dark nor saturated."""
    for row in rows(small / "manifest.csv")[::7]:
        time = {"24.0": 1, "72.0": 2}[row["time_h"]]
        name = f"{row['plate']}_{row['well']}_T{time:04d}F{int(row['field']):03d}L01A01Z01C01.tif"
        assert row["path"] == f"{row['plate']}/{name}"
        image = tifffile.imread(small / row["path"])
        assert (image.dtype, image.shape) == (np.uint16, (32, 32))
        assert 10_000 < image.mean() < 50_000
        assert image.std() > 500


def test_replicates_have_their_own_plates_and_layouts(small: Path) -> None:
    """A plate belongs to one replicate; a compound's well differs between replicates."""
    manifest = rows(small / "manifest.csv")
    assert len({(row["plate"], row["replicate"]) for row in manifest}) == len({row["plate"] for row in manifest}) == 2
    places = {
        r: {(x["compound"], x["concentration_um"], x["well"]) for x in manifest if x["replicate"] == r}
        for r in ("R1", "R2")
    }
    assert len(places["R1"] & places["R2"]) < 4


def test_the_same_seed_gives_the_same_bytes_whatever_the_workers(small: Path, tmp_path: Path) -> None:
    """Every file, in one process or two."""
    simulate_screen(tmp_path / "again", **SMALL, workers=2)
    assert contents(tmp_path / "again") == contents(small)


def test_another_seed_gives_another_screen(small: Path, tmp_path: Path) -> None:
    """Images, compounds and layout differ."""
    simulate_screen(tmp_path / "other", **{**SMALL, "seed": 6})
    ours, others = contents(small), contents(tmp_path / "other")
    assert ours["truth.csv"] != others["truth.csv"]
    assert not {data for name, data in ours.items() if name.endswith(".tif")} & set(others.values())


def test_an_interrupted_screen_is_completed(small: Path, tmp_path: Path) -> None:
    """What is there stays; what is missing is made; the manifest comes last."""
    out = tmp_path / "screen"

    def interrupt(done: int, total: int) -> None:
        if done >= total // 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        simulate_screen(out, **SMALL, progress=interrupt)
    assert not (out / "manifest.csv").exists()
    made = {path: path.stat().st_mtime_ns for path in out.rglob("*.tif")}
    assert 0 < len(made) < 96
    next(iter(made)).with_suffix(".tif.part").write_bytes(b"torn")
    simulate_screen(out, **SMALL)
    assert {path: path.stat().st_mtime_ns for path in made} == made
    finished = {name: data for name, data in contents(out).items() if not name.endswith(".part")}
    assert finished == contents(small)


def test_progress_counts_images(tmp_path: Path) -> None:
    """It rises to the number of images."""
    seen: list[tuple[int, int]] = []
    simulate_screen(
        tmp_path / "s",
        compounds=1,
        replicates=1,
        fields=1,
        size=32,
        progress=lambda done, total: seen.append((done, total)),
    )
    assert seen == [(done, 18) for done in range(2, 19, 2)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"size": 31}, "size is 31; give at least 32"),
        ({"compounds": 0}, "compounds is 0; give at least 1"),
        ({"replicates": -1}, "replicates is -1; give at least 1"),
        ({"fields": 0}, "fields is 0; give at least 1"),
        ({"seed": -3}, "seed is -3; give at least 0"),
        ({"dmso_wells": -1}, "dmso_wells is -1; give at least 0"),
        ({"workers": 0}, "workers is 0; give at least 1"),
        ({"concentrations_um": ()}, "concentrations_um is []; give different numbers above 0"),
        ({"concentrations_um": (1.0, 1.0)}, "concentrations_um is [1.0, 1.0]; give different numbers above 0"),
        ({"times_h": (0.0, 24.0)}, "times_h is [0.0, 24.0]; give different numbers above 0"),
        ({"kind": "yeast"}, "kind is 'yeast'; give one of epithelial, spindle"),
    ],
)
def test_arguments_that_make_no_screen_are_one_line(arguments: dict[str, object], message: str, tmp_path: Path) -> None:
    """The line names the value and what to give; nothing is written."""
    with pytest.raises(PhenoembedError) as caught:
        simulate_screen(tmp_path / "screen", **{**SMALL, **arguments})  # type: ignore[arg-type]
    assert str(caught.value) == message
    assert not (tmp_path / "screen").exists()


def test_a_folder_with_anything_else_is_left_alone(small: Path, tmp_path: Path) -> None:
    """Foreign files, other parameters, a damaged record, a file in the folder's place: each is one line."""
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(PhenoembedError, match="holds something else than a simulated screen"):
        simulate_screen(tmp_path, **SMALL)
    with pytest.raises(PhenoembedError, match="holds something else"):
        simulate_screen(tmp_path / "notes.txt", **SMALL)
    with pytest.raises(PhenoembedError, match="holds a simulation with seed = 5, not 7"):
        simulate_screen(small, **{**SMALL, "seed": 7})
    (tmp_path / "torn").mkdir()
    (tmp_path / "torn" / "simulation.json").write_text('{"seed"')
    with pytest.raises(PhenoembedError, match=r"simulation\.json is damaged"):
        simulate_screen(tmp_path / "torn", **SMALL)
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_the_record_holds_every_parameter(small: Path) -> None:
    """A reader can make the screen again from it."""
    record = json.loads((small / "simulation.json").read_text())
    assert {name: record[name] for name in SMALL} == SMALL
    assert record["dmso_wells"] == 6
    assert record["concentrations_um"] == [0.5, 5.0, 50.0]


@pytest.mark.parametrize("kind", CELL_LINES)
def test_every_kind_of_cell_can_be_simulated(kind: str, tmp_path: Path) -> None:
    """And a field need not be small, nor a power of two."""
    simulate_screen(
        tmp_path / "s", compounds=1, replicates=1, fields=1, size=131, dmso_wells=0, times_h=(48.0,), kind=kind
    )
    images = [tifffile.imread(path) for path in (tmp_path / "s").rglob("*.tif")]
    assert [image.shape for image in images] == [(131, 131)] * 3
    assert not list((tmp_path / "s").rglob("*.part"))


def test_mean_intensity_gives_no_compound_away(medium: Path) -> None:
    """On a replicate held out, a logistic regression on the images' means is near chance (1 in 8)."""
    treated = [row for row in rows(medium / "manifest.csv") if row["role"] == "treated"]
    groups: dict[tuple[str, str, str], dict[tuple[float, float], float]] = {}
    for row in treated:
        mean = float(tifffile.imread(medium / row["path"]).mean())
        place = (float(row["concentration_um"]), float(row["time_h"]))
        groups.setdefault((row["replicate"], row["compound"], row["field"]), {})[place] = mean
    features = np.array([[means[place] for place in sorted(means)] for means in groups.values()])
    replicate, compound, _ = np.array(list(groups)).T
    hits = []
    for held_out in ("R1", "R2", "R3"):
        test = replicate == held_out
        scaler = StandardScaler().fit(features[~test])
        model = LogisticRegression(max_iter=1000).fit(scaler.transform(features[~test]), compound[~test])
        hits += list(model.predict(scaler.transform(features[test])) == compound[test])
    assert len(hits) == 24
    assert np.mean(hits) < 0.34  # chance 0.125; 8 of 24 right would be a chance of 1 in 150
