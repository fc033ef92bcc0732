"""A microgrid whose utility does not answer decides alone; after an outage the town returns in order (P2, A5, C5)."""

import random
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from commonwatt.energy.places import COLD_PERCENT, COLD_S, blocks_of
from commonwatt.energy.plant import plant_of
from commonwatt.energy.strategies import rangers_plan_alone
from commonwatt.look.sharing_words import RoleReason
from commonwatt.model.control import BLOCK_S, BLOCKS, SupplyState, return_delay_s
from commonwatt.model.records import State
from commonwatt.protocol.commands import Command
from commonwatt.town.loading import WHOLE_TOWN, load_town
from commonwatt.town.scenario import Conditions, load
from commonwatt.town.town import Function, Town
from gateway.control.islanding import ObservedBoundary, Phase, Sensor, wish
from gateway.control.modes import NO_ANSWER_S, UtilityContact
from harness.strategies.properties import COMMON
from harness.strategies.reference import random_batteries
from harness.surroundings.gateway import World, batches, commands, readings
from meter_sim.load import Surroundings, Weather
from scenarios.simulation import emulated
from utility.supply.simulated import POLICIES

BOUNDARY, HOUSES = 4, (1, 2, 3)
HALF_A_DAY_S = 12 * 3600
STEP_S = 450  # few steps; a state is renewed when 300 s of its 900 are left


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    it = World(tmp_path / "gateway.db")
    it.meters[BOUNDARY] = it.meters[BOUNDARY].model_copy(update={"function": Function.BOUNDARY})
    it.settings = it.settings.model_copy(update={"levels_s": STEP_S // 2})
    it.new_core()
    for meter in HOUSES:
        it.introduce(meter)
    it.introduce(BOUNDARY, minimum=None, bits=State.INITIALIZED, cmd="get")
    yield it
    it.store.close()


def live(world: World, until: int) -> list[Command]:
    """Let time pass without an answer of the utility; return the commands that set a state."""
    sent: list[Command] = []
    while world.now < until:
        world.now += STEP_S
        for meter, percent in zip(HOUSES, (90, 80, 70), strict=True):
            sent += world.level(meter, percent)
        for job in ("retry", "levels_s", "relay_s"):
            sent += commands(world.tick(job))
        for command in sent[-30:]:
            if command.cmd in ("share_power_on", "reduce_power_on"):
                (meter,) = [m for m in HOUSES if f"/{m}/" in _topic_of(world, command)]
                world.answer(command, meter)
    return [command for command in sent if command.desired() is not None]


def _topic_of(world: World, command: Command) -> str:
    return next(p.topic for p in reversed(world.sent) if command.id.encode() in p.payload and p.topic.endswith("cmd"))


@pytest.mark.parametrize(
    ("strategy", "wanted"), [("spec", set()), ("rangers", {"share_power_on"}), ("aces", {"reduce_power_on"})]
)
def test_broadband_cut_for_half_a_day_makes_no_island(world: World, strategy: str, wanted: set[str]) -> None:
    # req: P2, A5
    world.ask(cmd="sharing", strategy=strategy)
    sent = live(world, world.now + HALF_A_DAY_S)
    assert {command.cmd for command in sent} == wanted, "nothing else is commanded, above all not the boundary switch"
    view = world.core.modes.view(world.core.now)
    assert view.phase is Phase.CONNECTED
    assert view.autonomous == "the utility has not answered for 720 min: the microgrid decides alone"
    assert (view.reducing == "the utility does not answer") is (strategy == "aces")


@pytest.mark.parametrize(("strategy", "ends"), [("rangers", "share_power_off"), ("aces", "reduce_power_off")])
def test_the_first_answer_of_the_utility_ends_it(world: World, strategy: str, ends: str) -> None:
    world.ask(cmd="sharing", strategy=strategy)
    live(world, world.now + 900)
    world.now += 60
    world.put(1, 1, readings(1, 1, 1))
    (batch,) = batches(world.tick("relay_s"))
    before = len(world.sent)
    world.acknowledge(batch)
    for job in ("retry", "levels_s"):
        world.tick(job)
    assert {command.cmd for command in commands(world.sent[before:]) if command.desired()} == {ends}
    assert world.core.modes.view(world.core.now).autonomous is None


def test_a_gateway_that_has_just_started_or_relays_seldom_waits_longer() -> None:
    contact = UtilityContact(heard=1000)
    assert not contact.is_lost(1000 + NO_ANSWER_S, relay_s=60)
    assert contact.is_lost(1001 + NO_ANSWER_S, relay_s=60)
    assert not contact.is_lost(1000 + 2700, relay_s=900)
    assert contact.is_lost(1001 + 3600, relay_s=86_400)


def test_a_battery_that_is_ready_says_why(world: World) -> None:
    world.ask(cmd="sharing", strategy="rangers")
    live(world, world.now + 900)
    assert world.core.manager.reasons(world.core.now)[1] is RoleReason.READY


def test_the_plan_of_a_microgrid_alone_keeps_the_properties_of_every_strategy() -> None:
    batteries = random_batteries(np.random.default_rng(3), 3_000)
    plan = rangers_plan_alone(batteries)
    for name, judge in COMMON.items():
        assert judge(batteries, plan).all(), name


STABLE_S, WITHIN_S = 300, 1800
QUARTER_S, DAY = 900, 1_782_014_400


@pytest.fixture(scope="module")
def town() -> Town:
    return load_town(WHOLE_TOWN)


@pytest.fixture(scope="module")
def delays(town: Town) -> dict[str, int]:
    return {
        name: return_delay_s(name, DAY, is_public=microgrid.kind == "public")
        for name, microgrid in town.microgrids.items()
    }


@pytest.fixture(scope="module")
def mean_w(town: Town) -> dict[str, int]:
    """Each microgrid's mean load over a day of June, watts. Its own sun and batteries are left out: the worst case."""
    blocks = blocks_of(town, town.microgrids.values(), QUARTER_S)
    surroundings = Surroundings(town, blocks, Weather(town.table))
    sums = [np.zeros(len(block.microgrids), dtype=np.int64) for block in blocks]
    for step in range(0, 96, 4):
        for total, inputs in zip(sums, surroundings.at(DAY + step * QUARTER_S), strict=True):
            total += inputs.load.sum(axis=1)
    return {
        name: int(total[row]) * 4 // (24 * 1000)
        for block, total in zip(blocks, sums, strict=True)
        for row, name in enumerate(block.microgrids)
    }


def cold_load_percent(returned_s: int) -> int:
    """A microgrid's load so many seconds after its return, in percent; in the worst case, without energy of its own."""
    if returned_s < 0:
        return 0
    return COLD_PERCENT if returned_s < COLD_S else 100


def peak_w(mean_w: Mapping[str, int], delays: Mapping[str, int], out: Collection[str]) -> int:
    """The town's highest load while ``out`` return, the others being on the grid."""
    rest = sum(load for name, load in mean_w.items() if name not in out)
    return max(
        rest + sum(mean_w[name] * cold_load_percent(time - delays[name]) // 100 for name in out)
        for time in range(0, WITHIN_S + COLD_S + 1, BLOCK_S // 2)
    )


def line_w(town: Town) -> int:
    return plant_of(town, 3600).line[SupplyState.NORMAL] // 1000


def test_the_public_microgrid_is_first_and_all_are_back_within_half_an_hour(delays: dict[str, int]) -> None:
    assert len(delays) == 802
    assert [name for name, delay in delays.items() if delay == 0] == ["pub"]
    assert max(delays.values()) == BLOCKS * BLOCK_S < WITHIN_S
    sizes = np.bincount([delay // BLOCK_S for delay in delays.values() if delay])[1:]
    assert sizes.min() > 0.7 * 801 / BLOCKS
    assert sizes.max() < 1.3 * 801 / BLOCKS


@pytest.mark.parametrize("seed", range(5))
def test_each_switch_closes_at_its_time_and_not_before(delays: dict[str, int], seed: int) -> None:
    name = random.Random(seed).choice(sorted(delays))
    boundary = ObservedBoundary()
    for time in range(0, STABLE_S + WITHIN_S + 1, 15):
        boundary = boundary.observe(Sensor(voltage=True, is_open=True, heard=time))
        wanted = wish(boundary, time, commanded=False, isolated=False, stable_s=STABLE_S, delay_s=delays[name])
        assert wanted.is_open is (time < STABLE_S + delays[name])


@pytest.mark.parametrize("policy", ["none", "spec"])
def test_a_run_of_the_storm_with_cold_load_stays_within_the_line(town: Town, policy: str) -> None:
    conditions = Conditions(scenario=load("storm"), zone=ZoneInfo(town.table.timezone), seed=town.table.seed)
    assert 15_000_000 < emulated(town, conditions, POLICIES[policy]).run().highest_w <= line_w(town)


def test_the_whole_town_returns_within_the_line_and_the_town_battery(
    town: Town, mean_w: dict[str, int], delays: dict[str, int]
) -> None:
    peak = peak_w(mean_w, delays, delays.keys())
    battery_w = plant_of(town, 3600).power // 1000
    assert line_w(town) < peak <= line_w(town) + battery_w
    assert peak == pytest.approx(3 * sum(mean_w.values()), rel=0.001), "no order within half an hour changes this"


def test_no_block_brings_more_than_its_part_at_once(mean_w: dict[str, int], delays: dict[str, int]) -> None:
    """With all switches at once the load would rise by three times the mean in a moment."""
    rises = np.zeros(BLOCKS + 1)
    for name, delay in delays.items():
        rises[delay // BLOCK_S] += 3 * mean_w[name]
    assert rises.max() < 0.25 * rises.sum()
