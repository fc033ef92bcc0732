"""The account of the LTE line: what is taken in of the sums, and what is forecast."""

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from commonwatt.model.byte_count import ByteCount
from commonwatt.model.effects import Effect, Write
from commonwatt.protocol.heartbeats import LineByteCount
from gateway.changes import Change
from gateway.events import Counted, FromMeter
from gateway.line.line import INTERFACE, KEPT_DAYS, METERS, UTILITY, Line, LineDay, forecast
from gateway.store.store import Store
from harness.surroundings.gateway import START, World

ZONE = "America/New_York"
GB = 1_000_000_000
DAY_S = 86_400


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(ZONE)).timestamp())


def ordinal(text: str) -> int:
    return datetime.fromisoformat(text).toordinal()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store.open(tmp_path / "gateway.db")
    yield opened
    opened.close()


class Account:
    """A line whose effects are committed."""

    def __init__(self, store: Store, *, by_interface: bool = False) -> None:
        self.store, self.by_interface = store, by_interface
        self.begin()

    def begin(self) -> None:
        """Begin, or begin again as after a restart."""
        self.line = Line(self.store, ZONE, 2 * GB, by_interface=self.by_interface)

    def look(self, side: str, run: str, up: int, down: int, time: str) -> None:
        effects: list[Effect[Change]] = self.line.look(side, run, ByteCount(up, down), at(time))
        self.store.commit([effect.change for effect in effects if isinstance(effect, Write)])

    def look_daily(self, days: int, first: int = 0) -> None:
        """Look once on each of some days."""
        for number in range(first, first + days):
            effects = self.line.look(UTILITY, "a", ByteCount(number, number), START + number * DAY_S)
            self.store.commit([effect.change for effect in effects if isinstance(effect, Write)])

    def used(self, time: str) -> tuple[int, int] | None:
        month = self.line.month(at(time))
        return None if month is None else month.used


def test_only_what_came_after_the_first_look_is_counted(store: Store) -> None:
    account = Account(store)
    assert account.used("2026-07-04T10:00") is None
    account.look(METERS, "a", 5000, 7000, "2026-07-04T10:00")
    assert account.used("2026-07-04T10:00") == (0, 0)
    account.look(METERS, "a", 5100, 7030, "2026-07-04T10:01")
    account.look(UTILITY, "b", 0, 0, "2026-07-04T10:01")
    account.look(UTILITY, "b", 11, 12, "2026-07-04T10:02")
    assert account.used("2026-07-04T10:02") == (111, 42)
    assert account.line.counted == {METERS: ByteCount(100, 30), UTILITY: ByteCount(11, 12)}


def test_a_restart_of_either_side_continues_the_month(store: Store) -> None:
    account = Account(store)
    account.look(METERS, "a", 0, 0, "2026-07-04T10:00")
    account.look(METERS, "a", 100, 200, "2026-07-04T10:01")
    account.begin()
    account.look(METERS, "a", 150, 300, "2026-07-04T10:05")
    account.look(METERS, "another broker", 30, 40, "2026-07-04T10:06")
    assert account.used("2026-07-04T10:06") == (180, 340)


def test_byte_counts_are_stored_every_quarter_of_an_hour_and_at_the_end(store: Store) -> None:
    account = Account(store)
    account.look(METERS, "a", 0, 0, "2026-07-04T10:00")
    for minute, stored in ((1, 0), (14, 0), (15, 15), (16, 15), (29, 15), (30, 30)):
        account.look(METERS, "a", minute, 0, f"2026-07-04T10:{minute:02}")
        assert Line(store, ZONE, GB, by_interface=False).days()[0].sent == stored
    account.look(METERS, "a", 31, 0, "2026-07-04T10:31")
    store.commit([effect.change for effect in account.line.keep() if isinstance(effect, Write)])
    assert Line(store, ZONE, GB, by_interface=False).days()[0].sent == 31
    account.look(METERS, "a", 35, 0, "2026-07-04T10:35")
    account.begin()
    account.look(METERS, "a", 40, 0, "2026-07-04T10:40")
    assert account.line.days()[0].sent == 40, "after a crash the broker's next report has all of it"


