"""A manager has no memory of its own: killed between any two levels, its successor's next commands are equal."""

import os
import subprocess
import sys
from dataclasses import dataclass, field
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from commonwatt.config.settings import GatewaySettings
from commonwatt.energy.strategies import STRATEGIES
from commonwatt.model.effects import Effect, Publish, Write
from commonwatt.model.records import State
from commonwatt.model.time import Now, Trust
from commonwatt.protocol.commands import Command, HeldState, Kind, Name, Outcome
from commonwatt.protocol.json_messages import unpack_json
from gateway.control.manager import Manager
from gateway.store.changes import Change, Desired, MeterInfo, Setting
from harness.surroundings.gateway import CAPACITY, START, registered

METERS = (1, 2, 3, 4)
PERCENT = (0, 20, 40, 47, 48, 49.5, 50, 50.5, 52, 53, 60, 80, 100)


@dataclass
class Kept:
    """A store in memory."""

    settings: dict[str, str] = field(default_factory=dict)
    infos: dict[int, MeterInfo] = field(default_factory=dict)
    states: dict[tuple[int, Kind], Desired] = field(default_factory=dict)

    def setting(self, key: str) -> str | None:
        return self.settings.get(key)

    def meters(self) -> list[MeterInfo]:
        return list(self.infos.values())

    def desired(self) -> list[Desired]:
        return list(self.states.values())

    def commit(self, change: Change) -> None:
        if isinstance(change, Desired):
            self.states[change.meter, change.kind] = change
        elif isinstance(change, MeterInfo):
            self.infos[change.meter] = change
        elif isinstance(change, Setting) and change.value is not None:
            self.settings[change.key] = change.value


Sent = tuple[int, str, int | None, int | None]  # a command of sharing: its meter, name, weight, end


class Microgrid:
    """A manager, and meters that obey it at once."""

    def __init__(self, strategy: str) -> None:
        self.settings = GatewaySettings.model_validate({"microgrid": "r001", "sharing": strategy})
        self.now = Now(START, Trust.NETWORK)
        self.held: dict[int, HeldState] = {}
        self.levels: dict[int, float] = {}
        self.sent: list[Sent] = []
        self.start(Kept())
        self.introduce(METERS)

    def start(self, store: Kept) -> None:
        self.store = store
        self.manager = Manager(
            self.settings, "r001", cast("Any", store), {meter: registered(meter) for meter in METERS}
        )
        self.manager.weights = {2: 300}

    def wait(self, seconds: int) -> None:
        self.now = Now(self.now + seconds, Trust.NETWORK)

    def introduce(self, meters: tuple[int, ...]) -> None:
        for meter in meters:
            self.answer(meter, "initialize")

    def report(self, *levels: tuple[int, float]) -> None:
        """Deliver levels in one group, then decide, as the shell does."""
        for meter, percent in levels:
            self.levels[meter] = percent
            self.manager.level(meter, self.now // 15 * 15, int(CAPACITY * percent / 100), self.now)
        self.do(self.manager.share_if_changed(self.now))

    def answer(self, meter: int, cmd: Name) -> None:
        held = {Kind.SHARING: self.held[meter]} if meter in self.held else {}
        outcome = Outcome(
            id="x",
            cmd=cmd,
            result="done",
            time=self.now,
            bits=State.INITIALIZED,
            push=True,
            minimum_percent=50,
            capacity_mwh=CAPACITY,
            held=held,
            epoch=max((each.epoch for each in held.values()), default=(0, 0)),
        )
        self.do(self.manager.outcome(meter, outcome, self.now))

    def do(self, effects: list[Effect[Change]]) -> None:
        for effect in effects:
            if isinstance(effect, Write):
                self.store.commit(effect.change)
        for effect in effects:
            if isinstance(effect, Publish):
                self.obey(int(effect.topic.split("/")[2]), unpack_json(Command, effect.payload))

    def obey(self, meter: int, command: Command) -> None:
        if command.cmd not in ("share_power_on", "share_power_off"):
            return
        self.sent.append((meter, command.cmd, command.weight, command.until))
        on = command.cmd == "share_power_on"
        self.held[meter] = HeldState(
            value="on" if on else "off",
            epoch=command.epoch,
            seq=command.seq or 0,
            until=command.until if on else None,
            weight=command.weight,
        )
        self.answer(meter, command.cmd)

    def take(self) -> list[Sent]:
        sent, self.sent = self.sent, []
        return sorted(sent, key=str)


reports = st.lists(
    st.tuples(st.integers(15, 100), st.lists(st.tuples(st.sampled_from(METERS), st.sampled_from(PERCENT)), max_size=4)),
    min_size=1,
    max_size=12,
)


@pytest.mark.parametrize("strategy", sorted(STRATEGIES))
@given(
    before=reports,
    after=reports,
    order=st.permutations(METERS),
    one_by_one=st.booleans(),
    store_lost=st.booleans(),
)
@settings(max_examples=40, deadline=None)
def test_successor_sends_the_commands_that_the_killed_manager_would_have_sent(
    strategy: str,
    before: list[tuple[int, list[tuple[int, float]]]],
    after: list[tuple[int, list[tuple[int, float]]]],
    order: list[int],
    one_by_one: bool,
    store_lost: bool,
) -> None:
    going_on, killed = Microgrid(strategy), Microgrid(strategy)
    for each in (going_on, killed):
        each.report(*zip(METERS, (40, 80, 60, 52), strict=True))
        for wait_s, levels in before:
            each.wait(wait_s)
            each.report(*(each.levels | dict(levels)).items())
    killed.start(Kept() if store_lost else killed.store)
    for each in (going_on, killed):
        each.wait(15)
        each.take()
    going_on.report(*going_on.levels.items())
    groups = [[meter] for meter in order] if one_by_one else [list(order)]
    for group in groups:
        killed.introduce(tuple(group))
        killed.report(*((meter, killed.levels[meter]) for meter in group))
    assert killed.take() == going_on.take()
    for wait_s, levels in after:
        for each in (going_on, killed):
            each.wait(wait_s)
            each.report(*levels)
        assert killed.take() == going_on.take()
        assert killed.manager.decision == going_on.manager.decision


@pytest.mark.parametrize("strategy", sorted(STRATEGIES))
@given(
    levels=st.lists(st.sampled_from(PERCENT), min_size=4, max_size=4),
    order=st.permutations(METERS),
)
@settings(max_examples=30, deadline=None)
def test_order_in_which_levels_arrive_does_not_matter(strategy: str, levels: list[float], order: list[int]) -> None:
    sent = []
    for meters in (METERS, tuple(order)):
        world = Microgrid(strategy)
        world.report(*((meter, levels[meter - 1]) for meter in meters))
        sent.append(list(world.sent))
    assert sent[0] == sent[1]


def an_evening() -> list[list[Sent]]:
    """Return what each strategy sends in some slots."""
    sent = []
    for strategy in sorted(STRATEGIES):
        world = Microgrid(strategy)
        world.report(*zip(METERS, (0, 80, 60, 70), strict=True))
        world.wait(15)
        world.report((1, 49), (2, 50))
        sent.append(world.sent)
    return sent


def test_seed_of_the_hashes_does_not_matter() -> None:
    program = "from tests.unit.gateway.test_successor import an_evening; print(an_evening())"
    environment = {**os.environ, "PYTHONHASHSEED": "1", "PYTHONPATH": "."}
    shown = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, check=True).stdout
    assert shown.decode().strip() == str(an_evening())
    assert b"share_power_on" in shown
