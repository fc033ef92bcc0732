"""The controllers of a town: as a list, and the steps of a rollout (pure)."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from commonwatt.model.time import Trust
from commonwatt.model.units import ControllerId, EpochSeconds
from commonwatt.protocol.heartbeats import Heartbeat, Program
from utility.alarms.alarm import PREFIX, Alarm, Severity

OLDER = "0.3 or older"  # the release of a gateway that does not say its own
CLOCKS = {Trust.NONE: "none", Trust.METERS: "meters", Trust.HARDWARE: "its own", Trust.NETWORK: "network"}
"""Where a gateway has its time from, for people."""

Sort = Literal["name", "release", "certificate", "disk", "starts", "heard"]
_LAST = 2**60  # what is not known stands last


@dataclass(frozen=True, kw_only=True)
class Cared:
    """A controller in the list."""

    microgrid: ControllerId  # its name, which is its microgrid's
    kind: str  # the kind of its microgrid
    heard: EpochSeconds | None  # when its gateway was heard last; ``None``: never
    said: Heartbeat | None  # its last heartbeat; ``None``: none that can be read
    state: Literal["good", "warning", "bad", "idle"]  # how grave its alarms are; ``idle``: it was never heard
    wrong: tuple[str, ...]  # its alarms, each in words

    @property
    def program(self) -> Program | None:
        """What it said of its program and machine; ``None``: nothing."""
        return None if self.said is None else self.said.program

    @property
    def release(self) -> str:
        """The release of its program; empty: it was never heard."""
        return "" if self.said is None else self.said.release or OLDER

    @property
    def clock(self) -> str:
        """Where it has its time from; empty: it was never heard."""
        return "" if self.said is None else CLOCKS[Trust(self.said.trust)]


def cared_for(
    kinds: Mapping[ControllerId, str],
    heard: Mapping[ControllerId, tuple[EpochSeconds, Heartbeat | None]],
    alarms: Iterable[Alarm],
) -> list[Cared]:
    """Return every controller, in the order of ``kinds``, with the alarms that name it."""
    by: dict[str, list[Alarm]] = {}
    for alarm in alarms:
        if alarm.name.startswith(PREFIX) and (name := alarm.labels.get("controller")):
            by.setdefault(name, []).append(alarm)
    found = []
    for name, kind in kinds.items():
        at, said = heard.get(name, (None, None))
        own = by.get(name, ())
        grave = any(alarm.severity is Severity.CRITICAL for alarm in own)
        state: Literal["good", "warning", "bad", "idle"] = "bad" if grave else "warning" if own else "good"
        found.append(
            Cared(
                microgrid=name,
                kind=kind,
                heard=at,
                said=said,
                state="idle" if at is None and not own else state,
                wrong=tuple(alarm.summary for alarm in own),
            )
        )
    return found


_KEYS: Mapping[Sort, Callable[[Cared], object]] = {
    "name": lambda _: 0,
    "release": lambda one: one.release,
    "certificate": lambda one: _known(one.program.cert_days if one.program else None),
    "disk": lambda one: _known(one.program.disk_days if one.program else None),
    "starts": lambda one: -(one.program.starts if one.program else -1),
    "heard": lambda one: one.heard or 0,
}
"""What each order sorts by, the worst first; alike ones stay in the order of their names."""


def _known(days: int | None) -> int:
    return _LAST if days is None else days


def chosen(
    fleet: Iterable[Cared], *, name: str = "", kind: str = "", release: str = "", wrong: bool = False
) -> list[Cared]:
    """Return those that a person asked for.

    Args:
        name: The start of their names; empty: any.
        kind: The kind of their microgrid; empty: any.
        release: Their release; empty: any.
        wrong: Only those with an alarm.
    """
    return [
        one
        for one in fleet
        if one.microgrid.startswith(name)
        and kind in ("", one.kind)
        and release in ("", one.release)
        and not (wrong and not one.wrong)
    ]


def ordered(fleet: Sequence[Cared], by: Sort) -> list[Cared]:
    """Return the controllers in an order, the worst first."""
    return sorted(fleet, key=_KEYS[by])  # type: ignore[arg-type]


SECOND_SHARE = 20  # the second step has one in so many controllers
Verdict = Literal["done", "failed"]


@dataclass(frozen=True, kw_only=True)
class RolloutMember:
    """A controller of a rollout."""

    controller: ControllerId  # the controller
    step: int  # its step, from 1 on
    command: str | None = None  # the command that it was sent; ``None``: none yet
    sent: EpochSeconds | None = None  # when
    ended: EpochSeconds | None = None  # when its verdict came
    verdict: Verdict | None = None  # ``failed``: it went back, or refused; ``None``: none yet
    why: str = ""  # why it failed

    @property
    def is_under_way(self) -> bool:
        """Whether it fetches, installs or judges."""
        return self.command is not None and self.verdict is None


def planned(controllers: Sequence[ControllerId], first: ControllerId | None) -> list[RolloutMember]:
    """Return the members of a rollout.

    Args:
        first: The controller of the first step; ``None``: the first one.
    """
    ordered = sorted(controllers, key=lambda name: name != first)
    second = 1 + -(-len(ordered) // SECOND_SHARE)
    return [RolloutMember(controller=n, step=1 if at == 0 else 2 if at < second else 3) for at, n in enumerate(ordered)]


def to_send(
    members: Sequence[RolloutMember],
    cliques: Iterable[Collection[ControllerId]],
    busy: Iterable[ControllerId] = (),
    *,
    is_approved: bool,
) -> list[ControllerId]:
    """Return the controllers that are sent the release now; never two of a clique at once.

    Args:
        cliques: The controllers of each clique.
        busy: Controllers under way, also of an earlier rollout.
        is_approved: Whether a second person approved more than one controller.
    """
    if any(each.verdict == "failed" for each in members):
        return []
    step = min((each.step for each in members if each.verdict is None), default=0)
    if step > 1 and not is_approved:
        return []
    groups = [frozenset(each) for each in cliques]
    taken = {each.controller for each in members if each.is_under_way}.union(busy)
    found = []
    for each in members:
        others = frozenset[ControllerId]().union(*(group for group in groups if each.controller in group))
        if each.step == step and each.command is None and not (others - {each.controller}) & taken:
            found.append(each.controller)
            taken.add(each.controller)
    return found
