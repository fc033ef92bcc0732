"""A connection that is up and silent is told from one that has nothing to say."""

import pytest

from commonwatt.silence import Silence


def test_a_connection_over_which_nothing_was_expected_is_left_alone() -> None:
    silence = Silence(30, 3600)
    assert not silence.too_long(1e9)


def test_an_answer_that_does_not_come_is_noticed_once_and_then_later_and_later() -> None:
    silence = Silence(30, 100)
    now = 0.0
    waited = []
    for _ in range(4):
        silence.expected(now)
        silence.expected(now + 1)  # another question does not begin the wait anew
        begun = now
        while not silence.too_long(now):
            now += 1
        waited.append(now - begun)
        assert not silence.too_long(now)
    assert waited == [30, 60, 100, 100]
    silence.heard(now)
    silence.expected(now)
    assert silence.too_long(now + 30)


def test_whatever_comes_ends_the_wait() -> None:
    silence = Silence(30, 3600)
    silence.expected(0)
    silence.heard(29)
    assert not silence.too_long(60)
    assert silence.quiet_s(60) == 31
    assert Silence(30, 3600).quiet_s(0) == pytest.approx(float("inf"))


def test_nothing_is_expected_of_a_connection_that_is_gone() -> None:
    silence = Silence(30, 3600)
    silence.expected(0)
    silence.gone()
    assert not silence.too_long(60)
