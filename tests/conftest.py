"""What all tests have in common: none takes another's ports."""

from collections.abc import Iterator
from unittest.mock import patch

import pytest

from commonwatt.demo import layout
from tests.support.waiting import free_ports


@pytest.fixture(autouse=True, scope="session")
def _ports_of_our_own() -> Iterator[None]:
    with patch.object(layout, "_free_ports", free_ports):
        yield
