"""The datagram of a beat, 10 bytes: rank (2), answer (1 bit) and number (15 bits), state bits (1), MAC (5).

The state bits are, for each of up to three microgrids of the clique in its order, whether the sender is able to command
it and whether it manages it; then whether its store commits, and whether it leaves. In an answer of the utility they
are the members that it hears.

The MAC is the begin of an HMAC-SHA-256 over the rest, the whole number, of which the datagram has the last bits, and
the *echo*: the number of the newest beat that the sender has of the receiver. Its key is made of that of the pair and
the random numbers of both sides in their session (``commonwatt.protocol.sealed``), and differs by direction. So a
recorded beat is no sign of life: in its session its number counts once, and what it echoes was sent long ago; in no
other session its MAC is right.
"""

import hmac
from collections import deque
from collections.abc import Sequence
from typing import Literal

from commonwatt.cliques.signs import PATIENT_S, Beat, Bits
from commonwatt.cliques.window import Window
from commonwatt.model.units import ControllerId

LENGTH = 10  # bytes of a datagram
FRESH_S = PATIENT_S  # seconds since what it echoes was sent for which a beat proves that its sender lives

_MAC = 5
_NUMBERS = 2**15
_MANAGES, _COMMITS, _LEAVES = 3, 1 << 6, 1 << 7
_ECHOES = 16  # newest numbers of this side that a beat may echo

Refused = Literal["no such session", "repeated"]


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
        self._came = Window()
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

    def unpack(self, data: bytes, now: float) -> Beat | Refused:
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
