"""Sealed frames: what two controllers tell each other arrives at most once, unchanged, and never from a recording."""

from hypothesis import given
from hypothesis import strategies as st

from commonwatt.protocol.sealed import GREET_S, Sealing, Session

KEY = bytes(range(32))


def pair() -> tuple[Sealing, Sealing]:
    return Sealing(1, KEY), Sealing(2, KEY)


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
    assert said(Sealing(2, KEY), recorded) == b"", "the receiver started anew"
    again = Sealing(1, KEY)
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
        one = Sealing(1, KEY)
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
