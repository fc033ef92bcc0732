"""A microgrid whose utility does not answer decides alone, and its boundary switch stays closed (P2, A5)."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from commonwatt.energy.strategies.rangers import plan_alone
from commonwatt.model.records import State
from commonwatt.protocol.commands import Command
from commonwatt.protocol.sharing_words import Why
from commonwatt.town.town import Function
from gateway.control.autonomy import NO_ANSWER_S, Contact
from gateway.control.islanding import Phase
from harness.strategies.microgrids import random_batteries
from harness.strategies.properties import COMMON
from harness.surroundings.gateway import World, batches, commands, readings

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
    contact = Contact(heard=1000)
    assert not contact.is_lost(1000 + NO_ANSWER_S, relay_s=60)
    assert contact.is_lost(1001 + NO_ANSWER_S, relay_s=60)
    assert not contact.is_lost(1000 + 2700, relay_s=900)
    assert contact.is_lost(1001 + 3600, relay_s=86_400)


def test_a_battery_that_is_ready_says_why(world: World) -> None:
    world.ask(cmd="sharing", strategy="rangers")
    live(world, world.now + 900)
    assert world.core.manager.reasons(world.core.now)[1] is Why.READY


def test_the_plan_of_a_microgrid_alone_keeps_the_properties_of_every_strategy() -> None:
    batteries = random_batteries(np.random.default_rng(3), 3_000)
    plan = plan_alone(batteries)
    for name, judge in COMMON.items():
        assert judge(batteries, plan).all(), name
