"""The small JSON files beside weights."""

import json
from pathlib import Path
from typing import Any

from phenoembed_store.errors import StoreError


def read_record(path: Path, fix: str) -> dict[str, Any]:
    """A file's JSON object. Raises StoreError, which names the file and the fix, where there is none."""
    try:
        record = json.loads(path.read_text())
    except FileNotFoundError:
        raise StoreError(f"'{path}' is missing; {fix}") from None
    except (OSError, ValueError) as error:  # no JSON, or no text at all
        raise StoreError(f"'{path}' cannot be read ({error}); {fix}") from None
    if not isinstance(record, dict):
        raise StoreError(f"'{path}' cannot be read (it holds no JSON object); {fix}")
    return record
