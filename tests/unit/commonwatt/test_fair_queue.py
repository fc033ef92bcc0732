"""The queue that serves its senders in turn: none starves, none fills it."""

from collections import defaultdict

from hypothesis import given
from hypothesis import strategies as st

from commonwatt.runtime.fair_queue import QUANTUM, FairQueue

PLENTY = 10**9


def queue(max_items: int = 1000, max_bytes: int = PLENTY) -> FairQueue[str, tuple[str, int]]:
    return FairQueue(max_items=max_items, max_bytes=max_bytes)


def drain(full: FairQueue[str, tuple[str, int]]) -> list[tuple[str, int]]:
    taken = []
    while group := full.take(items=1, work=PLENTY, size=PLENTY):
        taken += group
    return taken


def test_a_flooder_waits_behind_itself_and_delays_others_by_one_turn() -> None:
    fair = queue()
    for n in range(500):
        fair.put("flooder", ("flooder", n), work=QUANTUM, size=1)
    fair.put("honest", ("honest", 0), work=10, size=1)
    assert drain(fair).index(("honest", 0)) <= 1


def test_an_empty_queue_keeps_no_credit() -> None:
    fair = queue()
    for n in range(100):
        fair.put("rare", ("rare", n), work=1, size=1)
        assert fair.take(items=1, work=PLENTY, size=PLENTY) == [("rare", n)]
    for n in range(10):
        fair.put("rare", ("rare", n), work=QUANTUM, size=1)
        fair.put("other", ("other", n), work=QUANTUM, size=1)
    order = [sender for sender, _ in drain(fair)]
    assert order == ["rare", "other"] * 10


def test_a_full_queue_drops_the_newest_of_who_has_most_in_it() -> None:
    fair = queue(max_items=10)
    for n in range(30):
        fair.put("flooder", ("flooder", n), work=1, size=100)
    for n in range(3):
        fair.put("honest", ("honest", n), work=1, size=100)
    assert fair.overflowed == 23
    assert len(fair) == 10
    assert sorted(drain(fair)) == sorted([("flooder", n) for n in range(7)] + [("honest", n) for n in range(3)])


def test_a_sender_of_many_tiny_items_does_not_push_out_the_large_one_of_another() -> None:
    fair = queue(max_items=10)
    fair.put("honest", ("honest", 0), work=1, size=1000)
    for n in range(30):
        fair.put("flooder", ("flooder", n), work=1, size=0)
    assert fair.overflowed == 21
    assert sorted(drain(fair)) == [*(("flooder", n) for n in range(9)), ("honest", 0)]


def test_a_group_ends_at_each_of_its_limits_and_has_at_least_one() -> None:
    fair = queue()
    for n in range(9):
        fair.put("a", ("a", n), work=100, size=50)
    assert len(fair.take(items=2, work=PLENTY, size=PLENTY)) == 2
    assert len(fair.take(items=9, work=150, size=PLENTY)) == 2
    assert len(fair.take(items=9, work=PLENTY, size=1)) == 1
    assert len(fair) == 4
    fair.clear()
    assert (len(fair), fair.size, fair.take(items=1, work=1, size=1)) == (0, 0, [])


def test_a_group_of_one_turn_each_has_no_more_of_a_flooder_than_of_the_others() -> None:
    fair = queue()
    for n in range(50):
        fair.put("flooder", ("flooder", n), work=QUANTUM, size=1)
    for name in ("first", "second"):
        fair.put(name, (name, 0), work=10, size=1)
    group = fair.take(items=64, work=PLENTY, size=PLENTY, one_turn_each=True)
    assert group == [("flooder", 0), ("first", 0), ("second", 0)]
    alone = fair.take(items=64, work=PLENTY, size=PLENTY, one_turn_each=True)
    assert alone == [("flooder", 1)]


@given(
    st.lists(st.tuples(st.sampled_from("abcd"), st.integers(0, 5 * QUANTUM)), max_size=60),
    st.integers(1, 9),
)
def test_no_sender_gets_more_than_a_turn_in_a_group_and_all_are_served(items: list[tuple[str, int]], most: int) -> None:
    fair = queue()
    work_of = dict(enumerate(work for _, work in items))
    for n, (sender, work) in enumerate(items):
        fair.put(sender, (sender, n), work=work, size=1)
    left = len(items)
    while group := fair.take(items=most, work=PLENTY, size=PLENTY, one_turn_each=True):
        left -= len(group)
        for name in "abcd":
            own = sum(work_of[n] for sender, n in group if sender == name)
            # What a turn adds, and what is kept of former ones: less than the item that it did not cover.
            assert own < QUANTUM + max(work_of.values(), default=0) + 1
    assert left == 0


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.integers(0, 5 * QUANTUM), st.integers(0, 300)), max_size=60))
def test_nothing_is_lost_doubled_or_overtaken_by_the_same_sender(items: list[tuple[str, int, int]]) -> None:
    fair = queue()
    sent: dict[str, list[int]] = defaultdict(list)
    for n, (sender, work, size) in enumerate(items):
        fair.put(sender, (sender, n), work=work, size=size)
        sent[sender].append(n)
    assert fair.size == sum(size for _, _, size in items)
    got: dict[str, list[int]] = defaultdict(list)
    for sender, n in drain(fair):
        got[sender].append(n)
    assert got == sent
    assert (len(fair), fair.size) == (0, 0)


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.integers(0, 90)), max_size=60), st.integers(1, 20))
def test_the_queue_never_holds_more_than_its_bounds(items: list[tuple[str, int]], most: int) -> None:
    fair = queue(max_items=most, max_bytes=300)
    for n, (sender, size) in enumerate(items):
        fair.put(sender, (sender, n), work=1, size=size)
        assert len(fair) <= most
        assert fair.size <= 300
    assert len(fair) + fair.overflowed == len(items)


