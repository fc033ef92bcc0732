"""Who makes room at the door."""

from hypothesis import given
from hypothesis import strategies as st

from broker.admission.pending_connections import Crowd


def test_who_opens_many_connections_displaces_its_own() -> None:
    crowd: Crowd[str] = Crowd(limit=4)
    assert crowd.enter("meter", "10.0.0.1") is None
    turned_away = [crowd.enter(f"idle {n}", "10.0.0.66") for n in range(10)]
    assert turned_away == [None] * 3 + [(f"idle {n}", "10.0.0.66") for n in range(7)]
    assert len(crowd) == 4


def test_who_was_judged_makes_room() -> None:
    crowd: Crowd[str] = Crowd(limit=1)
    assert crowd.enter("first", "a") is None
    crowd.leave("first")
    crowd.leave("first")
    assert len(crowd) == 0
    assert crowd.enter("second", "a") is None


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 20), st.sampled_from("abc"))), st.integers(1, 5))
def test_there_are_never_more_than_the_limit(steps: list[tuple[bool, int, str]], limit: int) -> None:
    crowd: Crowd[int] = Crowd(limit)
    inside: set[int] = set()
    for enters, number, source in steps:
        if enters and number not in inside:
            inside.add(number)
            turned_away = crowd.enter(number, source)
            if turned_away is not None:
                inside.remove(turned_away[0])
        elif not enters:
            crowd.leave(number)
            inside.discard(number)
        assert len(crowd) == len(inside) <= limit
