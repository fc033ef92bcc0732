"""Guessing of passwords is slow, from one address and from many, and a person can still log in from home."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from commonwatt.identity.guesses import AT_PERSON, BY_ADDRESS, BY_OWN_ADDRESS, Guesses

DAY_S = 86_400.0
HOME = "192.0.2.7"


def addresses(count: int) -> list[str]:
    return [f"198.51.{n // 250}.{n % 250}" for n in range(count)]


def allowed(guesses: Guesses, name: str, address: str, now: float) -> bool:
    return guesses.guess(name, address, now) == 0


def test_an_address_that_guesses_at_many_people_is_slowed_down() -> None:
    guesses = Guesses()
    counted = sum(allowed(guesses, f"p{n}", HOME, float(n)) for n in range(3600))
    assert counted <= BY_ADDRESS.at_once + 3600 / BY_ADDRESS.each_s + 1


def test_many_addresses_together_get_few_guesses_at_a_person_in_a_day() -> None:
    guesses = Guesses()
    counted = sum(
        allowed(guesses, "admin", address, now) for now in range(0, 86_400, 600) for address in addresses(500)
    )
    assert counted <= AT_PERSON.at_once + DAY_S / AT_PERSON.each_s + 1 == 117


def test_the_owner_logs_in_from_home_while_others_guess() -> None:
    guesses = Guesses()
    assert allowed(guesses, "ann", HOME, 0.0)
    guesses.right("ann", HOME, 0.0)
    for address in addresses(500):
        guesses.guess("ann", address, 10.0)
    for _ in range(50):  # guesses from the same address at another person
        guesses.guess("ben", HOME, 10.0)
    assert not allowed(guesses, "ann", "203.0.113.9", 10.0)
    assert allowed(guesses, "ann", HOME, 10.0)


def test_a_flood_of_refused_guesses_frees_no_person(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("commonwatt.identity.guesses.MAX_KEPT", 200)
    guesses = Guesses()
    assert sum(allowed(guesses, "admin", address, 0.0) for address in addresses(30)) == AT_PERSON.at_once
    for n in range(1000):
        guesses.guess(f"p{n}", HOME, 0.0)
    assert not allowed(guesses, "admin", "203.0.113.9", 0.0)


def test_guesses_at_many_people_from_many_addresses_free_nobody_who_was_guessed_at_often(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("commonwatt.identity.guesses.MAX_KEPT", 200)
    guesses = Guesses()
    for address in addresses(30):
        guesses.guess("admin", address, 0.0)
    assert all(allowed(guesses, f"p{n}", address, 0.0) for n, address in enumerate(addresses(1000)))
    assert not allowed(guesses, "admin", "203.0.113.9", 0.0)


def test_home_may_be_wrong_a_few_times_only() -> None:
    guesses = Guesses()
    guesses.right("ann", HOME, 0.0)
    counted = sum(allowed(guesses, "ann", HOME, 1.0) for _ in range(100))
    assert counted == BY_OWN_ADDRESS.at_once


def test_logging_in_oneself_gives_no_guesses_at_others() -> None:
    guesses, counted = Guesses(), 0
    for _ in range(200):
        if allowed(guesses, "mallory", HOME, 0.0):
            guesses.right("mallory", HOME, 0.0)
        counted += allowed(guesses, "admin", HOME, 0.0)
    assert counted == BY_ADDRESS.at_once


def test_a_thousand_people_behind_one_address_log_in_at_once() -> None:
    guesses = Guesses()
    for n in range(1000):
        assert allowed(guesses, f"p{n}", HOME, 0.0)
        guesses.right(f"p{n}", HOME, 0.0)


@given(st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from("xyz"), st.floats(0, 500)), max_size=60))
def test_a_refusal_says_when_a_guess_is_allowed(asked: list[tuple[str, str, float]]) -> None:
    guesses, now = Guesses(), 0.0
    for name, address, later in asked:
        now += later
        if wait_s := guesses.guess(name, address, now):
            now += wait_s + 0.001
            assert allowed(guesses, name, address, now)
