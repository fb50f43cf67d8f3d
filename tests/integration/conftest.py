"""What integration tests share."""

import pytest
from resolved_records import ResolvedRecords


@pytest.fixture
def resolved(database, monkeypatch: pytest.MonkeyPatch) -> ResolvedRecords:
    """Records and customers as phase 6 leaves them, and the gold phases."""
    return ResolvedRecords(database, monkeypatch)
