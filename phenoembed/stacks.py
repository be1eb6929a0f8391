"""The planes of an image that is a z-stack, as the store keeps them: one text, in the column ``z_stack``."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from phenoembed.planes import Source
from phenoembed.screen import READING_COLUMNS, STACK_COLUMN, Screen
from phenoembed_store import remote
from phenoembed_store.schema import Z_STACK


def with_stacks(screen: Screen, z: str) -> pa.Table:
    """The screen's table as the store keeps it: ``z_stack`` where there are stacks, in place of how they are read.

    ``z``: how their planes are projected.
    """
    table = screen.table
    kept = table.drop_columns([name for name in READING_COLUMNS if name in table.column_names])
    if STACK_COLUMN not in table.column_names:
        return kept
    stacks = [
        json.dumps({"z": z, "paths": [remote.absolute(screen.root / path) for path in stack]}) if stack else None
        for stack in table.column(STACK_COLUMN).to_pylist()
    ]
    return kept.append_column(Z_STACK, pa.array(stacks, pa.string()))


def planes_of(image: Mapping[str, Any]) -> tuple[Source, str]:
    """The files of a stored image (``path``, ``z_stack``), and how they are projected."""
    stack = json.loads(image.get(Z_STACK) or "null")
    if stack is None:
        return (Path(image["path"]),), "max"
    return tuple(map(Path, stack["paths"])), stack["z"]
