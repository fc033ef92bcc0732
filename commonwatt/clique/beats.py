"""Beats: signs of life of controllers, and their datagrams.

A beat is a sign, every ``BEAT_S``, answered at once. A longer silence is followed by probes, three within
``PROBE_S``. A controller without a sign for both times is lost. On a line that loses a beat now and then, or is not
known yet, the deadline is ``PATIENT_S``.

The datagram of a beat, 10 bytes: rank (2), answer (1 bit) and number (15 bits), state bits (1), MAC (5).
The state bits are, for each of up to three microgrids of the clique in its order, whether the sender is able to command
it and whether it manages it; then whether its store commits, and whether it leaves. In an answer of the utility they
are the members that it hears.

The MAC is the begin of an HMAC-SHA-256 over the rest, the whole number, of which the datagram has the last bits, and
the *echo*: the number of the newest beat that the sender has of the receiver. Its key is made of the pair's key and
the random numbers of both sides in their session (``commonwatt.clique.messages``), and differs by direction.
So a recorded beat is no sign of life: in its session its number counts once, and what it echoes was sent long ago; in
no other session its MAC is right.
"""

import hmac
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from math import inf
from typing import Literal

from commonwatt.model.units import ControllerId, MicrogridId

WIDTH = 64  # a number may be so far behind the newest one


class NumberWindow:
    """The numbers that came from the other side in a session."""

    def __init__(self) -> None:
        self.newest = 0  # the highest one; 0: none
        self._seen = 1  # bit n: whether the number that is n below came

    def take(self, number: int) -> bool:
        """Return whether a number counts, and note it; one that came, or is too far behind, does not."""
        ahead = number - self.newest
        if ahead <= -WIDTH or (ahead <= 0 and self._seen >> -ahead & 1):
            return False
        seen = self._seen | 1 << -ahead if ahead < 0 else self._seen << min(ahead, WIDTH) | 1
        self._seen = seen % (1 << WIDTH)
        self.newest = max(self.newest, number)
        return True


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
class PeerLine:
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
        self.lines = {name: PeerLine(heard=now) for name in others}
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
    def _read(line: PeerLine, beat: Beat, now: float, *, was_lost: bool) -> None:
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


LENGTH = 10  # bytes of a datagram
FRESH_S = PATIENT_S  # seconds since what it echoes was sent for which a beat proves that its sender lives

_MAC = 5
_NUMBERS = 2**15
_MANAGES, _COMMITS, _LEAVES = 3, 1 << 6, 1 << 7
_ECHOES = 16  # newest numbers of this side that a beat may echo

RefusedBeat = Literal["no such session", "repeated"]


class Beats:
    """The beats between this side and another one in one session.

    Args:
        rank: This side's rank; the utility's is 0.
        key: The key of the pair.
        own: This side's random number of the session.
        theirs: The other side's.
        members: The clique, in its order.
        of_utility: Whether the other side is the utility.
        now: A time before the other side began the session, of a clock that never goes back, seconds.
    """

    def __init__(
        self,
        rank: int,
        key: bytes,
        own: bytes,
        theirs: bytes,
        members: Sequence[ControllerId],
        *,
        of_utility: bool,
        now: float,
    ) -> None:
        self._rank, self._members, self._of_utility = rank, members, of_utility
        self._theirs = theirs
        self._own_key = hmac.digest(key, own + theirs, "sha256")
        self._their_key = hmac.digest(key, theirs + own, "sha256")
        self._came = NumberWindow()
        # Numbers of this side, the newest first, and when they were sent.
        self._sent: deque[tuple[int, float]] = deque([(0, now)], maxlen=_ECHOES)

    def pack(self, beat: Beat, now: float) -> bytes:
        """Return the datagram of the next beat."""
        number = self._sent[0][0] + 1
        self._sent.appendleft((number, now))
        members = list(enumerate(self._members))
        hears = sum(1 << n for n, name in members if name in beat.hears)
        able = sum(1 << n for n, name in members if name in beat.bits.able)
        manages = sum(1 << n for n, name in members if name in beat.bits.manages)
        flags = (_COMMITS if beat.bits.commits else 0) | (_LEAVES if beat.bits.leaves else 0)
        word = number % _NUMBERS | (_NUMBERS if beat.is_answer else 0)
        bits = hears or able | manages << _MANAGES | flags
        body = self._rank.to_bytes(2, "big") + word.to_bytes(2, "big") + bytes([bits])
        return body + _mac(self._own_key, body, number, self._came.newest)

    def unpack(self, data: bytes, now: float) -> Beat | RefusedBeat:
        """Return the beat of a datagram, or why there is none."""
        body, mac = data[:-_MAC], data[-_MAC:]
        word = int.from_bytes(body[2:4], "big")
        # The number with these last bits that is nearest to the newest one.
        newest = self._came.newest
        number = newest + (word - newest + _NUMBERS // 2) % _NUMBERS - _NUMBERS // 2
        at = next((at for n, at in self._sent if _is_mac(mac, self._their_key, body, number, n)), None)
        if at is None:
            return "no such session"
        if not self._came.take(number):
            return "repeated"
        return self._read(body[4], number, is_answer=bool(word & _NUMBERS), is_fresh=now - at <= FRESH_S)

    def _read(self, bits: int, number: int, *, is_answer: bool, is_fresh: bool) -> Beat:
        hears, said = frozenset[ControllerId](), Bits()
        if self._of_utility:
            hears = self._names(bits)
        else:
            said = Bits(
                able=self._names(bits),
                manages=self._names(bits >> _MANAGES),
                commits=bool(bits & _COMMITS),
                leaves=bool(bits & _LEAVES),
            )
        return Beat(said, number, is_answer=is_answer, hears=hears, session=self._theirs, is_fresh=is_fresh)

    def _names(self, bits: int) -> frozenset[ControllerId]:
        return frozenset(name for n, name in enumerate(self._members[:_MANAGES]) if bits >> n & 1)


def rank_of(data: bytes) -> int:
    """Return the rank that a datagram names, by which its key is found."""
    return int.from_bytes(data[:2], "big")


def _mac(key: bytes, body: bytes, number: int, echo: int) -> bytes:
    text = body + number.to_bytes(8, "big") + echo.to_bytes(8, "big")
    return hmac.digest(key, text, "sha256")[:_MAC]


def _is_mac(mac: bytes, key: bytes, body: bytes, number: int, echo: int) -> bool:
    return number > 0 and hmac.compare_digest(mac, _mac(key, body, number, echo))
