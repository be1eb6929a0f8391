"""The store's commands as users type them: what they print, and how they end."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from tests.store.fakes import fake_rows

import phenoembed_store
from phenoembed_dashboard.catalogue import open_catalogue


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    store = phenoembed_store.open(tmp_path_factory.mktemp("cli") / "store", create=True)
    store.write_images(fake_rows())
    return store.path


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from phenoembed_cli.main import main; main()", *arguments, "--store", str(folder)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=240)


def document(folder: Path, *arguments: str) -> Any:
    done = run(folder, *arguments, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_search_prints_a_table_a_person_can_read(folder: Path) -> None:
    done = run(folder, "search", "--compound", "taxol", "-k", "2")
    assert done.returncode == 0
    header, first, second = done.stdout.splitlines()
    assert header.split() == ["rank", "compound", "score", "MoA", "images", "same", "plate"]
    assert "nocodazole" in first
    assert "tubulin" in first
    assert second.split()[0] == "2"


def test_search_as_json_is_the_pinned_document(folder: Path) -> None:
    found = document(folder, "search", "--well", "P1:A07", "--by", "image", "-k", "3", "--where", "plate = 'P2'")
    assert set(found) == {"query", "path", "transform", "hits"}
    assert found["path"] in ("exact", "index")
    assert [hit["rank"] for hit in found["hits"]] == [1, 2, 3]
    assert {"rank", "compound", "score", "n_images", "p_value", "q_value", "moa", "same_plate"} <= set(found["hits"][0])


def test_a_search_says_where_the_filter_left_the_query_whole_and_what_its_scores_are(folder: Path) -> None:
    found = document(folder, "search", "--compound", "taxol", "--where", "compound <> 'taxol'")
    assert found["query"]["query_not_filtered"]
    assert not document(folder, "search", "--compound", "taxol", "--where", "time_h > 0")["query"]["query_not_filtered"]
    done = run(folder, "search", "--compound", "taxol", "--where", "compound <> 'taxol'", "--not-same", "plate,well")
    assert "no image of the query passes the filter" in done.stderr
    assert "mean cosines of pairs of groups that share no plate and no well" in done.stderr


def test_status_as_json_is_the_pinned_document(folder: Path) -> None:
    found = document(folder, "status")
    assert list(found) == [
        "store",
        "version",
        "encoders",
        "images",
        "groups",
        "compounds",
        "controls",
        "rejected",
        "bytes",
        "indexes",
    ]
    rows = fake_rows().to_pylist()
    assert (found["images"], found["groups"]) == (72, 24)
    assert found["compounds"] == len({row["compound"] for row in rows if row["role"] == "treated"})  # DMSO is none
    assert found["controls"] == sum(row["role"] == "control" for row in rows)


def test_compounds_and_controls_are_counted_once_however_many_encoders(tmp_path: Path) -> None:
    """The status, the store's repr and the dashboard say the same; empty wells are of no compound."""
    store = phenoembed_store.open(tmp_path / "store", create=True)
    assert [store.status()[name] for name in ("images", "compounds", "controls")] == [0, 0, 0]
    rows = fake_rows()
    places = np.arange(len(rows)) == 0
    role = pc.if_else(pa.array(places), "empty", rows.column("role"))
    compound = pc.if_else(pa.array(places), "medium", rows.column("compound"))
    rows = rows.set_column(rows.column_names.index("role"), "role", role)
    rows = rows.set_column(rows.column_names.index("compound"), "compound", compound)
    store.write_images(rows)
    store.write_images(rows.set_column(rows.column_names.index("encoder"), "encoder", pa.array(["two"] * len(rows))))
    said = rows.to_pylist()
    found = store.status()
    treated = {row["compound"] for row in said if row["role"] == "treated"}
    assert (found["images"], found["compounds"]) == (len(said), len(treated))
    assert found["controls"] == sum(row["role"] == "control" for row in said)
    assert repr(store) == f"Store({len(said)} images, {len(treated)} compounds, 2 encoders)"
    assert len(open_catalogue(store.path).treated) == len(treated)


def test_verify_as_json_says_it_of_a_store_without_a_status(tmp_path: Path) -> None:
    """Where nothing else can be read any more, the faults are still a document."""
    store = phenoembed_store.open(tmp_path / "store", create=True)
    store.write_images(fake_rows())
    min(store.path.glob("images/*.parquet")).write_bytes(b"")
    done = run(store.path, "verify", "--json")
    assert done.returncode == 1
    found = json.loads(done.stdout)
    assert ["images" in fault["what"] and "backup" in fault["fix"] for fault in found["faults"]] == [True]
    assert found["indexes"] == []


