"""Real data, which the repository does not hold."""

import os
from pathlib import Path

import pytest

BESIDE = Path(__file__).parents[2].parent / "shared" / "data"


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data: ``$PHENOEMBED_REAL_DATA``, or ``../shared/data`` beside the checkout."""
    named = os.environ.get("PHENOEMBED_REAL_DATA")
    folder = Path(named) if named else BESIDE
    if not folder.is_dir():
        pytest.skip(f"no real data: {folder} is no folder (set PHENOEMBED_REAL_DATA)")
    return folder
