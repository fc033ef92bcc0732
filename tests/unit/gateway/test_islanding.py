"""The boundary switch: it opens on a dead feeder, closes on a stable voltage, and waits for boundary meters."""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from commonwatt.energy.shedding import TURN_S
from commonwatt.model.control import BLOCK_S, BLOCKS, return_delay_s
from commonwatt.model.effects import Publish, Write
from commonwatt.model.records import State
from commonwatt.protocol.commands import Command, Kind
from commonwatt.town.town import Direction, Function
from gateway.control.islanding import (
    PHASE,
    REPORT_GOOD_FOR_S,
    ObservedBoundary,
    Phase,
    Sensor,
    SwitchWish,
    contradiction,
    disagreement,
    kept_phase,
    may_close_at,
    together,
    wish,
)
from gateway.control.manager import RENEW_S, SHARE_FOR_S
from gateway.control.sharing import RENEWED_S
from gateway.store.changes import Setting
from harness.surroundings.gateway import World, commands, registered

STABLE_S, DELAY_S = 300, 60


def seen(*reports: tuple[int, bool, bool]) -> ObservedBoundary:
    """What was observed after reports of (time, voltage, switch open)."""
    boundary = ObservedBoundary()
    for heard, voltage, is_open in reports:
        boundary = boundary.observe(Sensor(voltage=voltage, is_open=is_open, heard=heard))
    return boundary


def wanted(
    boundary: ObservedBoundary, now: int, *, commanded: bool = False, isolated: bool = False, released: bool = False
) -> SwitchWish:
    return wish(
        boundary,
        now,
        commanded=commanded,
        isolated=isolated,
        stable_s=STABLE_S,
        delay_s=DELAY_S,
        released=released,
    )


def test_a_report_of_a_closed_switch_neither_ends_nor_renews_the_command_to_open() -> None:
    boundary = seen((0, True, False))
    assert wanted(boundary, 0).phase is Phase.CONNECTED
    waiting = wanted(boundary, 0, isolated=True)
    assert (waiting.phase, waiting.is_open) == (Phase.RESYNCHRONISING, None)
    opened = wanted(seen((0, True, True)), 0, isolated=True)
    assert (opened.phase, opened.is_open) == (Phase.RESYNCHRONISING, True)
    assert wanted(boundary, 0, commanded=True, isolated=True).phase is Phase.ISOLATING


@pytest.mark.parametrize(
    ("voltage", "is_open", "commanded", "phase"),
    [
        (True, False, False, Phase.CONNECTED),
        (False, False, False, Phase.ISOLATING),
        (False, True, False, Phase.ISLANDED),
        (True, True, False, Phase.RESYNCHRONISING),
        (True, False, True, Phase.ISOLATING),
        (True, True, True, Phase.ISLANDED),
    ],
)
def test_the_phase_follows_from_voltage_switch_and_command(
    voltage: bool, is_open: bool, commanded: bool, phase: Phase
) -> None:
    assert wanted(seen((0, voltage, is_open)), 0, commanded=commanded).phase is phase


def test_a_silent_sensor_never_closes_the_switch() -> None:
    boundary = seen(*((t, True, True) for t in range(0, 61, 15)))
    assert wanted(boundary, 10_000, isolated=True).is_open is True
    assert "silent" in wanted(boundary, 10_000).reason


def test_a_silent_sensor_opens_no_switch_that_may_have_closed_since() -> None:
    boundary = seen(*((t, True, True) for t in range(0, 61, 15)))
    assert wanted(boundary, 10_000).is_open is None


def test_a_switch_that_was_commanded_to_close_is_opened_again_by_the_loss_of_voltage_alone() -> None:
    closing = [(t, True, True) for t in range(0, STABLE_S + DELAY_S + 1, 15)]
    now = closing[-1][0]
    assert wanted(seen(*closing), now).is_open is False
    late = seen(*closing, (now + REPORT_GOOD_FOR_S + 15, True, True))
    assert wanted(late, now + REPORT_GOOD_FOR_S + 15, released=True).is_open is None, "a late report of an open switch"
    assert wanted(seen(*closing), now + 90, released=True).is_open is None, "no report for a while"
    assert wanted(seen(*closing, (now + 15, False, True)), now + 15, released=True).is_open is True


def test_the_sensor_is_right_against_a_notice_and_the_contradiction_is_told() -> None:
    live, dead = seen((0, True, False)), seen((0, False, True))
    assert wanted(live, 0).phase is Phase.CONNECTED
    assert "power is lost, but the boundary sensor has voltage" in str(contradiction(live, notice=True))
    assert "power is back, but the boundary sensor has no voltage" in str(contradiction(dead, notice=False))
    assert contradiction(live, notice=False) is None
    assert contradiction(dead, notice=True) is None
    assert contradiction(ObservedBoundary(), notice=True) is None
    assert contradiction(live, notice=None) is None


