"""simulate, train, index and probe as users type them: what they print, and how they end."""

import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import Trial
from tests.phenoembed import files

import phenoembed_store
from phenoembed_cli import main

COMMAND = [sys.executable, "-c", "from phenoembed_cli.main import main; main()"]
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
SETTINGS = ("--epochs", "3", "--batch-size", "8", "--learning-rate", "1e-3")


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *map(str, arguments)], capture_output=True, text=True, env=ENVIRONMENT, check=False, timeout=200
    )


def run_here(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """The same in this process, which has loaded what a new one takes seconds to load."""
    output, errors = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(output), redirect_stderr(errors):
        patch.setattr(sys, "argv", ["phenoembed", *map(str, arguments)])
        code = main._run()
    return subprocess.CompletedProcess(sys.argv, code, output.getvalue(), errors.getvalue())


def document(*arguments: str | Path) -> Any:
    done = run_here(*arguments, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def error_of(*arguments: str | Path) -> tuple[int, str]:
    """The exit code, and the one line that says why; nothing stands on standard output."""
    done = run_here(*arguments)
    assert done.stdout == ""
    lines = [line for line in done.stderr.splitlines() if not line.startswith("Screen(")]
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("error: ")
    return done.returncode, lines[0]


def test_simulate_says_where_its_screen_is(tmp_path: Path) -> None:
    """One JSON document; as many images as the manifest has rows."""
    found = document(
        "simulate", tmp_path / "p", "--compounds", "1", "--replicates", "1", "--fields", "1", "--size", "32"
    )
    manifest = Path(found["manifest"])
    assert found["images"] == len(manifest.read_text().splitlines()) - 1
    assert len(list(tmp_path.rglob("*.tif"))) == found["images"]


def test_ctrl_c_in_a_training_says_how_to_go_on_and_going_on_gives_the_same_encoder(
    trial: Trial, plates: Path, tmp_path: Path
) -> None:
    """One line, exit code 130; with --resume the encoder is the one of a training that nothing disturbed."""
    store = tmp_path / "store"
    command = [*COMMAND, "train", str(plates), *SETTINGS, "--store", str(store)]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT, start_new_session=True
    )
    deadline = time.monotonic() + 150
    while not list(store.glob("runs/*/last.ckpt")) and time.monotonic() < deadline:
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGINT)
    output, errors = process.communicate(timeout=60)
    said = [line for line in errors.splitlines() if not line.startswith(("Screen(", "reading:", "training:"))]
    assert (process.returncode, output) == (130, "")
    assert len(said) == 1, errors
    assert re.fullmatch(r"interrupted; \d of 3 epochs are saved: the same command with --resume goes on", said[0])
    found = json.loads(run("train", plates, *SETTINGS, "--store", store, "--resume", "--json").stdout)
    assert found["encoder"] == trial.trained.encoder
    assert set(found) >= {
        "encoder",
        "method",
        "split",
        "fold",
        "epochs",
        "images_per_second",
        "test",
        "test_known_wells",
    }
    assert set(found["test"]) >= {"top1", "n_test"}


def test_a_config_file_gives_options_and_what_is_typed_goes_first(plates: Path, tmp_path: Path) -> None:
    """The paper's settings are a file of ours; unknown names and what is no TOML are wrong usage."""
    from phenoembed.settings import Settings

    recipe = Path(__file__).parents[2] / "docs" / "lopac.toml"
    said = tomllib.loads(recipe.read_text())
    names = {"batch-size": "batch_groups", "learning-rate": "learning_rate", "epochs": "epochs"}
    assert {ours: said[theirs] for theirs, ours in names.items()} == {
        ours: getattr(Settings(), ours) for ours in names.values()
    }
    store = ("--store", tmp_path / "store")
    assert "no folder" in error_of("train", "nowhere", "--config", recipe, *store)[1]
    config = tmp_path / "run.toml"
    config.write_text('split = "plate"\nfold = "4"\n')
    assert "--split 'plate' is none of" in error_of("train", plates, "--config", config, *store)[1]
    typed = error_of("train", plates, "--config", config, "--split", "replicate", *store)
    assert "fold 4 of the replicate split does not exist" in typed[1]
    deep = "a = " + 10_000 * "["
    for text, complaint in (
        ("epoch = 3", "has 'epoch', which is no option"),
        ("epochs 3", "is no TOML"),
        (deep, "brackets within brackets"),
        ("epochs = true", "epochs = True, where one text or number is wanted"),
        ("calibrate = 'no'", "calibrate = 'no', where true or false is wanted"),
        ("map = 'a=b'", "map = 'a=b', where a list of texts, as [\"OURS=THEIRS\"] is wanted"),
        ("map = ['a=b', 3]", "where a list of texts"),
        ("[epochs]\nx = 1", "epochs = {'x': 1}"),
        ("epochs = 'x'", "--epochs"),
        ("epochs = 'many'", "(not 'many')"),
        ("learning-rate = 'slow'", "(not 'slow')"),
        ("\ufeffsplit = 'plate'", "--split 'plate' is none of"),
    ):
        config.write_text(text, encoding="utf-8")
        code, line = error_of("train", plates, "--config", config, *store)
        assert code == 2
        assert complaint in line


