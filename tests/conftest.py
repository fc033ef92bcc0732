"""Common to all tests: parallel runs with separate ports, property tests without a deadline."""

import gc
import signal
from collections.abc import Iterator
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, settings

from commonwatt.demo import parts
from harness.network.waiting import free_ports
from harness.real import forks

# Property tests have no deadline, so that they pass on a busy machine.
settings.register_profile("commonwatt", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("commonwatt")


@pytest.fixture(autouse=True, scope="session")
def _ports_and_forks() -> Iterator[None]:
    # A shell that runs the tests in its background has them ignore Ctrl-C, and so would every process they start.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    forks.enable()
    with patch.object(parts, "free_ports", free_ports):
        yield


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the tests of a file in one process, since they may share a running town; distribute simulated worlds.

    The worlds come last: short tests, each by itself, keep all processes busy to the end.
    """
    items.sort(key=_is_simulated)
    for item in items:
        if not _is_simulated(item):
            item.add_marker(pytest.mark.xdist_group("/".join(item.path.parts[-2:])))


def pytest_collection_finish() -> None:
    """Keep modules and thousands of collected tests, which stay to the end, out of every garbage collection."""
    gc.freeze()


def _is_simulated(item: pytest.Item) -> bool:
    return item.path.parent.name == "simulation"
