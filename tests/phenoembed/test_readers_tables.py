"""Manifests as files: encodings, delimiters, Parquet, what is no table, and whatever else a file may hold."""

import csv
from datetime import timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from phenoembed.readers import read_screen
from tests.phenoembed.manifests import HEADER, ROWS, column, faults, write

from phenoembed_store.errors import ManifestError, PhenoembedError
from phenoembed_store.schema import SCREEN_SCHEMA


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("bom", ["", "\ufeff"])
def test_line_endings_delimiters_and_bom(tmp_path: Path, ending: str, delimiter: str, bom: str) -> None:
    """What spreadsheets write is read, and a row is counted as an editor counts it."""
    text = ending.join([HEADER, "", *ROWS, "d.tif,P1,Q77,1,24,DMSO,"]).replace(",", delimiter)
    write(tmp_path)
    (tmp_path / "manifest.csv").write_bytes((bom + text).encode())
    assert faults(tmp_path, check_files=False) == ("row 6: well 'Q77' is no well (rows A-AF, columns 1-48)",)
    (tmp_path / "manifest.csv").write_bytes((bom + text.replace("Q77", "P12")).encode())
    screen = read_screen(tmp_path, check_files=False)
    assert screen.n_images == 4
    assert len(screen.notes) == (delimiter != ",")


def test_windows_1252_is_read_and_noted(tmp_path: Path) -> None:
    """What Excel saves as CSV keeps its umlauts; that the encoding was not UTF-8 is said."""
    text = "\n".join([HEADER, "a.tif,P1,A01,1,24,Löwe µ,1"])
    write(tmp_path)
    (tmp_path / "manifest.csv").write_bytes(text.encode("latin-1"))
    screen = read_screen(tmp_path)
    assert column(screen, "compound") == ["Löwe µ"]
    assert "read as Windows-1252 (Latin-1): row 2: byte 0xf6 is not UTF-8" in screen.notes[0]


def test_a_quoted_newline_does_not_shift_the_rows(tmp_path: Path) -> None:
    lines = (f"{HEADER},note", 'a.tif,P1,A01,1,24,DMSO,,"two', 'lines"', "b.tif,P1,Q9999,1,24,DMSO,,x")
    assert faults(write(tmp_path, *lines)) == ("row 4: well 'Q9999' is no well (rows A-AF, columns 1-48)",)


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"", "the file is empty; its first row names the columns"),
        (b"\xef\xbb\xbf\r\n", "the file is empty; its first row names the columns"),
        (HEADER.encode(), "there is no image: no row follows the column names"),
        (b"path,plate\n\x81,x\n", "row 2: byte 0x81 is not UTF-8; save the file as UTF-8"),
        ("path,plate".encode("utf-16"), "the file is UTF-16; save it as UTF-8"),
        (b"PK\x03\x04\x14\x00", "this is a workbook; save its sheet as CSV"),
        (b"path\x00,plate\n", "row 1: a NUL byte; this is not a text file"),
        (f'{HEADER}\n"a.tif,P1'.encode(), "row 2: not readable as CSV: unexpected end of data"),
        (f"{HEADER},plate\na.tif,P1,A01,1,24,DMSO,,P2\n".encode(), "two columns are named 'plate'"),
    ],
)
def test_a_file_that_is_no_table(tmp_path: Path, content: bytes, fault: str) -> None:
    (tmp_path / "a.tif").touch()
    (tmp_path / "manifest.csv").write_bytes(content)
    assert fault in faults(tmp_path)


def test_a_folder_named_like_a_manifest(tmp_path: Path) -> None:
    (tmp_path / "manifest.csv").mkdir()
    assert faults(tmp_path) == ("this is a folder, not a file",)


def test_parquet(tmp_path: Path) -> None:
    """Types are kept, numbers read as ours, and rows count from 1; pandas' row labels are left out."""
    (tmp_path / "a.tif").touch()
    columns = {
        "path": ["a.tif"],
        "plate": [7],
        "well": ["B3"],
        "field": pa.array([2.0]),
        "time_h": [24],
        "compound": pa.array(["taxol"]).dictionary_encode(),
        "concentration_um": pa.array([0.1], pa.float32()),
        "channel": [4.0],
        "names": [["x", "y"]],
        "__index_level_0__": [0],
    }
    pq.write_table(pa.table(columns), tmp_path / "manifest.parquet")
    known = read_screen(tmp_path).table.to_pylist()[0]
    assert (known["plate"], known["well"], known["field"], known["channel"]) == ("7", "B03", 2, "4")
    assert (known["concentration_um"], known["names"]) == (0.1, ["x", "y"])
    assert "__index_level_0__" not in known
    pq.write_table(pa.table(columns | {"time_h": [float("nan")], "well": [["B3"]]}), tmp_path / "manifest.parquet")
    assert faults(tmp_path) == (
        "column 'well' cannot be read: its cells are list<element: string>, not text or numbers",
        "row 1: well is empty",
        "row 1: time_h is empty",
    )
    pq.write_table(pa.table(columns | {"time_h": [timedelta(hours=24)]}), tmp_path / "manifest.parquet")
    told = "column 'time_h' cannot be read: its cells are duration[us], not text or numbers"
    assert told in faults(tmp_path)


