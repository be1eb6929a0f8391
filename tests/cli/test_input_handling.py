"""What a hostile or hurried user types ends in one line, never in a traceback."""

from pathlib import Path

import pytest

from phenoembed_cli import main
from phenoembed_cli.output import print_table


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
