"""No battery shares on a number that can't be: frozen, lying, late, silent, contradicting meters."""

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from commonwatt.device.commands.desired_states import Commanded
from commonwatt.model.records import RecordType
from commonwatt.protocol.sharing_words import Why, reason_of_code
from commonwatt.town.loading import load_town
from gateway.control.plausibility import WINDOW_SLOTS, Doubt, History, Recorded, recorded_of
from gateway.control.sharing import BatteryState, decide
from harness.energy.alone import Alone
from harness.surroundings.gateway import CAPACITY, START, World, readings

MOST = 500_000
FLOOR = CAPACITY // 2
DISCHARGE = 5_000_000 * 15 // 3600  # a donor's discharge in a slot: 5 kW


def history(level: list[int], inflow: list[int], outflow: list[int]) -> History:
    missing = [-1] * (WINDOW_SLOTS - len(level))
    return History(
        level=np.array(missing + level),
        inflow=np.array(missing + inflow),
        outflow=np.array(missing + outflow),
        end=START,
        capacity=CAPACITY,
        minimum=CAPACITY // 4,
        most=MOST,
    )


def judged(level: list[int], inflow: int = 0, outflow: int = 0) -> Doubt | None:
    return recorded_of(history(level, [inflow] * len(level), [outflow] * len(level))).doubt


HALF = CAPACITY // 2


