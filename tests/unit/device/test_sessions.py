"""A meter with several brokers: where its data goes, whom it obeys, which controllers are revoked (R5, R13)."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from commonwatt.clique.revocation import SignatureCheck, check_of
from commonwatt.device.changes import BrokerOrder, DesiredStates, KeptRevoked, MeterState
from commonwatt.device.meter import Effects
from commonwatt.device.sessions import (
    ABSENT_S,
    CONNECTED,
    JITTER_S,
    LONGEST_STABLE_S,
    LOST,
    STABLE_S,
    VISIT_EVERY_S,
    VISIT_S,
    BrokerArrival,
    Brokers,
    MeterBroker,
    Sessions,
)
from commonwatt.device.store import open_checked, open_store
from commonwatt.identity.authority import Authority
from commonwatt.identity.certificates import Signer
from commonwatt.model.effects import Publish, Write
from commonwatt.model.records import Log
from commonwatt.protocol import topics
from commonwatt.protocol.commands import Outcome
from commonwatt.protocol.meter_messages import MAX_LISTED, PURPOSE, Put, Refusal, RevokedList, unpack_put
from harness.surroundings.messages import ack_of
from tests.unit.device.test_meter import METER, Bench, T, command

NOW_S = 1_000.0
NAMES = ("r001", "r002", "r003", "r004")
WARM_THIRD = [MeterBroker(name=name, rank=n + 1, warm=name == "r003") for n, name in enumerate(NAMES)]
ANY_METER = 0  # no jitter


def brokers(clique: tuple[str, ...] = (), order: tuple[str, ...] = ()) -> Brokers:
    it = Brokers(ANY_METER, WARM_THIRD, clique, order)
    assert it._jitter_s == 0
    return it


def away(it: Brokers, at: float = NOW_S) -> None:
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
    assert not it.missed(Log.HISTORY, NOW_S)
    assert not it.missed(Log.EVENT, NOW_S)
    it.answered("r001")
    assert not it.missed(Log.HISTORY, NOW_S)
    assert it.data == "r001"


def test_one_broker_is_never_left() -> None:
    it = Brokers(ANY_METER, WARM_THIRD[:1])
    assert not any(it.missed(Log.HISTORY, NOW_S + n) for n in range(9))
    assert it.sessions == {"r001"}
    assert it.wake_at is None


def test_data_goes_back_after_the_first_broker_was_reachable_for_a_minute_without_a_break() -> None:
    it = brokers()
    it.connected("r002", NOW_S)
    away(it)
    assert it.sessions == {"r001", "r002", "r003"}, "the first one is tried; r003 is warm"
    it.connected("r001", NOW_S + 100)
    it.lost("r001", NOW_S + 120)
    assert not it.tick(NOW_S + 149)
    it.connected("r001", NOW_S + 150)
    assert it.wake_at == NOW_S + 150 + STABLE_S
    assert not it.tick(NOW_S + 150 + STABLE_S - 1)
    assert it.tick(NOW_S + 150 + STABLE_S)
    assert it.data == "r001"


def test_data_leaves_a_broker_with_which_there_is_no_session_for_a_while() -> None:
    it = brokers()
    for name in ("r001", "r003"):
        it.connected(name, NOW_S)
    it.lost("r001", NOW_S)
    it.connected("r001", NOW_S + 5)
    assert not it.tick(NOW_S + 5 + ABSENT_S), "it is back"
    it.lost("r001", NOW_S + 100)
    assert it.wake_at == NOW_S + 100 + ABSENT_S
    assert not it.tick(NOW_S + 99 + ABSENT_S)
    assert it.tick(NOW_S + 100 + ABSENT_S)
    assert it.data == "r002"
    assert it.tick(NOW_S + 100 + 2 * ABSENT_S)
    assert it.data == "r003", "r002 is not reached either"
    assert not it.tick(NOW_S + 999)


def test_meters_go_back_at_different_times() -> None:
    waits = {Brokers(meter, WARM_THIRD)._jitter_s for meter in range(10_001, 10_304)}
    assert waits == set(range(JITTER_S))


def test_a_broker_whose_gateway_is_dead_is_tried_after_longer_and_longer() -> None:
    it, now = brokers(), NOW_S
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
    assert not it.connected("r003", NOW_S + 31)
    assert it.connected("r002", NOW_S + 32)
    assert not it.connected("r002", NOW_S + 33)


def test_another_order_leads_away_at_once_only_if_the_present_broker_is_not_in_it() -> None:
    it = brokers()
    assert it.set_order(("r004", "r002", "r003", "r001"), NOW_S), "r001 is the fourth"
    assert it.data == "r004"
    assert not it.set_order(("r002", "r004"), NOW_S)
    assert it.data == "r004"
    assert it.sessions == set(NAMES), "home too"
    it.connected("r002", NOW_S)
    assert it.tick(NOW_S + STABLE_S)
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
    it.dial("r002", NOW_S + 3)
    assert it.sessions == {"r001", "r002", "r003"}
    assert it.wake_at == NOW_S + 3
    it.tick(NOW_S + 3)
    assert it.sessions == {"r001", "r003"}


INSTALLED = [MeterBroker(name=name, rank=n + 1, warm=name == "r002") for n, name in enumerate(NAMES)]

Sent = list[tuple[str, str]]


class Town(Bench):
    """A meter with four brokers, three of them of its clique; records are sent by hand."""

    def __init__(self, order: tuple[str, ...] = ()) -> None:
        super().__init__()
        self.sessions = Sessions(self.meter, Brokers(METER, INSTALLED, NAMES[:3], order))

    def see(self, effects: Effects) -> Sent:
        """Perform effects; return what was sent, as (broker, last part of the topic)."""
        return [(message.via, message.topic.rpartition("/")[2]) for message in self.do(effects)]

    def hear(self, via: str, leaf: str, payload: bytes = b"", now: float = T) -> Sent:
        return self.see(self.sessions.handle(BrokerArrival(METER, via, leaf, payload), now))

    def commanded(self, via: str, cmd: str, now: float = T, **fields: Any) -> tuple[Sent, Outcome]:
        """Command over a broker; return what was sent, and the last outcome."""
        sent = self.hear(via, topics.COMMANDS, command(cmd, **{"epoch": [1, 1], **fields}), now)
        found = [each.payload for each in self.sent if each.topic.endswith("/out")]
        return sent, Outcome.model_validate_json(found[-1])

    def ask(self, via: str, about: str) -> Sent:
        """Ask over a broker whether a controller answers."""
        question = command("get", what="manager", about=about, issuer=via, epoch=[0, 0])
        return self.hear(via, topics.COMMANDS, question)

    def last_put(self, log: Log) -> Put:
        leaf = topics.RECORDS if log is Log.HISTORY else topics.EVENTS
        return unpack_put([each.payload for each in self.sent if each.topic.endswith(f"/{leaf}")][-1])

    def acknowledge(self, via: str, log: Log, now: float, status: Refusal = Refusal.NONE) -> Sent:
        put = self.last_put(log)
        ack = ack_of(put, int(now))
        if status is not Refusal.NONE:
            ack = replace(ack, status=status, accepted=())
        return self.hear(via, topics.ACKS, ack.pack(), now)


def test_after_two_missed_acknowledgements_the_frozen_put_goes_to_the_next_broker_unchanged() -> None:
    town = Town()
    town.slots(4)
    assert town.see(town.sessions.tick(T + 60)) == [("r001", "rec"), ("r001", "ev")]
    first = town.last_put(Log.HISTORY)
    assert set(town.see(town.sessions.tick(T + 75))) == {("r001", "rec"), ("r001", "ev")}
    town.slots(1)
    assert set(town.see(town.sessions.tick(T + 105))) == {("r002", "rec"), ("r002", "ev")}
    assert town.last_put(Log.HISTORY) == first
    assert set(town.hear("r002", CONNECTED, now=T + 106)) == {("r002", "rec"), ("r002", "ev")}, "it had no session yet"
    assert town.sessions.wake_at == T + 121, "the retries begin again"
    town.acknowledge("r002", Log.HISTORY, T + 107)
    town.acknowledge("r002", Log.EVENT, T + 107)
    assert town.see(town.sessions.tick(T + 140)) == [("r002", "rec")], "the next minute"


def test_commands_that_have_a_put_sent_again_put_off_no_miss() -> None:
    town = Town()
    town.slots(4)
    town.see(town.sessions.tick(T + 60))
    town.acknowledge("r001", Log.EVENT, T + 60)
    for at in range(61, 105):
        town.see(town.sessions.tick(T + at))
        sent, _ = town.commanded("r002", "get", T + at, what="records", epoch=[1, 2], issuer="r002")
        assert ("r001", "rec") in sent
    assert ("r002", "rec") in town.see(town.sessions.tick(T + 105))


def test_a_refusal_is_an_answer_and_no_miss() -> None:
    town = Town()
    now = T + 20
    town.see(town.sessions.tick(now))
    for _ in range(5):
        town.acknowledge("r001", Log.EVENT, now, Refusal.BUSY)
        wake = town.sessions.wake_at
        assert wake is not None
        now = int(wake)
        assert all(via == "r001" for via, _ in town.see(town.sessions.tick(now)))


def test_the_meter_goes_home_after_a_minute_of_a_stable_session_and_takes_the_put_along() -> None:
    town = Town()
    town.slots(4)
    for at in (60, 75, 105):
        town.see(town.sessions.tick(T + at))
    assert town.sessions.brokers.data == "r002"
    town.hear("r001", CONNECTED, now=T + 110)
    town.hear("r001", LOST, now=T + 111)
    town.hear("r001", CONNECTED, now=T + 112)
    back = T + 112 + 60 + town.sessions.brokers._jitter_s
    assert all(via != "r001" for via, _ in town.see(town.sessions.tick(back - 1)))
    assert set(town.see(town.sessions.tick(back))) == {("r001", "rec"), ("r001", "ev")}


def test_answers_go_over_the_session_on_which_the_command_came_and_records_to_the_broker_of_data() -> None:
    town = Town()
    town.slots(2)
    sent, outcome = town.commanded("r002", "get", epoch=[1, 2], what="records")
    assert sent == [("r001", "rec"), ("r002", "out")]
    assert outcome.result == "done"
    assert town.hear("r003", topics.COMMANDS, command("get", what="levels", epoch=[1, 3])) == [("r003", "lvl")]


@pytest.mark.parametrize(
    ("via", "rank", "why"),
    [
        ("r004", 4, "commands from r004 are not obeyed"),
        ("r002", 1, "commands from r002 are of rank 2, not 1"),
        ("r001", 9, "commands from r001 are of rank 1, not 9"),
    ],
)
def test_commands_of_another_clique_or_rank_are_refused_and_counted(via: str, rank: int, why: str) -> None:
    town = Town()
    sent, outcome = town.commanded(via, "reduce_power_on", epoch=[7, rank], seq=1, for_s=60)
    assert sent == [(via, "out")]
    assert (outcome.result, outcome.reason, outcome.epoch) == ("refused", why, (0, 0))
    assert town.tally["command", "refused"] == 1
    assert not town.meter.desired_states.held


def test_the_manager_sets_the_order_of_brokers_durably() -> None:
    town = Town()
    order = command("initialize", epoch=[1, 1], brokers=["r003", "r001"])
    effects = town.sessions.handle(BrokerArrival(METER, "r001", topics.COMMANDS, order), T)
    assert isinstance(effects[0], Write)
    assert effects[0].change == BrokerOrder(METER, ("r003", "r001"))
    assert [e.via for e in effects if isinstance(e, Publish)] == ["r001"]
    assert town.sessions.brokers.order == ("r003", "r001")
    assert "r003" in town.sessions.brokers.sessions
    assert Town(("r003", "r001")).sessions.brokers.data == "r003", "after a restart"
    again = town.sessions.handle(BrokerArrival(METER, "r001", topics.COMMANDS, order), T)
    assert not any(isinstance(e, Write) and isinstance(e.change, BrokerOrder) for e in again), "nothing is new"


@pytest.mark.parametrize(
    ("names", "order"),
    [
        (["r002", "r009", "r007"], ("r002",)),
        (["r002", "r002"], ("r002",)),
        (["r009"], NAMES),
        ([], NAMES),
        (None, ("r004", "r001")),
    ],
)
def test_no_command_installs_a_broker(names: list[str] | None, order: tuple[str, ...]) -> None:
    town = Town(("r004", "r001"))
    _, outcome = town.commanded("r001", "initialize", brokers=names)
    assert outcome.result == "done"
    assert town.sessions.brokers.order == order


def test_a_deposed_manager_does_not_set_the_order() -> None:
    town = Town()
    town.commanded("r002", "initialize", epoch=[5, 2])
    _, outcome = town.commanded("r001", "initialize", epoch=[4, 1], brokers=["r003"])
    assert outcome.result == "fenced"
    assert town.sessions.brokers.order == NAMES


def test_a_question_is_put_to_the_controller_it_is_about_and_answered_to_the_asker() -> None:
    town = Town()
    assert town.ask("r002", about="r001") == [("r001", "ev")]
    assert town.acknowledge("r001", Log.EVENT, T + 1) == [("r002", "out")]
    assert Outcome.model_validate_json(town.sent[-1].payload).acknowledged is True


def test_the_acknowledgement_of_the_broker_of_data_does_not_speak_for_the_one_believed_lost() -> None:
    town = Town(("r002",))
    assert town.ask("r002", about="r003") == [("r003", "ev")], "no session: it is dropped"
    assert "r003" in town.sessions.brokers.sessions, "it dials"
    assert town.hear("r003", CONNECTED, now=T + 1) == [("r003", "ev")]
    assert town.acknowledge("r002", Log.EVENT, T + 1) == []
    assert ("r002", "out") in town.see(town.sessions.tick(T + 3))
    answers = [each.payload for each in town.sent if each.topic.endswith("/out")]
    assert Outcome.model_validate_json(answers[-1]).acknowledged is False
    assert "r003" not in town.sessions.brokers.sessions


ANSWER = [("r001", "out")]


def _signs(text: str) -> str:
    return f"signed {text}"


class Guarded(Town):
    """A meter with the authority's key; a signature here is the text itself."""

    def __init__(self, order: tuple[str, ...] = (), revoked: str = "", is_signed: SignatureCheck | None = None) -> None:
        super().__init__(order)
        kept = RevokedList.read(revoked) if revoked else None
        check = is_signed or (lambda text, signature: signature == _signs(text))
        self.sessions = Sessions(self.meter, Brokers(METER, INSTALLED, NAMES[:3], order, kept), check)

    @property
    def order(self) -> list[str]:
        """The present order of brokers."""
        return list(self.sessions.brokers.order)

    @property
    def held(self) -> frozenset[str]:
        return self.sessions.brokers.sessions

    def told(self, text: str | None, via: str = "r001", signature: str | None = None, now: float = T) -> Outcome:
        """Send a list over a broker, signed if no other signature is given; return the outcome."""
        good = None if text is None else _signs(text)
        fields = {"epoch": [0, 0], "revoked": text, "signature": signature or good}
        return self.commanded(via, "revoked", now, **fields)[1]


