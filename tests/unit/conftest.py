"""Unit tests start no server: they run while somebody types."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="session")
def servers() -> None:
    """Refuse what every database and every Valkey of the suite comes from."""
    pytest.fail("A test in tests/unit asks for a server; move it to tests/integration.")