def test_sums_that_shrink_are_waited_for(store: Store) -> None:
    # A broker takes its gateway's connection out of the sum when it knows whose it is.
    account = Account(store)
    for up in (0, 500, 200, 500, 600):
        account.look(METERS, "a", up, up, "2026-07-04T10:00")
    assert account.used("2026-07-04T10:00") == (600, 600)


def test_absurd_sums_are_bounded_and_harm_nothing(store: Store) -> None:
    account = Account(store)
    for number in range(5):
        account.look(METERS, str(number), 2**63, 2**64, "2026-07-04T10:00")
    account.look(METERS, "last", 5, 5, "2026-07-04T11:00")
    month = account.line.month(at("2026-07-04T11:00"))
    assert month is not None
    assert month.used == month.expected == (2**53, 2**53)
    assert month.level == "exceeded"


def test_a_month_begins_at_local_midnight(store: Store) -> None:
    account = Account(store)
    account.look(UTILITY, "a", 0, 0, "2026-07-31T23:58")
    account.look(UTILITY, "a", 100, 200, "2026-07-31T23:59:59")
    assert account.used("2026-07-31T23:59:59") == (100, 200)
    assert account.used("2026-08-01T00:00") == (0, 0)
    account.look(UTILITY, "a", 107, 209, "2026-08-01T00:00")
    assert account.used("2026-08-01T00:01") == (7, 9)


def test_days_that_are_too_old_go(store: Store) -> None:
    account = Account(store)
    account.look_daily(100)
    assert len(account.line.days()) == KEPT_DAYS
    kept = account.line.days()
    account.begin()
    assert account.line.days() == kept


def test_a_clock_that_is_ahead_for_a_while_costs_no_day(store: Store) -> None:
    account = Account(store)
    account.look_daily(20)
    before = account.line.days()
    for ahead in (365, 366):
        account.look_daily(1, first=ahead)
        account.begin()
    assert account.line.days()[:20] == before
    account.look_daily(KEPT_DAYS, first=20)
    assert [row.day for row in account.line.days()] == [row.day + 20 for row in (before[0],)] + [
        before[0].day + 20 + number for number in range(1, KEPT_DAYS)
    ], "what it left is gone in its turn"


def test_without_a_time_the_sums_wait(store: Store) -> None:
    account = Account(store)
    account.look(UTILITY, "a", 0, 0, "2026-07-04T10:00")
    account.begin()
    account.look(UTILITY, "b", 70, 80, "1970-01-02T00:00")
    assert account.used("2026-07-04T10:01") == (0, 0)
    account.look(UTILITY, "b", 90, 95, "2026-07-04T10:01")
    assert account.used("2026-07-04T10:01") == (90, 95)


def test_with_an_interface_nothing_else_counts(store: Store) -> None:
    account = Account(store, by_interface=True)
    for up in (1000, 1010):
        account.look(INTERFACE, "wwan0", up, up, "2026-07-04T10:00")
        account.look(METERS, "a", up, up, "2026-07-04T10:00")
    assert account.used("2026-07-04T10:00") == (10, 10)
    assert account.line.view(at("2026-07-04T10:00"))["sides"] == {INTERFACE: {"up": 10, "down": 10}}


def test_the_forecast_goes_on_as_in_the_last_seven_days() -> None:
    # 10 days of 40 MB up, then 7 of 100 MB: at the end of the 17th 1.1 GB, and 14 days are left.
    days = [
        LineDay(side=UTILITY, day=ordinal(f"2026-07-{day:02}"), sent=40_000_000, received=0, seconds=DAY_S)
        for day in range(1, 11)
    ]
    days += [
        LineDay(side=UTILITY, day=ordinal(f"2026-07-{day:02}"), sent=100_000_000, received=0, seconds=DAY_S)
        for day in range(11, 18)
    ]
    month = forecast(days, at("2026-07-17T23:59:59"), ZoneInfo(ZONE), 2 * GB)
    assert month is not None
    assert month.used == (1_100_000_000, 0)
    assert month.expected is not None
    assert month.expected[0] == pytest.approx(2_500_000_000, rel=1e-4)
    assert month.level == "at_risk"


