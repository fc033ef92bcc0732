"""Messages of a clique: beats and sealed messages in datagrams, and who manages a microgrid.

Sealed frames: messages of two controllers, or a controller and the utility, in datagrams (docs/controllers.md).
A frame is the sender's rank (2 bytes), a random number of each side, the sender's first (8 each), a number that rises
(4), the content, and an HMAC-SHA-256 of all that under the key of the two (16).

Two sides talk in a *session*, which the two random numbers name. Each side offers a number, for one session alone: a
frame that names it begins the session. A frame of no session is answered by an offer (a *greeting*, without content).
So a recorded frame opens nothing, also after a restart of either side.

Messages of the controllers of a clique and the utility about who manages a microgrid (docs/controllers.md).
All are JSON over authenticated connections. Each is repeated by its sender as long as it matters, so that none needs an
acknowledgement of its own.
"""

import hashlib
import hmac
import secrets
from base64 import b85decode, b85encode
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field

from commonwatt.clique.beats import BEAT_S, LENGTH, Beat, Beats, NumberWindow
from commonwatt.model.exceptions import ProtocolError
from commonwatt.model.units import ControllerId, MicrogridId
from commonwatt.protocol.commands import Epoch
from commonwatt.protocol.json_messages import Message, Moment, unpack_json
from commonwatt.protocol.topics import UTILITY

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
        self._number, self._came = 0, NumberWindow()
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
            self.session, self.since, self._came = Session(own, theirs), self._offered, NumberWindow()
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


Nonce = Annotated[int, Field(ge=0, lt=2**32)]


class Who(Message):
    """Who manages a microgrid? The answer is ``Known``."""

    microgrid: MicrogridId


class Known(Message):
    """What a controller, or the utility, knows of a microgrid."""

    microgrid: MicrogridId
    highest: Epoch  # the highest epoch that it knows to be granted; (0, 0): none
    manages: bool = False  # whether the sender manages under it
    doubts: bool = False  # whether it voted that the manager is lost, and so can't confirm an epoch
    meters: Annotated[int, Field(ge=0)] = 0  # how many of the microgrid's meters are connected to the sender


class Ask(Message):
    """Is a manager lost? Asked of the third member of the clique, before a claim."""

    microgrid: MicrogridId
    lost: Epoch  # the epoch of the manager believed lost
    nonce: Nonce  # the claim's number, repeated in the answer


class Vote(Message):
    """The answer to ``Ask``."""

    microgrid: MicrogridId
    nonce: Nonce
    saw: Literal["alive", "lost", "nothing"]  # nothing: it never heard that manager, and can't judge
    highest: Epoch  # the highest epoch that the voter knows


class Yield(Message):
    """The manager gives a microgrid to a controller that comes before it, under the epoch that it names."""

    microgrid: MicrogridId
    epoch: Epoch


class Grant(Message):
    """The utility grants a microgrid to a controller."""

    microgrid: MicrogridId
    epoch: Epoch  # the epoch that is granted
    replaces: Epoch  # the epoch that it replaces; a controller that knows a higher one refuses


MOST_STATES_BYTES = 1_000  # of the states as JSON, so that a message fits into a datagram


class States(Message):
    """What the utility has set for a microgrid: from its manager to those that may take it over."""

    microgrid: MicrogridId
    now: Moment  # the sender's time, beside which the ends in ``states`` stand
    states: dict[str, Any]  # the states, as gateways keep them; at most ``MOST_STATES_BYTES``


CliqueMessage = Who | Known | Ask | Vote | Yield | Grant | States


@dataclass(frozen=True)
class Tell:
    """Send a message to a member of the clique, or to the utility; it may be lost."""

    to: ControllerId
    message: CliqueMessage


@dataclass(frozen=True)
class SendBeat:
    """Send a datagram: a beat, its answer or a probe; it may be lost."""

    to: ControllerId
    beat: Beat


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
class TakenDatagram:
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

    def take(self, data: bytes, now: float) -> TakenDatagram:
        """Take a datagram that names the other side's rank."""
        if len(data) == LENGTH:
            return self._take_beat(data, now)
        opened = self._sealing.open(data, now) if len(data) <= MOST_BYTES else None
        if opened is None:
            return TakenDatagram(refused="of a stranger", is_theirs=False)
        begun = self._begin(now) if opened.begins else TakenDatagram()
        answers = opened.answers + begun.answers
        if not opened.content:
            return TakenDatagram(begun.said, answers, refused="" if opened.is_fresh else "of no session")
        if opened.content[0] >= len(_KINDS):
            return TakenDatagram(begun.said, answers, refused="unknown kind")  # of a newer release
        try:
            message = unpack_json(_KINDS[opened.content[0]], opened.content[1:])
            if isinstance(message, States) and message.states.get("spared"):
                hidden = b85decode(message.states["spared"])
                content = self._crypt(hidden[:_NONCE_BYTES], hidden[_NONCE_BYTES:])
                message.states["spared"] = b85encode(content).decode()
        except (ProtocolError, ValueError, TypeError):
            return TakenDatagram(begun.said, answers, refused="malformed")
        return TakenDatagram((*begun.said, message), answers)

    def _crypt(self, nonce: bytes, content: bytes) -> bytes:
        """Encrypt what others may not read, or decrypt it; a nonce serves one content."""
        stream = hashlib.shake_256(self._party.key + nonce).digest(len(content))
        return bytes(a ^ b for a, b in zip(content, stream, strict=True))

    def _take_beat(self, data: bytes, now: float) -> TakenDatagram:
        for beats in self._beats:
            beat = beats.unpack(data, now)
            if beat == "repeated":
                return TakenDatagram(refused=beat)
            if isinstance(beat, Beat):
                self._verified = now
                return TakenDatagram((beat,))
        self._early = data, now
        return TakenDatagram(refused="of a stranger", is_theirs=False)

    def greeting(self, data: bytes, now: float) -> tuple[bytes, ...]:
        """Return an offer after a beat that may be of a session that this side lacks; none while others come."""
        is_due = len(data) == LENGTH and now - self._verified >= BEAT_S
        return self._sealing.greeting(now) if is_due else ()

    def _begin(self, now: float) -> TakenDatagram:
        """Begin the beats of a new session: send the last one anew, and take one that came before the session."""
        session, party = self._sealing.session, self._party
        assert session is not None
        own, theirs, since, is_utility = session.own, session.theirs, self._sealing.since, party.name == UTILITY
        beats = Beats(self._rank, party.key, own, theirs, party.microgrids, of_utility=is_utility, now=since)
        self._beats.appendleft(beats)
        beat, at = self._last or (None, 0.0)
        answers = () if beat is None or now - at > WAITS_S else (beats.pack(beat, now),)
        data, came = self._early or (b"", 0.0)
        early = self._take_beat(data, now) if data and now - came <= WAITS_S else TakenDatagram()
        return TakenDatagram(early.said, answers)