def test_a_revoked_controller_s_broker_is_left_and_its_rank_is_obeyed_nowhere() -> None:
    town = Guarded()
    town.commanded("r002", "reduce_power_on", epoch=[9, 2], seq=1, for_s=600)
    assert town.told("7 r002:2").result == "done"
    assert town.held == {"r001"}, "the warm session too"
    assert town.hear("r002", topics.COMMANDS, command("initialize", epoch=[10, 2])) == [], "it is not even answered"
    sent, outcome = town.commanded("r001", "initialize", epoch=[10, 2])
    assert (sent, outcome.reason) == (ANSWER, "the controller of rank 2 was revoked")
    assert town.commanded("r001", "initialize", epoch=[10, 1])[1].result == "done", "its epoch is no obstacle"
    town.sessions.brokers.dial("r002", T + 3)
    assert "r002" not in town.held, "a question about it is answered: lost"


def test_data_leaves_the_revoked_broker_at_once_and_its_acknowledgement_deletes_nothing() -> None:
    town = Guarded()
    town.slots(4)
    assert ("r001", "rec") in town.see(town.sessions.tick(T + 60))
    put = town.last_put(Log.HISTORY)
    sent, outcome = town.commanded("r003", "revoked", revoked="7 r001:1", signature=_signs("7 r001:1"))
    assert outcome.result == "done"
    assert set(sent) == {("r002", "rec"), ("r002", "ev"), ("r003", "out")}
    assert town.held == {"r002"}
    town.acknowledge("r001", Log.HISTORY, T + 61)
    assert town.meter.history.batch() == put, "the thief's acknowledgement"
    town.acknowledge("r002", Log.HISTORY, T + 62)
    assert town.meter.history.batch() is None
    for seconds in range(62, 4000, 60):
        assert all(via != "r001" for via, _ in town.see(town.sessions.tick(T + seconds)))
        assert "r001" not in town.held


