"""Which line carries each meter's data (A1, A2; pure): orders of brokers, and the least loaded line.

A meter sends to the first broker of its order, of the first three, that it reaches. The load of a line is the number
of meters that it carries. Meters are moved from the most to the least loaded line, and home where that is no worse.
A line with ``ENOUGH`` meters is left alone.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated

from pydantic import BaseModel

from commonwatt.model.units import ControllerId, MeterId
from utility.webkit.columns import Shown, Time, Written

IN_USE = 3  # so many brokers of an order carry data
ENOUGH = 21  # meters of a line that is not relieved

Order = tuple[ControllerId, ...]  # brokers, the first one first


@dataclass(frozen=True, kw_only=True)
class Collected:
    """A meter whose data is collected."""

    meter: MeterId  # its id
    installed: Order  # its brokers, home first
    choices: Order  # those of them that may come first
    order: Order  # the brokers in their present order
    pinned: bool = False  # whether a person has set the order


@dataclass(frozen=True, kw_only=True)
class OrderMove:
    """Another order for a meter."""

    order: Order  # the order
    why: str  # for people


def line_of(order: Order, alive: Collection[ControllerId]) -> ControllerId:
    """Return the line that carries the data of a meter with an order; the first one if none in use is alive."""
    return next((name for name in order[:IN_USE] if name in alive), order[0])


def loads(meters: Iterable[Collected], alive: Collection[ControllerId]) -> dict[ControllerId, int]:
    """Return the number of meters on each line that carries some."""
    found: defaultdict[ControllerId, int] = defaultdict(int)
    for one in meters:
        found[line_of(one.order, alive)] += 1
    return dict(found)


def balanced(meters: Sequence[Collected], alive: Collection[ControllerId], most: int) -> dict[MeterId, OrderMove]:
    """Return the moves, at most ``most``, that balance the lines of the controllers that are alive."""
    return _Balance(meters, alive).moves(most)


class _Balance:
    def __init__(self, meters: Sequence[Collected], alive: Collection[ControllerId]) -> None:
        self._alive = alive
        self._load: defaultdict[ControllerId, int] = defaultdict(int, loads(meters, alive))
        self._on: defaultdict[ControllerId, list[Collected]] = defaultdict(list)
        for one in meters:
            # Only a meter with a choice can move; a line that is lost holds those that reach no other one.
            if not one.pinned and len(one.choices) > 1:
                self._on[line_of(one.order, alive)].append(one)
        self._moves: dict[MeterId, OrderMove] = {}

    def moves(self, most: int) -> dict[MeterId, OrderMove]:
        self._rescue(most)
        while len(self._moves) < most and self._level():
            pass
        self._home(most)
        return self._moves

    def _rescue(self, most: int) -> None:
        """Move the meters of lines that are lost."""
        for name in sorted(self._on):
            if name in self._alive:
                continue
            for one in list(self._on[name]):
                to = self._least(one)
                if to is not None and len(self._moves) < most:
                    self._move(one, name, to, f"{name} is lost")

    def _level(self) -> bool:
        """Move one meter from the most loaded line that can give one away; return whether there was one."""
        crowded = (name for name in self._on if self._load[name] > ENOUGH)
        for name in sorted(crowded, key=lambda each: (-self._load[each], each)):
            for one in self._on[name]:
                to = self._least(one)
                if to is not None and self._load[to] + 1 < self._load[name]:
                    why = f"{name} carried {self._load[name]} meters, {to} {self._load[to]}"
                    self._move(one, name, to, why)
                    return True
        return False

    def _home(self, most: int) -> None:
        for name in sorted(self._on):
            for one in list(self._on[name]):
                home = one.installed[0]
                no_worse = home in self._alive and self._load[home] < self._load[name]
                if home != name and no_worse and one.meter not in self._moves and len(self._moves) < most:
                    self._move(one, name, home, f"home again: {home} carries no more than {name}")

    def _least(self, one: Collected) -> ControllerId | None:
        able = [name for name in one.choices if name in self._alive]
        return min(able, key=lambda name: (self._load[name], one.installed.index(name)), default=None)

    def _move(self, one: Collected, line: ControllerId, to: ControllerId, why: str) -> None:
        self._on[line].remove(one)
        self._load[line] -= 1
        self._load[to] += 1
        # Only the first three are in use: home is one of them, and those that are lost come last.
        home = one.installed[0]
        rest = sorted((n for n in one.installed if n != to), key=lambda n: (n not in self._alive, self._load[n]))
        if home in rest[2:]:
            rest = [rest[0], home, *(n for n in rest[1:] if n != home)]
        self._moves[one.meter] = OrderMove(order=(to, *rest), why=why)
        self._on[to].append(one)


class Given(BaseModel):
    """An order that a meter was given."""

    version: Annotated[int, Shown("Version")]
    since: Annotated[Time, Shown("Since", Written.MOMENT)]
    brokers: Annotated[list[str], Shown("Brokers")]  # the first one first; empty: as installed
    person: Annotated[str, Shown("By")]  # empty: the service
    pinned: bool  # whether it stays until a person changes it
    why: Annotated[str, Shown("Why")]


class CollectedMeter(BaseModel):
    """Which controller collects the data of a meter, and why."""

    meter: Annotated[str, Shown("Meter")]
    microgrid: Annotated[str, Shown("Microgrid")]
    installed: list[str]  # its brokers, home first
    order: Annotated[list[str], Shown("Brokers")]  # in their present order; the first three are in use
    pinned: bool  # whether a person has set the order
    collector: Annotated[str, Shown("Collected by")]  # the first one in use that is heard
    load: Annotated[int, Shown("Meters on that line")]
    why: Annotated[str, Shown("Why")]
    history: list[Given]  # the orders that it was given, the newest first
