"""A meter with several brokers: where its data goes, over which session it answers, whom it obeys (R13)."""

from dataclasses import replace
from typing import Any

import pytest

from commonwatt.device.brokers import Brokers, Installed
from commonwatt.device.changes import BrokerOrder
from commonwatt.device.meter import Effects
from commonwatt.device.sessions import CONNECTED, LOST, Arrived, Sessions
from commonwatt.model.effects import Publish, Write
from commonwatt.model.records import Log
from commonwatt.protocol import topics
from commonwatt.protocol.commands import Outcome
from commonwatt.protocol.meter_messages import Put, Refusal, unpack_put
from harness.surroundings.records import ack_of
from tests.unit.device.test_meter import METER, Bench, T, command

NAMES = ("r001", "r002", "r003", "r004")
INSTALLED = [Installed(name=name, rank=n + 1, warm=name == "r002") for n, name in enumerate(NAMES)]

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
        return self.see(self.sessions.handle(Arrived(METER, via, leaf, payload), now))

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
    effects = town.sessions.handle(Arrived(METER, "r001", topics.COMMANDS, order), T)
    assert isinstance(effects[0], Write)
    assert effects[0].change == BrokerOrder(METER, ("r003", "r001"))
    assert [e.via for e in effects if isinstance(e, Publish)] == ["r001"]
    assert town.sessions.brokers.order == ("r003", "r001")
    assert "r003" in town.sessions.brokers.sessions
    assert Town(("r003", "r001")).sessions.brokers.data == "r003", "after a restart"
    again = town.sessions.handle(Arrived(METER, "r001", topics.COMMANDS, order), T)
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
