"""The kinds of databases that the utility's store supports."""

import pytest


@pytest.fixture(params=["sqlite", "postgresql"])
def both_kinds(request: pytest.FixtureRequest) -> str:
    """Run a test on every kind of database: a test module sets its fixture ``kind`` to this one."""
    return str(request.param)
