"""The numbers that look like a register, and no more."""

import json

import pytest

from adapters.discovery.registers import MAX_NUMBERS, registers_in
from adapters.recordings import Recorded


def learned(*payloads: bytes | str) -> list[tuple[str, ...]]:
    messages = [Recorded(n, "t", p if isinstance(p, bytes) else p.encode()) for n, p in enumerate(payloads)]
    return [tuple(map(str, found)) for found in registers_in(messages)[0]]


def test_a_number_that_never_fell_is_listed_with_its_first_and_last_value() -> None:
    payloads = [json.dumps({"a": {"kwh": 10 + n, "power": 5 - n, "still": 7}, "b": -3}) for n in range(4)]
    assert learned(*payloads) == [("t", "a.kwh", "10", "13"), ("t", "a.still", "7", "7")]


@pytest.mark.parametrize(
    ("payload", "path"),
    [
        ("5.5", ""),
        ("1,2", "1"),
        ('[{"n": "e", "u": "Wh", "v": 5}]', "e Wh"),
        ("/x\r\n1-0:1.8.0(5*kWh)", "1-0:1.8.0"),
    ],
)
def test_numbers_of_every_format_are_seen(payload: str, path: str) -> None:
    assert learned(payload)[0][1] == path


def test_broken_messages_are_passed_over() -> None:
    assert learned(b"", b"\xff", b"{", b"[1,2", b"/", b"[" * 5000, b"x" * 70_000, b"NaN", b'{"a":{"a":null}}') == []


def test_numbers_are_bounded() -> None:
    messages = (Recorded(n, f"t/{n}", b"1") for n in range(MAX_NUMBERS + 10))
    found, left_out = registers_in(messages)
    assert (len(found), left_out) == (MAX_NUMBERS, 10)
