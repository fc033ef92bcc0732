"""The datagrams of one controller, or of the utility: beats and sealed messages, to and from the others of its groups.

Everything goes by UDP, also claims, grants and yields: each is repeated by its sender as long as it matters, a lost one
is as good as a late one, and no half-open connection has to be noticed (docs/controllers.md, R7).

The utility may have two addresses, of two machines of which one answers. That one gets what is sent to the utility, the
other one every tenth beat, and both get everything while none answers.
"""

import asyncio
import logging
import socket
from collections import Counter
from collections.abc import Callable, Sequence

from commonwatt.clique.beats import BEAT_S, Beat, rank_of
from commonwatt.clique.messages import CliqueMessage, Datagrams, Party, SendBeat, TakenDatagram, Tell
from commonwatt.model.units import ByteCount, ControllerId
from commonwatt.network.addresses import split_address

log = logging.getLogger(__name__)

DATAGRAM_SILENT_S = 2 * BEAT_S  # seconds without a datagram after which all of another one's addresses get everything
TO_ALL_EVERY = 10  # of so many beats one goes to all of another one's addresses
MOST_AT_ONCE = 500  # datagrams taken in one turn of the loop

_LARGEST = 65_535
_IPV4_BYTES, _IPV6_BYTES, _UDP_BYTES = 20, 40, 8


class CliqueSocket(asyncio.DatagramProtocol):
    """The socket.

    Args:
        beat: Takes a beat: of which group, of whom.
        message: Takes a message, likewise.
        time: Returns the time of a clock that never goes back, seconds.
    """

    def __init__(
        self,
        own: ControllerId,
        rank: int,
        parties: Sequence[Party],
        beat: Callable[[int, ControllerId, Beat], None],
        message: Callable[[int, ControllerId, CliqueMessage], None],
        time: Callable[[], float],
    ) -> None:
        self.refused: Counter[str] = Counter()  # datagrams that were dropped, by reason
        self.byte_count = ByteCount(0, 0)  # IP bytes sent and received
        self._own, self._time = own, time
        self._beat, self._message = beat, message
        self._parties = {(party.group, party.name): party for party in parties}
        self._by_rank: dict[int, list[Party]] = {}
        for party in parties:
            self._by_rank.setdefault(party.rank, []).append(party)
        self._datagrams = {key: Datagrams(rank, party) for key, party in self._parties.items()}
        self._to: dict[tuple[int, ControllerId], list[tuple[object, ...]]] = {}
        # Of those with further addresses: which one sent a datagram last, and when; the number of beats sent.
        self._answers: dict[tuple[int, ControllerId], tuple[tuple[object, ...], float]] = {}
        self._beats: Counter[tuple[int, ControllerId]] = Counter()
        self._transport: asyncio.DatagramTransport | None = None

    async def open(self, listen: str) -> None:
        """Receive on an address, and find those of the others.

        Raises:
            OSError: The address is in use, or no address of this machine.
        """
        loop = asyncio.get_running_loop()
        own = split_address(listen)
        (family, kind, protocol, _, address), *_ = await loop.getaddrinfo(*own, type=socket.SOCK_DGRAM)
        self._socket = socket.socket(family, kind, protocol)
        self._socket.setblocking(False)
        try:
            self._socket.bind(address)
        except OSError:
            self._socket.close()
            raise
        self._transport, _ = await loop.create_datagram_endpoint(lambda: self, sock=self._socket)
        for key, party in self._parties.items():
            for one in (party.address, *party.further):
                host, port = split_address(one)
                try:
                    found = await loop.getaddrinfo(host, port, family=family, type=socket.SOCK_DGRAM)
                    self._to.setdefault(key, []).append(found[0][4])
                except OSError as error:
                    log.error("%s of %s is unknown (%s): it gets no beats", one, party.name, error)

    def close(self) -> None:
        """Receive and send no more."""
        if self._transport is not None:
            self._transport.close()

    def send(self, group: int, effect: Tell | SendBeat) -> None:
        """Send a beat or a message."""
        key, now = (group, effect.to), self._time()
        datagrams = self._datagrams.get(key)
        if datagrams is None:
            return
        if isinstance(effect, SendBeat):
            self._beats[key] += 1
            self._send(key, datagrams.beat(effect.beat, now), to_all=self._beats[key] % TO_ALL_EVERY == 0)
        elif (frame := datagrams.message(effect.message, now)) is not None:
            self._send(key, frame)
        else:
            self.refused["too long to send"] += 1

    def _send(
        self,
        key: tuple[int, ControllerId],
        data: bytes,
        *,
        to_all: bool = False,
        only: Sequence[tuple[object, ...]] = (),
    ) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        every = self._to.get(key, [])
        answers, heard = self._answers.get(key, ((), 0.0))
        one_answers = answers in every and self._time() - heard <= DATAGRAM_SILENT_S
        for address in only or (every if to_all or not one_answers else [answers]):
            self._transport.sendto(data, address)
            self.byte_count += ByteCount(len(data) + self._head_bytes, 0)

    @property
    def _head_bytes(self) -> int:
        assert self._transport is not None
        is_ipv6 = self._transport.get_extra_info("socket").family == socket.AF_INET6
        return (_IPV6_BYTES if is_ipv6 else _IPV4_BYTES) + _UDP_BYTES

    # asyncio.DatagramProtocol

    def datagram_received(self, data: bytes, addr: object) -> None:
        """Handle a datagram and those that wait behind it; what is of none of the others is counted and dropped."""
        self._take(data, addr)
        # asyncio reads one in a turn of its loop. A busy loop's turn is long, and the others would be late, or dropped.
        for _ in range(MOST_AT_ONCE):
            if self._transport is None or self._transport.is_closing():
                return
            try:
                more, addr = self._socket.recvfrom(_LARGEST)
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                self.error_received(error)
                return
            self._take(more, addr)

    def _take(self, data: bytes, source: object) -> None:
        self.byte_count += ByteCount(0, len(data) + self._head_bytes)
        now, parties = self._time(), self._by_rank.get(rank_of(data), ())
        for party in parties:
            taken = self._datagrams[party.group, party.name].take(data, now)
            if taken.is_theirs:
                self._pass_on(party, taken, source)
                return
        self.refused["of a stranger"] += 1
        for party in parties:
            for answer in self._datagrams[party.group, party.name].greeting(data, now):
                self._send((party.group, party.name), answer)

    def error_received(self, exc: Exception) -> None:
        """Count what the network refused; the other side's machine may be off."""
        self.refused[type(exc).__name__] += 1

    def _pass_on(self, party: Party, taken: TakenDatagram, source: object) -> None:
        key = (party.group, party.name)
        known = [address for address in self._to.get(key, []) if address == source]
        if known and not taken.refused:  # a recorded datagram does not say which of several addresses answers
            self._answers[key] = known[0], self._time()
        for answer in taken.answers:
            self._send(key, answer, only=known)
        if taken.refused:
            self.refused[taken.refused] += 1
        for said in taken.said:
            if isinstance(said, Beat):
                self._beat(*key, said)
            else:
                self._message(*key, said)
