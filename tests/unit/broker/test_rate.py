"""What a client may send, as a property: never more than rate and burst allow, never less."""

from hypothesis import given
from hypothesis import strategies as st

from broker.embedded.broker import BURST_S, PACKET_BYTES, Allowance
from commonwatt.runtime.bucket import Bucket

STEPS = st.lists(
    st.tuples(
        st.floats(0, 100, allow_nan=False, allow_subnormal=False).filter(lambda s: s == 0 or s > 1e-3),
        st.integers(1, 200),
    ),
    max_size=60,
)


@given(st.integers(1, 1000), STEPS)
def test_a_client_that_waits_as_told_sends_at_its_rate_in_the_long_run(
    rate: int, steps: list[tuple[float, int]]
) -> None:
    bucket = Bucket(rate, 50, 50, at=0.0)
    now = 0.0
    taken = 0
    for pause_s, amount in steps:
        now += pause_s
        wait_s = bucket.take(amount, now)
        assert 0 <= wait_s <= amount / rate + 1e-6
        now += wait_s
        taken += amount
        # One amount may be overdrawn before it is waited for, so none is ever refused for its size.
        assert taken <= 50 + rate * now + 1e-3


def test_within_rate_and_burst_nobody_waits() -> None:
    allowance = Allowance(10, now=1000.0)
    assert [allowance.take(1, 20, 1000.0) for _ in range(int(10 * BURST_S))] == [0.0] * int(10 * BURST_S)
    assert allowance.take(1, 20, 1000.0) == 0.1
    assert allowance.take(1, 20, 1000.2) == 0.0


def test_bytes_are_bounded_as_packets_are() -> None:
    allowance = Allowance(10, now=0.0)
    burst = int(10 * PACKET_BYTES * BURST_S)
    assert allowance.take(1, burst, 0.0) == 0.0
    assert allowance.take(1, 10 * PACKET_BYTES, 0.0) == 1.0


def test_a_clock_that_does_not_go_on_gives_nothing() -> None:
    bucket = Bucket(10, 10, 10, at=5.0)
    assert bucket.take(10, 5.0) == 0.0
    assert bucket.take(1, 4.0) == 0.1


def test_who_takes_on_without_waiting_is_kept_waiting_no_longer_than_a_burst_takes() -> None:
    allowance = Allowance(10, now=0.0)
    assert max(allowance.take(20, 100, now=0.0) for _ in range(10_000)) == BURST_S
    assert allowance.take(1, 20, now=BURST_S) == 0.1
