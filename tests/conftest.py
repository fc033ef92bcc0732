"""Common to all tests: parallel runs with separate ports, property tests without a deadline."""

import gc
import signal
from collections.abc import Iterator
from operator import itemgetter
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
    """Run the tests of a file in one process, since they may share a running town; mix the files of each folder.

    Tests of real processes mostly wait, all others calculate: mixed, they use the processors from begin to end. Each
    simulated world is by itself: short tests at the end keep all processes busy. Worlds that share what they know are
    one group, and run earlier. The files of `browser` share a town.
    """
    groups: dict[str, dict[str, list[pytest.Item]]] = {}
    for item in items:
        folder, name = item.path.parts[-2:]
        kind = folder if folder in _ENDS else "others"
        if folder == "simulation" and item.get_closest_marker("xdist_group") is None:
            name = item.name
        elif folder == "simulation":
            kind = "others"
        else:
            name = "" if folder == "browser" else name
            item.add_marker(pytest.mark.xdist_group(f"{folder}/{name}"))
        groups.setdefault(kind, {}).setdefault(f"{folder}/{name}", []).append(item)
    places = [
        (_ENDS[kind] * n / len(files), group)
        for kind, files in groups.items()
        for n, group in enumerate(files.values())
    ]
    items[:] = [item for _, group in sorted(places, key=itemgetter(0)) for item in group]


_ENDS = {"integration": 0.8, "others": 0.9, "simulation": 1.0}
"""Shares of the order within which the tests of a kind are spread."""


def pytest_collection_finish() -> None:
    """Keep modules and thousands of collected tests, which stay to the end, out of every garbage collection.

    Collections are rare: applications and simulated worlds are many small objects that live for a while.
    """
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)
