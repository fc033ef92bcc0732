"""The sessions that emulated meters hold with several brokers, and whose token clears their epoch (R4, R13)."""

import asyncio
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from unittest.mock import patch

import pytest

from commonwatt.config.meters import InstalledBroker, MetersSettings
from commonwatt.device.changes import BrokerOrder, DesiredStates
from commonwatt.model.effects import Write
from tests.unit.meter_sim import test_fleet
from tests.unit.meter_sim.test_fleet import Bench, T

SECOND = InstalledBroker(name="r2", address="127.0.0.1:1884", rank=2, warm=True)
THIRD = InstalledBroker(name="r3", address="127.0.0.1:1885")
METER = 10_001


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    settings = partial(MetersSettings, brokers=(SECOND, THIRD), clique=("r", "r2"))
    with patch.object(test_fleet, "MetersSettings", settings):
        bench = Bench(tmp_path)
        bench.start()
        yield bench
        bench.stop()


def held(bench: Bench) -> set[str]:
    """Return the brokers with which the meter is connected, or connects."""
    links = bench.meters._shell.links[METER].items()
    return {name for name, link in links if link._paused_until_resume.is_set()}


def commit(bench: Bench, change: BrokerOrder | DesiredStates) -> None:
    asyncio.run(bench.meters._shell.perform([Write(change)]))


def test_a_meter_holds_home_and_the_warm_broker_and_after_a_start_the_commanded_one(bench: Bench) -> None:
    assert held(bench) == {"r", "r2"}
    commit(bench, BrokerOrder(METER, ("r3", "r")))
    bench.start()
    assert held(bench) == {"r", "r2", "r3"}


def test_a_meter_without_power_holds_no_session_and_then_the_same_again(bench: Bench) -> None:
    bench.meters._fail(METER, T + 3)
    bench.at(T + 4)
    assert held(bench) == set()
    bench.meters._recover(METER, T + 13)
    assert held(bench) == {"r", "r2"}


def test_silent_sessions_have_a_long_keepalive_also_at_home_where_data_may_go_to_a_collector(bench: Bench) -> None:
    links = bench.meters._shell.links[METER]
    assert {name: link._keepalive_s for name, link in links.items()} == {"r": 900, "r2": 900, "r3": 75}


def test_another_token_in_the_file_clears_the_epoch_of_that_meter(bench: Bench) -> None:
    tokens = {str(meter): "token" for meter in bench.meters.meters}
    for meter, core in bench.meters.meters.items():
        kept = core.desired_states.kept(meter)
        commit(bench, DesiredStates(meter, (9, 3), {}, {3: [0.0]}, digest=kept.digest))
    bench.start(**tokens | {str(METER): "another"})
    epochs = {meter: core.desired_states.epoch for meter, core in bench.meters.meters.items()}
    assert epochs.pop(METER) == (0, 0)
    assert set(epochs.values()) == {(9, 3)}
