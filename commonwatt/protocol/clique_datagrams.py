"""All datagrams between this side and another one of a group: beats and sealed messages, without a socket."""

import hashlib
import secrets
from base64 import b85decode, b85encode
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from commonwatt.cliques.datagrams import LENGTH, Beats
from commonwatt.cliques.signs import BEAT_S, Beat
from commonwatt.model.exceptions import ProtocolError
from commonwatt.model.units import ControllerId, MicrogridId
from commonwatt.protocol.clique_messages import Ask, CliqueMessage, Grant, Known, States, Vote, Who, Yield
from commonwatt.protocol.json_messages import unpack_json
from commonwatt.protocol.sealed import MOST_BYTES, MOST_CONTENT_BYTES, WAITS_S, Sealing
from commonwatt.protocol.topics import UTILITY

_KINDS: tuple[type[CliqueMessage], ...] = (Who, Known, Ask, Vote, Yield, Grant, States)  # the first byte of a content

_NONCE_BYTES = 16  # random bytes before what is encrypted: the spared places of ``States``

REFUSED = ("of a stranger", "of no session", "repeated", "unknown kind", "malformed")
"""Why a datagram says nothing."""


@dataclass(frozen=True, kw_only=True)
class Party:
    """Another one of a group."""

    group: int  # the group's place in the list of groups
    name: ControllerId  # its name
    rank: int  # its rank; the utility's is 0
    address: str  # where its datagrams are received, HOST:PORT
    further: Sequence[str] = ()  # further addresses of it, of which one answers at a time
    key: bytes  # the secret of the two
    microgrids: Sequence[MicrogridId]  # the microgrids of the group, in the order of the bits of a beat


@dataclass(frozen=True)
class Taken:
    """What came of a datagram."""

    said: tuple[Beat | CliqueMessage, ...] = ()  # what it says; also a beat that came before its session
    answers: tuple[bytes, ...] = ()  # the datagrams to send
    refused: str = ""  # why it says nothing; empty: it does, or there was nothing to say
    is_theirs: bool = True  # whether the other side made it, at some time


class Datagrams:
    """The datagrams of this side and another one.

    Args:
        rank: This side's rank.
        random: Returns so many random bytes.
    """

    def __init__(self, rank: int, party: Party, random: Callable[[int], bytes] = secrets.token_bytes) -> None:
        self._rank, self._party, self._random = rank, party, random
        self._sealing = Sealing(rank, party.key, random)
        # The newest session, and the one before: beats may be under way while a session begins.
        self._beats: deque[Beats] = deque(maxlen=2)
        self._last: tuple[Beat, float] | None = None  # the last beat to send, and when
        self._verified = -BEAT_S  # when the last beat of a session came
        self._early: tuple[bytes, float] | None = None  # the last datagram that may be a beat of the next one, and when

    def beat(self, beat: Beat, now: float) -> bytes:
        """Return the datagram of a beat; without a session an offer of one, after which the beat is sent."""
        self._last = beat, now
        return self._beats[0].pack(beat, now) if self._beats else self._sealing.seal(b"", now)

    def message(self, message: CliqueMessage, now: float) -> bytes | None:
        """Return the datagram of a message; ``None``: it is too long, and the other side would drop it."""
        if isinstance(message, States) and message.states.get("spared"):
            nonce = self._random(_NONCE_BYTES)
            hidden = b85encode(nonce + self._crypt(nonce, b85decode(message.states["spared"]))).decode()
            message = message.model_copy(update={"states": message.states | {"spared": hidden}})
        content = bytes([_KINDS.index(type(message))]) + message.pack()
        return self._sealing.seal(content, now) if len(content) <= MOST_CONTENT_BYTES else None

    def take(self, data: bytes, now: float) -> Taken:
        """Take a datagram that names the other side's rank."""
        if len(data) == LENGTH:
            return self._take_beat(data, now)
        opened = self._sealing.open(data, now) if len(data) <= MOST_BYTES else None
        if opened is None:
            return Taken(refused="of a stranger", is_theirs=False)
        begun = self._begin(now) if opened.begins else Taken()
        answers = opened.answers + begun.answers
        if not opened.content:
            return Taken(begun.said, answers, refused="" if opened.is_fresh else "of no session")
        if opened.content[0] >= len(_KINDS):
            return Taken(begun.said, answers, refused="unknown kind")  # of a newer release
        try:
            message = unpack_json(_KINDS[opened.content[0]], opened.content[1:])
            if isinstance(message, States) and message.states.get("spared"):
                hidden = b85decode(message.states["spared"])
                content = self._crypt(hidden[:_NONCE_BYTES], hidden[_NONCE_BYTES:])
                message.states["spared"] = b85encode(content).decode()
        except (ProtocolError, ValueError, TypeError):
            return Taken(begun.said, answers, refused="malformed")
        return Taken((*begun.said, message), answers)

    def _crypt(self, nonce: bytes, content: bytes) -> bytes:
        """Encrypt what others may not read, or decrypt it; a nonce serves one content."""
        stream = hashlib.shake_256(self._party.key + nonce).digest(len(content))
        return bytes(a ^ b for a, b in zip(content, stream, strict=True))

    def _take_beat(self, data: bytes, now: float) -> Taken:
        for beats in self._beats:
            beat = beats.unpack(data, now)
            if beat == "repeated":
                return Taken(refused=beat)
            if isinstance(beat, Beat):
                self._verified = now
                return Taken((beat,))
        self._early = data, now
        return Taken(refused="of a stranger", is_theirs=False)

    def greeting(self, data: bytes, now: float) -> tuple[bytes, ...]:
        """Return an offer after a beat that may be of a session that this side lacks; none while others come."""
        is_due = len(data) == LENGTH and now - self._verified >= BEAT_S
        return self._sealing.greeting(now) if is_due else ()

    def _begin(self, now: float) -> Taken:
        """Begin the beats of a new session: send the last one anew, and take one that came before the session."""
        session, party = self._sealing.session, self._party
        assert session is not None
        own, theirs, since, is_utility = session.own, session.theirs, self._sealing.since, party.name == UTILITY
        beats = Beats(self._rank, party.key, own, theirs, party.microgrids, of_utility=is_utility, now=since)
        self._beats.appendleft(beats)
        beat, at = self._last or (None, 0.0)
        answers = () if beat is None or now - at > WAITS_S else (beats.pack(beat, now),)
        data, came = self._early or (b"", 0.0)
        early = self._take_beat(data, now) if data and now - came <= WAITS_S else Taken()
        return Taken(early.said, answers)
