"""Options from a file: a run that is written down."""

import tomllib
from pathlib import Path
from typing import Annotated, Any

import typer


def read_config(context: typer.Context, path: Path | None) -> Path | None:
    """Take what a TOML file says as the command's defaults; what is typed goes before it."""
    if path is None:
        return None
    try:
        values: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise typer.BadParameter(f"'{path}' cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise typer.BadParameter(f"'{path}' is no TOML: {error}") from None
    known = {option.lstrip("-"): one.name for one in context.command.params for option in one.opts if "--" in option}
    for name in values:
        if name not in known or name == "config":
            raise typer.BadParameter(f"'{path}' has '{name}', which is no option (see --help)")
    context.default_map = {**(context.default_map or {}), **{str(known[name]): value for name, value in values.items()}}
    return path


Config = Annotated[
    Path | None,
    typer.Option("--config", metavar="FILE", is_eager=True, callback=read_config, help="Options from a TOML file."),
]
