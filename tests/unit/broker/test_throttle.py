"""The log that nobody can fill."""

import logging

import pytest

from broker.admission.log_throttle import MAX_TOLD_APART, ThrottledLog


class Telling:
    """Lines logged at times of a test's choice."""

    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.WARNING)
        self.time = 0.0
        self.log = ThrottledLog(logging.getLogger(__name__), lambda: self.time)
        self._caplog = caplog

    def tell(self, who: str | None = "17", reason: str = "refused: token") -> None:
        self.log.tell(who, reason, f"{reason}, {None if who is None else who[:10]}")

    def lines(self) -> list[str]:
        lines = [record.getMessage() for record in self._caplog.records]
        self._caplog.clear()
        return lines


@pytest.fixture
def telling(caplog: pytest.LogCaptureFixture) -> Telling:
    return Telling(caplog)


def test_a_client_refused_in_a_loop_gets_a_line_a_minute(telling: Telling) -> None:
    for _ in range(6_218):
        telling.tell()
        telling.time += 59 / 6_218
    assert telling.lines() == ["refused: token, 17"]
    telling.time = 60.0
    telling.tell()
    assert telling.lines() == ["refused: token, 17 ... and 6217 more"]
    telling.tell()
    assert telling.lines() == []


def test_each_identity_and_each_reason_is_told_at_once(telling: Telling) -> None:
    for who in ("17", "18", None, "17"):
        telling.tell(who)
        telling.tell(who, "refused: will")
    assert len(telling.lines()) == 6


def test_invented_identities_fill_neither_memory_nor_log(telling: Telling) -> None:
    for number in range(5 * MAX_TOLD_APART):
        telling.tell(f"{number}" + "x" * 4_000)
    assert len(telling.lines()) == len(telling.log) == MAX_TOLD_APART + 1
    telling.time = 61.0
    telling.tell("another")
    assert telling.lines() == [f"refused: token ... and {4 * MAX_TOLD_APART - 1} more", "refused: token, another"]
    assert len(telling.log) == 1
