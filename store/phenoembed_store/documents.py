"""What machines read: the documents that ``--json`` prints and the service answers with."""

import json
import math
from base64 import b64encode
from decimal import Decimal
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa


def search_document(hits: "pa.Table") -> dict[str, Any]:
    """Hits of ``Store.search``: the query, how it was answered, and a record a hit, best first."""
    found: dict[str, Any] = json.loads(hits.schema.metadata[b"phenoembed"])
    return {**found, "hits": [{"moa": None} | row for row in hits.to_pylist()]}


def posterior_document(found: "pa.Table", top: int) -> dict[str, Any]:
    """Posteriors of ``Store.posterior``: a record a group, with its ``top`` most probable classes."""
    groups = []
    for row in found.to_pylist():
        ranked = sorted(zip(row.pop("probabilities"), row.pop("classes"), strict=True), reverse=True)
        groups.append({**row, "classes": [{"class": name, "probability": p} for p, name in ranked[:top]]})
    return {"groups": groups}


def plain(value: Any) -> Any:
    """What JSON has for a value, at any depth.

    It has no NaN and no infinity, which become null; one kind of number, which decimals (as DuckDB sums integers)
    become too; and no bytes, which become text in base64.
    """
    if isinstance(value, dict):
        return {name: plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, bytes):
        return b64encode(value).decode()
    return None if isinstance(value, float) and not math.isfinite(value) else value
