"""What is read of the LTE line, and when a person is warned."""

import pytest

from commonwatt.protocol.heartbeats import Month
from gateway.line.line import INTERFACE, UTILITY
from gateway.line.watch import LineWatch

FINE = Month(used=(1, 1), expected=(2, 2), allowance=1_000_000_000)
AT_RISK = Month(used=(1, 1), expected=(2_000_000_000, 2), allowance=1_000_000_000)
EXCEEDED = Month(used=(1_500_000_000, 1), expected=(2_000_000_000, 2), allowance=1_000_000_000)


def test_a_person_is_warned_once_each_time_the_allowance_will_not_do(caplog: pytest.LogCaptureFixture) -> None:
    watch = LineWatch(None)
    for month in (None, FINE, AT_RISK, AT_RISK, EXCEEDED, EXCEEDED, FINE, AT_RISK):
        watch.judge(month)
        assert watch.month is month
    levels = [record.message.split(":")[0] for record in caplog.records]
    assert levels == [f"the LTE line is {level}" for level in ("at risk", "exceeded", "at risk")]


def test_it_reads_the_interface_if_there_is_one_to_read_and_else_its_own_connections() -> None:
    own = LineWatch(None)
    assert own.look() == (UTILITY, str(own.tally.run), own.tally.total())
    found = LineWatch("lo").look()
    assert found is not None
    assert found[0] == INTERFACE
    assert LineWatch("wwan-none").look() is None
