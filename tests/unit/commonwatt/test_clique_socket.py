"""The datagrams of a clique on real sockets: beats and messages arrive, a stranger's are counted and dropped."""

import asyncio
import socket
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any
from unittest.mock import Mock

import pytest

from commonwatt.cliques.signs import BEAT_S, Beat, Bits
from commonwatt.model.units import ControllerId
from commonwatt.network.clique_socket import CliqueSocket
from commonwatt.protocol.clique_datagrams import Datagrams, Party
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


def played(play: Callable[[End, End], Coroutine[Any, Any, None]], key: bytes = b"k" * 32) -> None:
    """Let two controllers play, the second one with a key."""
    here, there = free_port(), free_port()
    both = End("r001", 1, here, "r002", 2, there, b"k" * 32), End("r002", 2, there, "r001", 1, here, key)

    async def run() -> None:
        for end in both:
            await end.socket.open(f"127.0.0.1:{end.port}")
        await play(*both)
        for end in both:
            end.socket.close()

    asyncio.run(run())


def test_a_beat_and_a_message_arrive_and_are_weighed() -> None:
    async def play(one: End, other: End) -> None:
        bits = Bits(able=frozenset({"r001", "r003"}), manages=frozenset({"r001"}))
        one.socket.send(0, SendBeat("r002", Beat(bits)))
        one.socket.send(0, Tell("r002", Who(microgrid="r001")))
        await become(lambda: len(other.beats) == len(other.messages) == 1)
        group, name, beat = other.beats[0]
        assert (group, name, beat.bits, beat.number, beat.is_fresh) == (0, "r001", bits, 1, True)
        assert other.messages == [(0, "r001", Who(microgrid="r001"))]
        sent = one.socket.byte_count.sent
        one.socket.send(0, SendBeat("r002", Beat(bits)))
        assert one.socket.byte_count.sent - sent == 38, "10 bytes, with 28 of IP and UDP"
        one.socket.send(0, Tell("r002", Who(microgrid="r001")))
        assert one.socket.byte_count.sent - sent == 38 + 28 + 38 + 1 + len(Who(microgrid="r001").pack())

    played(play)


def test_datagrams_of_strangers_are_counted_and_dropped() -> None:
    async def play(one: End, other: End) -> None:
        one.socket.send(0, SendBeat("r002", Beat()))
        one.socket.send(0, Tell("r002", Who(microgrid="r001")))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
            for junk in (b"", b"\x00", b"\x00\x01" + bytes(60_000)):
                stranger.sendto(junk, ("127.0.0.1", other.port))
        await become(lambda: other.socket.refused["of a stranger"] == 5)
        assert (other.beats, other.messages) == ([], [])

    played(play, b"x" * 32)


def test_a_message_that_the_other_side_would_drop_is_counted_and_not_sent() -> None:
    async def play(one: End, other: End) -> None:
        one.socket.send(0, Tell("r002", States(microgrid="r001", now=1, states={"x": "y" * 1_200})))
        assert (one.socket.refused, one.socket.byte_count.sent) == ({"too long to send": 1}, 0)

    played(play)


def test_beats_that_wait_are_all_taken_in_one_turn_of_a_busy_loop() -> None:
    async def play(one: End, other: End) -> None:
        one.socket.send(0, SendBeat("r002", Beat()))
        await become(lambda: len(other.beats) == 1)
        for _ in range(100):
            one.socket.send(0, SendBeat("r002", Beat()))
        await become(lambda: len(other.beats) > 1)
        assert len(other.beats) == 101

    played(play)


KEY = b"k" * 32
HERE, THERE, ELSEWHERE = ("127.0.0.1", 9_001), ("127.0.0.1", 9_002), ("127.0.0.1", 9_003)


