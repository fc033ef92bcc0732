"""Sealed frames: messages of two controllers, or a controller and the utility, in datagrams (docs/controllers.md, R7).

A frame is the sender's rank (2 bytes), the sender's and the receiver's boot (8 each), a number that rises (4), the
content, and an HMAC-SHA-256 of all that under the key of the two (16). A boot is a random number of one start of one
side. Only a frame that names the receiver's present boot is fresh, so that a recorded one opens nothing after a restart
of either side. A frame that names another boot is answered by an empty one, the greeting; then the sender repeats it.
"""

import hmac
import secrets
from collections import deque
from dataclasses import dataclass

MOST_BYTES = 1_200  # of a frame, below every line's largest datagram
_BOOT, _MAC = 8, 16
_HEAD = 2 + 2 * _BOOT + 4
_UNKNOWN = bytes(_BOOT)
_BOOTS = 8  # starts of the other side that are remembered; then the own boot changes
_AGAIN, AGAIN_S = 8, 2.0  # most frames, and their greatest age in seconds, that are sent again after a greeting


@dataclass(frozen=True)
class Opened:
    """A frame of the other side."""

    content: bytes = b""  # what it says; empty: nothing, or nothing that is fresh
    answers: tuple[bytes, ...] = ()  # the frames to send


class Sealing:
    """The frames between this side and another one.

    Args:
        rank: This side's rank.
        key: The key of the two.
    """

    def __init__(self, rank: int, key: bytes) -> None:
        self._rank, self._key = rank, key
        self._own = secrets.token_bytes(_BOOT)
        self._theirs = _UNKNOWN
        self._number = 0
        self._last: dict[bytes, int] = {}
        self._sent: deque[tuple[float, bytes, bytes]] = deque(maxlen=_AGAIN)

    def seal(self, content: bytes, now: float) -> bytes:
        """Return the frame of a content; an empty content is a greeting."""
        if content:
            self._sent.append((now, self._theirs, content))
        self._number += 1
        head = self._rank.to_bytes(2, "big") + self._own + self._theirs + self._number.to_bytes(4, "big")
        return head + content + self._mac(head + content)

    def open(self, frame: bytes, now: float) -> Opened | None:
        """Return what a frame says; ``None``: it is not of the one who has the key, or was changed or recorded."""
        body, mac = frame[:-_MAC], frame[-_MAC:]
        if len(body) < _HEAD or not hmac.compare_digest(mac, self._mac(body)):
            return None
        theirs, own = body[2 : 2 + _BOOT], body[2 + _BOOT : 2 + 2 * _BOOT]
        number, content = int.from_bytes(body[_HEAD - 4 : _HEAD], "big"), body[_HEAD:]
        if own != self._own:
            self._theirs = theirs
            return Opened(answers=(self.seal(b"", now),))
        if number <= self._last.get(theirs, 0):
            return None
        self._theirs = theirs
        self._last[theirs] = number
        again = [old for at, boot, old in self._sent if boot != theirs and now - at <= AGAIN_S]
        self._sent.clear()
        answers = tuple(self.seal(old, now) for old in again)
        if len(self._last) > _BOOTS:
            self._own, self._last = secrets.token_bytes(_BOOT), {}
        return Opened(content, answers)

    def _mac(self, body: bytes) -> bytes:
        return hmac.digest(self._key, body, "sha256")[:_MAC]
