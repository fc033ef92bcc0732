"""Guesses of a password are few, from one address and from all; the owner is not locked out by others."""

from commonwatt.identity.throttle import (
    ALL_AT_ONCE,
    FIRST_WAIT_S,
    FORGIVEN_AFTER_S,
    FREE_GUESSES,
    KNOWN_FOR_S,
    LONGEST_WAIT_S,
    MAX_ADDRESSES,
    Throttle,
)

OWNER, GUESSER = "10.0.0.7", "10.0.0.66"


def guess_wrongly(throttle: Throttle, address: str, times: int, now: float = 0.0) -> list[float]:
    return [throttle.guess(address, now) for _ in range(times)]


def test_after_some_wrong_guesses_an_address_waits_longer_each_time() -> None:
    throttle = Throttle(0.0)
    assert guess_wrongly(throttle, GUESSER, FREE_GUESSES) == [0.0] * FREE_GUESSES
    now, waits = 0.0, []
    for _ in range(8):
        wait_s = throttle.guess(GUESSER, now)
        waits.append(wait_s)
        assert throttle.guess(GUESSER, now + wait_s - 1) > 0
        now += wait_s
        assert throttle.guess(GUESSER, now) == 0
    assert waits[:3] == [FIRST_WAIT_S, 2 * FIRST_WAIT_S, 4 * FIRST_WAIT_S]
    assert waits[-1] == LONGEST_WAIT_S


def test_another_address_does_not_wait_for_it() -> None:
    throttle = Throttle(0.0)
    guess_wrongly(throttle, GUESSER, 10)
    assert throttle.guess(OWNER, 0) == 0


def test_the_right_password_forgives_and_so_does_time() -> None:
    throttle = Throttle(0.0)
    guess_wrongly(throttle, OWNER, FREE_GUESSES)
    throttle.right(OWNER, 0)
    assert throttle.guess(OWNER, 1) == 0
    guess_wrongly(throttle, GUESSER, FREE_GUESSES + 1, 1000)
    assert throttle.guess(GUESSER, 1000 + FORGIVEN_AFTER_S) == 0
    assert throttle.guess(GUESSER, 1000 + FORGIVEN_AFTER_S) == 0


def test_many_addresses_have_ten_guesses_a_minute_together() -> None:
    throttle, taken = Throttle(0.0), 0
    for second in range(3600):
        taken += sum(throttle.guess(f"10.1.{second % 250}.{n}", second) == 0 for n in range(5))
    assert taken <= ALL_AT_ONCE + 3600 / 6 + 2
    assert taken >= 3600 / 6


def test_the_owner_gets_in_while_many_others_guess() -> None:
    throttle = Throttle(0.0)
    assert throttle.guess(OWNER, 0) == 0
    throttle.right(OWNER, 0)
    for second in range(1, 600):
        for n in range(3):
            throttle.guess(f"10.1.{second % 250}.{n}", second)
        if second % 60 == 0:
            assert throttle.guess("10.2.0.1", second) > 0, "a stranger waits"
            assert throttle.guess(OWNER, second) == 0
            throttle.right(OWNER, second)


def test_an_owner_of_long_ago_is_a_stranger() -> None:
    throttle = Throttle(0.0)
    throttle.right(OWNER, 0)
    later = KNOWN_FOR_S + 1
    for n in range(int(ALL_AT_ONCE) + 1):
        throttle.guess(f"10.1.0.{n}", later)
    assert throttle.guess(OWNER, later) > 0


def test_a_network_of_ipv6_is_one_address_and_mapped_ipv4_is_ipv4() -> None:
    throttle = Throttle(0.0)
    for n in range(FREE_GUESSES):
        assert throttle.guess(f"fd00:1:2:3::{n:x}", 0) == 0
    assert throttle.guess("fd00:1:2:3:ffff::1%eth0", 0) > 0
    assert throttle.guess("fd00:1:2:4::1", 0) == 0
    assert guess_wrongly(throttle, "10.0.0.9", FREE_GUESSES) == [0.0] * FREE_GUESSES
    assert throttle.guess("::ffff:10.0.0.9", 0) > 0


def test_no_more_addresses_are_remembered_than_stated() -> None:
    throttle = Throttle(0.0)
    for n in range(MAX_ADDRESSES + 50):
        throttle.guess(f"10.{n // 65536}.{n // 256 % 256}.{n % 256}", n * 60)
    assert len(throttle) == MAX_ADDRESSES


def test_a_client_without_an_address_is_throttled_too() -> None:
    throttle = Throttle(0.0)
    assert guess_wrongly(throttle, "", FREE_GUESSES + 1)[-1] > 0