def test_senders_that_are_passed_over_keep_their_items_and_get_their_turn_later() -> None:
    fair = queue()
    for n in range(3):
        fair.put("held", ("held", n), work=QUANTUM, size=1)
        fair.put("urgent", ("urgent", n), work=QUANTUM // 2, size=1)
    urgent = fair.take(items=2, work=PLENTY, size=PLENTY, only=lambda name: name == "urgent")
    assert urgent == [("urgent", 0), ("urgent", 1)]
    assert fair.take(items=9, work=PLENTY, size=PLENTY, only=lambda _: False) == []
    assert set(fair.owners()) == {"held", "urgent"}
    rest = drain(fair)
    assert [item for item in rest if item[0] == "held"] == [("held", n) for n in range(3)]
    assert ("urgent", 2) in rest
    assert fair.size == len(fair) == 0


def test_within_an_owner_turns_go_by_sender_and_a_flood_in_its_name_delays_its_own_controller_by_one_item() -> None:
    fair = queue()
    for n in range(300):
        fair.put("owner", ("stolen", n), work=QUANTUM // 2, size=1, sender="stolen")
    for n in range(3):
        fair.put("owner", ("own", n), work=QUANTUM // 2, size=1, sender="own")
        fair.put("other", ("other", n), work=QUANTUM // 2, size=1, sender="other")
    first = [name for name, _ in drain(fair)[:11]]
    assert (first.count("own"), first.count("other")) == (3, 3)


def test_senders_of_an_owner_share_its_turns_by_work_and_one_that_was_away_has_saved_up_nothing() -> None:
    fair = queue()
    for n in range(60):
        fair.put("owner", ("light", n), work=100, size=1, sender="light")
        if n < 20:
            fair.put("owner", ("heavy", n), work=300, size=1, sender="heavy")
    first = [name for name, _ in fair.take(items=40, work=PLENTY, size=PLENTY)]
    assert (first.count("light"), first.count("heavy")) == (30, 10)
    for n in range(20):
        fair.put("owner", ("late", n), work=100, size=1, sender="late")
    following = [name for name, _ in fair.take(items=7, work=PLENTY, size=PLENTY)]
    assert (following.count("late"), following.count("light"), following.count("heavy")) == (3, 3, 1)


def test_a_flood_in_an_owners_name_pushes_out_itself_and_not_the_owners_own_messages() -> None:
    fair = queue(max_items=10)
    for n in range(3):
        fair.put("owner", ("own", n), work=1, size=100, sender="own")
        fair.put("other", ("other", n), work=1, size=100, sender="other")
    for n in range(30):
        fair.put("owner", ("stolen", n), work=1, size=100, sender="stolen")
    assert fair.overflowed == 26
    assert sorted(drain(fair)) == sorted(
        [(name, n) for name in ("own", "other") for n in range(3)] + [("stolen", n) for n in range(4)]
    )


SIZED = st.lists(
    st.tuples(st.sampled_from("abc"), st.integers(1, 5), st.integers(1, QUANTUM)), min_size=30, max_size=90
)


@given(SIZED, st.sampled_from([1.0, 2.0, 3.0]))
def test_owners_with_a_backlog_are_served_by_their_weights_within_a_turn_and_an_item(
    items: list[tuple[str, int, int]], public: float
) -> None:
    weights = {"a": public, "b": 1.0, "c": 1.0}
    fair: FairQueue[str, tuple[str, int]] = FairQueue(
        max_items=1000, max_bytes=PLENTY, weight=lambda name: weights[name]
    )
    left: dict[str, int] = defaultdict(int)
    for owner, sender, work in items:
        fair.put(owner, (owner, work), work=work, size=1, sender=sender)
        left[owner] += 1
    done: dict[str, float] = defaultdict(float)
    while all(left[name] for name in "abc") and (group := fair.take(items=1, work=PLENTY, size=PLENTY)):
        ((owner, work),) = group
        done[owner] += work / weights[owner]
        left[owner] -= 1
        # A turn, and what is kept of it: less than an item.
        assert max(done[name] for name in "abc") - min(done[name] for name in "abc") <= 3 * QUANTUM


@given(SIZED)
def test_nobody_within_an_owner_is_ahead_of_another_with_items_by_more_than_an_item(
    items: list[tuple[str, int, int]],
) -> None:
    fair: FairQueue[str, tuple[int, int]] = FairQueue(max_items=1000, max_bytes=PLENTY)
    left: dict[int, int] = defaultdict(int)
    for _, sender, work in items:
        fair.put("owner", (sender, work), work=work, size=1, sender=sender)
        left[sender] += 1
    done: dict[int, int] = dict.fromkeys(left, 0)
    while all(left.values()) and (group := fair.take(items=1, work=PLENTY, size=PLENTY)):
        ((sender, work),) = group
        done[sender] += work
        left[sender] -= 1
        assert max(done.values()) - min(done.values()) <= QUANTUM
