"""What the user may say about reading a screen, the same for every reader."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Options:
    """``mapping`` is ours -> theirs, of columns; ``times`` is time point -> hours after the compound was added.

    ``layout`` is the file that says what is in the wells, where it is not found beside the images; ``pattern`` is the
    regular expression that files' names match. With ``dry_run`` everything that is there is read, to be counted: every
    channel, and images of which no layout says what is in their wells.
    """

    mapping: Mapping[str, str] = field(default_factory=dict)
    channel: str | None = None
    check_files: bool = True
    times: Mapping[int, float] = field(default_factory=dict)
    dry_run: bool = False
    layout: Path | None = None
    pattern: str | None = None
