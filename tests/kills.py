"""Work in a process that is killed at a chosen moment, and what it said last.

Processes are forked from a server that has imported what they need, so that a kill costs a second, not ten.
"""

import logging
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

from phenoembed.spawning import without_main

_CONTEXT = multiprocessing.get_context("forkserver")


@dataclass(frozen=True)
class Ended:
    """``said``: every line of the process, in order; ``code``: its exit code, minus the signal that ended it."""

    said: tuple[str, ...]
    code: int

    @property
    def stage(self) -> str:
        """What it was doing in the end."""
        return self.said[-1] if self.said else "starting"


def run(
    work: Callable[..., None],
    *arguments: Any,
    kill: int = signal.SIGKILL,
    when: Callable[[Sequence[str]], bool] | None = None,
    after: float = 0.0,
    preload: Sequence[str] = (),
) -> Ended:
    """Run ``work(*arguments)``; send ``kill`` ``after`` seconds after the lines it said first satisfy ``when``.

    ``work`` speaks through the logger "phenoembed" and through ``say``.
    """
    _CONTEXT.set_forkserver_preload(list(preload))
    ours, theirs = _CONTEXT.Pipe(duplex=False)
    process = _CONTEXT.Process(target=_work, args=(theirs, work, arguments))
    with without_main():  # which a Streamlit test may have put its own script in
        process.start()
    theirs.close()
    said: list[str] = []
    due: float | None = None
    while True:
        if when is not None and due is None and when(said):
            due = time.monotonic() + after
        wait = 0.002 if due is None else max(0.0, due - time.monotonic())
        if ours.poll(wait):
            try:
                said.append(ours.recv())
            except EOFError:
                break
        elif due is not None:
            assert process.pid
            with suppress(ProcessLookupError):  # it has just ended by itself
                os.kill(process.pid, kill)
            when = due = None
    process.join()
    return Ended(tuple(said), process.exitcode or 0)


class _Say(logging.Handler):
    """Every log record, at once, to the parent."""

    def __init__(self, connection: Connection) -> None:
        super().__init__()
        self.connection = connection

    def emit(self, record: logging.LogRecord) -> None:
        self.connection.send(record.getMessage())


def say(message: str, *arguments: Any) -> None:
    """Tell the parent where the work stands."""
    logging.getLogger("phenoembed").debug(message, *arguments)


def _work(connection: Connection, work: Callable[..., None], arguments: Sequence[Any]) -> None:
    logger = logging.getLogger("phenoembed")
    logger.setLevel(logging.DEBUG)
    logger.addHandler(_Say(connection))
    work(*arguments)
