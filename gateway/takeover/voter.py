"""Answers of a member of the clique to whoever wants to take over: is the manager lost? (docs/controllers.md, R8)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from commonwatt.cliques.signs import PATIENT_S, Line
from commonwatt.model.units import ControllerId, MicrogridId
from commonwatt.protocol.clique_messages import Ask
from commonwatt.protocol.commands import Epoch

VOTE_S = 0.8  # seconds for which a voter probes before it says that there is no sign
GIVEN_UP_S = 3.0  # seconds after which it says that it saw no loss, on a line that loses beats
DOUBT_S = 60.0  # seconds after a vote for which the voter confirms nobody

Saw = Literal["alive", "lost", "nothing"]


@dataclass(frozen=True)
class Asked:
    """A question that waits for its answer."""

    by: ControllerId  # who asked
    ask: Ask  # the question
    at: float  # when it came


@dataclass
class Voter:
    """The questions of one microgrid."""

    microgrid: MicrogridId  # the microgrid
    waiting: list[Asked] = field(default_factory=list)  # the questions without an answer so far
    _doubted: tuple[Epoch, float] = ((0, 0), 0.0)

    def ask(self, asked: Asked) -> None:
        """Take a question, in place of an earlier one of the same controller."""
        self.waiting = [one for one in self.waiting if one.by != asked.by] + [asked]

    def take(self, now: float, lines: Mapping[int, Line], highest: Epoch) -> list[tuple[Asked, Saw]]:
        """Return the questions whose time has come, with what was seen of the manager.

        Args:
            lines: The lines to the others who may manage, by their ranks.
            highest: The highest epoch that is known here; of another rank, it is a newer manager's.
        """
        seen = []
        for one in self.waiting:
            is_newer = highest > one.ask.lost and highest[1] != one.ask.lost[1]
            seen.append((one, self._saw(one, None if is_newer else lines.get(one.ask.lost[1]), now)))
        self.waiting = [one for one, saw in seen if saw is None]
        for one, saw in seen:
            if saw == "lost":
                self._doubted = one.ask.lost, now + DOUBT_S
        return [(one, saw) for one, saw in seen if saw is not None]

    def doubts(self, highest: Epoch, now: float) -> bool:
        """Return whether it voted against the holder of an epoch just now, and so can't confirm it."""
        return highest <= self._doubted[0] and now < self._doubted[1]

    def _saw(self, one: Asked, line: Line | None, now: float) -> Saw | None:
        """Return what was seen since the question; ``None``: it still looks. Without a line there is no loss."""
        if line is None:
            return "alive"
        if line.since is None:
            return "nothing"
        if line.fails(self.microgrid, now):
            return "lost"
        if line.heard > one.at:
            return "alive"
        line.wanted_until = now + 1
        if line.deadline_s(now) < PATIENT_S and now - one.at >= VOTE_S:
            return "lost"
        return "alive" if now - one.at > GIVEN_UP_S else None
