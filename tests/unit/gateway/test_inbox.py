"""What waits for the gateway's core: what goes into a transaction, and what finds no room."""

from collections import deque

import pytest

from gateway import inbox as module
from gateway.core import RETRY
from gateway.inbox import MAX_GROUP, MAX_GROUP_BYTES, Event, Inbox, take_group


def test_a_transaction_takes_so_many_messages_and_so_many_bytes_in_order() -> None:
    small: deque[Event] = deque([("tick", (str(n),)) for n in range(MAX_GROUP + 1)])
    assert take_group(small) == [("tick", (str(n),)) for n in range(MAX_GROUP)]
    assert list(small) == [("tick", (str(MAX_GROUP),))]
    large: deque[Event] = deque([("from_meter", ("topic", bytes(MAX_GROUP_BYTES // 2 - 1)))] * 4)
    assert [len(take_group(large)), len(take_group(large)), len(take_group(large))] == [3, 1, 0]


def test_what_waits_is_bounded_in_bytes_and_a_tick_finds_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_WAITING_BYTES", 100)
    inbox = Inbox()
    for _ in range(3):
        inbox.put("from_meter", "cw1/r001/1/u/rec", bytes(50))
    inbox.put("tick", RETRY)
    assert inbox.overflowed == 1
    assert [what for what, _ in inbox.take()] == ["from_meter", "from_meter", "tick"]
    inbox.put("from_meter", "cw1/r001/1/u/rec", bytes(100))
    assert inbox.overflowed == 1
    assert len(inbox.take()) == 1


def test_what_waits_is_bounded_in_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_WAITING", 2)
    inbox = Inbox()
    for job in ("first", "second", "third"):
        inbox.put("tick", job)
    assert inbox.overflowed == 1
    assert inbox.take() == [("tick", ("first",)), ("tick", ("second",))]
    assert inbox.take() == []
