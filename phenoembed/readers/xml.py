"""XML as instruments write it: names without their namespace, time stamps, and what to say when it is damaged."""

import xml.etree.ElementTree as ET
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path

from phenoembed.readers.sheet import Faults


@contextmanager
def xml_fault(path: Path, faults: Faults) -> Iterator[None]:
    """Whatever makes the reading of a file end early within is a fault; what was read before stays."""
    try:
        yield
    except ET.ParseError as error:
        faults.add(f"{path}: line {error.position[0]} is not readable as XML ({error}); was it copied whole?")
    except (OSError, LookupError, ValueError) as error:
        faults.add(f"{path} cannot be read: {error}")


def attributes_of(element: ET.Element | None) -> dict[str, str]:
    return {} if element is None else {local_name(name): text for name, text in element.items()}


@lru_cache(maxsize=256)  # a few names, a million times
def local_name(name: str) -> str:
    return name.rpartition("}")[2]


def seconds(text: str | None) -> float | None:
    """A time stamp in seconds of the Unix epoch; one without a zone is taken as UTC, as all of its export's are."""
    try:
        stamp = datetime.fromisoformat((text or "").strip())
        return (stamp if stamp.tzinfo else stamp.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None
