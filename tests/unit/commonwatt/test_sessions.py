"""Sessions end by themselves, and their number is bounded."""

from commonwatt.identity.sessions import Sessions

IDLE_S, ABSOLUTE_S = 100.0, 1000.0


def sessions(most: int = 3) -> Sessions:
    return Sessions(idle_s=IDLE_S, absolute_s=ABSOLUTE_S, most=most)


def test_a_session_is_there_until_it_is_closed() -> None:
    made = sessions()
    one, two = made.open(0), made.open(0)
    assert len({one, two}) == 2
    assert len(one) == 43, "256 bits in base64url"
    assert (made.use(one, 1), made.use(two, 1)) == (True, True)
    made.close(one)
    made.close(one)
    assert (made.use(one, 2), made.use(two, 2)) == (False, True)


def test_a_session_that_is_not_used_ends() -> None:
    made = sessions()
    token = made.open(0)
    assert made.use(token, 99)
    assert made.use(token, 198)
    assert not made.use(token, 298)


def test_a_session_ends_however_much_it_is_used() -> None:
    made = sessions()
    token = made.open(0)
    used = [made.use(token, now) for now in range(50, 1001, 50)]
    assert used == [True] * 19 + [False]
    assert len(made) == 0


def test_the_session_used_longest_ago_makes_room() -> None:
    made = sessions(most=2)
    one, two = made.open(0), made.open(1)
    assert made.use(one, 2)
    three = made.open(3)
    assert [made.use(token, 4) for token in (one, two, three)] == [True, False, True]
    for _ in range(100):
        made.open(5)
    assert len(made) == 2


def test_a_made_up_token_is_no_session() -> None:
    made = sessions()
    made.open(0)
    assert [made.use(token, 0) for token in ("", "x", "\ud800", "x" * 10_000)] == [False] * 4
    made.clear()
    assert len(made) == 0
