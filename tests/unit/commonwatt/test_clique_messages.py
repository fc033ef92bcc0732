"""What controllers of a clique tell each other: sealed frames, datagrams, and real sockets."""

import asyncio
import socket
import time
from base64 import b85encode
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import Any
from unittest.mock import Mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from commonwatt.clique.beats import BEAT_S, FRESH_S, WIDTH, Beat, Bits, NumberWindow
from commonwatt.clique.datagrams import CliqueSocket
from commonwatt.clique.messages import (
    GREET_S,
    CliqueMessage,
    Datagrams,
    Party,
    Sealing,
    SendBeat,
    Session,
    States,
    Tell,
    Who,
)
from commonwatt.model.units import ControllerId
from commonwatt.protocol.topics import UTILITY
from harness.network.waiting import become, free_port

MEMBERS = ("r001", "r002", "r003")
RANKS = {"r001": 1, "r002": 2, UTILITY: 0}
WELL = Bits(frozenset({"r001", "r003"}), frozenset({"r003"}), commits=False, leaves=True)


def side(own: str, other: str) -> Datagrams:
    party = Party(group=0, name=other, rank=RANKS[other], address="", key=b"k" * 32, microgrids=MEMBERS)
    return Datagrams(RANKS[own], party)


class Two:
    """Two sides, and all that went between them; every datagram comes at once."""

    def __init__(self, other: str = "r002") -> None:
        self.now, self.names = 0.0, ("r001", other)
        self.sides = [side("r001", other), side(other, "r001")]
        self.recorded: list[tuple[int, bytes]] = []
        self.heard: tuple[list[Beat], list[Beat]] = ([], [])
        self.dead: int | None = None  # the side that takes nothing any more
        for to in (1, 0):
            self.beat(to)

    def beat(self, to: int, beat: Beat = Beat(WELL)) -> None:  # noqa: B008 - it is frozen
        self.post(to, [self.sides[1 - to].beat(beat, self.now)])

    def post(self, to: int, datagrams: Iterable[bytes]) -> None:
        for data in datagrams:
            self.recorded.append((to, data))
            self.said(to, data)

    def said(self, to: int, data: bytes) -> Sequence[Beat | CliqueMessage]:
        """Let a datagram come; its answers come, too."""
        if to == self.dead:
            return ()
        taken = self.sides[to].take(data, self.now)
        self.heard[to].extend(beat for beat in taken.said if isinstance(beat, Beat))
        self.post(1 - to, taken.answers if taken.is_theirs else self.sides[to].greeting(data, self.now))
        return taken.said

    def live(self, beats: int) -> None:
        """Let one side beat, and the other one answer."""
        for _ in range(beats):
            self.now += BEAT_S
            self.beat(1)
            self.beat(0, Beat(WELL, is_answer=True))

    def start(self, which: int) -> None:
        """Start a side anew, without anything of before."""
        own, other = self.names[which], self.names[1 - which]
        self.sides[which] = side(own, other)


def test_a_beat_has_ten_bytes_and_comes_as_it_was() -> None:
    two = Two(UTILITY)
    answer = Beat(is_answer=True, hears=frozenset({"r002"}))
    for to, beat in ((1, Beat(WELL)), (0, answer)):
        data = two.sides[1 - to].beat(beat, two.now)
        assert len(data) == 10
        for at in range(2, 10):
            assert two.said(to, data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]) == ()
        (came,) = two.said(to, data)
        assert isinstance(came, Beat)
        assert (came.bits, came.is_answer, came.hears, came.is_fresh) == (beat.bits, beat.is_answer, beat.hears, True)
        for short in (b"", data[:9], data[:1]):
            assert two.said(to, short) == ()


@pytest.mark.parametrize("restarted", [(), (0,), (1,), (0, 1)], ids=str)
@pytest.mark.parametrize("days", [0, 1])
def test_no_recorded_datagram_says_anything_at_any_later_time(restarted: tuple[int, ...], days: int) -> None:
    two = Two()
    two.post(1, [two.sides[0].message(Who(microgrid="r001"), two.now) or b""])
    two.live(20)
    recorded = list(two.recorded)
    two.live(int(days * 86_400 / BEAT_S))
    for which in restarted:
        two.start(which)
        two.live(2)
    two.dead = 0
    for data in (data for to, data in recorded if to == 1):
        two.now += BEAT_S
        assert two.said(1, data) == ()