def test_damaged_groups_are_one_line_of_a_status(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the frames that the Delta library's errors carry where a machine asks for backtraces."""
    store = phenoembed_store.open(tmp_path / "store", create=True)
    store.write_images(fake_rows())
    store.refresh()
    min(store.path.glob("groups/_delta_log/*.json")).write_text("garbage")
    monkeypatch.setenv("RUST_BACKTRACE", "1")
    done = run(store.path, "status")
    assert done.returncode == 0
    (line,) = done.stderr.splitlines()
    assert line.startswith("the groups table is damaged, the groups are made anew: ")


def test_status_says_how_plates_did_to_one_of_several_encoders(tmp_path: Path) -> None:
    """The option that the error names is there, where embeddings were imported twice."""
    store = phenoembed_store.open(tmp_path / "store", create=True)
    for name in ("one", "two"):
        store.write_images(fake_rows(encoder=name, replicates=3 if name == "two" else 2))
    done = run(store.path, "status", "--plates")
    assert done.returncode == 1
    assert "--encoder ID" in done.stderr
    assert [one["plate"] for one in document(store.path, "status", "--plates", "--encoder", "two")["plates"]] == [
        "P1", "P2", "P3",
    ]  # fmt: skip


@pytest.mark.parametrize(("form", "first"), [("csv", "compound,n"), ("json", "["), ("table", "┌")])
def test_query_prints_in_every_form(folder: Path, form: str, first: str) -> None:
    done = run(folder, "query", "SELECT compound, count(*) AS n FROM images GROUP BY 1 ORDER BY 1", "--format", form)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(first)
    assert "taxol" in done.stdout


SUMS = "SELECT sum(file_bytes) AS s, sum(file_bytes) * 1.25 AS d, [sum(field), NULL] AS l, 'ab'::BLOB AS b FROM images"


def test_numbers_of_a_query_are_numbers(folder: Path, tmp_path: Path) -> None:
    """Sums of integers and decimals too, in a file as on standard output; bytes are base64, as CSV has them."""
    expected = [{"s": 7200, "d": 9000, "l": [108, None], "b": "YWI="}]
    assert document(folder, "query", SUMS) == expected
    assert document(folder, "query", "SELECT 0.25 AS a, 'nan'::FLOAT AS b") == [{"a": 0.25, "b": None}]
    out = tmp_path / "x.json"
    assert run(folder, "query", SUMS, "--format", "json", "--out", str(out)).returncode == 0
    assert json.loads(out.read_text()) == expected
    assert run(folder, "query", SUMS, "--format", "csv").stdout == 's,d,l,b\n7200,9000.00,"[108, null]",YWI=\n'


def test_a_query_for_everything_prints_a_table_one_can_read(folder: Path) -> None:
    """However many columns and rows there are: as many as fit, and their number."""
    done = run(folder, "query", "SELECT i.* FROM images i, range(10)")
    lines = done.stdout.splitlines()
    assert done.returncode == 0, done.stderr
    assert max(map(len, lines)) <= 160
    assert len(lines) < 250
    assert "720 rows (200 shown)" in done.stdout


@pytest.mark.parametrize("form", ["parquet", "arrow"])
def test_query_writes_binary_tables_with_embeddings(folder: Path, tmp_path: Path, form: str) -> None:
    import pyarrow.feather as feather
    import pyarrow.parquet as pq

    out = tmp_path / f"x.{form}"
    done = run(folder, "query", "SELECT path, embedding FROM images", "--format", form, "--out", str(out))
    assert done.returncode == 0, done.stderr
    written = pq.ParquetFile(out).read() if form == "parquet" else feather.read_table(out)
    assert len(written.column("embedding")[0]) == 8


@pytest.mark.parametrize(
    ("name", "start"),
    [
        ("x.csv", b"a,b\n1,x"),
        ("x.csv.gz", b"\x1f\x8b"),
        ("x.json", b'[\n  {\n    "a": 1'),
        ("x.parquet", b"PAR1"),
        ("x.arrow", b"ARROW1"),
        ("x.feather", b"ARROW1"),
    ],
)
def test_a_query_s_file_has_the_form_that_its_name_says(folder: Path, tmp_path: Path, name: str, start: bytes) -> None:
    done = run(folder, "query", "SELECT 1 AS a, 'x' AS b", "--out", str(tmp_path / name))
    assert done.returncode == 0, done.stderr
    assert (tmp_path / name).read_bytes().startswith(start)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--json", "--format", "csv"], "--json and --format csv are two forms; choose one"),
        (["--out", "x.parquet", "--format", "csv"], "'x.parquet' is a name for parquet, not for csv"),
        (["--out", "x.csv", "--json"], "'x.csv' is a name for csv, not for json"),
        (["--out", "x.txt"], "'x.txt' names no form: write .csv, .json, .parquet or .arrow, or say --format"),
        (["--out", "x.csv", "--format", "table"], "a table is for the terminal"),
        (["--format", "xml"], "'xml' is none of table, csv"),
    ],
)
def test_a_form_that_contradicts_itself_is_wrong_usage(folder: Path, arguments: list[str], message: str) -> None:
    done = run(folder, "query", "SELECT 1 AS a", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr
    assert not Path("x.csv").exists()


def test_annotate_says_what_matched(folder: Path, tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    table.write_text("compound,target\ntaxol,TUBB\nnobody,X\n")
    report = document(folder, "annotate", str(table), "--on", "compound")
    assert report["matched"] == 1
    assert report["unmatched"] == ["nobody"]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["search", "--compound", "taxoll"], 1, "error: no compound 'taxoll'; did you mean 'taxol'?"),
        (["search", "--compound", "taxol", "--where", "dose > 1"], 1, 'error: Referenced column "dose" not found'),
        (["query", "DROP VIEW images"], 1, "error: only SELECT is allowed here, not DROP"),
        (["query", "SELECT CAST(compound AS INT) FROM images"], 1, "error: Could not convert string"),
        (["search"], 2, "name exactly one of --compound, --well, --group or --image"),
        (["search", "--compound", "a", "--well", "b"], 2, "name exactly one of"),
        (["search", "--compound", "taxol", "--by", "plate"], 2, "'plate' is no level"),
        (["query", "SELECT 1", "--format", "parquet"], 2, "name a file"),
        (["export", "out.csv", "--where", "1 = 0"], 1, "error: nothing to export: no image passes where '1 = 0'"),
    ],
)
def test_an_error_is_one_line_on_standard_error(folder: Path, arguments: list[str], code: int, message: str) -> None:
    done = run(folder, *arguments)
    assert done.returncode == code
    assert done.stdout == ""
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert "Traceback" not in done.stderr


