"""Controllers in network namespaces take over for each other: one that is blackholed, and one that is paused."""

import signal
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.clique.real.namespaces import need_namespaces
from harness.clique.real.town import LOST, Seen, Town, gateway, look, old_commands, stop_all

pytestmark = pytest.mark.real

PAUSE_S = 60.0  # seconds for which a gateway is stopped
AFTER_S = 15.0  # seconds for which the paused gateway is looked at after it goes on


@dataclass(frozen=True)
class Runs:
    """Two towns that run side by side, since each mostly waits."""

    blackholed: Future[Seen]
    paused: Future[tuple[Seen, int]]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runs]:
    need_namespaces()
    folder = tmp_path_factory.mktemp("towns")
    with ThreadPoolExecutor() as pool:
        yield Runs(pool.submit(blackholed, folder / "blackholed"), pool.submit(paused, folder / "paused"))
        stop_all()


def blackholed(folder: Path) -> Seen:
    with closing(Town(folder)) as town:
        town.start_all(utility=False)
        town.settle(utility=False)
        # How soon is the bench's: this machine may run other tests beside it.
        return look(town, lambda: town.machines.blackhole(LOST), all_meters=False)


def paused(folder: Path) -> tuple[Seen, int]:
    """Pause a gateway; return what was seen, and how many old commands were obeyed after it went on.

    The minute of the pause, and the time after it in which nothing may come, are real: no virtual clock reaches a
    stopped process, and there is no condition to wait for.
    """
    with closing(Town(folder)) as town:
        town.start_all(utility=True)
        began = time.monotonic()
        process = town.processes[gateway(LOST)]
        seen = look(town, lambda: process.send_signal(signal.SIGSTOP), all_meters=False)
        time.sleep(max(0.0, began + PAUSE_S - time.monotonic()))
        process.send_signal(signal.SIGCONT)
        time.sleep(AFTER_S)
        return seen, old_commands(town.commanded())


def test_a_blackholed_controller_is_replaced_without_the_utility(runs: Runs) -> None:  # req: A2
    seen = runs.blackholed.result()
    assert seen.broken == []
    assert seen.managers[-1] == "r002"


def test_row_14_meters_obey_one_of_two_controllers_that_manage_them(runs: Runs) -> None:
    seen, _ = runs.paused.result()
    assert seen.broken == [], "the paused one goes on as the manager that it was"
    assert seen.managers[-1] == "r002"


def test_row_15_no_old_command_of_a_paused_gateway_is_obeyed_after_it_goes_on(runs: Runs) -> None:  # req: A3
    _, obeyed = runs.paused.result()
    assert obeyed == 0
