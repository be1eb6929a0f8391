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
        "plates": f"{len(catalogue.values('plate')):,}",
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
            "split": info.split,
            "fold": info.fold,
            "numbers": info.dim,
            "trained": _when(info.trained_at),
            "screens": ", ".join(map(str, info.config.get("screens", []))),
            "epochs": info.config.get("epochs"),
            "test top-1": (info.config.get("test") or {}).get("top1"),
        }
        for info in reversed(store.encoders())
    ]


def head_rows(store: Store) -> list[dict[str, Any]]:
    """The heads, newest first."""
    return [
        {
            "head": info.id,
            "task": info.task,
            "encoder": info.encoder,
            "classes": info.n_classes,
            "split": info.config.get("split"),
            "fold": info.config.get("fold"),
            "saved": _when(info.saved_at),
        }
        for info in reversed(store.heads())
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


def _when(text: str) -> str:
    try:
        return datetime.fromisoformat(text).astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")
    except ValueError:
        return text
