"""The utility's time is its machine's, and is reported as certain only if a program keeps that clock."""

from dataclasses import replace

import pytest

from commonwatt.model.time.machine import Machine
from commonwatt.model.time.now import Trust
from commonwatt.runtime.clock import Clock
from utility.assembly.timekeeper import Timekeeper

NOW = 1_790_000_000
HOUR = 3600
MACHINE = Machine(raw=NOW, wall=NOW, since_boot_s=9.0, boot="this", synchronised=True, has_hardware_clock=False)


class Followed(Clock):
    """A clock that only tells how it is set."""

    def follow(self, wall: float) -> None:
        self.origin = wall


@pytest.fixture
def clock() -> Clock:
    return Followed(origin=NOW, monotonic_origin=0.0)


@pytest.mark.parametrize("by_s", [HOUR, -HOUR, 2])
def test_the_time_follows_the_machines_clock(clock: Clock, by_s: int) -> None:
    Timekeeper(clock, is_right=False).look(replace(MACHINE, wall=NOW + by_s))
    assert clock.origin == NOW + by_s


def test_the_time_stays_while_the_machines_clock_agrees(clock: Clock) -> None:
    Timekeeper(clock, is_right=False).look(replace(MACHINE, wall=NOW + 0.5))
    assert clock.origin == NOW


def test_the_time_is_trusted_while_somebody_keeps_the_machines_clock(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    keeper = Timekeeper(clock, is_right=False)
    alone = replace(MACHINE, synchronised=False)
    assert [keeper.look(each) for each in (alone, alone, MACHINE, alone)] == [
        Trust.NONE,
        Trust.NONE,
        Trust.NETWORK,
        Trust.NONE,
    ]
    assert sum("this machine's clock is not synchronized" in line for line in caplog.messages) == 2, "once each time"
    assert Timekeeper(clock, is_right=True).look(alone) is Trust.NETWORK
