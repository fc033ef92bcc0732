"""A utility that lags slows its gateways down, for as long as it lags and half an hour more."""

from itertools import pairwise

from commonwatt.model.units import EpochSeconds
from commonwatt.protocol.batches import SLOW_S, BatchAck, unpack_batch_ack
from utility.readings.ingest.overload import GOOD_S, LATE_FOR_S, Overload

START = 1_800_000_000


def play(overload: Overload, *phases: tuple[int, float], start: EpochSeconds = START) -> list[EpochSeconds]:
    """Let the oldest message have an age for some seconds, phase by phase; return when gateways were slowed down."""
    ages = [oldest_s for seconds, oldest_s in phases for _ in range(0, seconds, 5)]
    return [start + 5 * at for at, oldest_s in enumerate(ages) if overload.look(oldest_s, start + 5 * at)]


def test_gateways_are_slowed_down_after_five_minutes_above_a_minute() -> None:
    assert not play(Overload(), (LATE_FOR_S, 61), (60, 59), (LATE_FOR_S, 61))
    assert play(Overload(), (LATE_FOR_S + 5, 61)) == [START + LATE_FOR_S]


def test_it_ends_after_half_an_hour_below_ten_seconds_in_a_row() -> None:
    overload = Overload()
    told = play(overload, (900, 90), (600, 30), (SLOW_S - 300, 5), (10, GOOD_S), (SLOW_S + 300, 5), (600, 30))
    assert told[-1] == START + 900 + 600 + SLOW_S - 300 + 5
    assert max(later - earlier for earlier, later in pairwise(told)) <= SLOW_S
    assert not overload.lags(told[-1] + SLOW_S)


def test_a_clock_set_back_ends_it() -> None:
    overload = Overload()
    play(overload, (900, 90))
    assert overload.lags(START + 900)
    assert not overload.lags(START - 5_000)
    assert not overload.look(30, START - 5_000)


def test_an_acknowledgement_says_it_where_earlier_gateways_read_nothing() -> None:
    said = BatchAck(time=START, utility_store=1, store=2, sequence=3, slow_s=SLOW_S)
    assert unpack_batch_ack(said.pack()) == said
    silent = BatchAck(time=START, utility_store=1, store=2, sequence=3)
    assert [at for at, (a, b) in enumerate(zip(said.pack(), silent.pack(), strict=True)) if a != b and at < 48] == [
        6,
        7,
    ]
