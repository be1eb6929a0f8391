"""How long work says how far it has come, whoever shows it."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol


class Progress(Protocol):
    """Told how much of a stage is done."""

    def __call__(self, done: int, total: int, /) -> None: ...


Stage = Callable[[str], AbstractContextManager[Progress]]
"""Entered with the stage's name while it lasts; gives what is told of its progress."""


@contextmanager
def silent(_name: str) -> Iterator[Progress]:
    """A stage that nobody watches."""
    yield lambda _done, _total: None