@pytest.mark.parametrize("days", [0, 1])  # in a day the number on the wire begins again more than twice
@pytest.mark.parametrize("which", [0, 1])
def test_a_side_that_starts_with_nothing_after_days_is_heard_at_its_first_beat(days: int, which: int) -> None:
    two = Two()
    two.live(int(days * 86_400 / BEAT_S))
    two.now += GREET_S
    two.start(which)
    before = len(two.heard[1 - which])
    two.beat(1 - which)
    assert len(two.heard[1 - which]) == before + 1
    assert two.heard[1 - which][-1].is_fresh


def test_a_beat_that_never_came_proves_nothing_when_it_comes_later() -> None:
    two = Two()
    two.live(5)
    kept_back = [two.sides[0].beat(Beat(WELL), two.now) for _ in range(3)]
    (soon,) = two.said(1, kept_back[0])
    assert isinstance(soon, Beat)
    assert soon.is_fresh, "it was only late"
    two.now += FRESH_S + 0.1
    for data in kept_back[1:]:
        (late,) = two.said(1, data)
        assert isinstance(late, Beat)
        assert not late.is_fresh
    two.beat(0)
    two.beat(1)
    assert two.heard[1][-1].is_fresh, "after an answer its sender proves it"


def test_recordings_sent_without_end_silence_nobody() -> None:
    two = Two()
    two.live(3)
    for which in (0, 1):
        two.start(which)
        two.live(2)
    recorded = list(two.recorded)
    for _ in range(20):
        two.now += BEAT_S
        for to, data in recorded:
            two.said(to, data)
        before = [len(beats) for beats in two.heard]
        two.beat(1)
        two.beat(0, Beat(WELL, is_answer=True))
        assert [len(beats) for beats in two.heard] == [each + 1 for each in before]
        assert all(beats[-1].is_fresh for beats in two.heard)


def test_a_stranger_evokes_one_greeting_a_second_and_none_while_beats_come() -> None:
    two = Two()
    two.now += 60
    junk = bytes((0, 1)) + bytes(8)
    assert sum(len(two.sides[1].greeting(junk, two.now + at / 100)) for at in range(300)) == 3
    two.live(1)
    two.said(1, junk)
    assert two.recorded[-1][1] != junk
    assert two.sides[1].greeting(junk, two.now) == ()


@given(st.lists(st.integers(1, 400), max_size=80))
def test_each_number_counts_once_and_none_far_behind(numbers: list[int]) -> None:
    window, counted = NumberWindow(), set[int]()
    for number in numbers:
        is_due = number not in counted and number > max(counted, default=0) - WIDTH
        assert window.take(number) == is_due
        counted |= {number} if is_due else set()


def test_a_number_of_any_size_takes_no_memory() -> None:
    window = NumberWindow()
    assert window.take(2**63)
    assert not window.take(2**63)
    assert window.take(2**63 - 1)
    assert window._seen < 2**WIDTH


def test_places_that_must_not_be_cut_are_read_by_the_other_side_alone() -> None:
    two, spared = Two(), b85encode(bytes(7) + b"7" + bytes(7) + b"9").decode()
    said = States(microgrid="r001", now=5, states={"meters": "lossless", "spared": spared})
    first, second = (two.sides[1].message(said, two.now) or b"" for _ in range(2))
    assert b"lossless" in first
    assert spared.encode() not in first
    assert first.partition(b"spared")[2][:25] != second.partition(b"spared")[2][:25], "each has a nonce of its own"
    assert two.said(0, second) == (said,)
    wrong = said.model_copy(update={"states": {"spared": " "}}).pack()
    assert two.sides[0].take(two.sides[1]._sealing.seal(b"\x06" + wrong, two.now), two.now).refused == "malformed"


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


SEALING_KEY = bytes(range(32))


def pair() -> tuple[Sealing, Sealing]:
    return Sealing(1, SEALING_KEY), Sealing(2, SEALING_KEY)


