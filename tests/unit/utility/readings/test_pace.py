"""A gateway's dead letters come into the utility's queue at a bounded rate, with time as a literal."""

from utility.readings.ingest.pace import BURST, MAX_WAITING, MAX_WAITING_OF_ALL, PER_S, Pace

NOW = 1000.0


def test_what_has_no_dead_letters_never_waits() -> None:
    pace = Pace()
    assert {pace.wait_s("a", 0, NOW) for _ in range(10_000)} == {0.0}


def test_a_gateway_with_a_few_thousand_waits_seconds_and_loses_nothing() -> None:
    pace = Pace()
    waits = [pace.wait_s("a", 500, NOW) for _ in range(4)]  # the most that an honest gateway has on their way
    assert waits == [0.0, 0.0, 500 / PER_S, 1000 / PER_S]


def test_a_flood_passes_at_the_rate_and_the_rest_is_dropped() -> None:
    pace = Pace()
    waits = [pace.wait_s("a", 200, NOW + n / 100) for n in range(10_000)]
    passed = 200 * sum(wait_s is not None for wait_s in waits)
    assert BURST < passed <= BURST + PER_S * 100 * 2 + MAX_WAITING * 200


def test_a_flood_delays_no_other_gateway() -> None:
    pace = Pace()
    for n in range(1000):
        pace.wait_s("a", 200, NOW + n / 100)
    assert pace.wait_s("b", 200, NOW + 10) == 0.0


def test_many_floods_together_hold_a_bounded_number_of_batches() -> None:
    pace = Pace()
    waits = [pace.wait_s(f"g{n % 801}", BURST, NOW) for n in range(801 * 20)]
    assert sum(bool(wait_s) for wait_s in waits) == MAX_WAITING_OF_ALL
    assert pace.wait_s("g0", 1, NOW + 60) == 0.0, "once they are gone, it takes more"
