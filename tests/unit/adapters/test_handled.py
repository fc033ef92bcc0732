"""Messages that a broker sends again are distinguished from other messages by DUP, packet id and checksum."""

import pytest

from adapters.arrived import Arrived
from adapters.handled import MOST_IN_FLIGHT, Handled


def message(number: int, payload: bytes = b"20", *, dup: bool = False, qos: int = 1, session: int = 0) -> Arrived:
    return Arrived("p", payload, False, 0, qos=qos, number=number, session=session, dup=dup)


@pytest.mark.parametrize("qos", [1, 2])
def test_a_handled_message_that_comes_again_is_known_also_after_a_crash(qos: int) -> None:
    handled = Handled()
    assert not handled.take(message(7, qos=qos))
    assert handled.take(message(7, qos=qos, dup=True))
    handled = Handled(handled.pack())
    assert handled.take(message(7, qos=qos, dup=True))
    assert handled.take(message(7, qos=qos, dup=True)), "each time, until the broker has the acknowledgement"


@pytest.mark.parametrize(
    "other",
    [
        message(7, b"21", dup=True),
        message(7)._replace(topic="q", dup=True),
        message(8, dup=True),
        message(7),
        message(7, dup=True, session=1),
        message(7, dup=True, qos=0),
    ],
    ids=["another payload", "another topic", "another packet id", "no DUP", "another session", "QoS 0"],
)
def test_another_message_is_taken(other: Arrived) -> None:
    handled = Handled()
    handled.take(message(7))
    assert not handled.take(other)


def test_a_packet_id_that_is_used_again_stands_for_the_newer_message() -> None:
    handled = Handled()
    handled.take(message(7, b"20"))
    handled.take(message(7, b"21"))
    assert not Handled(handled.pack()).take(message(7, b"20", dup=True))
    assert Handled(handled.pack()).take(message(7, b"21", dup=True))


def test_messages_of_a_session_that_the_broker_lost_are_not_remembered() -> None:
    handled = Handled()
    handled.take(message(7))
    handled.begin(1)
    assert not handled.pack()
    assert not handled.take(message(8))  # It was waiting, and the broker has forgotten it.
    assert not handled.take(message(8, dup=True, session=1))


def test_all_that_a_broker_may_have_in_flight_is_remembered_in_a_page_of_the_store() -> None:
    handled = Handled()
    for number in range(10_000):
        handled.take(message(number))
    stored = handled.pack()
    assert len(stored) < 4000
    in_flight = range(10_000 - MOST_IN_FLIGHT, 10_000)
    for _ in range(2):  # The connection is lost again before the broker has the acknowledgements.
        assert all(handled.take(message(number, dup=True)) for number in in_flight)
    assert len(handled.pack()) == len(stored)
