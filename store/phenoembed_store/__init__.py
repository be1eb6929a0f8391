"""The embedding database: Delta tables, vectors, SQL and search. It imports no torch, and faiss only when needed.

>>> import phenoembed_store
>>> store = phenoembed_store.open("phenoembed-store")
>>> store.search(compound="nocodazole", k=10, where="concentration_um >= 5")
"""

from phenoembed_store.encoders import EncoderInfo
from phenoembed_store.heads import Head, HeadInfo
from phenoembed_store.store import Store
from phenoembed_store.store import open_store as open
from phenoembed_store.writing import Written

__all__ = ["EncoderInfo", "Head", "HeadInfo", "Store", "Written", "open"]