def said(to: Sealing, frame: bytes) -> bytes:
    """Return what a frame says; nothing, if it is refused."""
    opened = to.open(frame, 0)
    return b"" if opened is None else opened.content


def acquainted() -> tuple[Sealing, Sealing]:
    """Return two sides in a session."""
    one, other = pair()
    opened = other.open(one.seal(b"first", 0), 0)
    assert opened is not None
    assert opened.content == b"", "it may be recorded, and only offers a session"
    greeted = one.open(opened.answers[0], 0)
    assert greeted is not None
    assert [said(other, again) for again in greeted.answers] == [b"first"]
    return one, other


def test_the_first_message_arrives_after_a_greeting() -> None:
    one, other = acquainted()
    assert said(other, one.seal(b"second", 0)) == b"second"
    assert said(one, other.seal(b"answer", 0)) == b"answer"


def test_a_recorded_frame_says_nothing_a_second_time_or_after_a_restart_of_either_side() -> None:
    one, other = acquainted()
    recorded = one.seal(b"yield", 0)
    assert said(other, recorded) == b"yield"
    assert said(other, recorded) == b""
    assert said(Sealing(2, SEALING_KEY), recorded) == b"", "the receiver started anew"
    again = Sealing(1, SEALING_KEY)
    greeting = other.open(again.seal(b"", 0), GREET_S)
    assert greeting is not None
    begun = again.open(greeting.answers[0], GREET_S)
    assert begun is not None
    assert begun.begins
    assert other.open(begun.answers[0], GREET_S) is not None
    assert other.session is not None
    assert said(other, recorded) == b"", "the sender did"


def test_a_changed_or_foreign_frame_is_refused() -> None:
    one, other = acquainted()
    frame = one.seal(b"grant", 0)
    for at in range(len(frame)):
        assert other.open(frame[:at] + bytes([frame[at] ^ 1]) + frame[at + 1 :], 0) is None
        assert other.open(frame[:at], 0) is None
    assert other.open(Sealing(1, bytes(32)).seal(b"grant", 0), 0) is None
    assert said(other, frame) == b"grant", "none of these spoiled it"


def test_old_messages_are_not_sent_again_after_a_greeting() -> None:
    one, other = pair()
    opened = other.open(one.seal(b"old", 0), 10)
    assert opened is not None
    greeted = one.open(opened.answers[0], 10)
    assert greeted is not None
    assert [said(other, answer) for answer in greeted.answers] == [b""]


def test_many_restarts_of_one_side_leave_no_recording_of_any_start_open() -> None:
    _, other = pair()
    recorded = []
    for n in range(20):
        one = Sealing(1, SEALING_KEY)
        frames = [one.seal(f"{n}".encode(), n)]
        while frames:
            opened = other.open(frames[0], n)
            recorded.append(frames[0])
            answers = () if opened is None else opened.answers
            greeted = [one.open(answer, n) for answer in answers]
            frames = [answer for each in greeted if each is not None for answer in each.answers]
        assert other.session is not None
        assert one.session == Session(other.session.theirs, other.session.own)
    assert [said(other, frame) for frame in recorded] == [b""] * len(recorded)


def test_a_late_frame_that_others_overtook_counts_and_counts_once() -> None:
    one, other = acquainted()
    late, newer = one.seal(b"late", 0), one.seal(b"newer", 0)
    assert [said(other, frame) for frame in (newer, late, late)] == [b"newer", b"late", b""]


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 9)), max_size=40))
def test_each_message_arrives_at_most_once_whatever_is_lost_repeated_or_late(course: list[tuple[bool, int]]) -> None:
    one, other = pair()
    frames: list[tuple[Sealing, bytes]] = []
    heard: list[bytes] = []
    for number, (sends, at) in enumerate(course):
        if sends or not frames:
            frames.append((other, one.seal(b"%d" % number, 0)))
            continue
        to, frame = frames[at % len(frames)]
        opened = to.open(frame, 0)
        if opened is not None:
            heard += [opened.content] if opened.content else []
            frames += [(one if to is other else other, answer) for answer in opened.answers]
    assert len(set(heard)) == len(heard)
