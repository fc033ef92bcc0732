"""Every desired state is renewed while its manager lives, and ends by itself at the meter when the manager is gone."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from commonwatt.device.changes import DesiredStates
from commonwatt.device.commands import DEFAULT, DONE, HeldStates
from commonwatt.model.records import State
from commonwatt.protocol.commands import Command, Kind
from commonwatt.protocol.json_messages import unpack_json
from commonwatt.town.town import Direction, Function
from gateway.control.meter_view import LIFETIMES
from harness.surroundings.gateway import World, commands

BOUNDARY, HOUSES = 4, (1, 2, 3)
INTAKE = {"function": Function.BOUNDARY, "direction": Direction.INCOMING}
DEAD = int(State.INITIALIZED | State.OFF_GRID | State.SWITCH_OPEN | State.DEAD_FEEDER)


def sensed(world: World) -> None:
    world.introduce(BOUNDARY, minimum=None, bits=DEAD, cmd="get")


def connected(world: World) -> None:
    world.introduce(BOUNDARY, minimum=None, cmd="get")


class Meters:
    """Meters that obey as ours do, and whose state only their own clock ends."""

    def __init__(self, world: World) -> None:
        self.held = {meter: HeldStates(DesiredStates(meter, (0, 0), {})) for meter in world.meters}
        self._world = world
        self._read = 0

    def obey(self) -> None:
        """Obey and answer what the gateway sent."""
        world, new = self._world, self._world.sent[self._read :]
        self._read = len(world.sent)
        for message in new:
            if not message.topic.endswith("/d/cmd"):
                continue
            command = unpack_json(Command, message.payload)
            meter = int(message.topic.split("/")[2])
            if command.desired() is not None and self.held[meter].judge(command, world.now) == DONE:
                self.held[meter].accept(command, world.now)
                if meter == BOUNDARY:
                    sensed(world)
                else:
                    world.answer(command, meter)

    def value(self, meter: int, kind: Kind) -> str:
        self.held[meter].expire(self._world.now)
        return self.held[meter].value(kind)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    it = World(tmp_path / "gateway.db")
    it.meters[BOUNDARY] = it.meters[BOUNDARY].model_copy(update=INTAKE)
    it.settings = it.settings.model_copy(update={"levels_s": 300})
    it.new_core()
    for meter in HOUSES:
        it.introduce(meter)
    yield it
    it.store.close()


def _levels(world: World) -> None:
    for meter, percent in ((1, 90), (2, 80), (3, 20)):
        world.level(meter, percent)


def _nothing(world: World) -> None:
    """Nothing has to come again for this state."""


def _reduce(world: World) -> None:
    connected(world)
    world.ask(cmd="reduce", state="on", for_s=10**6)


CASES: dict[Kind, tuple[int, Callable[[World], object], Callable[[World], object]]] = {
    Kind.SHARING: (1, connected, _levels),
    Kind.REDUCING: (1, _reduce, _nothing),
    Kind.ISOLATED: (BOUNDARY, _nothing, sensed),
    Kind.AGGREGATION: (2, lambda world: world.ask(cmd="schedule", periods={}, meters="lossless"), _nothing),
    Kind.IMPORT_LIMIT: (
        BOUNDARY,
        lambda world: world.ask(cmd="supply", supply="CRITICAL", import_limit_w=0, for_s=10**6),
        _nothing,
    ),
    Kind.PUT_PERIOD: (2, lambda world: world.ask(cmd="schedule", periods={"put_s": 300}), _nothing),
}
"""By kind: a meter, what begins the state, and what the meters report again and again meanwhile."""


@pytest.mark.parametrize("kind", Kind)
def test_a_state_is_renewed_while_its_manager_lives_and_ends_by_itself_without(world: World, kind: Kind) -> None:
    meter, begin, report = CASES[kind]
    life, meters = LIFETIMES[kind], Meters(world)
    begin(world)
    step = life.renew_s // 2
    for n in range(3 * life.for_s // step):
        report(world)
        world.tick("retry")
        meters.obey()
        assert life.is_on(meters.value(meter, kind)), f"step {n}"
        if n == 5:  # A successor renews as well.
            world.crash()
            meters._read = 0
            for house in HOUSES:
                world.introduce(house)
        world.now += step
    meters.obey()
    left = meters.held[meter].held[kind].until
    assert left is not None
    assert left <= world.now + life.for_s
    world.now = left
    assert meters.value(meter, kind) == life.off == DEFAULT[kind]


def test_a_state_that_ended_before_its_renewal_is_a_lapse(world: World) -> None:
    def lapses() -> int:
        return world.core.manager.counts.lapses

    meters = Meters(world)
    _reduce(world)
    for waited_s in (0, LIFETIMES[Kind.REDUCING].renew_s + 1):
        world.now += waited_s
        world.tick("retry")
        meters.obey()
    assert lapses() == 0, "it was renewed in time"
    world.now += LIFETIMES[Kind.REDUCING].for_s + 1
    world.tick("retry")
    assert lapses() == len(HOUSES)


def test_every_kind_of_state_has_a_lifetime() -> None:
    assert set(LIFETIMES) == set(Kind) == set(CASES)
    assert all(life.renew_s * 2 < life.for_s for life in LIFETIMES.values()), "a lost renewal is made up for"


def test_meters_aggregate_from_their_initialize_on_and_until_the_schedule_says_otherwise(world: World) -> None:
    # req: A5, M7
    begun = len(world.sent)
    world.ask(cmd="schedule", periods={}, meters="lossless")
    assert {c.mode for c in commands(world.sent[begun:]) if c.cmd == "aggregate"} == {"lossless"}
    begun = len(world.sent)
    world.introduce(BOUNDARY, minimum=None)
    world.tick("retry")
    assert [c.mode for c in commands(world.sent[begun:]) if c.cmd == "aggregate"] == ["lossless"]
    begun = len(world.sent)
    world.ask(cmd="aggregate", at="meters", mode="lossy", for_s=600)
    world.now += 300
    world.tick("retry")
    assert {c.mode for c in commands(world.sent[begun:]) if c.cmd == "aggregate"} == {"lossy"}
    world.now += 301
    begun = len(world.sent)
    world.tick("retry")
    assert {c.mode for c in commands(world.sent[begun:]) if c.cmd == "aggregate"} == {"lossless"}
    begun = len(world.sent)
    world.ask(cmd="schedule", periods={}, meters="none")
    assert {c.cmd for c in commands(world.sent[begun:]) if c.desired()} == {"deaggregate"}
    world.now += 100_000
    begun = len(world.sent)
    world.tick("retry")
    assert not [c for c in commands(world.sent[begun:]) if c.desired() and c.cmd == "aggregate"]


def test_only_meters_that_say_their_period_are_given_another_one(world: World) -> None:  # req: C9
    world.introduce(1, put_s=None)
    world.introduce(2)
    begun = len(world.sent)
    world.ask(cmd="schedule", periods={"put_s": 900})
    world.tick("retry")
    world.now += LIFETIMES[Kind.PUT_PERIOD].for_s - LIFETIMES[Kind.PUT_PERIOD].renew_s
    world.tick("retry")
    told = [p.topic for p in world.sent[begun:] if b"put_every" in p.payload]
    assert "cw1/r001/2/d/cmd" in told
    assert "cw1/r001/1/d/cmd" not in told, "an earlier release has no such command"
    begun = len(world.sent)
    world.ask(cmd="schedule", periods={"put_s": None})
    world.tick("retry")
    ends = [c for c in commands(world.sent[begun:]) if c.cmd == "put_every"]
    assert {(c.put_s, c.until) for c in ends} == {(None, None)}


def test_a_meter_with_a_long_period_is_not_silent_between_its_puts(world: World) -> None:
    world.ask(cmd="schedule", periods={"put_s": 900})
    world.tick("retry")
    for meter in (*HOUSES, BOUNDARY):
        world.introduce(meter)
    world.now += 3 * 900
    assert world.view()["meters"]["silent"] == {}
    world.now += 1
    assert set(world.view()["meters"]["silent"]) == {str(meter) for meter in (*HOUSES, BOUNDARY)}


def test_the_wish_of_the_schedule_outlives_a_restart(world: World) -> None:
    world.ask(cmd="schedule", periods={}, meters="lossless")
    world.crash()
    assert world.core.modes.meters_mode.mode == "lossless"


def test_a_command_of_the_utility_to_the_meters_stands_without_a_schedule(world: World) -> None:
    world.ask(cmd="aggregate", at="meters", mode="lossless", for_s=200_000)
    begun = len(world.sent)
    for _ in range(3):
        world.now += 40_000
        world.tick("retry")
    assert "deaggregate" not in {c.cmd for c in commands(world.sent[begun:])}
