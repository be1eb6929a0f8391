"""The house: who may import whom, what is loaded when, what a wheel holds."""

import ast
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = {
    "phenoembed": ROOT / "phenoembed",
    "phenoembed_store": ROOT / "store" / "phenoembed_store",
    "phenoembed_cli": ROOT / "cli" / "phenoembed_cli",
    "phenoembed_dashboard": ROOT / "dashboard" / "phenoembed_dashboard",
}
ALLOWED = {
    "phenoembed_store": set(),
    "phenoembed": {"phenoembed_store"},
    "phenoembed_cli": {"phenoembed", "phenoembed_store"},
    "phenoembed_dashboard": {"phenoembed", "phenoembed_store"},
}
CORE = (
    "phenoembed/folds.py",
    "phenoembed/metrics.py",
    "phenoembed/schedule.py",
    "store/phenoembed_store/aggregate.py",
    "store/phenoembed_store/grouping.py",
)
HEAVY = ("torch", "torchvision", "lightning", "faiss", "streamlit", "sklearn", "matplotlib")


def imports(path: Path) -> Iterator[str]:
    """Every module that a file names in an import, wherever in the file."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            yield node.module or ""


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_point_one_way(package: str) -> None:
    """Command line and dashboard import the science, the science imports the store, and nothing looks back up."""
    seen = 0
    for path in PACKAGES[package].rglob("*.py"):
        seen += 1
        ours = {name.split(".")[0] for name in imports(path)} & set(PACKAGES)
        if package == "phenoembed_cli" and path.name == "dashboard.py":
            ours -= {"phenoembed_dashboard"}  # the command that starts it
        assert ours <= ALLOWED[package] | {package}, f"{path.relative_to(ROOT)} imports {ours}"
    assert seen


@pytest.mark.parametrize("path", CORE)
def test_the_numeric_core_imports_nothing_internal(path: str) -> None:
    """Arrays in, arrays out: of ours, only the errors and the names of columns."""
    ours = {name for name in imports(ROOT / path) if name.split(".")[0] in PACKAGES}
    assert ours <= {"phenoembed_store.errors", "phenoembed_store.schema"}


def test_the_store_never_names_torch() -> None:
    """faiss and torch in one process have crashed others."""
    for path in PACKAGES["phenoembed_store"].rglob("*.py"):
        assert not {"torch", "lightning", "torchvision"} & {name.split(".")[0] for name in imports(path)}, path


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(str(path.parent) for path in PACKAGES.values())}
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, env=environment, check=False, timeout=120
    )


def test_importing_loads_nothing_heavy() -> None:
    """``import phenoembed``, ``phenoembed_store`` and ``phenoembed --help`` take a moment, not ten seconds."""
    code = "\n".join(
        [
            "import json, sys",
            "sys.argv = ['phenoembed', '--help']",
            "import phenoembed, phenoembed_store",
            "phenoembed.open, phenoembed_store.open",
            "from phenoembed_cli.main import main",
            "try: main()",
            "except SystemExit as end: assert not end.code",
            f"print('LOADED', json.dumps([name for name in {HEAVY} if name in sys.modules]))",
        ]
    )
    done = python("-c", code)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.split("LOADED", 1)[1]) == []


def test_every_commands_help_works() -> None:
    """Each command of the list is in the main help, and has one of its own, without loading anything heavy."""
    code = "\n".join(
        [
            "import sys",
            "from phenoembed_cli.main import COMMANDS, _run",
            "for name in COMMANDS:",
            "    sys.argv = ['phenoembed', name.rstrip('_').replace('_', '-'), '--help']",
            "    print('HELP OF', *sys.argv[1:], flush=True)",
            "    assert _run() == 0",
            f"assert not [name for name in {HEAVY} if name in sys.modules]",
        ]
    )
    done = python("-c", code)
    assert done.returncode == 0, done.stderr
    helps = done.stdout.split("HELP OF ")[1:]
    assert len(helps) >= 8
    assert all("Usage: " in one and "--help" in one for one in helps)
    assert all(one.count("--store") or one.startswith(("simulate", "demo")) for one in helps)


def test_the_wheel_holds_exactly_the_four_packages(tmp_path: Path) -> None:
    """Every module of the four, with the typing markers, and nothing else at the top but the metadata."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == set(PACKAGES)
    for package, folder in PACKAGES.items():
        modules = {f"{package}/{path.relative_to(folder).as_posix()}" for path in folder.rglob("*.py")}
        assert modules <= set(names)
        assert f"{package}/py.typed" in names


def tracked() -> list[Path]:
    done = subprocess.run(["git", "ls-files", "-z"], capture_output=True, text=True, cwd=ROOT, check=False)
    if done.returncode:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in done.stdout.split("\0") if name and (ROOT / name).is_file()]


def test_no_file_names_a_place_of_one_machine() -> None:
    """No home or working directory of anybody in code, tests or pages; no data that is not ours."""
    places = [f"/{name}/" for name in ("home", "root", "work", "Users", "mnt")]
    for path in tracked():
        assert path.stat().st_size < 2_000_000, f"{path} is large for a repository"
        if path.suffix in {".py", ".md", ".toml", ".yaml", ".cff", ""}:
            text = path.read_text(encoding="utf-8", errors="replace")
            found = [place for place in places if place in text and path != Path(__file__)]
            assert not found, f"{path.relative_to(ROOT)} names {found}"