@pytest.mark.parametrize("content", [b"", b"PAR1", b"PAR1" + b"\xff" * 64 + b"PAR1", b"path,plate\n"])
def test_an_unreadable_parquet(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "manifest.parquet").write_bytes(content)
    assert faults(tmp_path)[0].startswith("not a readable Parquet file: ")


def test_what_cannot_be_a_screen(tmp_path: Path) -> None:
    """A folder that is not there, a file, a folder without a screen, an unknown reader: one line each."""
    (tmp_path / "file").touch()
    for folder, options, line in (
        (tmp_path / "no", {}, f"'{tmp_path / 'no'}' is no folder"),
        (tmp_path / "file", {}, f"'{tmp_path / 'file'}' is a file; name its folder"),
        (tmp_path, {}, f"'{tmp_path}' holds no screen; looked for: manifest.csv or manifest.parquet"),
        (tmp_path, {"reader": "nikon"}, "no reader 'nikon'; there is manifest, loaddata, cv8000, phenix"),
    ):
        with pytest.raises(PhenoembedError) as raised:
            read_screen(folder, **options)  # type: ignore[arg-type]
        assert str(raised.value).startswith(line)
    with pytest.raises(ManifestError, match=r"there is no manifest\.csv or manifest\.parquet"):
        read_screen(tmp_path, reader="manifest")


WORDS = [
    "a.tif",
    "P1",
    "A01",
    "af48",
    "Z99",
    "1",
    "1.0",
    "-1",
    "1e400",
    "nan",
    "24",
    "DMSO",
    "taxol",
    "empty",
    "control",
    "treated",
    "é",
    ",",
    "1_0",
    "../a.tif",
]
ODD = ["", "5 uM", '"', '"x', "\0", "\u2028", "\r", "a/" * 300, "a" * 300, "0" * 400]
CELLS = st.sampled_from([*WORDS, *ODD])
NAMES = st.sampled_from([*SCREEN_SCHEMA.names, "Metadata_Site", "dose", "moa", "", "encoder", "PATH"])


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(NAMES, max_size=3),
    st.lists(st.lists(CELLS, min_size=6, max_size=11), max_size=4),
    st.sampled_from([",", ";", "\t"]),
    st.binary(max_size=3),
    st.booleans(),
)
def test_any_manifest_is_read_or_refused(
    tmp_path: Path, names: list[str], rows: list[list[str]], delimiter: str, noise: bytes, check_files: bool
) -> None:
    """Whatever a manifest holds, the answer is a screen or a ManifestError."""
    lines = [[*HEADER.split(","), *names], *rows]
    text = "\n".join(delimiter.join(cells) for cells in lines).encode()
    (tmp_path / "manifest.csv").write_bytes(text + noise)
    (tmp_path / "a.tif").touch()
    try:
        table = read_screen(tmp_path, check_files=check_files).table
    except ManifestError as error:
        told = error.faults
    else:
        told = ("a screen",) * (table.num_rows > 0)
        assert table.select(SCREEN_SCHEMA.names).schema.equals(SCREEN_SCHEMA)
        assert all(table.column(name).null_count == 0 for name in SCREEN_SCHEMA.names)
    assert told
    assert all("\n" not in fault for fault in told)


IMAGES = st.lists(
    st.tuples(st.sampled_from("ABP"), st.integers(1, 48), st.integers(0, 9), st.sampled_from([24.0, 72.5])),
    min_size=1,
    max_size=12,
    unique=True,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(IMAGES, st.sampled_from(["µM-ol", 'a "quoted", name', "taxol"]), st.floats(0, 1e6))
def test_a_screen_written_is_the_screen_read(
    tmp_path: Path, images: list[tuple[str, int, int, float]], compound: str, dose: float
) -> None:
    """A screen's table, written as CSV or Parquet, is read back as it was."""
    rows = [
        [f"{i}.tif", "S", "P1", f"{row}{col:02d}", field, time_h, "1", 0, "R1", compound, dose, "treated"]
        for i, (row, col, field, time_h) in enumerate(images)
    ]
    with (tmp_path / "manifest.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([SCREEN_SCHEMA.names, *rows])
    table = read_screen(tmp_path, check_files=False).table
    assert [list(row.values()) for row in table.to_pylist()] == rows
    (tmp_path / "manifest.csv").unlink()
    pq.write_table(table, tmp_path / "manifest.parquet")
    assert read_screen(tmp_path, check_files=False).table.equals(table)
    (tmp_path / "manifest.parquet").unlink()


def test_a_large_manifest_is_read_whole(tmp_path: Path) -> None:
    """48,000 rows, twice the images of a 384-well plate at 64 fields."""
    lines = [
        f"{plate}_{well}_{field}.tif,P{plate},{'ABCDEFGHIJKLMNOP'[well // 24]}{well % 24 + 1},{field},24,c{well},1"
        for plate in range(5)
        for well in range(384)
        for field in range(25)
    ]
    assert read_screen(write(tmp_path, HEADER, *lines), check_files=False).n_images == 48_000
