"""Worlds run from the session's first test on, behind whatever else it does, in the time the cores have left."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from typing import Any

import pytest

from tests.support.simulation import campaign

NICENESS = 10
"""Other tests talk to real processes and wait for them; worlds only compute, and give way."""

_pool = pytest.StashKey[ProcessPoolExecutor]()
_futures = pytest.StashKey["list[Future[Any]]"]()


def pytest_collection_finish(session: pytest.Session) -> None:
    """Begin with what the tests that were chosen are marked to want."""
    marked = [(item, mark) for item in session.items for mark in item.iter_markers("background")]
    if marked and not session.config.option.collectonly:
        pool = session.config.stash[_pool] = campaign.pool(NICENESS)
        for item, mark in marked:
            item.stash[_futures] = _submit(pool, *mark.args)


def _submit(
    pool: ProcessPoolExecutor, function: Callable[[Any], object], arguments: Iterable[object]
) -> "list[Future[Any]]":
    return [pool.submit(function, argument) for argument in arguments]


def pytest_unconfigure(config: pytest.Config) -> None:
    """Begin with nothing more, and wait for what is begun."""
    if _pool in config.stash:
        config.stash[_pool].shutdown(cancel_futures=True)


@pytest.fixture
def results(request: pytest.FixtureRequest) -> Iterator[Any]:
    """What the function of the test's ``background(function, arguments)`` mark returns for each of the arguments."""
    return (future.result() for future in request.node.stash[_futures])