def test_any_broker_passes_it_on_under_any_epoch_also_one_whose_commands_are_not_obeyed() -> None:
    town = Guarded()
    town.commanded("r001", "initialize", epoch=[50, 1])
    assert town.told("7 r002:2", via="r004").result == "done"
    assert town.meter.desired_states.epoch == (50, 1)


@pytest.mark.parametrize(
    ("text", "signature", "result", "reason"),
    [
        ("8 r001:1", "signed by a thief", "refused", "the authority did not sign this list"),
        ("7 r001:1", None, "repeated", None),
        ("6", None, "repeated", None),
        ("", None, "refused", "no list of revoked controllers: NUMBER NAME:RANK ..."),
        (None, None, "refused", "no list of revoked controllers: NUMBER NAME:RANK ..."),
        ("0 r001:1", None, "refused", "no list of revoked controllers: NUMBER NAME:RANK ..."),
        ("8 r001:0", None, "refused", "no list of revoked controllers: NUMBER NAME:RANK ..."),
        ("8 r001", None, "refused", "no list of revoked controllers: NUMBER NAME:RANK ..."),
        ("8" + " r001:1" * (MAX_LISTED + 1), "00", "refused", "no list of revoked controllers: NUMBER NAME:RANK ..."),
    ],
)
def test_what_is_forged_old_or_malformed_changes_nothing(
    text: str | None, signature: str | None, result: str, reason: str | None
) -> None:
    town = Guarded(revoked="7 r002:2")
    before = len(town.sent)
    outcome = town.told(text, signature=signature)
    assert (outcome.result, outcome.reason) == (result, reason)
    assert len(town.sent) == before + 1
    assert town.sessions.brokers.revoked.text == "7 r002:2"
    assert town.held == {"r001"}


