"""The list of refills, as API and page show it: how far, until when, and who is missing."""

from collections.abc import Callable

from harness.console import Browser, text_of
from harness.surroundings.utility import a_heartbeat
from tests.unit.utility.conftest import NOW
from utility.access.roles import Role
from utility.database.database import Database
from utility.outbox.changes import SawGateway
from utility.readings.store.heartbeats import refills
from utility.readings.store.writer import Writer

HALF = {"since": NOW - 4_000, "begins": NOW - 3_600, "parts": 1_000, "left": 500, "per_hour": 500}


def hear(database: Database, seen: int = NOW - 36, **told: object) -> None:
    beat = a_heartbeat(refilling={"r001": HALF | told})
    Writer(database).commit([SawGateway(controller="r001", time=seen, heartbeat=beat)])


def test_the_page_says_how_far_each_gateway_is_and_who_is_missing(
    browser: Callable[..., Browser], database: Database
) -> None:
    hear(database)
    text = text_of(browser(Role.OPERATOR).get("/console/refilling"))
    assert "r002 residential r002 ■ not heard" in text
    assert "r001 residential r001 ○ refilling 505 1,000 50 500" in text


def test_a_refill_goes_on_between_heartbeats_and_stops_with_them(database: Database) -> None:
    hear(database)
    with database.reads.begin() as connection:
        soon, later = (
            next(row for row in refills(connection, now) if row.microgrid == "r001") for now in (NOW, NOW + 600)
        )
    assert (soon.state, soon.sent, soon.end) == ("refilling", 505, NOW - 36 + 3_600)
    assert (later.state, later.sent, later.end) == ("not heard", 500, None)


def test_a_refill_that_ended_is_listed_last(database: Database) -> None:
    hear(database, left=0, end=NOW - 60, per_hour=None)
    with database.reads.begin() as connection:
        rows = refills(connection, NOW)
    assert (rows[-1].microgrid, rows[-1].state, rows[-1].percent, rows[-1].end) == ("r001", "refilled", 100, NOW - 60)
    assert {row.state for row in rows[:-1]} == {"not heard"}
