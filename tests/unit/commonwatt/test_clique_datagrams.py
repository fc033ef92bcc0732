"""The datagrams of two sides: each counts once, and a beat proves that its sender lives now, whatever was recorded."""

from base64 import b85encode
from collections.abc import Iterable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from commonwatt.cliques.datagrams import FRESH_S
from commonwatt.cliques.signs import BEAT_S, Beat, Bits
from commonwatt.cliques.window import WIDTH, Window
from commonwatt.protocol.clique_datagrams import Datagrams, Party
from commonwatt.protocol.clique_messages import CliqueMessage, States, Who
from commonwatt.protocol.sealed import GREET_S
from commonwatt.protocol.topics import UTILITY

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
    window, counted = Window(), set[int]()
    for number in numbers:
        is_due = number not in counted and number > max(counted, default=0) - WIDTH
        assert window.take(number) == is_due
        counted |= {number} if is_due else set()


def test_a_number_of_any_size_takes_no_memory() -> None:
    window = Window()
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