class Machines:
    """A controller's socket before the two machines of the utility, of which one answers; the wire is a list."""

    def __init__(self) -> None:
        self.now = 0.0
        self.answers: tuple[str, int] | None = None
        self.got: Counter[object] = Counter()
        addresses = [f"{host}:{port}" for host, port in (HERE, THERE)]
        party = Party(
            group=0, name="utility", rank=0, address=addresses[0], further=addresses[1:], key=KEY, microgrids=GRIDS
        )
        self.end = CliqueSocket("r001", 1, [party], lambda *_: None, lambda *_: None, lambda: self.now)

        of = Party(group=0, name="r001", rank=1, address="", key=KEY, microgrids=GRIDS)
        self.utility = Datagrams(0, of)

    async def open(self, monkeypatch: pytest.MonkeyPatch) -> None:
        await self.end.open("127.0.0.1:0")
        wire = Mock(wraps=self.end._transport)
        wire.sendto = self.sent
        monkeypatch.setattr(self.end, "_transport", wire)

        self.beat(HERE)  # both sides agree on a session
        self.answers = None

    def sent(self, data: bytes, to: tuple[str, int]) -> None:
        """Let a datagram come to one of the machines."""
        self.got.update([to])
        if to == self.answers:
            for answer in self.utility.take(data, self.now).answers:
                self.end.datagram_received(answer, to)

    def beat(self, answers: tuple[str, int] | None) -> None:
        """Send a beat, which one machine answers, or none."""
        self.answers = answers
        before = self.got[answers]
        self.end.send(0, SendBeat("utility", Beat()))
        if answers is not None and self.got[answers] > before:
            self.answer(answers)

    def answer(self, source: object) -> None:
        self.end.datagram_received(self.utility.beat(Beat(is_answer=True), self.now), source)

    def beats(self, count: int) -> tuple[int, int]:
        """Send beats, 3.3 s apart, and return how many each machine got."""
        self.got.clear()
        for _ in range(count):
            self.now += BEAT_S + 0.001
            self.beat(self.answers)
        return self.got[HERE], self.got[THERE]


def test_beats_go_to_the_utility_that_answers_every_tenth_to_the_other_and_all_to_both_without_an_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def play() -> None:
        utility = Machines()
        await utility.open(monkeypatch)
        utility.now += 3 * BEAT_S
        assert utility.beats(5) == (5, 5), "none has answered for long"
        utility.answers = HERE
        assert utility.beats(1) == (1, 1)
        assert utility.beats(64) == (64, 7)
        sent = utility.end.byte_count.sent
        utility.end.send(0, Tell("utility", Who(microgrid="r001")))
        assert utility.end.byte_count.sent - sent == 28 + 38 + 1 + len(Who(microgrid="r001").pack()), "to one"
        utility.answers = THERE
        assert utility.beats(1) == (1, 0), "an answer may be lost"
        assert utility.beats(1) == (1, 1)
        assert utility.beats(100) == (10, 100)
        utility.answers = None
        assert utility.beats(13) == (12, 13)
        utility.end.close()

    asyncio.run(play())


def test_a_month_of_beats_to_two_machines_is_33_megabytes(monkeypatch: pytest.MonkeyPatch) -> None:
    async def play() -> None:
        utility = Machines()
        await utility.open(monkeypatch)
        utility.answers = HERE
        utility.beats(20)
        before = utility.end.byte_count
        utility.beats(1_000)
        month = 30 * 86_400 / BEAT_S / 1_000
        up = (utility.end.byte_count.sent - before.sent) * month
        down = (utility.end.byte_count.received - before.received) * month
        assert (round(up / 1e6, 1), round(down / 1e6, 1)) == (32.8, 29.8)
        utility.end.close()

    asyncio.run(play())


def test_a_datagram_from_elsewhere_with_the_key_is_the_utilitys_and_leads_no_beat_away(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def play() -> None:
        utility = Machines()
        await utility.open(monkeypatch)
        utility.now += 3 * BEAT_S
        utility.answer(ELSEWHERE)
        assert utility.beats(1) == (1, 1)
        assert utility.end.refused == {}
        utility.end.close()

    asyncio.run(play())
