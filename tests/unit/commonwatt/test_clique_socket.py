"""The datagrams of a clique on real sockets: beats and messages arrive, a stranger's are counted and dropped."""

import asyncio
import socket
import time

from commonwatt.cliques.signs import Beat, Bits
from commonwatt.model.units import ControllerId
from commonwatt.network.clique_socket import CliqueSocket, Party
from commonwatt.protocol.clique_messages import CliqueMessage, SendBeat, States, Tell, Who
from harness.network.waiting import become, free_port

GRIDS = ("r001", "r002", "r003")


class End:
    """One controller's socket."""

    def __init__(self, own: str, rank: int, port: int, other: str, of: int, other_port: int, key: bytes) -> None:
        self.beats: list[tuple[int, ControllerId, Beat]] = []
        self.messages: list[tuple[int, ControllerId, CliqueMessage]] = []
        self.port = port
        party = Party(group=0, name=other, rank=of, address=f"127.0.0.1:{other_port}", key=key, microgrids=GRIDS)
        self.socket = CliqueSocket(
            own,
            rank,
            [party],
            lambda *beat: self.beats.append(beat),
            lambda *message: self.messages.append(message),
            time.monotonic,
        )


def ends(keys: tuple[bytes, bytes]) -> tuple[End, End]:
    one, other = free_port(), free_port()
    return End("r001", 1, one, "r002", 2, other, keys[0]), End("r002", 2, other, "r001", 1, one, keys[1])


async def opened(*both: End) -> None:
    for end in both:
        await end.socket.open(f"127.0.0.1:{end.port}")


def test_a_beat_and_a_message_arrive_and_are_weighed() -> None:
    async def play() -> None:
        one, other = ends((b"k" * 32, b"k" * 32))
        await opened(one, other)
        bits = Bits(able=frozenset({"r001", "r003"}), manages=frozenset({"r001"}))
        one.socket.send(0, SendBeat("r002", Beat(bits, 7)))
        one.socket.send(0, Tell("r002", Who(microgrid="r001")))
        await become(lambda: len(other.beats) == len(other.messages) == 1)
        assert other.beats == [(0, "r001", Beat(bits, 7))]
        assert other.messages == [(0, "r001", Who(microgrid="r001"))]
        # A beat is 10 bytes, with 28 of IP and UDP; the first message is sent twice, with a greeting in between.
        assert one.socket.byte_count.sent == 38 + 2 * (28 + 38 + 1 + len(Who(microgrid="r001").pack()))
        assert other.socket.byte_count.sent == 28 + 38
        one.socket.close()
        other.socket.close()

    asyncio.run(play())


def test_datagrams_of_strangers_are_counted_and_dropped() -> None:
    async def play() -> None:
        one, other = ends((b"k" * 32, b"x" * 32))
        await opened(one, other)
        one.socket.send(0, SendBeat("r002", Beat(number=1)))
        one.socket.send(0, Tell("r002", Who(microgrid="r001")))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
            for junk in (b"", b"\x00", b"\x00\x01" + bytes(60_000)):
                stranger.sendto(junk, ("127.0.0.1", other.port))
        await become(lambda: other.socket.refused["of a stranger"] == 5)
        assert (other.beats, other.messages) == ([], [])
        one.socket.close()
        other.socket.close()

    asyncio.run(play())


def test_a_message_that_the_other_side_would_drop_is_counted_and_not_sent() -> None:
    async def play() -> None:
        one, other = ends((b"k" * 32, b"k" * 32))
        await opened(one, other)
        one.socket.send(0, Tell("r002", States(microgrid="r001", now=1, states={"x": "y" * 1_200})))
        assert (one.socket.refused, one.socket.byte_count.sent) == ({"too long to send": 1}, 0)
        one.socket.close()
        other.socket.close()

    asyncio.run(play())


def test_beats_that_wait_are_all_taken_in_one_turn_of_a_busy_loop() -> None:
    async def play() -> None:
        one, other = ends((b"k" * 32, b"k" * 32))
        await opened(one, other)
        for number in range(100):
            one.socket.send(0, SendBeat("r002", Beat(number=number)))
        await become(lambda: other.beats)
        assert len(other.beats) == 100
        one.socket.close()
        other.socket.close()

    asyncio.run(play())
