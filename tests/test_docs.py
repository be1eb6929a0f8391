"""What a user can type is written down: commands and options in docs/commands.md, commands in README."""

import re
from pathlib import Path
from typing import Any

import pytest
import typer

from phenoembed_cli.main import COMMANDS, app

ROOT = Path(__file__).parents[1]
REFERENCE = (ROOT / "docs" / "commands.md").read_text()
ROOT_COMMAND: Any = typer.main.get_command(app)
NAMES = [name.rstrip("_") for name in COMMANDS]


def section(command: str) -> str:
    """The part of docs/commands.md on one command."""
    found = re.search(rf"^## phenoembed {command}\n(.*?)(?=^## |\Z)", REFERENCE, re.DOTALL | re.MULTILINE)
    assert found, f"docs/commands.md has no section on {command}: make docs"
    return found[1]


@pytest.mark.parametrize("command", NAMES)
def test_every_command_and_option_is_documented(command: str) -> None:
    """docs/commands.md has a section a command, which names each of its options."""
    text = section(command)
    for parameter in ROOT_COMMAND.commands[command].params:
        for option in (*parameter.opts, *parameter.secondary_opts):
            if option.startswith("--"):
                assert f"`{option}" in text, f"{command} {option}: make docs"


@pytest.mark.parametrize("command", NAMES)
def test_every_command_is_in_the_readme(command: str) -> None:
    """README names each command."""
    assert f"phenoembed {command}" in (ROOT / "README.md").read_text()


def test_no_command_is_documented_that_is_not_there() -> None:
    """docs/commands.md and README speak of no command that does not exist."""
    spoken = set(re.findall(r"^## phenoembed (\S+)", REFERENCE, re.MULTILINE))
    in_blocks = "\n".join(re.findall(r"```\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL))
    spoken |= set(re.findall(r"^(?:\.venv/bin/)?phenoembed ([a-z]+)", in_blocks, re.MULTILINE))
    assert spoken <= set(NAMES)


def test_options_in_the_readme_exist() -> None:
    """Every option that README's command blocks use is one of the command's."""
    for line in (ROOT / "README.md").read_text().splitlines():
        found = re.match(r"(?:\.venv/bin/)?phenoembed ([a-z]+)(.*)", line)
        if found and found[1] in NAMES:
            known = {option for one in ROOT_COMMAND.commands[found[1]].params for option in one.opts}
            used = set(re.findall(r"(?<![\w-])--[a-z-]+", found[2].split("#")[0]))
            assert used <= known, line