@pytest.mark.parametrize(
    ("option", "value"), [("average", "mean"), ("label-smoothing", "1"), ("consistency", "-1"), ("warm-start", "-1")]
)
def test_a_training_option_is_checked_under_its_own_name(plates: Path, tmp_path: Path, option: str, value: str) -> None:
    """What is typed reaches the setting of that name: a value that cannot be meant is said beside it."""
    line = error_of("train", plates, f"--{option}={value}", "--store", tmp_path)[1]
    assert f"--{option}" in line
    assert value in line


def test_index_names_what_it_rejected_and_exits_with_1(trial: Trial, own_plates: Path, tmp_path: Path) -> None:
    """Six bad files: each on a line of standard error with its reason; the document counts them; the rest is in."""
    store = trial.copy(tmp_path / "store").path
    for name in ("images", "groups", "rejected", "indexes"):
        shutil.rmtree(store / name, ignore_errors=True)
    paths = sorted(own_plates.rglob("*.tif"))
    for number, (make, _) in enumerate(files.BAD.values()):
        make(paths[11 * number])
    done = run("index", own_plates, "--store", store, "--no-baseline", "--json")
    assert done.returncode == 1
    found = json.loads(done.stdout)
    assert set(found) >= {"store", "version", "encoder", "indexed", "unchanged", "rejected", "images_per_second"}
    assert (found["indexed"], found["unchanged"], found["rejected"]) == (102, 0, 6)
    assert found["encoder"] == trial.trained.encoder
    for number, (_, reason) in enumerate(files.BAD.values()):
        name = str(paths[11 * number].relative_to(own_plates))
        assert re.search(rf"^rejected: {re.escape(name)}: {reason}", done.stderr, re.MULTILINE), done.stderr
    assert phenoembed_store.open(store).vectors()[0].num_rows == 102
    again = run_here("index", own_plates, "--store", store, "--no-baseline")
    assert again.returncode == 1
    assert again.stderr.splitlines()[-1].startswith("0 images indexed, 102 unchanged, 0 with new metadata, 6 rejected")


def test_index_dry_run_writes_nothing(plates: Path, tmp_path: Path) -> None:
    """The pinned document, and no store."""
    found = document("index", plates, "--dry-run", "--store", tmp_path / "store")
    assert set(found) == {"reader", "files", "images", "plates", "rejected", "faults"}
    assert (found["reader"], found["images"], found["plates"]) == ("manifest", 108, 3)
    assert not (tmp_path / "store").exists()


def test_probe_prints_a_table_or_the_pinned_document(trial: Trial, tmp_path: Path) -> None:
    """The table says what is chance, how many folds, and which splits are not trained."""
    store = trial.copy(tmp_path / "store").path
    found = document("probe", "--task", "treatment", "--store", store)
    assert set(found) >= {"task", "split", "classes", "chance", "folds", "mean", "sd"}
    done = run_here("probe", "--task", "treatment", "--store", store)
    assert done.returncode == 0, done.stderr
    for word in ("new replicate", "known wells", "untrained encoder", "intensity statistics", "chance", "majority"):
        assert word in done.stdout
    assert "field split: not trained" in done.stderr
    assert "compound split: not trained" in done.stderr


def test_evaluate_prints_the_papers_figures_beside_ours(trial: Trial, tmp_path: Path) -> None:
    """A table or a document, a figure where asked for; every method has its rows, trained or not."""
    figure = tmp_path / "figure.png"
    found = document("evaluate", "methods", "--store", trial.path, "--figure", figure)
    assert (found["experiment"], found["data"][:9]) == ("methods", "simulated")
    assert figure.read_bytes()[:4] == b"\x89PNG"
    done = run_here("evaluate", "methods", "--store", trial.path)
    assert done.returncode == 0, done.stderr
    for word in ("instance-lse", "not trained", "new replicate", "simulated data", "49.98 ± 0.96"):
        assert word in done.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("train", "nowhere"), 1, "'nowhere' is no folder"),
        (("train", "{plates}", "--epochs", "few"), 2, "--epochs"),
        (("train", "{plates}", "--fold", "7", "--epochs", "1"), 1, "fold 7 of the replicate split does not exist"),
        (("index", "{plates}"), 1, "no store at"),
        (("probe", "--task", "compound"), 1, "no store at"),
        (("evaluate", "methods"), 1, "no store at"),
        (("evaluate", "methods", "--figure", "f.doc"), 2, "'f.doc' ends in none of .png, .pdf, .svg"),
        (("simulate", "{plates}", "--size", "8"), 1, "size is 8"),
        (("trian",), 2, "trian"),
    ],
)
def test_an_error_is_one_line(plates: Path, tmp_path: Path, arguments: tuple[str, ...], code: int, said: str) -> None:
    """It names what is wrong; exit code 1, or 2 where the command was used wrongly; standard output stays empty."""
    typed = [one.format(plates=plates) for one in arguments]
    if typed[0] in ("train", "index", "probe", "evaluate"):
        typed += ["--store", str(tmp_path / "store")]
    found = error_of(*typed)
    assert found[0] == code
    assert said in found[1]