def test_the_time_being_set_changes_no_wait() -> None:
    boundary = seen(*((t, True, True) for t in range(0, 61, 15)))
    assert wanted(boundary.shift(3600), 3660).reason == wanted(boundary, 60).reason
    assert ObservedBoundary().shift(5) == ObservedBoundary()


@settings(max_examples=300)
@given(
    st.lists(
        st.tuples(st.integers(0, 90), st.booleans(), st.booleans(), st.booleans(), st.booleans()),
        max_size=60,
    )
)
def test_it_never_closes_without_observed_stable_voltage(
    steps: list[tuple[int, bool, bool, bool, bool]],
) -> None:
    """Whatever comes, in whatever order, with restarts: closing needs reports without a gap for the whole wait."""
    now, boundary, good = 0, ObservedBoundary(), list[int]()
    for after_s, voltage, is_open, commanded, restarts in steps:
        now += after_s
        if restarts:
            boundary, good = ObservedBoundary(), []
        boundary = boundary.observe(Sensor(voltage=voltage, is_open=is_open, heard=now))
        good = [*good, now] if voltage and (not good or now - good[-1] <= REPORT_GOOD_FOR_S) else [now] * voltage
        it = wanted(boundary, now, commanded=commanded)
        if it.is_open is False and is_open:
            assert not commanded
            assert now - good[0] >= STABLE_S + DELAY_S


def test_the_public_microgrid_returns_first_and_the_others_in_blocks() -> None:
    assert return_delay_s("public", 0, is_public=True) == 0
    delays = Counter(return_delay_s(f"r{n:03}", 0, is_public=False) for n in range(1, 801))
    assert sorted(delays) == [BLOCK_S * n for n in range(1, BLOCKS + 1)]
    assert max(delays.values()) < 2 * 800 // BLOCKS
    assert return_delay_s("apt", 0, is_public=False) in delays


def test_the_order_of_return_is_drawn_anew_for_each_outage() -> None:
    """No microgrid is always among the last, and two outages have the same order in no more than by chance."""
    outages = [[return_delay_s(f"r{n:03}", at, is_public=False) for n in range(1, 101)] for at in range(0, 36_000, 15)]
    last = np.array(outages) == BLOCKS * BLOCK_S
    assert 0.1 < last.mean(axis=0).min() < last.mean(axis=0).max() < 0.24
    same = np.array(outages[:-1]) == np.array(outages[1:])
    assert 0.16 < same.mean() < 0.18


