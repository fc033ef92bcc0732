"""Which pending connection makes room."""

from hypothesis import given
from hypothesis import strategies as st

from broker.admission.pending_connections import PendingConnections


def test_who_opens_many_connections_displaces_its_own() -> None:
    pending: PendingConnections[str] = PendingConnections(limit=4)
    assert pending.enter("meter", "10.0.0.1") is None
    turned_away = [pending.enter(f"idle {n}", "10.0.0.66") for n in range(10)]
    assert turned_away == [None] * 3 + [(f"idle {n}", "10.0.0.66") for n in range(7)]
    assert len(pending) == 4


def test_who_was_judged_makes_room() -> None:
    pending: PendingConnections[str] = PendingConnections(limit=1)
    assert pending.enter("first", "a") is None
    pending.leave("first")
    pending.leave("first")
    assert len(pending) == 0
    assert pending.enter("second", "a") is None


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 20), st.sampled_from("abc"))), st.integers(1, 5))
def test_there_are_never_more_than_the_limit(steps: list[tuple[bool, int, str]], limit: int) -> None:
    pending: PendingConnections[int] = PendingConnections(limit)
    inside: set[int] = set()
    for enters, number, source in steps:
        if enters and number not in inside:
            inside.add(number)
            turned_away = pending.enter(number, source)
            if turned_away is not None:
                inside.remove(turned_away[0])
        elif not enters:
            pending.leave(number)
            inside.discard(number)
        assert len(pending) == len(inside) <= limit
