"""The embedding database: Delta tables, vectors, SQL and search. It imports no torch, and faiss only when needed.

>>> import phenoembed_store
>>> store = phenoembed_store.open("phenoembed-store")
>>> store.search(compound="nocodazole", k=10, where="concentration_um >= 5")
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from phenoembed_store.encoders import EncoderInfo
    from phenoembed_store.heads import Head, HeadInfo
    from phenoembed_store.opening import open_store as open
    from phenoembed_store.store import Store
    from phenoembed_store.writing import Written

__all__ = ["EncoderInfo", "Head", "HeadInfo", "Store", "Written", "open"]

_HOME = {
    "EncoderInfo": ("encoders", "EncoderInfo"),
    "Head": ("heads", "Head"),
    "HeadInfo": ("heads", "HeadInfo"),
    "Store": ("store", "Store"),
    "Written": ("writing", "Written"),
    "open": ("opening", "open_store"),
}


def __getattr__(name: str) -> Any:
    """Names are imported at first use, so that the command line's help need not wait for numpy and pyarrow."""
    if name not in _HOME:
        raise AttributeError(f"module 'phenoembed_store' has no attribute '{name}'")
    module, attribute = _HOME[name]
    return getattr(import_module(f"phenoembed_store.{module}"), attribute)
