"""Signs of life of other controllers and of the utility, and when they are lost (docs/controllers.md).

A beat is a sign, every ``BEAT_S``, answered at once. A longer silence is followed by probes, three within
``PROBE_S``. A controller without a sign for both times is lost. On a line that loses a beat now and then, or is not
known yet, the deadline is ``PATIENT_S``.
"""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from math import inf

from commonwatt.model.units import ControllerId, MicrogridId

BEAT_S = 3.3  # seconds between two beats
LATE_S = 0.2  # seconds by which an answer may be later than the one before
PAUSE_S = 4.0  # seconds without a step after which this place itself was stopped
PROBE_S = 1.0  # seconds for the probes after a beat without an answer
PROBES = 3  # probes within ``PROBE_S``; after that one a second
PATIENT_S = 12.0  # seconds without a sign until the loss, on a line that loses beats, or is not known yet
KNOWN_AFTER_S = 60.0  # seconds of signs after which a line is known
MISSES, OF_BEATS = 2, 200  # so many missing beats among the last ones make a line one that loses beats
FALSE_FOR_S = 86_400.0  # seconds after a loss that was none during which the deadline is ``PATIENT_S``
BACK_WITHIN_S = 120.0  # seconds within which a controller that said it stops is not lost
UNABLE_S = 10.0  # seconds after which a controller that says it can't command is lost for control


@dataclass(frozen=True)
class Bits:
    """What a beat says of its sender."""

    able: frozenset[MicrogridId] = frozenset()  # the microgrids of which it hears two thirds of the meters
    manages: frozenset[MicrogridId] = frozenset()  # the microgrids that it manages
    commits: bool = True  # whether its store takes commits
    leaves: bool = False  # whether it stops for a moment, and comes back by itself


@dataclass(frozen=True)
class Beat:
    """A beat or its answer, as a datagram carries it."""

    bits: Bits = Bits()
    number: int = 0  # counts the sender's beats to this receiver in a session; the datagram gives it
    is_answer: bool = False
    hears: frozenset[ControllerId] = frozenset()  # of the utility's answers: which members of the clique it hears
    session: bytes = b""  # of a received beat: the sender's random number of the session
    is_fresh: bool = True  # of a received beat: whether it proves that its sender lives now


@dataclass
class Line:
    """What is known of the line to another one."""

    heard: float  # when its last sign came; at first, since when it is watched
    since: float | None = None  # since when signs come without a loss; ``None``: none ever came
    bits: Bits | None = None  # what its last beat said; ``None``: none came, or long ago
    said: float = 0.0  # when its last beat came
    back_by: float = 0.0  # until when it may be away, as it said
    excused: float = 0.0  # until when it may reach no meters, since it said that it stops: they connect again later
    false_until: float = 0.0  # until when a loss that was none makes the deadline longer
    unable: dict[MicrogridId, float] = field(default_factory=dict)  # since when it says that it can't command one
    able_again: dict[MicrogridId, float] = field(default_factory=dict)  # since when it says that it can again
    session: bytes | None = None  # the session of its newest beat; ``None``: none came
    number: int = 0  # the number of that beat
    missing: deque[bool] = field(default_factory=lambda: deque(maxlen=OF_BEATS))  # of its last beats, which are missing
    misses: int = 0  # how many of them are
    wanted_until: float = 0.0  # the end of the probes that a vote needs
    probes: int = 0  # probes sent since its last sign
    probed: float = 0.0  # when the last one was sent
    beat: float = -BEAT_S  # when the last beat was sent to it

    def deadline_s(self, now: float) -> float:
        """Return after how many seconds without a sign it is lost."""
        is_known = self.since is not None and self.heard - self.since >= KNOWN_AFTER_S
        is_good = is_known and self.misses < MISSES and now >= self.false_until
        return BEAT_S + PROBE_S if is_good else PATIENT_S

    def suspect(self, now: float) -> bool:
        """Return whether its sign is late."""
        return now - self.heard > BEAT_S + LATE_S

    def lost(self, now: float) -> bool:
        """Return whether it gave no sign for too long."""
        return now - self.heard > self.deadline_s(now) and now > self.back_by

    def changes_at(self, now: float, *, is_probed: bool) -> float:
        """Return when it is late, probed or lost next, if no sign comes."""
        late = self.heard + BEAT_S + LATE_S
        if now <= late:
            return late
        if self.lost(now):
            return inf
        lost = max(self.heard + self.deadline_s(now), self.back_by)
        return min(lost, self.probed + self._probe_every_s if self.probes else now) if is_probed else lost

    @property
    def _probe_every_s(self) -> float:
        return PROBE_S / PROBES if self.probes < PROBES else PROBE_S

    def probe_is_due(self, now: float) -> bool:
        """Return whether a probe is due, since the sign is late, and note it; what is lost gets beats alone."""
        is_wanted = (self.suspect(now) and not self.lost(now)) or now < self.wanted_until
        is_due = is_wanted and (self.probes == 0 or now - self.probed >= self._probe_every_s)
        if is_due:
            self.probes += 1
            self.probed = now
        return is_due

    def alive(self, now: float) -> bool:
        """Return whether it gave signs, and is not lost."""
        return self.since is not None and not self.lost(now)

    def is_stranger(self, now: float) -> bool:
        """Return whether it never gave a sign, though it is watched for a minute: it may be of an earlier release."""
        return self.since is None and now - self.heard > KNOWN_AFTER_S

    def fails(self, microgrid: MicrogridId, now: float) -> bool:
        """Return whether it can't command a microgrid: it is lost, or has said so for ``UNABLE_S``."""
        return self.lost(now) or now - max(self.unable.get(microgrid, now), self.excused) > UNABLE_S

    def steady_s(self, microgrid: MicrogridId, now: float) -> float:
        """Return for how long it could have commanded a microgrid without a loss, seconds; 0: it can't, or is late."""
        if self.since is None or self.suspect(now) or microgrid in self.unable:
            return 0.0
        return now - max(self.since, self.able_again.get(microgrid, self.since))