@pytest.mark.parametrize(
    ("sent", "seconds", "level"),
    [(10, 3599, "unknown"), (10, 3600, "ok"), (5_000_000, 3600, "at_risk"), (2 * GB + 1, 60, "exceeded")],
)
def test_a_line_is_judged_by_its_worse_direction_once_it_was_counted_for_an_hour(
    sent: int, seconds: int, level: str
) -> None:
    now = at("2026-07-10T12:00")
    for byte_count in ((sent, 0), (0, sent)):
        month = forecast([LineDay(METERS, ordinal("2026-07-10"), *byte_count, seconds)], now, ZoneInfo(ZONE), 2 * GB)
        assert month is not None
        assert month.level == level


def test_hours_that_were_not_counted_make_the_forecast_no_smaller(store: Store) -> None:
    account = Account(store)
    account.look(UTILITY, "a", 0, 0, "2026-07-10T00:00")
    for hour in (1, 2):
        account.look(UTILITY, "a", hour * 3600, 0, f"2026-07-10T{hour:02}:00")
    account.begin()
    account.look(UTILITY, "b", 60, 0, "2026-07-10T12:00")
    month = account.line.month(at("2026-07-10T12:00"))
    assert month is not None
    assert month.expected is not None
    # A byte a second for two hours, and 60 in the minute of the start.
    left_s = at("2026-08-01T00:00") - at("2026-07-10T12:00")
    assert month.expected[0] == 7260 + 7260 * left_s // 7200


@pytest.mark.parametrize("is_restarted", [True, False])
def test_bytes_of_a_pause_come_with_its_time_so_that_the_forecast_stays(store: Store, *, is_restarted: bool) -> None:
    account = Account(store)
    began = at("2026-07-05T00:00")
    for time in ("2026-07-05T00:00", "2026-07-05T06:00", "2026-07-10T06:00", "2026-07-10T07:00"):
        # A byte a second, counted by the broker all the time; the gateway is away for five days.
        account.look(METERS, "a", at(time) - began, 0, time)
        if is_restarted:
            account.begin()
    month = account.line.month(at("2026-07-10T07:00"))
    assert month is not None
    assert month.expected == (at("2026-08-01T00:00") - began, 0)


uses = st.builds(
    LineDay,
    st.sampled_from((METERS, UTILITY)),
    st.integers(ordinal("2026-06-01"), ordinal("2026-07-20")),
    st.integers(0, 10**9),
    st.integers(0, 10**9),
    st.integers(0, DAY_S),
)


@given(st.lists(uses, unique_by=lambda row: (row.side, row.day)), st.integers(0, 20 * DAY_S))
def test_no_forecast_is_below_what_was_used(rows: list[LineDay], more_s: int) -> None:
    now = at("2026-07-20T00:00") + more_s
    month = forecast(rows, min(now, at("2026-07-31T23:59:59")), ZoneInfo(ZONE), 2 * GB)
    assert (month is None) == (not rows)
    if month is not None and month.expected is not None:
        assert all(used <= end for used, end in zip(month.used, month.expected, strict=True))


def test_the_core_counts_what_its_broker_tells_and_says_it_in_the_heartbeat(tmp_path: Path) -> None:
    world = World(tmp_path / "gateway.db")
    for sent in (100, 1100):
        told = LineByteCount(run=7, sent=sent, received=2 * sent).pack()
        world.handle(FromMeter("cw1/r001/0/u/lte", told))
    world.handle(Counted(UTILITY, "b", ByteCount()))
    world.handle(Counted(UTILITY, "b", ByteCount(5, 6)))
    world.do(world.controller.line.keep())
    world.crash()
    (heartbeat,) = (p.payload for p in world.tick("heartbeat") if p.topic.endswith("/stat"))
    assert b'"lte":{"used":[1005,2006],"allowance":2000000000}' in heartbeat
    world.do(world.core.from_meter("cw1/r001/0/u/lte", b"{}", world.now))
    assert world.store.backlog()[2] == 1, "what can't be read is a dead letter"