def test_a_meter_without_a_key_refuses_and_changes_nothing() -> None:
    town = Town()
    town.commanded("r001", "initialize", epoch=[50, 1])
    sent, outcome = town.commanded("r001", "revoked", epoch=[0, 0], revoked="7 r002:2", signature="00")
    assert (sent, outcome.result, outcome.reason) == (ANSWER, "refused", "no key of an authority is installed")
    assert town.sessions.brokers.sessions == {"r001", "r002"}
    assert town.sessions.wake_at is not None
    assert town.sessions.brokers.wake_at is None, "it visits nobody"


def test_a_meter_whose_brokers_are_all_revoked_keeps_its_readings_and_connects_with_none() -> None:
    town = Guarded()
    town.slots(4)
    assert town.told("9 r001:1 r002:2 r003:3 r004:4").result == "done"
    assert town.held == frozenset()
    assert town.sessions.brokers.are_all_left
    for seconds in range(60, 4000, 15):
        town.see(town.sessions.tick(T + seconds))
    assert len(town.meter.history.rows) == 12
    assert town.held == frozenset()


def test_a_later_list_without_a_readmitted_controller_brings_it_back_to_its_place() -> None:
    town = Guarded(("r002", "r003"))
    town.told("7 r002:2")
    assert town.order == ["r003"]
    assert town.told("8 r003:3").result == "done"
    assert town.order == ["r002"]
    town.told("9")
    assert town.order == ["r002", "r003"]
    assert town.commanded("r002", "initialize", epoch=[1, 2])[1].result == "done"


