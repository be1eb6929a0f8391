"""What is in a store, in figures and tables."""

from collections import Counter
from datetime import UTC, datetime
from typing import Any

from phenoembed_dashboard.catalogue import Catalogue
from phenoembed_store import Store


def counts(store: Store, catalogue: Catalogue) -> dict[str, str]:
    """The large numbers of the page, as text."""
    return {
        "images" if catalogue.pictured else "profiles": f"{len(catalogue.table):,}",
        "compounds": f"{len(catalogue.treated):,}",
        "mechanisms": f"{len(catalogue.moas):,}",
        "plates": f"{len(catalogue.plates):,}",
        "doses": f"{sum(dose > 0 for dose in catalogue.values('concentration_um')):,}",
        **({"time points": f"{len(catalogue.values('time_h')):,}"} if catalogue.timed else {}),
        "rejected images": f"{len(store.rejected()):,}",
    }


def encoder_rows(store: Store) -> list[dict[str, Any]]:
    """The encoders, newest first."""
    return [
        {
            "encoder": info.id,
            "method": info.method,
            "split": None if info.untrained else info.split,
            "fold": None if info.untrained else info.fold,
            "epochs": None if info.untrained else info.config.get("epochs"),
            "test top-1": _share((info.config.get("test") or {}).get("top1")),
            "dimensions": info.dim,
            "trained": _when(info.trained_at),
            "screens": ", ".join(map(str, info.config.get("screens", []))),
        }
        for info in reversed(store.encoders())
    ]


def head_rows(store: Store) -> list[dict[str, Any]]:
    """The heads, newest first."""
    return [
        {
            "head": info.id,
            "task": info.task,
            "fitted by": "a probe" if "head" in info.config else "training",
            "encoder": info.encoder,
            "classes": info.n_classes,
            "split": info.config.get("split"),
            "fold": info.config.get("fold"),
            "saved": _when(info.saved_at),
        }
        for info in reversed(store.heads())
    ]


def index_rows(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """How each encoder's embeddings are searched, of what ``status`` says."""
    return [
        {
            "name": row["name"],
            "search": "every embedding is compared" if row["kind"] == "flat" else row["kind"],
            "embeddings": row["vectors"],
            "up to date": "yes" if row["fresh"] else "no: made anew at the next search",
            "recall of the 10 nearest": _share(row["recall_at_10"]),
        }
        for row in found
    ]


def reject_rows(store: Store) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Reasons by how many images each rejected, and the images."""
    images: list[dict[str, Any]] = store.rejected().to_pylist()
    reasons = Counter(_kind(str(row["reason"])) for row in images)
    return [{"reason": reason, "images": n} for reason, n in reasons.most_common()], images


def readable_bytes(n: int) -> str:
    size = float(n)
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} TB"


def _kind(reason: str) -> str:
    """``truncated: 9 bytes ...`` -> ``truncated``."""
    return reason.split(":")[0].strip()


def _share(value: float | None) -> float | None:
    return None if value is None else round(value, 3)


def _when(text: str) -> str:
    try:
        return datetime.fromisoformat(text).astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")
    except ValueError:
        return text