def test_columns_of_one_name_are_told_apart(folder: Path) -> None:
    """SQL lets two columns of a result have one name; JSON does not."""
    (row,) = document(folder, "query", "SELECT 1 AS n, 2 AS n, 3 AS n_2, 4 AS n")
    assert row == {"n": 1, "n_3": 2, "n_2": 3, "n_4": 4}


def test_a_missing_store_is_named(tmp_path: Path) -> None:
    done = run(tmp_path / "nowhere", "status")
    assert done.returncode == 1
    assert "no store at" in done.stderr


def test_help_and_search_load_no_torch(folder: Path) -> None:
    """Help loads neither numpy nor the store; a search loads no torch."""
    script = (
        "import sys; from phenoembed_cli.main import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print(sorted({'torch', 'faiss', 'numpy', 'streamlit', 'sklearn'} & set(sys.modules)), file=sys.stderr)"
    )
    search = ["search", "--compound", "taxol", "--store", str(folder)]
    for arguments, loaded in ((["--help"], "[]"), (search, "['numpy']")):
        done = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=True)
        assert done.stderr.strip().splitlines()[-1] == loaded


@pytest.fixture
def small(tmp_path: Path) -> Path:
    phenoembed_store.open(tmp_path / "store", create=True).write_images(fake_rows())
    return tmp_path / "store"


def test_delete_takes_out_what_the_expression_names(small: Path) -> None:
    asked = document(small, "delete", "compound = 'taxol' AND plate = 'P1'", "--dry-run")
    assert (asked["matched"], asked["deleted"]) == (6, 0)
    done = document(small, "delete", "compound = 'taxol' AND plate = 'P1'", "--yes")
    assert (done["matched"], done["deleted"]) == (6, 6)
    assert done["version"] > asked["version"]
    left = phenoembed_store.open(small).sql("SELECT count(*) FROM images").fetchall()
    assert left == [(66,)]
    assert phenoembed_store.open(small).at(asked["version"]).status()["images"] == 72


def test_delete_asks_first(small: Path) -> None:
    """Where nobody can answer it deletes nothing, and says what to type."""
    done = run(small, "delete", "compound = 'taxol'")
    assert done.returncode == 2
    assert "--yes deletes them" in done.stderr
    assert phenoembed_store.open(small).status()["images"] == 72


@pytest.mark.parametrize("expression", ["", "compund = 'taxol'", "1; DROP TABLE images", "compound = 'nobody'"])
def test_delete_without_a_match_changes_nothing(small: Path, expression: str) -> None:
    run(small, "delete", expression, "--yes")
    assert phenoembed_store.open(small).status()["images"] == 72
