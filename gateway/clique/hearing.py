"""What a controller hears: which meters it reaches, epochs that they report, and answers to a claim.

The warm meters count alone, since the others have no session with a controller to which they do not send. A question to
a meter without a session costs nothing on the line: the broker has nobody to send it to.
"""

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Literal

from commonwatt.clique.beats import PATIENT_S, PeerLine
from commonwatt.clique.messages import Ask
from commonwatt.model.control import PUT_S
from commonwatt.model.units import ControllerId, MeterId, MicrogridId
from commonwatt.protocol.commands import EPOCH_STEP, Epoch

# Seconds without a message after which a meter counts as not reached, where it is commanded; with longer periods of
# puts later, since half of it must be longer than a period.
MANAGED_S = 180.0
HOSTED_S = 7_200.0  # the same elsewhere: each question costs bytes
ASK_AGAIN_S = 15.0  # seconds between two questions to a silent meter; the first ones follow sooner: 1, 2, 4, 8
PATIENCE = 2.0  # times the longest recent wait for an answer: before that no meter is asked again
MOST_AT_ONCE = 20  # questions in one step


class Hearing:
    """The meters of one microgrid at one controller.

    Args:
        meters: Its warm meters.
    """

    def __init__(self, meters: Collection[MeterId]) -> None:
        self.meters = frozenset(meters)
        self.put_s = PUT_S  # seconds between the meters' puts
        self._heard: dict[MeterId, float] = {}
        self._asked: dict[MeterId, float] = {}
        self._first_asked: dict[MeterId, float] = {}  # since when each meter was asked in vain
        self._answer_s = 0.0  # seconds until an answer, the longest recent ones
        self._tries: Counter[MeterId] = Counter()

    def heard(self, meter: MeterId, now: float) -> None:
        """Note a message of a meter."""
        self._heard[meter] = now
        if meter in self._tries:
            del self._tries[meter]
            # A longer silence is not that of an answer on its way.
            waited_s = min(now - self._first_asked.pop(meter), ASK_AGAIN_S)
            self._answer_s = max(self._answer_s / 2, waited_s)

    def lost(self) -> None:
        """Forget all: the own broker, with its sessions, is gone."""
        self._heard.clear()
        self._asked.clear()
        self._first_asked.clear()
        self._tries.clear()

    def reached(self, now: float, *, manages: bool) -> int:
        """Return how many of the warm meters are reached."""
        silent_s = self._silent_s(manages=manages)
        return sum(now - self._heard.get(meter, -HOSTED_S) < silent_s for meter in self.meters)

    def is_enough(self, reached: int) -> bool:
        """Return whether two thirds of them are reached."""
        return reached * 3 >= len(self.meters) * 2

    def due(self, now: float, *, manages: bool) -> list[MeterId]:
        """Return the meters to ask now, and note it."""
        quiet_s = self._silent_s(manages=manages) / 2
        silent = (meter for meter in self.meters if now - self._heard.get(meter, -HOSTED_S) >= quiet_s)
        due = [meter for meter in silent if now - self._asked.get(meter, -ASK_AGAIN_S) >= self._wait_s(meter)]
        due = due[:MOST_AT_ONCE]
        self._asked.update(dict.fromkeys(due, now))
        for meter in due:
            self._first_asked.setdefault(meter, now)
        self._tries.update(due)
        return due

    def _silent_s(self, *, manages: bool) -> float:
        return MANAGED_S + 2 * (self.put_s - PUT_S) if manages else HOSTED_S

    def _wait_s(self, meter: MeterId) -> float:
        """Return the seconds between two questions: after a start of the broker its meters connect within some."""
        # Where answers take long, more questions would make them take longer.
        return max(min(2.0 ** self._tries[meter], ASK_AGAIN_S), PATIENCE * self._answer_s)

    def nearest(self, meters: Collection[MeterId], count: int) -> list[MeterId]:
        """Return the meters that were heard last, as many as asked for; all are known by their last messages."""
        return sorted(meters, key=lambda meter: self._heard.get(meter, -HOSTED_S), reverse=True)[:count]


BELIEVED = 2  # so many meters are believed


