"""The utility at two head-ends: where a message to a gateway goes, and which silence is a fault."""

import asyncio
from typing import Any

import pytest

from commonwatt.config.utility import UtilitySettings
from commonwatt.model.effects import Publish
from commonwatt.protocol.topics import ACKS, BATCHES, PLANT, STATUS, gateway_down, gateway_up
from utility.assembly.head_ends import LINK_SILENT_S, LONGEST_SILENCE_S, WATCH_EVERY_S, HeadEnds

A, B = "127.0.0.1:1", "127.0.0.1:2"


class Ends:
    """Two head-ends, or one, on a virtual clock; what is sent is noted."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *addresses: str) -> None:
        self.heard: list[str] = []
        self.now = 1_000.0
        self.ends = HeadEnds(UtilitySettings(head_end=addresses), "token", lambda topic, _: self.heard.append(topic))
        self.sent: dict[str, list[str]] = {address: [] for address in addresses}
        monkeypatch.setattr(asyncio, "get_running_loop", lambda: self)
        for address, link in self.ends.links.items():
            link.connected = True
            publish: Any = lambda message, at=address: self.sent[at].append(message.topic)  # noqa: E731
            monkeypatch.setattr(link, "publish", publish)

    def time(self) -> float:
        return self.now

    def says(self, controller: str, at: str) -> None:
        self.ends._message(at, gateway_up(controller, BATCHES), b"")

    def receives(self, controller: str) -> set[str]:
        """Return the head-ends over which it is sent a message."""
        before = {at: len(sent) for at, sent in self.sent.items()}
        self.ends.publish(Publish(gateway_down(controller, ACKS), b""))
        return {at for at, sent in self.sent.items() if len(sent) > before[at]}

    def watch(self, for_s: float, **speaking: str) -> None:
        for _ in range(int(for_s / WATCH_EVERY_S)):
            self.now += WATCH_EVERY_S
            for controller, at in speaking.items():
                self.says(controller, at)
            self.ends.look(self.now)

    def restarts(self, at: str) -> int:
        return self.ends.links[at].restarts["silent"]


@pytest.fixture
def two(monkeypatch: pytest.MonkeyPatch) -> Ends:
    return Ends(monkeypatch, A, B)


def test_an_answer_goes_where_its_receiver_was_last_heard_and_else_everywhere(two: Ends) -> None:
    assert two.receives("r001") == {A, B}, "it was not heard yet"
    two.says("r001", A)
    two.says("r002", B)
    two.ends._message(B, gateway_up(PLANT, STATUS), b"")
    assert (two.receives("r001"), two.receives("r002"), two.receives(PLANT)) == ({A}, {B}, {B})
    two.says("r001", B)
    assert two.receives("r001") == {B}
    two.ends.links[B].connected = False
    assert two.receives("r001") == {A, B}, "it may come back over any; what is not connected drops it"
    assert two.heard == [gateway_up(name, leaf) for name, leaf in (
        ("r001", BATCHES), ("r002", BATCHES), (PLANT, STATUS), ("r001", BATCHES))]  # fmt: skip


def test_a_head_end_without_gateways_is_silent_by_right(two: Ends) -> None:
    two.says("r002", B)
    two.watch(3_600, r001=A, r002=B)
    assert (two.restarts(A), two.restarts(B)) == (0, 0)
    two.watch(3_600, r001=A, r002=A)
    assert (two.restarts(A), two.restarts(B)) == (0, 0)
    for _ in range(10):
        two.says(PLANT, B)
        two.watch(60, r001=A)
    assert (two.restarts(A), two.restarts(B)) == (0, 0), "the plant reports once a minute"


def test_a_head_end_at_which_all_gateways_fell_silent_is_connected_to_again_and_then_left_alone(two: Ends) -> None:
    two.watch(60, r001=A, r002=B)
    two.watch(LINK_SILENT_S + WATCH_EVERY_S, r001=A)
    assert (two.restarts(A), two.restarts(B)) == (0, 1)
    two.watch(3_600, r001=A)
    assert (two.restarts(A), two.restarts(B)) == (0, 1), "r002 is dead, or will be heard where it goes"
    assert two.receives("r002") == {A, B}
    two.watch(60, r001=A, r002=B)
    two.watch(LINK_SILENT_S + WATCH_EVERY_S, r001=A)
    assert two.restarts(B) == 2


def test_a_town_without_a_word_is_connected_to_again_at_both_later_and_later(two: Ends) -> None:
    two.watch(60, r001=A)
    two.watch(10 * LONGEST_SILENCE_S)
    assert 10 < two.restarts(A) < 20
    assert 10 < two.restarts(B) < 20


def test_a_connection_that_is_away_is_not_judged(two: Ends) -> None:
    two.watch(60, r001=A)
    two.ends.links[A].connected = False
    two.watch(600, r002=B)
    assert two.restarts(A) == 0
    assert two.ends.connected == {A: False, B: True}


def test_one_head_end_is_watched_as_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    one = Ends(monkeypatch, A)
    one.watch(LINK_SILENT_S + WATCH_EVERY_S)
    assert one.restarts(A) == 1
    one.watch(3 * LINK_SILENT_S)
    assert one.restarts(A) == 2
    one.ends.links[A].complaint = "refused"
    assert one.ends.complaint == "refused"


def test_reasons_of_two_have_their_address(two: Ends) -> None:
    two.ends.links[B].complaint = "refused"
    assert two.ends.complaint == f"{B}: refused"
    two.ends.links[A].complaint = "no answer in time"
    assert two.ends.complaint == f"{A}: no answer in time; {B}: refused"
