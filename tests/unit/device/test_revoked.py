"""A signed list of revoked controllers: a meter keeps the newest, and leaves their brokers and ranks (R5)."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from commonwatt.device.brokers import VISIT_EVERY_S, VISIT_S, Brokers
from commonwatt.device.changes import DesiredStates, KeptRevoked, MeterState
from commonwatt.device.sessions import CONNECTED, Arrived, Sessions
from commonwatt.device.store import open_checked, open_store
from commonwatt.identity.authority import Authority
from commonwatt.identity.certificates import Signer
from commonwatt.model.effects import Write
from commonwatt.model.records import Log
from commonwatt.protocol import topics
from commonwatt.protocol.commands import Outcome
from commonwatt.protocol.revoked_list import MAX_LISTED, PURPOSE, RevokedList
from commonwatt.town.revocation import Check, check_of
from tests.unit.device.test_meter import METER, T, command
from tests.unit.device.test_sessions import INSTALLED, NAMES, Town

ANSWER = [("r001", "out")]


def _signs(text: str) -> str:
    return f"signed {text}"


class Guarded(Town):
    """A meter with the authority's key; a signature here is the text itself."""

    def __init__(self, order: tuple[str, ...] = (), revoked: str = "", is_signed: Check | None = None) -> None:
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
    effects = town.sessions.handle(Arrived(METER, "r001", topics.COMMANDS, command("revoked", **fields)), T)
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