@pytest.mark.parametrize(
    ("level", "inflow", "outflow", "doubt"),
    [
        pytest.param([HALF - 900 * i for i in range(300)], 0, 0, None, id="a load from the own battery"),
        pytest.param([HALF - 20_000 * i for i in range(300)], 0, 20_000, None, id="sharing"),
        pytest.param([HALF + 20_000 * i for i in range(300)], 25_000, 0, None, id="sun, less a load"),
        pytest.param([HALF] * 400, 0, 0, None, id="nobody at home for an hour and a half"),
        pytest.param([CAPACITY] * 480, 30_000, 30_000, None, id="full, its sun goes out"),
        pytest.param([0] * 480, 30_000, 0, None, id="empty, its load comes from the loop"),
        pytest.param([CAPACITY // 4] * 480, 30_000, 0, None, id="held at its minimum by sharing"),
        pytest.param([HALF] * 480, 0, 0, Doubt.FROZEN, id="the same for two hours"),
        pytest.param([HALF] * 30, 20_000, 0, Doubt.FROZEN, id="the same, although energy comes in"),
        pytest.param([HALF] * 40, 0, 20_000, Doubt.CONTRADICTING, id="the same, although energy goes out"),
        pytest.param([HALF + 20_000 * i for i in range(60)], 2_000, 0, Doubt.CONTRADICTING, id="rises without energy"),
        pytest.param([HALF] * 9 + [CAPACITY] * 9, 0, 0, Doubt.TOO_FAST, id="a jump up"),
        pytest.param([HALF] * 9 + [HALF // 2] * 9, 0, 0, Doubt.TOO_FAST, id="a jump down"),
        pytest.param([HALF] * 9 + [HALF // 2 - i for i in range(21)], 0, 0, None, id="a jump down, some time ago"),
    ],
)
def test_a_level_is_doubted_only_if_it_cannot_be(
    level: list[int], inflow: int, outflow: int, doubt: Doubt | None
) -> None:
    assert judged(level, inflow, outflow) is doubt


def test_a_gap_in_the_flows_leaves_only_what_follows_it_to_compare() -> None:
    rising = [HALF + 20_000 * i for i in range(60)]
    flows = [0] * 45 + [-1] + [0] * 14
    assert recorded_of(history(rising, flows, [0] * 60)).doubt is None


def test_a_live_level_is_compared_with_the_stored_one() -> None:
    stored = recorded_of(history([HALF - i for i in range(30)], [0] * 30, [0] * 30))
    assert stored.judge(HALF, START + 15) is None
    assert stored.judge(CAPACITY, START + 15) is Doubt.TOO_FAST
    assert stored.judge(CAPACITY, START + 3600) is None, "an hour without a record: nothing speaks against it"
    assert Recorded().judge(CAPACITY, START) is None


@pytest.mark.parametrize("hour", [3, 12, 18])
def test_no_level_of_the_emulated_town_is_doubted(tmp_path: Path, hour: int) -> None:
    (tmp_path / "town.toml").write_text('[[microgrid]]\nid = "r"\nkind = "residential"\nhouses = 5\n')
    town = load_town(tmp_path / "town.toml")
    microgrid = town.microgrids["r"]
    physics = Alone(town, microgrid)
    time = START // 86_400 * 86_400 + hour * 3600
    levels = physics.initial_levels(time)
    donors = dict.fromkeys([m for m in levels if levels[m] > FLOOR], Commanded(sharing=True))
    rows: dict[int, list[tuple[int, int, int]]] = {meter: [] for meter in levels}
    minima = {m.id: m.battery.capacity * m.battery.minimum_percent // 100 for m in microgrid.meters if m.battery}
    intake = {m.location: m.id for m in microgrid.meters if m.id not in levels}
    place = {m.id: m.location for m in microgrid.meters}
    for slot in range(WINDOW_SLOTS):
        step = physics.step(levels, time + 15 * slot, donors)
        levels = step.levels
        for meter in levels:
            own = step.readings[meter]
            into = step.readings[intake[place[meter]]][RecordType.THROUGH]
            rows[meter].append((levels[meter], own[RecordType.GENERATION] + into, own[RecordType.THROUGH]))
    for meter, found in rows.items():
        columns = [list(column) for column in zip(*found, strict=True)]
        past = replace(history(*columns), minimum=minima[meter])
        assert recorded_of(past).doubt is None, meter


# What a person cares about: with any of these meters, how far can a battery fall below its floor?

Report = Callable[[list[int]], int | None]  # from a battery's true levels, what its meter reports; None: nothing

FAULTS: dict[str, Report] = {
    "none": lambda true: true[-1],
    "frozen": lambda true: true[min(len(true) - 1, 60)],
    "lying: nearly full": lambda true: CAPACITY * 9 // 10 if len(true) > 60 else true[-1],
    "lying: more than there is room for": lambda true: CAPACITY + 1 if len(true) > 60 else true[-1],
    "lying: negative": lambda true: -1000 if len(true) > 60 else true[-1],
    "lying: a third too high": lambda true: true[-1] + CAPACITY // 3 if len(true) > 60 else true[-1],
    "creeping up": lambda true: true[-1] + max(0, len(true) - 60) * 9_000,
    "late by ten minutes": lambda true: true[max(0, len(true) - 41)],
    "silent": lambda true: true[-1] if len(true) < 60 else None,
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("seed", [1, 2])
def test_no_donor_is_emptied_below_its_floor_on_a_number_that_cannot_be(fault: str, seed: int) -> None:
    """Batteries that obey blindly: only the gateway's judgement keeps them above their floors."""
    rng = random.Random(seed)
    true = [[rng.randrange(FLOOR - CAPACITY // 5, FLOOR + CAPACITY // 6)] for _ in range(3)]
    true[0] = [FLOOR + CAPACITY // 12]
    seen: list[list[tuple[int, int, int]]] = [[], [], []]
    recorded = [Recorded(), Recorded(), Recorded()]
    sharing = [False] * 3
    last: list[tuple[int, int]] = [(0, -(10**6))] * 3
    for slot in range(600):
        for i in range(3):
            report = FAULTS[fault if i == 0 else "none"](true[i])
            if report is not None:
                last[i] = (report, slot)
        states = {
            i: BatteryState(
                level=last[i][0],
                capacity=CAPACITY,
                minimum=FLOOR,
                available=slot - last[i][1] <= 8 and recorded[i].judge(last[i][0], START + 15 * slot) is None,
                sharing=sharing[i],
            )
            for i in range(3)
        }
        donors = decide(states, "spec", 20).donors
        sharing = [i in donors for i in range(3)]
        needy = [i for i in range(3) if not sharing[i] and true[i][-1] < FLOOR]
        for i in range(3):
            out = DISCHARGE if sharing[i] and needy else 0
            into = DISCHARGE * sum(sharing) // len(needy) if i in needy else 0
            load = rng.randrange(0, 2_000)
            true[i].append(max(0, min(CAPACITY, true[i][-1] - out + into - load)))
            seen[i].append((last[i][0], into, out))
        if slot % 4 == 3:  # records of a minute arrive together
            for i in range(3):
                columns = [list(column) for column in zip(*seen[i][-WINDOW_SLOTS:], strict=True)]
                recorded[i] = recorded_of(replace(history(*columns), minimum=FLOOR, end=START + 15 * slot))
    below = FLOOR - min(true[0])
    own_use = 1_000 * 600
    assert below <= own_use + CAPACITY * 4 // 100, f"{100 * below / CAPACITY:.1f} % below its floor"


def test_the_gateway_says_why_and_a_restart_changes_nothing(tmp_path: Path) -> None:
    world = World(tmp_path / "gateway.db")
    try:
        for meter in (1, 2, 3):
            world.introduce(meter)
        for kind, value in ((1, 0), (2, 80), (3, 20_000)):
            same = readings(1, 1 + 100 * kind, 40, kind=kind)
            level = CAPACITY * value // 100 if kind == 2 else value
            world.put(1, 1 + 100 * kind, [r._replace(reading=level) for r in same])
        # The level stays the same to the milliwatt-hour, while the house sends out a whole battery's worth of energy.
        world.now = START + 600
        for _ in range(2):
            for meter, percent in ((1, 80), (2, 70), (3, 30)):
                world.level(meter, percent)
            view = world.view()
            assert isinstance(view["batteries"], dict)
            assert (view["batteries"]["1"]["role"], view["batteries"]["1"]["why"]) == (
                "out",
                reason_of_code(Why.FROZEN, 0).why,
            )
            assert view["donors"] == ["2"]
            world.crash()
            for meter in (1, 2, 3):
                world.introduce(meter)
    finally:
        world.store.close()
