"""Work that overlaps."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest
from phenoembed.reading_ahead import ahead


def test_the_next_is_made_while_one_is_used() -> None:
    """In order; the item after this one is begun before this one is done with, and the one after that is not."""
    begun = [threading.Event() for _ in range(5)]

    def items() -> Iterator[int]:
        for number, event in enumerate(begun):
            event.set()
            yield number

    for number, item in enumerate(ahead(items())):
        assert item == number
        if number < 4:
            assert begun[number + 1].wait(5)
        assert not any(event.is_set() for event in begun[number + 2 :])
    assert number == 4


def test_an_error_comes_in_its_turn() -> None:
    """After the items before it."""

    def items() -> Iterator[int]:
        yield 1
        raise OSError("disk")

    found = ahead(items())
    assert next(found) == 1
    with pytest.raises(OSError, match="disk"):
        next(found)
    assert list(ahead([])) == []


FAULTS = """
import resource, torch
from phenoembed.allocation import kept_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(2**24)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

outside = max(faults() for _ in range(3))
with kept_memory():
    faults()
    within = min(faults() for _ in range(3))
print(outside, within, max(faults() for _ in range(3)))
"""


def test_freed_memory_is_kept_and_then_given_back() -> None:
    """The same 64 MB, freed and taken again: no page is fetched anew within, and every one is outside.

    In a process of its own: what a heap looks like that other tests have used, nobody knows.
    """
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", FAULTS], capture_output=True, text=True, check=True, env=environment)
    outside, within, afterwards = map(int, done.stdout.split())
    if outside < 1000:
        pytest.skip("this C library keeps freed memory anyway, or pages are large")
    assert within < outside / 10
    assert afterwards > outside / 2
