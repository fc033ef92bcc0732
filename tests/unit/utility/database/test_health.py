"""Health of the database: an outage of its server is said once, each minute, and at its end."""

import logging

import pytest
from sqlalchemy.exc import OperationalError

from utility.database.health import DATABASE_AWAY, Health


class GoneError(Exception):
    """The error of a driver whose server stops."""

    sqlstate = "57P01"


def gone() -> OperationalError:
    return OperationalError("SELECT 1", {}, GoneError("terminating connection\ndue to administrator command"))


WHY = "terminating connection due to administrator command"
AGAIN = "messages were not acknowledged and are sent again"


def test_an_outage_is_one_line_at_its_begin_one_a_minute_and_one_at_its_end(caplog: pytest.LogCaptureFixture) -> None:
    now = [1000.0]
    health = Health(None, lambda: now[0])
    with caplog.at_level(logging.WARNING):
        for _ in range(240):
            health.failed(gone(), "the storing of 3 messages", 3)
            now[0] += 0.5
        assert (health.alarms(), health.away_since) == ([DATABASE_AWAY], 1000)
        health.answered()
        health.answered()
    assert caplog.messages == [
        f"the database does not answer, nothing is acknowledged until it does: {WHY}",
        f"the database has not answered for 60 s: 121 attempts failed, 363 {AGAIN}",
        f"the database answers again after 120 s: 240 attempts failed, 720 {AGAIN}",
    ]
    assert (health.alarms(), health.away_since) == ([], None)


def test_another_error_is_said_each_time_and_is_no_outage(caplog: pytest.LogCaptureFixture) -> None:
    health = Health(None)
    for _ in range(2):
        health.failed(OperationalError("SELECT 1", {}, Exception("canceling statement")), "job gaps")
    assert len(caplog.messages) == 2
    assert caplog.messages[0].startswith("job gaps failed: ")
    assert health.alarms() == []
