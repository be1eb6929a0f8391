"""What a hostile or hurried user types ends in one line, never in a traceback."""

import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import typer

import phenoembed_store
from phenoembed_cli import main
from phenoembed_cli.output import print_json, print_table


def test_a_column_name_in_brackets_is_printed_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    """`query "SELECT repeat('[/red]', 2)"`: a heading is no markup."""
    print_table(["repeat('[/red]', 2)"], [["[/red]"]])
    assert "[/red]" in capsys.readouterr().out.splitlines()[0]


@pytest.mark.parametrize("days", ["-1", "nan", "inf", "1e300"])
def test_days_no_clock_counts_are_wrong_usage(
    days: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["phenoembed", "compact", "--keep-days", days, "--store", str(tmp_path)])
    assert main._run() == 2
    written = capsys.readouterr()
    assert not written.out
    (line,) = written.err.splitlines()
    assert line.startswith("error: ")


@pytest.mark.parametrize("times", ["", "nan", "24,inf", "1,,2", "24;72"])
def test_times_that_are_no_hours_are_wrong_usage(
    times: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["phenoembed", "index", str(tmp_path), "--times", times])
    assert main._run() == 2
    assert f"'{times}' is no list of hours" in capsys.readouterr().err


def test_json_has_no_nan(capsys: pytest.CaptureFixture[str]) -> None:
    """What is no number in JSON becomes null, at any depth."""
    print_json({"a": float("nan"), "b": [1.5, float("inf"), {"c": -float("inf")}], "d": "NaN"})
    assert json.loads(capsys.readouterr().out) == {"a": None, "b": [1.5, None, {"c": None}], "d": "NaN"}


