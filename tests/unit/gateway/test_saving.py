"""What a gateway does by itself to save bytes: the ladder of its line, and overload, on a virtual clock."""

import os
import random
from collections.abc import Callable
from datetime import datetime
from itertools import pairwise, product
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from commonwatt.model.byte_count import ByteCount
from commonwatt.model.control.relaying import Relayed
from commonwatt.model.disk_space import LOW_BYTES
from commonwatt.model.effects import Effect, Write
from commonwatt.model.time.now import Now, Trust
from commonwatt.protocol.batches import SLOW_S
from commonwatt.protocol.heartbeats import Heartbeat
from commonwatt.protocol.json_messages import unpack_json
from gateway.changes import Change, Setting
from gateway.line.line import METERS, UTILITY, Line
from gateway.saving.saving import Saving, Sight
from gateway.store.store import Store
from gateway.takeover.successor import carried
from harness.surroundings.gateway import World, batches, commands, readings, registered

GB = 1_000_000_000
DAY_S, HOUR_S, QUARTER_S = 86_400, 3_600, 900
MIDNIGHT = int(datetime(2026, 7, 1, tzinfo=ZoneInfo("America/New_York")).timestamp())
SAVES = (0.05, 0.08, 0.06)  # what each step saves of the line
# Byte counts that are forged once: whose, by how much, on which day, beside which part of the allowance.
FORGED = [*product((METERS, UTILITY), (GB // 10, GB, 2**53, 2**63), (3, 10, 12, 30), (0.5, 0.93, 0.99, 1.04))]
BYTE_COUNTS = int(os.environ.get("BYTE_COUNTS", "16"))  # how many of them are tried; ``make soak`` tries all
RELAYED = Relayed(seconds=DAY_S, batches=1_440, blocks=60_000, slots=200_000, size=3_000_000)


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
        self.line = Line(self.kept, "America/New_York", 2 * GB, by_interface=False)
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
