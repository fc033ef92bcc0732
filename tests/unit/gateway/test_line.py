"""The account of the LTE line, its forecast, and what a gateway does by itself to save bytes."""

import os
import random
from collections.abc import Callable, Iterator
from datetime import datetime
from itertools import pairwise, product
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from commonwatt.model.control import RelayedDays
from commonwatt.model.effects import Effect, Write
from commonwatt.model.time import Now, Trust
from commonwatt.model.units import LOW_BYTES, ByteCount
from commonwatt.protocol.batches import SLOW_S
from commonwatt.protocol.heartbeats import Heartbeat, LineByteCount
from commonwatt.protocol.json_messages import unpack_json
from gateway.controller import carried
from gateway.events import FromMeter, LineCounted
from gateway.line.line import INTERFACE, KEPT_DAYS, METERS, UTILITY, LineCounter, LineDay, forecast
from gateway.line.saving import Saving, Sight
from gateway.store.changes import Change, Setting
from gateway.store.store import Store
from harness.surroundings.gateway import START, World, batches, commands, readings, registered

ZONE = "America/New_York"
GB = 1_000_000_000
A_DAY_S = 86_400


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
        self.line = LineCounter(self.store, ZONE, 2 * GB, by_interface=self.by_interface)

    def look(self, side: str, run: str, up: int, down: int, time: str) -> None:
        effects: list[Effect[Change]] = self.line.look(side, run, ByteCount(up, down), at(time))
        self.store.commit([effect.change for effect in effects if isinstance(effect, Write)])

    def look_daily(self, days: int, first: int = 0) -> None:
        """Look once on each of some days."""
        for number in range(first, first + days):
            effects = self.line.look(UTILITY, "a", ByteCount(number, number), START + number * A_DAY_S)
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
        assert LineCounter(store, ZONE, GB, by_interface=False).days()[0].sent == stored
    account.look(METERS, "a", 31, 0, "2026-07-04T10:31")
    store.commit([effect.change for effect in account.line.keep() if isinstance(effect, Write)])
    assert LineCounter(store, ZONE, GB, by_interface=False).days()[0].sent == 31
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
        LineDay(side=UTILITY, day=ordinal(f"2026-07-{day:02}"), sent=40_000_000, received=0, seconds=A_DAY_S)
        for day in range(1, 11)
    ]
    days += [
        LineDay(side=UTILITY, day=ordinal(f"2026-07-{day:02}"), sent=100_000_000, received=0, seconds=A_DAY_S)
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
    st.integers(0, A_DAY_S),
)


@given(st.lists(uses, unique_by=lambda row: (row.side, row.day)), st.integers(0, 20 * A_DAY_S))
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
    world.handle(LineCounted(UTILITY, "b", ByteCount()))
    world.handle(LineCounted(UTILITY, "b", ByteCount(5, 6)))
    world.do(world.controller.line.keep())
    world.crash()
    (heartbeat,) = (p.payload for p in world.tick("heartbeat") if p.topic.endswith("/stat"))
    assert b'"lte":{"used":[1005,2006],"allowance":2000000000}' in heartbeat
    world.do(world.core.from_meter("cw1/r001/0/u/lte", b"{}", world.now))
    assert world.store.backlog()[2] == 1, "what can't be read is a dead letter"


