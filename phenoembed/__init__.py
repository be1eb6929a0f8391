"""phenoembed: an embedding database and similarity search for label-free phenotypic screening.

>>> import phenoembed
>>> store = phenoembed.open("phenoembed-store")
>>> store.search(compound="nocodazole", k=10, where="concentration_um >= 5")
"""

from phenoembed_store import Store, open
from phenoembed_store.errors import PhenoembedError

__all__ = ["PhenoembedError", "Store", "open"]