def test_dry_run_lists_a_fault_a_line(tmp_path: Path) -> None:
    """Every fault of a manifest on a line of its own; exit code 1."""
    (tmp_path / "manifest.csv").write_text(
        "path,plate,well,field,time_h,compound,concentration_um\nx,P,Z99,1,24,a,few\n"
    )
    command = [
        sys.executable,
        "-c",
        "from phenoembed_cli.main import main; main()",
        "index",
        str(tmp_path),
        "--dry-run",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    faults = [line for line in done.stderr.splitlines() if line.startswith("fault: ")]
    assert done.returncode == 1
    assert len(faults) == 3  # the well, the concentration, the file that is not there
    assert any("Z99" in fault for fault in faults)
    assert any("few" in fault for fault in faults)


def test_a_column_mapped_twice_is_wrong_usage() -> None:
    from phenoembed_cli.plates import parse_map

    with pytest.raises(typer.BadParameter, match="--map compound is given twice: 'a' and 'b'"):
        parse_map(["compound=a", "compound=b"])


@pytest.mark.parametrize(
    "arguments",
    [
        ["index", "nowhere", "--dry-run", "--precision", "16"],
        ["index", "nowhere", "--dry-run", "--engine", "x"],
        ["index", "nowhere", "--transform", "zzz"],
        ["index", "nowhere", "--workers", "-3"],
        ["train", "nowhere", "--epochs", "0"],
        ["train", "nowhere", "--split", "zzz"],
        ["train", "nowhere", "--average", "zzz"],
        ["train", "nowhere", "--fold", "x"],
        ["train", "nowhere", "--batch-size", "1"],
        ["train", "nowhere", "--method", "zzz"],
        ["train", "nowhere", "--log", "zzz"],
        ["train", "nowhere", "--seed", "-1"],
        ["train", "nowhere", "--size", "31"],
        ["train", "nowhere", "--learning-rate", "5"],
        ["simulate", "nowhere", "--size", "0"],
    ],
)
def test_a_wrong_value_of_an_option_is_wrong_usage_before_anything_is_read(arguments: list[str]) -> None:
    command = [sys.executable, "-c", "from phenoembed_cli.main import main; main()", *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2, done.stderr
    assert arguments[-2] in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [["status", "--store", ""], ["index", ""], ["train", ""], ["simulate", ""], ["demo", "--out", ""], ["export", ""]],
)
def test_an_empty_path_is_not_this_folder(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As of a variable of the shell that is not set: nothing is read or written."""
    monkeypatch.chdir(tmp_path)
    assert ran(monkeypatch, *arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "an empty path names no folder" in line
    assert not list(tmp_path.iterdir())


TWICE = "Metadata_Plate,Metadata_Well,f1\nP1,A01,1\nP1,A01,2\n"
ONCE = "Metadata_Plate,Metadata_Well,f1\nP1,A01,1\nP1,A02,2\n"


def ran(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    """The exit status of `phenoembed` with these arguments."""
    monkeypatch.setattr("sys.argv", ["phenoembed", *map(str, arguments)])
    return main._run()


def test_an_import_that_fails_leaves_no_store_but_the_one_that_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "twice.csv").write_text(TWICE)
    (tmp_path / "once.csv").write_text(ONCE)
    assert ran(monkeypatch, "import", tmp_path / "twice.csv", "--store", tmp_path / "new") == 1
    assert not (tmp_path / "new").exists()
    (tmp_path / "empty").mkdir()
    assert ran(monkeypatch, "import", tmp_path / "twice.csv", "--store", tmp_path / "empty") == 1
    assert (tmp_path / "empty").is_dir()
    assert ran(monkeypatch, "import", tmp_path / "once.csv", "--store", tmp_path / "new") == 0
    assert ran(monkeypatch, "import", tmp_path / "twice.csv", "--store", tmp_path / "new") == 1
    assert phenoembed_store.open(tmp_path / "new").status()["images"] == 2


def test_an_encoder_or_store_that_is_not_there_is_said_before_plates_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "once.csv").write_text(ONCE)
    ran(monkeypatch, "import", tmp_path / "once.csv", "--store", tmp_path / "s")
    plates = tmp_path / "no plates here"
    for how in ([], ["--dry-run"]):
        capsys.readouterr()
        assert ran(monkeypatch, "index", plates, "--store", tmp_path / "s", "--encoder", "zzz", *how) == 1
        assert "no encoder 'zzz'" in capsys.readouterr().err
    assert ran(monkeypatch, "index", plates, "--store", tmp_path / "nosuch") == 1
    assert "no store at" in capsys.readouterr().err


def test_a_column_that_cannot_be_called_so_gets_a_name_one_can_type(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What the message says to type, typed in a shell, does it."""
    (tmp_path / "once.csv").write_text(
        ONCE.replace("f1", "Metadata_Compound,f1").replace("A01,", "A01,a,").replace("A02,", "A02,b,")
    )
    (tmp_path / "note.csv").write_text('compound,"dose ""mM"" x"\na,1\nb,2\n')
    assert ran(monkeypatch, "import", tmp_path / "once.csv", "--store", tmp_path / "s") == 0
    capsys.readouterr()
    assert ran(monkeypatch, "annotate", tmp_path / "note.csv", "--store", tmp_path / "s") == 1
    said = capsys.readouterr().err.partition("--map ")
    assert said[1]
    again = ["annotate", str(tmp_path / "note.csv"), "--store", str(tmp_path / "s"), *shlex.split(said[1] + said[2])]
    assert ran(monkeypatch, *again) == 0
    rows, _ = phenoembed_store.open(tmp_path / "s").vectors()
    assert rows.column("dose_mM_x").to_pylist() == [1, 2]


def test_a_store_with_an_encoder_and_no_images_has_no_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    phenoembed_store.open(tmp_path / "s", create=True)
    assert ran(monkeypatch, "status", "--store", tmp_path / "s") == 0
    assert "nothing indexed yet: 0 images" in capsys.readouterr().out


@pytest.mark.parametrize(
    "command",
    [
        ["status", "--report", "s3://b/x.png"],
        ["evaluate", "doses", "--figure", "s3://b/x.png"],
        ["query", "SELECT 1", "--out", "s3://b/x.csv"],
        ["export", "s3://b/x.csv"],
        ["simulate", "s3://b/x"],
        ["demo", "--out", "s3://b/x"],
    ],
)
def test_nothing_is_written_to_a_folder_called_s3(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "once.csv").write_text(ONCE)
    ran(monkeypatch, "import", tmp_path / "once.csv", "--store", tmp_path / "s")
    capsys.readouterr()
    stored = [] if command[0] in ("simulate", "demo") else ["--store", tmp_path / "s"]
    assert ran(monkeypatch, *command, *stored) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: 's3://b/x")
    assert "is in object storage" in line
    assert not list(tmp_path.glob("s3*"))


@pytest.mark.parametrize("command", [["status"], ["verify"], ["query", "SELECT 1"], ["import", "once.csv"]])
def test_links_that_go_round_are_one_line(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "once.csv").write_text(ONCE)
    (tmp_path / "loop").symlink_to("loop")
    assert ran(monkeypatch, *command, "--store", "loop") == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert "loop" in line