def test_an_order_of_revoked_brokers_alone_is_not_used() -> None:
    town = Guarded(revoked="7 r002:2")
    town.commanded("r001", "initialize", epoch=[1, 1], brokers=["r002", "r003"])
    assert town.order == ["r003"]
    town.commanded("r001", "initialize", epoch=[1, 1], brokers=["r002"])
    assert town.order == ["r001", "r003", "r004"]


def test_it_is_kept_before_the_answer_and_over_a_restart(tmp_path: Path) -> None:
    town = Guarded()
    fields: dict[str, Any] = {"revoked": "7 r002:2 r009:9", "signature": _signs("7 r002:2 r009:9")}
    effects = town.sessions.handle(BrokerArrival(METER, "r001", topics.COMMANDS, command("revoked", **fields)), T)
    assert isinstance(effects[0], Write)
    assert effects[0].change == KeptRevoked(METER, RevokedList(7, {"r002": 2, "r009": 9}))
    store = open_store(tmp_path / "meters.db")
    state = [MeterState(meter=METER, generation=1), DesiredStates(METER, (0, 0), {})]
    store.commit([*state, effects[0].change, KeptRevoked(METER, RevokedList(8, {"r002": 2}))])
    store.close()
    store = open_checked(tmp_path / "meters.db", T)
    stored = store.load(METER)
    store.close()
    assert stored is not None
    assert stored.revoked == RevokedList(8, {"r002": 2})
    assert Guarded(revoked=stored.revoked.text).held == {"r001"}


