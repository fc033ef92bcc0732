"""The question whether a controller's gateway still answers: ``get what=manager`` (R8)."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from commonwatt.device.commands.questions import MAX_OPEN
from commonwatt.model.effects import Publish, Write
from commonwatt.model.records import Log
from commonwatt.protocol import topics
from commonwatt.protocol.commands import Outcome
from commonwatt.protocol.meter_messages import Put, Refusal
from harness.surroundings.records import ack_of
from tests.unit.device.test_meter import Bench, T, command, puts


def ask(bench: Bench, now: float = T, **fields: Any) -> tuple[list[Put], list[Outcome]]:
    """Ask about r001 as r002, which the meter never saw."""
    fields = {"what": "manager", "about": "r001", "issuer": "r002", "epoch": [0, 0], **fields}
    published = bench.do(bench.meter.receive(topics.COMMANDS, command("get", **fields), now))
    return puts([each for each in published if not each.topic.endswith("/out")]), outcomes(published)


def acknowledge(bench: Bench, put: Put, now: float = T, **changes: Any) -> list[Outcome]:
    return outcomes(bench.do(bench.meter.receive(topics.ACKS, replace(ack_of(put, T), **changes).pack(), now)))


def outcomes(published: Sequence[Publish]) -> list[Outcome]:
    return [Outcome.model_validate_json(one.payload) for one in published if one.topic.endswith(topics.OUTCOMES)]


def test_the_meter_puts_what_it_has_and_says_that_the_gateway_acknowledged() -> None:
    bench = Bench()
    bench.slots(2)
    sent, answers = ask(bench)
    assert ([put.log for put in sent], answers) == ([Log.EVENT, Log.HISTORY], [])
    (answer,) = acknowledge(bench, sent[0], T + 1)
    assert (answer.id, answer.cmd, answer.result, answer.acknowledged) == ("c1", "get", "done", True)
    assert acknowledge(bench, sent[1], T + 1) == [], "one answer"
    assert bench.tick(T + 3) == []


def test_without_an_acknowledgement_it_says_so_after_three_seconds() -> None:
    bench = Bench()
    ask(bench)
    assert bench.meter.wake_at == T + 3
    assert outcomes(bench.do(bench.meter.tick(T + 2.9))) == []
    (answer,) = outcomes(bench.do(bench.meter.tick(T + 3)))
    assert (answer.result, answer.acknowledged) == ("done", False)
    assert acknowledge(bench, bench.get("events", now=T + 4, issuer="r001")[0], T + 5) == [], "too late"


def test_a_meter_with_nothing_to_put_sends_its_newest_event_again() -> None:
    bench = Bench()
    (event,) = bench.get("events")
    acknowledge(bench, event)
    sent, _ = ask(bench, T + 10)
    assert sent == [event], "one event only, the same bytes"
    (answer,) = acknowledge(bench, sent[0], T + 11)
    assert answer.acknowledged is True
    assert bench.meter.events.rows == []


def test_a_small_put_of_records_alone_proves_nothing_since_gateways_let_it_wait() -> None:
    bench = Bench()
    acknowledge(bench, bench.get("events")[0])
    bench.meter._deliveries[Log.EVENT].newest = None  # as after a restart
    bench.slots(1)
    sent, _ = ask(bench, T + 20)
    assert [put.log for put in sent] == [Log.HISTORY]
    (answer,) = outcomes(bench.do(bench.meter.tick(T + 23)))
    assert (answer.result, answer.acknowledged) == ("done", None)


def test_a_meter_that_can_send_nothing_says_at_once_that_it_does_not_know() -> None:
    bench = Bench()
    acknowledge(bench, bench.get("events")[0])
    bench.meter._deliveries[Log.EVENT].newest = None
    sent, (answer,) = ask(bench)
    assert (sent, answer.result, answer.acknowledged) == ([], "done", None)


@pytest.mark.parametrize(("status", "said"), [(Refusal.BUSY, None), (Refusal.NOT_REGISTERED, True)])
def test_a_gateway_that_can_not_store_has_not_acknowledged(status: Refusal, said: bool | None) -> None:
    bench = Bench()
    sent, _ = ask(bench)
    found = acknowledge(bench, sent[0], status=status, accepted=())
    assert [each.acknowledged for each in found] == ([] if said is None else [True])


@pytest.mark.parametrize("epoch", [[0, 0], [1, 0], [5, 1], [2**32 - 1, 9]])
def test_the_question_needs_no_epoch_and_changes_nothing_that_commands_set(epoch: list[int]) -> None:
    bench = Bench()
    bench.command("reduce_power_on", epoch=[5, 1], seq=1, for_s=60)
    before = bench.meter.desired_states.kept(bench.description.id)
    sent, _ = ask(bench, epoch=epoch)
    (answer,) = acknowledge(bench, sent[0])
    assert (answer.result, answer.epoch) == ("done", (5, 1))
    assert bench.meter.desired_states.kept(bench.description.id) == before


def test_without_a_name_only_the_epoch_is_asked() -> None:
    bench = Bench()
    bench.command("initialize", epoch=[5, 1])
    sent, (answer,) = ask(bench, about=None)
    assert (sent, answer.result, answer.epoch, answer.acknowledged) == ([], "done", (5, 1), None)


def test_the_asker_and_a_controller_without_a_session_are_not_asked() -> None:
    bench = Bench()
    wrong: tuple[dict[str, Any], ...] = ({"issuer": "r001"}, {"about": "r003"})
    for fields in wrong:
        sent, (answer,) = ask(bench, **fields)
        assert (sent, answer.result, answer.acknowledged) == ([], "refused", None)


def test_two_askers_get_an_answer_each_and_too_many_are_refused() -> None:
    bench = Bench()
    sent, _ = ask(bench, id="first")
    for n in range(MAX_OPEN - 1):
        ask(bench, id=f"q{n}", issuer="r003")
    _, (refused,) = ask(bench, id="last")
    assert refused.result == "refused"
    found = acknowledge(bench, sent[0], T + 1)
    assert len(found) == MAX_OPEN
    assert all(each.acknowledged for each in found)


def test_a_meter_refuses_to_get_what_it_does_not_know_as_earlier_releases_do_this_question() -> None:
    bench = Bench()
    answer = bench.command("get", what="a later release's question", about="r001", epoch=[7, 3])
    assert (answer.result, answer.acknowledged, answer.epoch) == ("refused", None, (0, 0))


def test_the_puts_of_a_question_are_durable_before_they_are_sent() -> None:
    bench = Bench()
    bench.slots(1)
    payload = command("get", what="manager", about="r001", issuer="r002")
    kinds = [type(effect) for effect in bench.meter.receive(topics.COMMANDS, payload, T)]
    assert kinds.count(Publish) == 2
    assert Write in kinds