DAY_S, HOUR_S, QUARTER_S = 86_400, 3_600, 900
MIDNIGHT = int(datetime(2026, 7, 1, tzinfo=ZoneInfo("America/New_York")).timestamp())
SAVES = (0.05, 0.08, 0.06)  # what each step saves of the line
# Byte counts that are forged once: whose, by how much, on which day, beside which part of the allowance.
FORGED = [*product((METERS, UTILITY), (GB // 10, GB, 2**53, 2**63), (3, 10, 12, 30), (0.5, 0.93, 0.99, 1.04))]
BYTE_COUNTS = int(os.environ.get("BYTE_COUNTS", "16"))  # how many of them are tried; ``make soak`` tries all
RELAYED = RelayedDays(seconds=DAY_S, batches=1_440, blocks=60_000, slots=200_000, size=3_000_000)


class Kept:
    """The settings of a store."""

    def __init__(self) -> None:
        self.settings: dict[str, str] = {}

    def setting(self, key: str) -> str | None:
        return self.settings.get(key)

    def commit(self, effects: list[Effect[Change]]) -> None:
        for effect in effects:
            if isinstance(effect, Write) and isinstance(effect.change, Setting):
                self.settings[effect.change.key] = effect.change.value


class Controller:
    """A line and what saves bytes on it, with a store that both are kept in."""

    def __init__(self, saves: str = "lossless") -> None:
        self.kept, self.saves = Kept(), saves
        self.now, self.sums = MIDNIGHT + 60, {METERS: 0, UTILITY: 0}
        self.steps: list[tuple[int, int]] = []  # day and step of each change
        self.words: list[str] = []
        self.changed: list[tuple[int, str]] = []  # time and name of each change
        self.free_bytes, self.parts, self.slow_until, self.trust = 10**12, 0, 0, Trust.NETWORK
        self.begin()

    def begin(self) -> None:
        """Begin, or begin again as after a restart."""
        self.line = LineCounter(self.kept, "America/New_York", 2 * GB, by_interface=False)
        self.saving = Saving(self.kept, "r017", self.saves)

    def look(self) -> None:
        """Do what a controller does each minute."""
        now, before = Now(self.now, self.trust), self.saving.ladder.step
        effects = [e for s, b in self.sums.items() for e in self.line.look(s, "run", ByteCount(b, b // 2), self.now)]
        sight = Sight(
            free_bytes=self.free_bytes,
            backlog_parts=self.parts,
            slow_until=self.slow_until,
            relays=[(RELAYED, 60)],
        )
        changes, noted = self.saving.judge(self.line, sight, now)
        self.kept.commit([*effects, *changes])
        if self.saving.ladder.step != before:
            self.steps.append(((self.now - MIDNIGHT) // DAY_S, self.saving.ladder.step))
        self.changed += [(self.now, name) for name in noted]
        self.words += [f"{value}: {why}" for value, why in noted.values()]

    def day(self, part: float, looks: int = 8) -> None:
        """Let a day pass that carries ``part`` of a thirtieth of the allowance, less what the steps save."""
        for saved in SAVES[: self.saving.ladder.step]:
            part *= 1 - saved
        for _ in range(looks):
            self.now += DAY_S // looks
            self.sums[METERS] += int(part * 2 * GB / 31 * 0.7 / looks)
            self.sums[UTILITY] += int(part * 2 * GB / 31 * 0.3 / looks)
            self.look()

    def run(self, seconds: int, each: Callable[[], None] = lambda: None) -> None:
        """Let time pass, minute by minute."""
        for _ in range(seconds // 60):
            self.now += 60
            each()
            self.look()

    def changes_of(self, name: str) -> list[int]:
        """Return the times of the changes of a reason."""
        return [time for time, of in self.changed if of == f"saving for {name}"]


@pytest.fixture
def controller() -> Controller:
    return Controller()


def times_changed(controller: Controller) -> list[int]:
    """Return how often each step was taken or taken back."""
    steps = [0, *(step for _, step in controller.steps)]
    changed = [max(one, other) for one, other in pairwise(steps)]
    return [changed.count(step) for step in (1, 2, 3, 4)]


@pytest.mark.parametrize("seed", range(20))
def test_in_sixty_days_of_noise_about_the_allowance_each_step_changes_twice_at_most(
    controller: Controller, seed: int
) -> None:
    chance = random.Random(seed)
    for _ in range(60):
        controller.day(chance.uniform(0.95, 1.05))
    assert max(times_changed(controller)) <= 2
    assert len({day for day, _ in controller.steps}) == len(controller.steps), "one step a day"


def test_a_line_at_risk_climbs_a_step_a_day_and_says_why(controller: Controller) -> None:
    for _ in range(8):
        controller.day(1.5)
    assert controller.steps == [(2, 1), (3, 2), (4, 3)], "averages were not allowed"
    assert controller.words[0].startswith("step 1: whole quarter-hours are relayed: ")
    assert "GB expected by the month's end, 2.000 GB allowed" in controller.words[0]


def test_averages_come_last_if_allowed_and_nothing_if_that_is_wanted() -> None:
    for saves, step in (("averages", 4), ("nothing", 0)):
        controller = Controller(saves)
        for _ in range(9):
            controller.day(1.5)
        assert controller.saving.ladder.step == step


def test_a_step_that_suffices_is_the_last(controller: Controller) -> None:
    for _ in range(30):
        controller.day(1.03)
    assert [step for _, step in controller.steps] == [1]


def test_steps_are_taken_back_after_seven_days_that_were_low_without_them(controller: Controller) -> None:
    for _ in range(6):
        controller.day(1.5)
    climbed = len(controller.steps)
    for _ in range(40):
        controller.day(0.3)
    back = controller.steps[climbed:]
    assert [step for _, step in back] == [2, 1, 0]
    days = [day for day, _ in back]
    assert all(later - earlier >= 7 for earlier, later in pairwise(days))
    assert controller.words[-1].startswith("step 0: no longer: whole quarter-hours are relayed: ")


def test_nothing_is_judged_by_a_clock_that_is_not_trusted(controller: Controller) -> None:
    controller.trust = Trust.METERS
    for _ in range(8):
        controller.day(1.5)
    assert not controller.steps


def test_a_restart_goes_on_with_the_step_and_its_days(controller: Controller) -> None:
    twin = Controller()
    for day in range(60):
        part = 1.4 if day < 6 else 0.4
        controller.day(part)
        twin.day(part)
        twin.begin()
    assert twin.steps == controller.steps
    assert len(controller.steps) == 6


@pytest.mark.parametrize(("side", "forged", "at", "part"), random.Random(1).sample(FORGED, BYTE_COUNTS))
def test_a_false_byte_count_moves_the_ladder_by_one_step_at_most(side: str, forged: int, at: int, part: float) -> None:
    true, false = Controller(), Controller()
    for day in range(60):
        chance = random.Random(day)
        carried = part * chance.uniform(0.98, 1.02)
        true.day(carried)
        false.day(carried)
        if day == at:
            sums = false.sums[side]
            false.sums[side] += forged
            false.look()
            false.sums[side] = sums
            false.look()
        assert abs(true.saving.ladder.step - false.saving.ladder.step) <= 1, day


def test_a_disk_that_fills_within_a_week_begins_aggregation_at_the_meters(controller: Controller) -> None:
    controller.free_bytes = LOW_BYTES + 6 * 24 * 1_000_000

    def fill() -> None:
        controller.free_bytes -= 1_000_000 // 60

    controller.run(5 * HOUR_S, fill)
    assert not controller.saving.wanted
    controller.run(3 * HOUR_S, fill)
    assert controller.saving.wanted == {"disk": ("meters",)}
    controller.run(2 * DAY_S)
    assert not controller.saving.wanted
    assert len(controller.changes_of("the disk")) == 2


def test_a_backlog_that_grows_for_an_hour_begins_aggregation_at_the_meters(controller: Controller) -> None:
    def grow() -> None:
        controller.parts += 1

    def drain() -> None:
        controller.parts = max(0, controller.parts - 5)

    controller.run(HOUR_S, grow)
    assert not controller.saving.wanted
    controller.run(HOUR_S, grow)
    assert controller.saving.wanted == {"backlog": ("meters",)}
    controller.run(2 * HOUR_S, drain)
    assert not controller.saving.wanted


def test_a_backlog_that_only_swings_is_none(controller: Controller) -> None:
    def swing() -> None:
        controller.parts = controller.now // 60 % 17 * 40

    controller.run(DAY_S, swing)
    assert not controller.changed


def test_what_the_utility_says_lasts_half_an_hour_and_is_spread(controller: Controller) -> None:
    controller.slow_until = controller.now + SLOW_S
    controller.run(SLOW_S - 60)
    assert (controller.saving.relay, controller.saving.late_s) == ("lossless", 17)
    controller.begin()
    controller.run(SLOW_S + 120)
    assert (controller.saving.relay, controller.saving.late_s) == ("none", 0)


def test_a_reason_changes_once_in_a_quarter_of_an_hour_at_most(controller: Controller) -> None:
    chance = random.Random(1)

    def toss() -> None:
        controller.slow_until = controller.now + 30 if chance.random() < 0.5 else 0

    controller.run(2 * DAY_S, toss)
    times = controller.changes_of("the utility")
    assert len(times) > 50
    assert min(later - earlier for earlier, later in pairwise(times)) >= QUARTER_S


@pytest.fixture
def climbed(world: World) -> World:
    """Yield a gateway that has taken all steps that lose nothing."""
    world.store.commit([Setting("saving", '{"line":{"step":3,"since":739000,"judged":739000}}')])
    world.crash()
    world.tick("heartbeat")
    return world


def in_force(world: World) -> tuple[str, str, int, int]:
    """Return how a gateway relays, how its meters aggregate and how often they put, and how often levels are asked."""
    said = heartbeat(world)
    return said.aggregation, said.meters or "", said.periods["put_s"], said.periods["levels_s"]


def heartbeat(world: World) -> Heartbeat:
    """Return what a gateway says of itself."""
    sent = world.tick("heartbeat")
    return unpack_json(Heartbeat, next(one.payload for one in sent if one.topic.endswith("/u/stat")))


def test_a_gateway_does_what_its_ladder_says_and_tells_the_utility(climbed: World) -> None:
    said = heartbeat(climbed)
    assert in_force(climbed) == ("lossless", "lossless", 300, 300)
    assert said.saves == {"line": ("quarters", "meters", "puts")}
    assert (said.tuned, said.commanded_aggregation) == ((), "none")
    begun = len(climbed.sent)
    climbed.introduce(1)
    climbed.tick("retry")
    assert [c.mode for c in commands(climbed.sent[begun:]) if c.cmd == "aggregate"] == ["lossless"]


def test_a_persons_schedule_wins_and_what_the_gateway_wants_comes_back_after_it(climbed: World) -> None:
    climbed.ask(cmd="schedule", periods={"relay_s": 120, "put_s": 60, "levels_s": 30}, meters="none")
    assert in_force(climbed) == ("none", "none", 60, 30)
    assert heartbeat(climbed).tuned == ("levels_s", "put_s", "relay_s", "meters")
    climbed.crash()
    assert in_force(climbed) == ("none", "none", 60, 30)
    climbed.ask(cmd="schedule", periods={"relay_s": None, "put_s": None, "levels_s": None}, meters="lossless")
    assert in_force(climbed) == ("lossless", "lossless", 300, 300)


def test_a_command_of_averages_wins_until_its_end(climbed: World) -> None:
    climbed.ask(cmd="aggregate", mode="lossy", for_s=900)
    assert heartbeat(climbed).commanded_aggregation == "lossy"
    climbed.now += 901
    climbed.tick("retry")
    assert (in_force(climbed)[0], heartbeat(climbed).commanded_aggregation) == ("lossless", "none")


def test_an_acknowledgement_of_a_utility_that_lags_slows_the_relay_until_it_has_ended(world: World) -> None:
    world.put(1, 1, readings(1, 1, 4))
    world.acknowledge(batches(world.tick("relay_s"))[0], slow_s=SLOW_S)
    assert heartbeat(world).saves == {"utility": ("quarters",)}
    world.crash()
    assert heartbeat(world).saves == {"utility": ("quarters",)}, "also over a restart"
    world.now += SLOW_S + 60
    assert heartbeat(world).saves is None


def test_all_microgrids_on_the_line_are_relayed_alike_but_each_keeps_what_a_person_set(
    climbed: World, tmp_path: Path
) -> None:
    store = Store.open(tmp_path / "r002.db")
    store.commit([Setting("periods", '{"put_s":120}')])
    climbed.controller.host("r002", store, {5: registered(5)})
    hosted = climbed.controller.hosted["r002"]
    assert (hosted.relay.mode.name, hosted.modes.meters_mode.mode) == ("lossless", "lossless")
    assert hosted.utility_commands.periods["put_s"] == 120
    assert carried(hosted)["meters"] is None, "it is none of what the utility has set"
    store.close()
