"""Which broker carries a meter's data, and from which it obeys commands (R13), with time as a literal."""

import pytest

from commonwatt.device.brokers import ABSENT_S, JITTER_S, LONGEST_STABLE_S, STABLE_S, Brokers, Installed
from commonwatt.model.records import Log

T = 1_000.0
NAMES = ("r001", "r002", "r003", "r004")
INSTALLED = [Installed(name=name, rank=n + 1, warm=name == "r003") for n, name in enumerate(NAMES)]
METER = 0  # no jitter


def brokers(clique: tuple[str, ...] = (), order: tuple[str, ...] = ()) -> Brokers:
    it = Brokers(METER, INSTALLED, clique, order)
    assert it._jitter_s == 0
    return it


def away(it: Brokers, at: float = T) -> None:
    """Miss two acknowledgements."""
    assert not it.missed(Log.HISTORY, at)
    assert it.missed(Log.HISTORY, at + 30)


def test_two_missed_acknowledgements_of_one_log_lead_to_the_next_of_three_brokers() -> None:
    it = brokers()
    seen = [it.data]
    for _ in range(3):
        away(it)
        seen.append(it.data)
    assert seen == ["r001", "r002", "r003", "r001"], "r004 is not among the first three"


def test_an_answer_between_two_misses_and_misses_of_both_logs_once_lead_nowhere() -> None:
    it = brokers()
    assert not it.missed(Log.HISTORY, T)
    assert not it.missed(Log.EVENT, T)
    it.answered("r001")
    assert not it.missed(Log.HISTORY, T)
    assert it.data == "r001"


def test_one_broker_is_never_left() -> None:
    it = Brokers(METER, INSTALLED[:1])
    assert not any(it.missed(Log.HISTORY, T + n) for n in range(9))
    assert it.sessions == {"r001"}
    assert it.wake_at is None


def test_data_goes_back_after_the_first_broker_was_reachable_for_a_minute_without_a_break() -> None:
    it = brokers()
    it.connected("r002", T)
    away(it)
    assert it.sessions == {"r001", "r002", "r003"}, "the first one is tried; r003 is warm"
    it.connected("r001", T + 100)
    it.lost("r001", T + 120)
    assert not it.tick(T + 149)
    it.connected("r001", T + 150)
    assert it.wake_at == T + 150 + STABLE_S
    assert not it.tick(T + 150 + STABLE_S - 1)
    assert it.tick(T + 150 + STABLE_S)
    assert it.data == "r001"


def test_data_leaves_a_broker_with_which_there_is_no_session_for_a_while() -> None:
    it = brokers()
    for name in ("r001", "r003"):
        it.connected(name, T)
    it.lost("r001", T)
    it.connected("r001", T + 5)
    assert not it.tick(T + 5 + ABSENT_S), "it is back"
    it.lost("r001", T + 100)
    assert it.wake_at == T + 100 + ABSENT_S
    assert not it.tick(T + 99 + ABSENT_S)
    assert it.tick(T + 100 + ABSENT_S)
    assert it.data == "r002"
    assert it.tick(T + 100 + 2 * ABSENT_S)
    assert it.data == "r003", "r002 is not reached either"
    assert not it.tick(T + 999)


def test_meters_go_back_at_different_times() -> None:
    waits = {Brokers(meter, INSTALLED)._jitter_s for meter in range(10_001, 10_304)}
    assert waits == set(range(JITTER_S))


def test_a_broker_whose_gateway_is_dead_is_tried_after_longer_and_longer() -> None:
    it, now = brokers(), T
    for name in NAMES[:3]:
        it.connected(name, now)
    waits = []
    for _ in range(10):
        away(it, now)
        assert it.wake_at is not None
        waits.append(it.wake_at - now - 30)
        now = it.wake_at
        assert it.tick(now)
    assert waits == [60, 120, 240, 480, 960, 1920, 3840, 7680, LONGEST_STABLE_S, LONGEST_STABLE_S]
    it.answered("r001")
    away(it, now)
    assert it.wake_at == now + 30 + STABLE_S, "it answered"


def test_data_that_waits_for_a_session_is_sent_when_it_begins_and_only_then() -> None:
    it = brokers()
    away(it)
    assert not it.connected("r003", T + 31)
    assert it.connected("r002", T + 32)
    assert not it.connected("r002", T + 33)


def test_another_order_leads_away_at_once_only_if_the_present_broker_is_not_in_it() -> None:
    it = brokers()
    assert it.set_order(("r004", "r002", "r003", "r001"), T), "r001 is the fourth"
    assert it.data == "r004"
    assert not it.set_order(("r002", "r004"), T)
    assert it.data == "r004"
    assert it.sessions == set(NAMES), "home too"
    it.connected("r002", T)
    assert it.tick(T + STABLE_S)
    assert it.data == "r002"


def test_an_order_of_an_earlier_installation_is_used_as_far_as_it_is_installed() -> None:
    assert brokers(order=("r009", "r002")).order == ("r002",)
    assert brokers(order=("r009",)).order == NAMES


def test_commands_are_obeyed_from_the_clique_under_the_rank_of_each_broker() -> None:
    it = brokers(clique=("r001", "r002"))
    assert it.why_not("r002", (9, 2)) is None
    assert it.why_not("r002", (9, 1)) == "commands from r002 are of rank 2, not 1"
    assert it.why_not("r003", (9, 3)) == "commands from r003 are not obeyed"
    assert it.why_not("r002", None) is None, "a question needs no epoch"
    assert brokers().why_not("r003", (9, 3)) is None, "without a clique, from all"


def test_a_controller_of_an_earlier_release_commands_its_own_meters_alone() -> None:
    it = brokers()
    assert it.why_not("r001", (1, 0)) is None
    assert it.why_not("r002", (1, 0)) == "commands from r002 are of rank 2, not 0"


@pytest.mark.parametrize(("clique", "warm"), [((), {"r003"}), (("r001", "r002"), set()), (("r001", "r003"), {"r003"})])
def test_a_warm_session_is_held_at_brokers_of_the_clique(clique: tuple[str, ...], warm: set[str]) -> None:
    assert brokers(clique=clique).sessions == {"r001"} | warm


def test_a_broker_is_dialled_for_a_question() -> None:
    it = brokers()
    it.dial("r002", T + 3)
    assert it.sessions == {"r001", "r002", "r003"}
    assert it.wake_at == T + 3
    it.tick(T + 3)
    assert it.sessions == {"r001", "r003"}
