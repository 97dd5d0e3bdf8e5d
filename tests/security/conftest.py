from __future__ import annotations

from pathlib import Path

import pytest

from tests.security.canary import Canary


@pytest.fixture
def canary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Canary:
    """In the current folder."""
    monkeypatch.chdir(tmp_path)
    return Canary(tmp_path)