def test_each_week_all_brokers_of_the_clique_are_visited_for_ten_minutes() -> None:
    town = Guarded()
    assert town.sessions.brokers.wake_at is None
    town.hear("r001", CONNECTED)
    brokers, visits = town.sessions.brokers, list[float]()
    for _ in range(3):
        now = brokers.wake_at
        assert now is not None
        brokers.tick(now)
        assert town.held == {"r001", "r002", "r003"}
        visits.append(now)
        assert brokers.wake_at == now + VISIT_S
        brokers.tick(now + VISIT_S)
        assert town.held == {"r001", "r002"}
    assert [later - at for at, later in pairwise(visits)] == [VISIT_EVERY_S] * 2
    assert T < visits[0] <= T + VISIT_EVERY_S


def test_the_authority_s_signature_is_good_for_this_list_and_purpose_alone(tmp_path: Path) -> None:
    authority = Authority.create(tmp_path, "Town", T)
    check = check_of(tmp_path / "authority/ca.pem")
    assert check is not None
    text = "7 r002:2"
    good = authority.signature(PURPOSE, text.encode()).hex()
    assert check(text, good)
    assert not check("7 r001:1", good)
    assert not check(text, authority.signature("bundle", text.encode()).hex())
    assert not check(text, Signer.new("Thief", T, 1000).signature(PURPOSE, text.encode()).hex())
    assert not any(check(text, wrong) for wrong in ("", "zz", good[:-2], good.replace(good[10:12], "00")))
    town = Guarded(is_signed=check)
    assert town.told(text, signature="00").result == "refused"
    assert town.told(text, signature=good).result == "done"


LISTS = st.dictionaries(st.sampled_from(NAMES), st.integers(1, 4), max_size=4)


@given(st.lists(st.tuples(st.integers(1, 9), LISTS, st.booleans(), st.sampled_from(NAMES)), max_size=12))
def test_whatever_comes_the_newest_signed_list_holds(sent: list[tuple[int, dict[str, int], bool, str]]) -> None:
    town, kept = Guarded(), RevokedList()
    for number, ranks, is_good, via in sent:
        listed = RevokedList(number, ranks)
        signature = _signs(listed.text) if is_good else "forged"
        town.hear(via, topics.COMMANDS, command("revoked", revoked=listed.text, signature=signature))
        if via not in kept.ranks and is_good and number > kept.number:
            kept = listed
        brokers = town.sessions.brokers
        assert brokers.revoked == kept
        assert not town.held & kept.ranks.keys()
        assert town.held or kept.ranks.keys() == set(NAMES)
        assert brokers.data in town.held or brokers.are_all_left
        assert RevokedList.read(kept.text) == kept if kept.number else kept == RevokedList()
