"""The kinds of databases that the utility's store can be on."""

import pytest


@pytest.fixture(params=["sqlite", "postgresql"])
def both_kinds(request: pytest.FixtureRequest) -> str:
    """Set as ``kind`` in a module of tests that are true of any database."""
    return str(request.param)