class Signs:
    """The signs of some others, at one place.

    Args:
        others: The watched controllers, and the utility.
        now: The time since when, of a clock that never goes back, seconds.
    """

    def __init__(self, others: Iterable[ControllerId], now: float) -> None:
        self.lines = {name: Line(heard=now) for name in others}
        self._awake = now
        self.utility_hears: dict[ControllerId, float] = {}  # the members, as its last answer says, and since when

    def wake(self, now: float) -> bool:
        """Note the time; return whether this place was stopped: the others were not silent, but are known anew."""
        pause_s, self._awake = now - self._awake, now
        if pause_s <= PAUSE_S:
            return False
        for line in self.lines.values():
            line.heard = min(now, line.heard + pause_s)
            line.since = None if line.since is None else now
        return True

    def sign(self, name: ControllerId, now: float, beat: Beat | None = None) -> bool:
        """Note a sign of another one, and what its beat says; return whether it counts: an overtaken one does not."""
        line = self.lines[name]
        if beat is not None and beat.session == line.session and beat.number < line.number:
            if True in line.missing:
                line.missing.remove(True)
                line.misses = sum(line.missing)
            return False
        was_lost = line.lost(now)
        if line.since is None or was_lost:
            line.since = now
        if beat is not None:
            self._read(line, beat, now, was_lost=was_lost)
        elif now - line.said > PATIENT_S:
            # It beats to the utility alone by now: what it said long ago is nothing.
            line.bits = None
            line.unable.clear()
        line.heard, line.probes, line.wanted_until = now, 0, 0.0
        return True

    @staticmethod
    def _read(line: Line, beat: Beat, now: float, *, was_lost: bool) -> None:
        if beat.session == line.session:
            # While the utility lives, controllers beat to it alone: their silence to one another was no loss.
            if was_lost and now - line.said <= PATIENT_S:
                line.false_until = now + FALSE_FOR_S
            elif not was_lost:
                line.missing.extend([True] * min(beat.number - line.number - 1, MISSES))
                line.missing.append(False)
        line.misses = sum(line.missing)
        line.bits, line.said = beat.bits, now
        line.session, line.number = beat.session, beat.number
        line.back_by = now + BACK_WITHIN_S if beat.bits.leaves else 0.0
        line.excused = max(line.excused, line.back_by)

    def says(self, name: ControllerId, microgrid: MicrogridId, now: float, *, able: bool) -> None:
        """Note whether another one says that it can command a microgrid."""
        line = self.lines[name]
        if not able:
            line.unable.setdefault(microgrid, now)
        elif line.unable.pop(microgrid, None) is not None:
            line.able_again[microgrid] = now

    def beat_is_due(self, name: ControllerId, now: float) -> bool:
        """Return whether a beat is to be sent now, and note it."""
        line = self.lines[name]
        is_due = now - line.beat >= BEAT_S
        line.beat = now if is_due else line.beat
        return is_due
