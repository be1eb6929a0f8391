"""What a hostile or hurried user types ends in one line, never in a traceback."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import typer

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
        ["train", "nowhere", "--batch-size", "0"],
        ["simulate", "nowhere", "--size", "0"],
    ],
)
def test_a_wrong_value_of_an_option_is_wrong_usage_before_anything_is_read(arguments: list[str]) -> None:
    command = [sys.executable, "-c", "from phenoembed_cli.main import main; main()", *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2, done.stderr
    assert arguments[-2] in done.stderr
