"""A plug-in of pytest: of each test with parameters the first case alone, where Python is tried and not values."""

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep the first case of each test."""
    first = {item.nodeid.partition("[")[0]: item for item in reversed(items)}
    items[:] = [item for item in items if first[item.nodeid.partition("[")[0]] is item]
