"""Common to all tests: parallel runs with separate ports, property tests without a deadline."""

import gc
import os
import signal
from collections.abc import Iterator
from functools import cache
from operator import itemgetter
from pathlib import Path, PurePath
from unittest.mock import patch

import pytest
import typer.main
import typer.testing
from hypothesis import HealthCheck, settings
from xdist.remote import Producer  # type: ignore[import-untyped] # it has no types
from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped] # it has no types
from xdist.workermanage import WorkerController  # type: ignore[import-untyped] # it has no types

from commonwatt.demo import parts
from harness.network.waiting import free_ports
from harness.real import forks
from harness.real import parts as parts_of_others
from harness.surroundings.databases import close_opened, watch

# Property tests have no deadline, so that they pass on a busy machine.
settings.register_profile(
    "commonwatt",
    deadline=None,
    max_examples=int(os.environ.get("EXAMPLES", "50")),
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("commonwatt")

# Nothing that is imported and collected becomes garbage: the collector would only look at it again and again.
gc.disable()


@pytest.fixture(autouse=True, scope="session")
def _ports_and_forks() -> Iterator[None]:
    # A shell that runs the tests in its background has them ignore Ctrl-C, and so would every process they start.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    watch()
    forks.enable()
    # The command lines of tests are built once a process.
    built = patch.object(typer.testing, "_get_command", cache(typer.main.get_command))
    with patch.object(parts, "free_ports", free_ports), built:
        yield


@pytest.fixture(autouse=True)
def _worlds_databases() -> Iterator[None]:
    yield
    close_opened()
    assert gc.isenabled(), "a test left the garbage collector disabled: its process would keep all that follows"


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave files without tests of ``make test-real`` out of it: collecting all takes each process seconds."""
    if config.option.markexpr == _REAL and collection_path.suffix == ".py" and not may_be_real(collection_path):
        return True
    return None


@cache
def may_be_real(path: Path) -> bool:
    """Return whether a file may have tests of ``make test-real``, by its text."""
    return path.parent.name in _REAL_FOLDERS or any(word in path.read_text() for word in _REAL_WORDS)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of ``make test-real``, and mix the files of each folder after those that take longest.

    Each simulated world is by itself: short tests at the end keep all processes busy.
    """
    for item in items:
        if item.path.parts[-2] in _REAL_FOLDERS or ("postgresql" in item.name and may_be_real(item.path)):
            item.add_marker(pytest.mark.real)
        if item.get_closest_marker("real") is not None and not may_be_real(item.path):
            raise pytest.UsageError(f"{item.path}: make test-real finds no file that lacks all of: {_REAL_WORDS}")
    groups: dict[str, dict[str, list[pytest.Item]]] = {}
    for item in items:
        folder, group = item.path.parts[-2], group_of(item.nodeid)
        kind = folder if folder == "integration" or group == item.nodeid else "others"
        groups.setdefault(kind, {}).setdefault(group, []).append(item)
    places = [
        (_FIRST.get(name, _ENDS[kind] * n / len(files)), group)
        for kind, files in groups.items()
        for n, (name, group) in enumerate(files.items())
    ]
    items[:] = [item for _, group in sorted(places, key=itemgetter(0)) for item in group]


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Let only tests of ``make test-real`` start programs that this project does not bring along."""
    parts_of_others.are_allowed = item.get_closest_marker("real") is not None


_REAL = "real and not smoke"  # what `make test-real` chooses
_REAL_FOLDERS = {"integration", "browser"}
_REAL_WORDS = ("both_kinds", "mark.real", "postgresql")  # one of them is in each file with real tests of other folders

# Shares of the order within which the tests of a kind are spread.
_ENDS = {"integration": 0.8, "others": 0.9, "world": 1.0}
# Files whose tests share nothing.
_ALONE = (
    "integration/test_benchmarks.py",
    "integration/test_clocks.py",
    "integration/test_late_readings.py",
    "integration/test_restore_to_a_minute.py",
    "world/test_delivery.py",
    "world/test_energy.py",
    "world/test_planted.py",
)
# Files and folders that take longest, the longest one first: all processes would wait for one that starts late.
_LONGEST = (
    "integration/test_upgrade.py",
    "browser",
    "integration/test_python_313.py",
    "integration/test_cluster.py",
    "integration/test_debian.py",
    "integration/test_power_cut.py",
    "integration/test_package.py",
    "integration/test_faults.py",
    "integration/test_analyse.py",
)
_FIRST = {name: place - len(_LONGEST) for place, name in enumerate(_LONGEST)}


def group_of(nodeid: str) -> str:
    """Return the name of the tests that run in one process, in order, since they may share a running town."""
    folder, name = PurePath(nodeid.partition("::")[0]).parts[-2:]
    if f"{folder}/{name}" in _ALONE:
        return nodeid
    return folder if folder == "browser" else f"{folder}/{name}"


_KNOWN = 2  # tests that a process knows, the running one too


class Groups(LoadScopeScheduling):  # type: ignore[misc] # its base has no types
    """Gives each process one group after another; xdist's own groups get lost with this version of pytest."""

    def _split_scope(self, nodeid: str) -> str:
        return group_of(nodeid)

    def _reschedule(self, node: WorkerController) -> None:
        # A process needs to know which test follows, no more: a group that waits behind a long one could run elsewhere.
        if not self.workqueue or self._pending_of(self.assigned_work[node]) < _KNOWN:
            super()._reschedule(node)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Groups:
    """Return what divides the tests among processes."""
    return Groups(config, log)


def pytest_collection_finish() -> None:
    """Keep modules and thousands of collected tests, which stay to the end, out of every garbage collection.

    Collections are rare: applications and simulated worlds are many small objects that live for a while.
    """
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)
    gc.enable()
