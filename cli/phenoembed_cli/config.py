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
        values: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise typer.BadParameter(f"'{path}' cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise typer.BadParameter(f"'{path}' is no TOML: {error}") from None
    except RecursionError:
        raise typer.BadParameter(f"'{path}' has brackets within brackets, hundreds deep") from None
    options = {option.lstrip("-"): one for one in context.command.params for option in one.opts if "--" in option}
    for name, value in values.items():
        if name not in options or name == "config":
            raise typer.BadParameter(f"'{path}' has '{name}', which is no option (see --help)")
        _check_kind(path, name, value, options[name])
    known = {name: str(one.name) for name, one in options.items()}
    context.default_map = {**(context.default_map or {}), **{known[name]: value for name, value in values.items()}}
    return path


def _check_kind(path: Path, name: str, value: Any, option: Any) -> None:
    """Raise typer.BadParameter where a value is not of the kind that an option takes; its range is Typer's to check."""
    if option.is_flag:
        fits, wanted = isinstance(value, bool), "true or false"
    elif option.multiple:
        fits = isinstance(value, list) and all(isinstance(each, str) for each in value)
        wanted = f'a list of texts, as ["{option.metavar or "TEXT"}"]'
    else:
        fits, wanted = isinstance(value, str | int | float) and not isinstance(value, bool), "one text or number"
    if not fits:
        raise typer.BadParameter(f"'{path}' has {name} = {value!r}, where {wanted} is wanted")


Config = Annotated[
    Path | None,
    typer.Option("--config", metavar="FILE", is_eager=True, callback=read_config, help="Options from a TOML file."),
]
