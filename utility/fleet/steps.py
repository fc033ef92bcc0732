"""The steps of a rollout: one controller, then a twentieth, then the rest; each waits for the last verdicts (pure)."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from commonwatt.model.units import ControllerId, EpochSeconds

SECOND_SHARE = 20  # the second step has one in so many controllers
Verdict = Literal["done", "failed"]


@dataclass(frozen=True, kw_only=True)
class Member:
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


def planned(controllers: Sequence[ControllerId], first: ControllerId | None) -> list[Member]:
    """Return the members of a rollout.

    Args:
        first: The controller of the first step; ``None``: the first one.
    """
    ordered = sorted(controllers, key=lambda name: name != first)
    second = 1 + -(-len(ordered) // SECOND_SHARE)
    return [Member(controller=n, step=1 if at == 0 else 2 if at < second else 3) for at, n in enumerate(ordered)]


def to_send(
    members: Sequence[Member],
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