class Reports:
    """The highest epoch that each meter of a microgrid reported since a time.

    Args:
        meters: How many meters the microgrid has.
    """

    def __init__(self, meters: int) -> None:
        self.needed = min(BELIEVED, meters)  # how many meters are believed
        self._most = meters // 2 + 1
        self.by_meter: dict[MeterId, Epoch] = {}

    def say(self, meter: MeterId, epoch: Epoch) -> None:
        """Note what a meter reports."""
        self.by_meter[meter] = max(epoch, self.by_meter.get(meter, (0, 0)))

    def believed(self, known: Epoch) -> Epoch:
        """Return the highest epoch that enough meters reported, and no fewer reported or exceeded; (0, 0): none.

        No lawful manager goes further than a step above what is known; that more than a step was taken, most meters
        must say. An epoch that others only exceed may be one meter's invention.
        """
        meters_by_epoch = Counter(self.by_meter.values())
        exceeding = 0
        for epoch, meters in sorted(meters_by_epoch.items(), reverse=True):
            exceeding += meters
            needed = self.needed if epoch[0] <= known[0] + EPOCH_STEP else max(self.needed, self._most)
            if meters >= self.needed and exceeding >= needed:
                return epoch
        return (0, 0)

    def confirm(self, held: Epoch) -> bool:
        """Return whether enough meters report no higher epoch, and too few a higher one that a manager could have."""
        higher = sum(held < epoch and epoch[0] <= held[0] + EPOCH_STEP for epoch in self.by_meter.values())
        return higher < self.needed <= sum(epoch <= held for epoch in self.by_meter.values())

    def above(self, known: Epoch) -> int:
        """Return a counter above a known epoch and all reported ones, but for one that a meter or two made up."""
        base = max(known[0], self.believed(known)[0])
        return 1 + max([base, *(epoch[0] for epoch in self.by_meter.values() if epoch[0] <= base + EPOCH_STEP)])

    def within_step(self, meter: MeterId, held: Epoch) -> Epoch:
        """Return the epoch under which a meter takes commands of a manager: one step above its own at most."""
        own = self.by_meter.get(meter, held)
        return held if own[0] == 0 else (min(held[0], own[0] + EPOCH_STEP), held[1])


VOTE_S = 0.8  # seconds for which a voter probes before it says that there is no sign
GIVEN_UP_S = 3.0  # seconds after which it says that it saw no loss, on a line that loses beats
DOUBT_S = 60.0  # seconds after a vote for which the voter confirms nobody

Saw = Literal["alive", "lost", "nothing"]


@dataclass(frozen=True)
class AskedQuestion:
    """A question that waits for its answer."""

    by: ControllerId  # who asked
    ask: Ask  # the question
    at: float  # when it came


@dataclass
class Voter:
    """The questions of one microgrid."""

    microgrid: MicrogridId  # the microgrid
    waiting: list[AskedQuestion] = field(default_factory=list)  # the questions without an answer so far
    _doubted: tuple[Epoch, float] = ((0, 0), 0.0)

    def ask(self, asked: AskedQuestion) -> None:
        """Take a question, in place of an earlier one of the same controller."""
        self.waiting = [waiting for waiting in self.waiting if waiting.by != asked.by] + [asked]

    def take(self, now: float, lines: Mapping[int, PeerLine], highest: Epoch) -> list[tuple[AskedQuestion, Saw]]:
        """Return the questions whose time has come, with what was seen of the manager.

        Args:
            lines: The lines to the others who may manage, by their ranks.
            highest: The highest epoch that is known here; of another rank, it is a newer manager's.
        """
        seen = []
        for asked in self.waiting:
            is_newer = highest > asked.ask.lost and highest[1] != asked.ask.lost[1]
            seen.append((asked, self._saw(asked, None if is_newer else lines.get(asked.ask.lost[1]), now)))
        self.waiting = [asked for asked, saw in seen if saw is None]
        for asked, saw in seen:
            if saw == "lost":
                self._doubted = asked.ask.lost, now + DOUBT_S
        return [(asked, saw) for asked, saw in seen if saw is not None]

    def doubts(self, highest: Epoch, now: float) -> bool:
        """Return whether it voted against the holder of an epoch just now, and so can't confirm it."""
        return highest <= self._doubted[0] and now < self._doubted[1]

    def _saw(self, asked: AskedQuestion, line: PeerLine | None, now: float) -> Saw | None:
        """Return what was seen since the question; ``None``: it still looks. Without a line there is no loss."""
        if line is None:
            return "alive"
        if line.since is None:
            return "nothing"
        if line.fails(self.microgrid, now):
            return "lost"
        if line.heard > asked.at:
            return "alive"
        line.wanted_until = now + 1
        if line.deadline_s(now) < PATIENT_S and now - asked.at >= VOTE_S:
            return "lost"
        return "alive" if now - asked.at > GIVEN_UP_S else None
