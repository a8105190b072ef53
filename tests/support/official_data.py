"""The official files, where this machine has them: beside the repository, in `shared/data`."""

from pathlib import Path

import pytest

OFFICIAL = Path(__file__).resolve().parents[3] / "shared" / "data"


def official(name: str) -> Path:
    """Folder of a benchmark; skips the test without it."""
    if not (OFFICIAL / name).is_dir():
        pytest.skip(f"no official files of {name} beside the repository")
    return OFFICIAL / name