INTAKE, OUTLET, HOUSES = 4, 5, (1, 2, 3)
UP = int(State.INITIALIZED)
ISLAND = UP | int(State.OFF_GRID | State.SWITCH_OPEN)
DEAD = ISLAND | int(State.DEAD_FEEDER)
WAIT_S = 300 + BLOCKS * BLOCK_S  # the longest wait for a stable voltage, with the microgrid's own delay


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A microgrid of three houses, and the two meters of its boundary."""
    it = World(tmp_path / "gateway.db")
    for meter, direction in ((INTAKE, Direction.INCOMING), (OUTLET, Direction.OUTGOING)):
        update = {"function": Function.BOUNDARY, "direction": direction}
        it.meters[meter] = registered(meter, battery=False).model_copy(update=update)
    begin(it)
    yield it
    it.store.close()


def begin(world: World) -> None:
    world.new_core()
    for meter in HOUSES:
        world.introduce(meter)


def restarted(world: World) -> None:
    """Kill the gateway; its meters answer `initialize`, but the boundary does not."""
    world.crash()
    for meter in HOUSES:
        world.introduce(meter)


def sensed(world: World, bits: int, *meters: int) -> list[Command]:
    """Let boundary meters report, by default both."""
    said = [world.introduce(meter, minimum=None, bits=bits, cmd="get") for meter in meters or (INTAKE, OUTLET)]
    return [command for sent in said for command in sent]


def levels(world: World, percent: float = 49) -> None:
    for meter in HOUSES:
        world.level(meter, percent)


def kinds(world: World, before: int) -> list[tuple[str, str]]:
    """Return the commands for states since a message, as (meter, command)."""
    return sorted(
        (p.topic.split("/")[2], f"{c.cmd} {c.state or ''}".strip())
        for p in world.sent[before:]
        for c in commands([p])
        if c.desired() is not None
    )


def held(world: World) -> dict[tuple[int, str], int]:
    """Return what the gateway keeps on, with its ends."""
    return {(d.meter, d.kind): d.until or 0 for d in world.store.desired() if d.value == "on"}


def in_an_island(world: World) -> None:
    """Lose the voltage with nearly empty batteries: all reduce, two houses are off."""
    sensed(world, DEAD)
    levels(world)
    world.tick("retry")
    assert {kind for _, kind in held(world)} == {Kind.REDUCING, Kind.ISOLATED}
    assert len([meter for meter, kind in held(world) if kind == Kind.ISOLATED and meter in HOUSES]) == 2


def test_a_restart_in_an_island_renews_what_the_meters_hold_and_changes_nothing(world: World) -> None:
    """req: C5"""
    in_an_island(world)
    before, began = held(world), world.now
    restarted(world)
    while world.now < began + 2 * TURN_S:
        for meter, percent in ((1, 90), (2, 80), (3, 1)):
            world.level(meter, percent)
        world.tick("retry")
        world.tick("levels_s")
        on = held(world)
        assert {key for key in on if key[1] != Kind.SHARING} == before.keys(), "none is added, none is ended"
        assert all(on[key] > world.now for key in before), "each is renewed before its end"
        world.now += 15
    assert not {sent for sent in kinds(world, 0) if sent[1].endswith("off")}
    view = world.core.modes.view(world.core.now)
    assert view.phase is None
    assert view.shedding == "2 of 3 places stay off"
    assert "islanded since 2026-06-21 00:00:00Z, as before the start" in view.reason
    assert view.unknown_s == 2 * TURN_S - 15


@pytest.mark.parametrize(("phase", "donors"), [(DEAD, set()), (UP, {1, 2})])
def test_batteries_share_as_in_the_stored_phase_until_the_boundary_reports(
    world: World, phase: int, donors: set[int]
) -> None:
    sensed(world, phase)
    restarted(world)
    for meter, percent in ((1, 90), (2, 80), (3, 30)):
        world.level(meter, percent)
    assert set(world.core.manager.decision.donors) == donors, "in an island 30 % is enough"


def test_a_new_store_begins_and_ends_nothing_and_takes_over_what_the_meters_hold(world: World) -> None:
    now, end = world.now, world.now + SHARE_FOR_S
    on = {"value": "on", "epoch": [1, 0], "seq": 7, "until": end}
    world.introduce(1, held={Kind.REDUCING: on, Kind.ISOLATED: on})
    world.introduce(2, held={Kind.REDUCING: on, Kind.SHARING: on})
    for meter, percent in ((1, 20), (2, 80), (3, 90)):
        world.level(meter, percent)
    assert kinds(world, 0) == []
    world.ask(cmd="reduce", state="on", for_s=7200)
    world.ask(cmd="isolate", state="on", for_s=7200)
    assert kinds(world, 0) == [], "the switch gets no command, and no other meter a new one"
    world.now = end - RENEW_S
    for meter, percent in ((1, 20), (2, 80), (3, 90)):
        world.level(meter, percent)
    world.tick("retry")
    world.tick("levels_s")
    renewed = [("1", "isolate on"), ("1", "reduce_power_on"), ("2", "reduce_power_on"), ("2", "share_power_on")]
    assert kinds(world, 0) == renewed
    ends = {kind: end - world.now for (_, kind), end in held(world).items()}
    assert ends == {Kind.ISOLATED: SHARE_FOR_S, Kind.REDUCING: SHARE_FOR_S, Kind.SHARING: RENEWED_S}
    assert world.core.modes.view(world.core.now).unknown_s == world.now - now
    before = len(world.sent)
    world.ask(cmd="reduce", state="off")
    world.ask(cmd="isolate", state="off")
    sensed(world, UP)
    world.tick("levels_s")
    ended = [("1", "isolate off"), ("1", "reduce_power_off"), ("2", "reduce_power_off"), ("3", "share_power_on")]
    assert [sent for sent in kinds(world, before) if sent != ("2", "share_power_on")] == ended


def test_a_phase_of_another_epoch_is_not_known_any_more(world: World) -> None:
    sensed(world, DEAD)
    kept = kept_phase(world.store.setting(PHASE))
    assert kept is not None
    assert (kept.phase, kept.since, kept.epoch) == (Phase.ISLANDED, world.now, (1, 0))
    world.store.commit([Setting("epoch", "4,0")])
    restarted(world)
    world.tick("retry")
    assert world.core.modes.view(world.core.now).reason.endswith("no state is begun or ended")
    assert (world.core.manager.waits, world.core.manager.island) == (True, False)
    sensed(world, DEAD)
    kept = kept_phase(world.store.setting(PHASE))
    assert kept is not None
    assert kept.epoch == (4, 0)


def test_the_phase_is_stored_when_it_changes_with_the_commands_that_follow_from_it(world: World) -> None:
    sensed(world, UP)
    levels(world)
    first = world.store.setting(PHASE)
    world.now += 60
    sensed(world, UP)
    assert world.store.setting(PHASE) == first
    effects = world.core.from_meter(f"cw1/r001/{INTAKE}/u/out", _outcome(world, bits=DEAD), world.now)
    (kept, *_) = [e.change for e in effects if isinstance(e, Write) and isinstance(e.change, Setting)]
    assert json.loads(kept.value)["phase"] == "islanded"
    assert "reduce_power_on" in {c.cmd for c in commands([e for e in effects if isinstance(e, Publish)])}


def _outcome(world: World, **fields: object) -> bytes:
    named = {"v": 1, "id": "x", "cmd": "get", "result": "done", "time": world.now, "bits": UP, "push": True}
    return json.dumps(named | fields).encode()


def test_places_stay_off_after_the_report_until_the_levels_are_known(world: World) -> None:
    in_an_island(world)
    before = held(world)
    restarted(world)
    sensed(world, DEAD)
    world.tick("retry")
    assert held(world) == before
    levels(world, 90)
    world.tick("retry")
    assert [key for key in held(world) if key[1] == Kind.ISOLATED and key[0] in HOUSES] == []


def test_without_boundary_meters_a_microgrid_is_managed_as_connected(tmp_path: Path) -> None:
    world = World(tmp_path / "gateway.db")
    for meter in HOUSES:
        world.introduce(meter)
    world.ask(cmd="reduce", state="on", for_s=7200)
    world.introduce(4, minimum=None)
    world.tick("retry")
    assert {command for _, command in kinds(world, 0)} == {"reduce_power_on"}
    world.now += 7200
    assert world.core.modes.view(world.core.now).unknown_s == 0
    world.store.close()


def test_a_permit_to_close_that_no_meter_confirmed_is_not_sent_again_before_the_boundary_reports(world: World) -> None:
    """req: C5"""
    sensed(world, DEAD)
    for _ in range(0, WAIT_S + 15, 15):
        sensed(world, ISLAND)
        world.now += 15
    permits = {(str(INTAKE), "isolate off"), (str(OUTLET), "isolate off")}
    assert permits <= set(kinds(world, 0))
    before = len(world.sent)
    world.tick("retry")
    assert permits <= set(kinds(world, before)), "it is sent again while the boundary is known"
    restarted(world)
    for _ in range(20):
        world.now += 60
        world.tick("retry")
    assert not permits & set(kinds(world, 0))
    sensed(world, ISLAND)
    assert not permits & set(kinds(world, 0)), "the wait begins again"
    assert (str(INTAKE), "isolate on") in kinds(world, 0)


# Two boundary meters.


def closed_at(world: World, *report: tuple[int, int]) -> bool:
    """Let boundary meters report for the wait and a quarter-hour; return whether the switch is commanded to close."""
    end, before = world.now + WAIT_S + 900, len(world.sent)
    while world.now < end:
        for meter, bits in report:
            sensed(world, bits, meter)
        world.tick("retry")
        world.now += 15
    return bool({(str(INTAKE), "isolate off"), (str(OUTLET), "isolate off")} & set(kinds(world, before)))


@pytest.mark.parametrize(
    ("reports", "closes"),
    [
        (((INTAKE, ISLAND), (OUTLET, ISLAND)), True),
        (((INTAKE, ISLAND), (OUTLET, DEAD)), False),
        (((INTAKE, DEAD), (OUTLET, ISLAND)), False),
        (((INTAKE, ISLAND), (OUTLET, UP)), False),
        (((INTAKE, ISLAND),), False),
        (((OUTLET, ISLAND),), False),
    ],
)
def test_closing_needs_both_boundary_meters_to_agree(
    world: World, reports: tuple[tuple[int, int], ...], closes: bool
) -> None:
    """req: C5"""
    sensed(world, DEAD)
    assert closed_at(world, *reports) is closes


def test_a_boundary_meter_that_was_replaced_is_not_waited_for(world: World) -> None:
    world.meters[OUTLET] = world.meters[OUTLET].model_copy(update={"replaced": True})
    world.core.register(world.meters)
    sensed(world, DEAD, INTAKE)
    assert closed_at(world, (INTAKE, ISLAND))


def test_either_boundary_meter_opens_the_switch_and_a_disagreement_is_shown_with_both_reports(world: World) -> None:
    sensed(world, UP)
    assert world.core.modes.view(world.core.now).disagreement is None
    before = len(world.sent)
    sensed(world, DEAD, OUTLET)
    assert (str(INTAKE), "isolate on") in kinds(world, before)
    said = "meter 4 reports voltage and a closed switch; meter 5 reports no voltage and an open switch"
    assert world.core.modes.view(world.core.now).disagreement == said


def test_the_first_report_of_the_closed_switch_does_not_open_it_again(world: World) -> None:
    sensed(world, DEAD)
    for _ in range(0, WAIT_S + 15, 15):
        sensed(world, ISLAND)
        world.now += 15
    before = len(world.sent)
    sensed(world, UP, INTAKE)
    world.tick("retry")
    sensed(world, ISLAND, OUTLET)
    assert "isolate on" not in {command for _, command in kinds(world, before)}
    sensed(world, UP)
    assert world.core.modes.view(world.core.now).phase is Phase.CONNECTED


def observed(*reports: tuple[int, bool]) -> ObservedBoundary:
    boundary = ObservedBoundary()
    for heard, good in reports:
        boundary = boundary.observe(Sensor(voltage=True, is_open=True, heard=heard, good=good))
    return boundary


def test_together_the_oldest_report_and_the_latest_excursion_count() -> None:
    one, other = observed((0, True), (30, True)), observed((15, True), (20, True))
    both = together([one, other])
    assert both.sensor is not None
    assert (both.sensor.heard, both.stable_since) == (20, 15)
    assert together([one, ObservedBoundary()]).stable_since is None
    assert together([]) == together([ObservedBoundary()]) == ObservedBoundary()
    assert disagreement({4: one, 5: ObservedBoundary()}) is None


# Voltage and frequency.


@pytest.mark.parametrize(
    ("voltage", "frequency", "good"),
    [
        (None, None, True),
        (917, 59_500, True),
        (1050, 60_100, True),
        (916, None, False),
        (1051, None, False),
        (None, 59_499, False),
        (None, 60_101, False),
        (1000, 61_000, False),
        (0, 60_000, False),
    ],
)
def test_voltage_and_frequency_allow_to_close_within_the_window(
    voltage: int | None, frequency: int | None, good: bool
) -> None:
    assert may_close_at(voltage, frequency) is good


def test_an_excursion_of_voltage_or_frequency_begins_the_wait_again(world: World) -> None:
    """req: C5"""
    sensed(world, DEAD)
    began = world.now
    closed: int | None = None
    while closed is None:
        frequency = 60_150 if world.now - began == 150 else 60_000
        for meter in (INTAKE, OUTLET):
            outcome = _outcome(world, bits=ISLAND, voltage_permille=1000, frequency_millihertz=frequency)
            before = len(world.sent)
            world.meter_says(meter, "out", outcome)
            if (str(INTAKE), "isolate off") in kinds(world, before):
                closed = world.now
        if world.now - began == 150:
            reason = world.core.modes.view(world.core.now).reason
            assert reason == "the voltage or the frequency does not allow to close yet"
        world.now += 15
    assert closed - began == 165 + 300 + return_delay_s("r001", began + 165, is_public=False)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("voltage_permille", -1),
        ("voltage_permille", 2001),
        ("voltage_permille", "high"),
        ("voltage_permille", 1000.5),
        ("frequency_millihertz", -1),
        ("frequency_millihertz", 100_001),
        ("frequency_millihertz", [60]),
    ],
)
def test_a_figure_that_cannot_be_is_no_report_and_is_kept(world: World, key: str, value: object) -> None:
    sensed(world, DEAD)
    world.meter_says(INTAKE, "out", _outcome(world, bits=UP, **{key: value}))
    (dead_letter,) = [letter for _, letter in world.store.unsent_dead_letters(9)]
    assert key.encode() in dead_letter.content
    assert world.core.modes.view(world.core.now).phase is Phase.ISLANDED


def test_a_restart_does_not_renew_an_opening_against_which_the_switch_closed(world: World) -> None:
    sensed(world, DEAD)
    sensed(world, UP)
    ends = {meter: held(world)[meter, Kind.ISOLATED] for meter in (INTAKE, OUTLET)}
    world.now += 800
    restarted(world)
    world.tick("retry")
    assert {meter: held(world)[meter, Kind.ISOLATED] for meter in (INTAKE, OUTLET)} == ends
