"""Sealed frames: messages of two controllers, or a controller and the utility, in datagrams (docs/controllers.md).

A frame is the sender's rank (2 bytes), a random number of each side, the sender's first (8 each), a number that rises
(4), the content, and an HMAC-SHA-256 of all that under the key of the two (16).

Two sides talk in a *session*, which the two random numbers name. Each side offers a number, for one session alone: a
frame that names it begins the session. A frame of no session is answered by an offer (a *greeting*, without content).
So a recorded frame opens nothing, also after a restart of either side.
"""

import hmac
import secrets
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from commonwatt.cliques.window import Window

MOST_BYTES = 1_200  # of a frame, below every line's largest datagram
_RANDOM, _MAC = 8, 16
_HEAD = 2 + 2 * _RANDOM + 4
MOST_CONTENT_BYTES = MOST_BYTES - _HEAD - _MAC
_UNKNOWN = bytes(_RANDOM)
_MOST_WAITING, WAITS_S = 8, 2.0  # most contents without a session, and for how many seconds they wait for one
OFFER_S = 3.0  # seconds for which the same random number is offered
GREET_S = 1.0  # seconds between two greetings: recorded frames evoke no more


@dataclass(frozen=True)
class Session:
    """What two sides agreed on."""

    own: bytes  # this side's random number
    theirs: bytes  # the other side's


@dataclass(frozen=True)
class Opened:
    """A frame of the other side."""

    content: bytes = b""  # what it says; empty: nothing, or nothing that is fresh
    answers: tuple[bytes, ...] = ()  # the frames to send
    is_fresh: bool = False  # whether it is of the session
    begins: bool = False  # whether it began the session


class Sealing:
    """The frames between this side and another one.

    Args:
        rank: This side's rank.
        key: The key of the two.
        random: Returns so many random bytes.
    """

    def __init__(self, rank: int, key: bytes, random: Callable[[int], bytes] = secrets.token_bytes) -> None:
        self.session: Session | None = None  # ``None``: none was agreed since the start
        self._rank, self._key, self._random = rank, key, random
        self.since = 0.0  # the other side began the session after this time
        self._offer, self._offered = random(_RANDOM), -OFFER_S
        self._number, self._came = 0, Window()
        self._greeted = -GREET_S
        self._waiting: deque[tuple[float, bytes]] = deque(maxlen=_MOST_WAITING)

    def seal(self, content: bytes, now: float) -> bytes:
        """Return the frame of a content in the session; without a session an offer of one, for which it waits."""
        if self.session is not None:
            return self._frame(self.session, content)
        if content:
            self._waiting.append((now, content))
        return self._offer_frame(_UNKNOWN, now)

    def greeting(self, now: float, theirs: bytes = _UNKNOWN) -> tuple[bytes, ...]:
        """Return an offer of a new session, unless one was made just now."""
        if now - self._greeted < GREET_S:
            return ()
        self._greeted = now
        return (self._offer_frame(theirs, now),)

    def open(self, frame: bytes, now: float) -> Opened | None:
        """Return what a frame says; ``None``: it is not of the one who has the key, or was changed or recorded."""
        body, mac = frame[:-_MAC], frame[-_MAC:]
        if len(body) < _HEAD or not hmac.compare_digest(mac, self._mac(body)):
            return None
        theirs, own = body[2 : 2 + _RANDOM], body[2 + _RANDOM : 2 + 2 * _RANDOM]
        number, content = int.from_bytes(body[_HEAD - 4 : _HEAD], "big"), body[_HEAD:]
        begins = own == self._offer
        if begins:
            self.session, self.since, self._came = Session(own, theirs), self._offered, Window()
            self._offer, self._offered = self._random(_RANDOM), -OFFER_S
        elif Session(own, theirs) != self.session:
            return Opened(answers=self.greeting(now, theirs))
        if not self._came.take(number):
            return None
        said = [each for at, each in self._waiting if now - at <= WAITS_S]
        self._waiting.clear()
        # The other side learns by any frame that the session began.
        answers = [self.seal(each, now) for each in said or ([b""] if begins else [])]
        return Opened(content, tuple(answers), is_fresh=True, begins=begins)

    def _offer_frame(self, theirs: bytes, now: float) -> bytes:
        if now - self._offered >= OFFER_S:  # What names an older one proves too little.
            self._offer, self._offered = self._random(_RANDOM), now
        return self._frame(Session(self._offer, theirs), b"")

    def _frame(self, session: Session, content: bytes) -> bytes:
        self._number += 1
        head = self._rank.to_bytes(2, "big") + session.own + session.theirs + self._number.to_bytes(4, "big")
        return head + content + self._mac(head + content)

    def _mac(self, body: bytes) -> bytes:
        return hmac.digest(self._key, body, "sha256")[:_MAC]
