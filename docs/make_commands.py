"""Write docs/commands.md from the command line's own help: `make docs`."""

from pathlib import Path
from typing import Any

import typer

from phenoembed_cli.main import app


def reference() -> str:
    """Every command with its arguments and options, as Markdown."""
    root: Any = typer.main.get_command(app)
    parts = ["# Commands\n\nMade from the help texts by `make docs`; `phenoembed COMMAND --help` says the same.\n"]
    for name, command in root.commands.items():
        usage = " ".join(
            ["phenoembed", name, *(f"[{p.name.upper()}]" for p in command.params if not p.opts[0].startswith("-"))]
        )
        parts.append(f"## phenoembed {name}\n\n{command.help}\n\n```\n{usage} [OPTIONS]\n```\n")
        rows = [_row(parameter) for parameter in command.params if parameter.opts[0].startswith("-")]
        parts.append("\n".join(["| option | meaning | default |", "| --- | --- | --- |", *rows]) + "\n")
    return "\n".join(parts)


def _row(parameter: Any) -> str:
    names = ", ".join(f"`{name}`" for name in (*parameter.opts, *parameter.secondary_opts))
    shown = isinstance(parameter.default, int | float | str | Path) and not isinstance(parameter.default, bool)
    default = parameter.default if shown else ""
    meaning = (parameter.help or "").replace("|", "\\|")
    return f"| {names} | {meaning} | {default} |"


if __name__ == "__main__":
    Path(__file__).with_name("commands.md").write_text(reference())
