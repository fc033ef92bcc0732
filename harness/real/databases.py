"""The kinds of databases that the utility's store supports."""

import pytest

# A test of a rule runs on SQLite; one round of each store runs on both.
on_both_kinds = pytest.mark.parametrize("kind", ["sqlite", "postgresql"])


@pytest.fixture(params=["sqlite", "postgresql"])
def both_kinds(request: pytest.FixtureRequest) -> str:
    """Run a test on every kind of database: a test module of a store with SQL of its own sets its fixture ``kind``."""
    return str(request.param)
