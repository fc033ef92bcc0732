"""Which epochs a meter takes: a thief's steps and raises are bounded, a lawful manager comes nearer in steps (R4)."""

from hypothesis import given
from hypothesis import strategies as st

from commonwatt.device.commands.epoch_guard import FIRST_BELOW, EpochGuard
from commonwatt.protocol.commands import EPOCH_STEP, RAISES, RAISES_WITHIN_S, Epoch

EPOCHS = st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 2**16 - 1))


def test_a_meter_without_an_epoch_takes_any_counter_below_the_limit() -> None:
    assert EpochGuard().why_not((FIRST_BELOW - 1, 3), 0) is None
    assert EpochGuard().why_not((FIRST_BELOW, 3), 0) == "counter 2147483648 is not below 2147483648"


def test_a_larger_step_is_refused_and_a_lawful_manager_comes_nearer_in_steps() -> None:
    guard = EpochGuard((5, 2))
    assert guard.why_not((5 + EPOCH_STEP + 1, 1), 0) == "counter 65542 is more than 65536 above 5"
    for counter in (5 + EPOCH_STEP, 5 + 2 * EPOCH_STEP):
        assert guard.why_not((counter, 1), 0) is None
        guard.take((counter, 1), 0)
    assert guard.epoch == (5 + 2 * EPOCH_STEP, 1)


def test_the_same_counter_of_a_higher_rank_is_a_raise_and_of_a_lower_rank_is_seen() -> None:
    guard = EpochGuard((5, 2))
    assert guard.why_not((5, 3), 0) is None
    assert guard.why_not((5, 2), 0) is None
    assert guard.why_not((5, 1), 0) == "epoch [5, 2] was seen"


@given(tries=st.lists(st.tuples(EPOCHS, st.floats(0, 20_000)), max_size=40), first=EPOCHS)
def test_an_epoch_never_falls_and_never_rises_by_more_than_a_step(
    tries: list[tuple[Epoch, float]], first: Epoch
) -> None:
    guard, now = EpochGuard(first), 0.0
    for epoch, later in tries:
        now += later
        before = guard.epoch
        if guard.why_not(epoch, now) is None:
            guard.take(epoch, now)
            assert guard.epoch == epoch
            assert before <= epoch
            assert before == (0, 0) or epoch[0] - before[0] <= EPOCH_STEP
        else:
            assert guard.epoch == before


@given(times=st.lists(st.floats(0, 3_000), min_size=RAISES, max_size=3 * RAISES))
def test_no_rank_raises_more_than_a_hundred_times_within_any_day(times: list[float]) -> None:
    guard, now, taken = EpochGuard((1, 1)), 0.0, list[float]()
    for later in times:
        now += later
        epoch = (guard.epoch[0] + 1, 7)
        if guard.why_not(epoch, now) is None:
            guard.take(epoch, now)
            taken.append(now)
    assert all(taken[n] - taken[n - RAISES] >= RAISES_WITHIN_S for n in range(RAISES, len(taken)))
