"""Which commands a meter takes, by their epochs, what it answers, and what it says by itself."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from commonwatt.device.changes import DesiredStates, MeterState, StoredMeter, under_token
from commonwatt.device.commands import FIRST_BELOW, MAX_OPEN, SAVE_S, Commanded, EpochGuard
from commonwatt.device.meter import Effects, MeterCore, MeterLimits
from commonwatt.model.effects import Publish, Write
from commonwatt.model.records import Log, RecordType, State
from commonwatt.model.units import SLOT_S
from commonwatt.protocol import topics
from commonwatt.protocol.commands import EPOCH_STEP, RAISES, RAISES_WITHIN_S, Command, Epoch, Outcome
from commonwatt.protocol.meter_messages import LiveLevel, Put, Refusal, unpack_level
from commonwatt.town.town import Battery
from harness.surroundings.gateway import CAPACITY, START, World, commands
from harness.surroundings.messages import SOLAR, ack_of, house_meter
from tests.unit.device.test_meter import Bench, T, command, puts, stored

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


def restart(bench: Bench, now: float, token: str = "") -> None:
    """Build the meter from what it last wrote."""
    bench.meter = MeterCore(bench.description, bench.limits, under_token(stored(bench), token), bench.tally)
    bench.do(bench.meter.boot(now, power_lost=True))


def raised(bench: Bench, rank: int = 7) -> None:
    """Raise the epoch as often as one controller may within a day."""
    for n in range(RAISES):
        assert bench.command("initialize", epoch=[2 + n, rank]).result == "done"


def test_a_step_too_large_is_refused_with_the_meter_s_epoch_and_changes_nothing() -> None:
    bench = Bench()
    bench.command("share_power_on", seq=1, for_s=60)
    refused = bench.command("share_power_off", epoch=[65_538, 1], seq=1)
    assert (refused.result, refused.epoch) == ("refused", (1, 0))
    assert refused.reason == "counter 65538 is more than 65536 above 1"
    assert bench.meter.bits & State.SHARING
    assert bench.command("share_power_off", epoch=[65_537, 1], seq=1).result == "done", "nearer in steps"


@pytest.mark.parametrize("cmd", ["initialize", "stop", "get", "put"])
def test_every_command_under_a_step_too_large_is_refused(cmd: str) -> None:
    bench = Bench()
    bench.command("initialize")
    assert bench.command(cmd, epoch=[2**31, 1], what="state", time=T, trust=3).result == "refused"


def test_a_controller_that_raises_all_day_is_refused_and_another_one_is_not() -> None:
    bench = Bench()
    raised(bench)
    refused = bench.command("initialize", epoch=[500, 7])
    assert (refused.result, refused.epoch) == ("refused", (101, 7))
    assert bench.command("initialize", epoch=[100, 7]).result == "fenced", "a lower epoch"
    assert bench.command("initialize", epoch=[500, 2]).result == "done"


def test_neither_a_restart_nor_a_wrong_clock_makes_the_day_shorter() -> None:
    bench = Bench()
    raised(bench)
    # Ten years later on the machine's clock, but the meter was off.
    restart(bench, T + 10 * 365 * 86_400)
    assert bench.command("initialize", now=T + 10 * 365 * 86_400, epoch=[500, 7]).result == "refused"
    restart(bench, T)
    # The controller reports another time: the meter's own clock counts.
    bench.command("put", now=T, epoch=[101, 7], time=T + RAISES_WITHIN_S * 2, trust=3)
    assert bench.command("initialize", now=T + 10, epoch=[500, 7]).result == "refused"
    assert bench.command("initialize", now=T + RAISES_WITHIN_S + 1, epoch=[500, 7]).result == "done"


def test_a_meter_that_fails_four_times_a_day_forgets_a_quarter_hour_each_time_at_most() -> None:
    bench = Bench()
    now = float(T)
    bench.command("initialize", epoch=[1, 7])
    kept = None
    for _ in range(4):
        for _ in range(6 * 60 + 1):
            written = [e.change for e in bench.meter.tick(now) if isinstance(e, Write)]
            kept = next((change for change in written if isinstance(change, DesiredStates)), kept)
            now += 60
        assert kept is not None
        assert kept.own_s >= bench.meter.desired_states.own_clock.own_s - SAVE_S - 60
        restart(bench, now)
    assert stored(bench).desired_states.own_s >= RAISES_WITHIN_S - 4 * (SAVE_S + 60)


def test_what_is_a_day_old_is_forgotten_and_then_the_own_clock_is_not_written_any_more() -> None:
    bench = Bench()
    bench.command("initialize", epoch=[1, 7])
    assert stored(bench).desired_states.raises == {7: [0.0]}
    bench.meter.tick(T + RAISES_WITHIN_S + 1)
    assert stored(bench).desired_states.raises == {}
    late = bench.meter.tick(T + 2 * RAISES_WITHIN_S)
    assert not [e for e in late if isinstance(e, Write) and isinstance(e.change, DesiredStates)]


def test_the_raise_is_written_in_the_step_that_answers() -> None:
    bench = Bench()
    first, *_ = bench.meter.receive(topics.COMMANDS, command("initialize", epoch=[3, 2]), T)
    assert isinstance(first, Write)
    assert isinstance(first.change, DesiredStates)
    assert (first.change.epoch, first.change.raises) == ((3, 2), {2: [0.0]})


def test_a_new_token_clears_the_epoch_and_states_in_force_stay_to_their_end() -> None:
    bench = Bench()
    restart(bench, T, token="old")
    bench.command("initialize", epoch=[3_000_000, 7])
    bench.command("reduce_power_on", epoch=[3_000_000, 7], seq=5, until=T + 60)
    restart(bench, T + 1, token="old")
    assert bench.command("initialize", now=T + 1, epoch=[1, 1]).result == "fenced"
    restart(bench, T + 2, token="new")
    assert bench.meter.bits & State.REDUCING
    taken = bench.command("reduce_power_off", now=T + 3, epoch=[1, 1], seq=1)
    assert (taken.result, taken.epoch) == ("done", (1, 1))
    assert stored(bench).desired_states.raises == {1: [pytest.approx(1.0)]}


def test_a_store_of_an_earlier_release_keeps_its_epoch_under_the_present_token() -> None:
    bench = Bench()
    bench.command("initialize", epoch=[9, 7])
    restart(bench, T + 1, token="present")
    assert bench.command("get", now=T + 1, what="state", epoch=[9, 7]).epoch == (9, 7)
    assert stored(bench).desired_states.digest == "present"


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


METER = 3
GET = Command(id="c1", cmd="get", what="levels", issuer="r001", epoch=(1, 0)).pack()


def a_meter(*, push: bool = True) -> MeterCore:
    battery = Battery(capacity=CAPACITY, minimum_percent=50)
    state = StoredMeter(
        state=MeterState(meter=METER, generation=START), desired_states=DesiredStates(METER, (0, 0), {})
    )
    meter = MeterCore(
        house_meter(METER, battery=battery, record_types=SOLAR, push=push), MeterLimits(), state, Counter()
    )
    meter.boot(START, power_lost=True)
    return meter


def percent(value: float) -> int:
    return round(CAPACITY * value / 100)


def levels(effects: Effects) -> list[LiveLevel]:
    sent = [e for e in effects if isinstance(e, Publish) and e.topic == topics.meter_up("r001", METER, topics.LEVELS)]
    assert all(not publish.qos for publish in sent)
    return [unpack_level(publish.payload) for publish in sent]


def told(meter: MeterCore, *levels_percent: float, apart_s: int = SLOT_S) -> list[bool]:
    """Let the meter sample these levels; return for each whether it sent it."""
    return [
        bool(levels(meter.report_level(START + n * apart_s, percent(each)))) for n, each in enumerate(levels_percent)
    ]


def test_a_level_that_falls_below_the_minimum_within_a_slot_is_sent_at_once() -> None:
    meter = a_meter()
    assert levels(meter.report_level(START + 1, percent(50))) == []
    (level,) = levels(meter.report_level(START + 7, percent(49.9)))
    assert (level.level, level.time, level.state) == (percent(49.9), START + 7, meter.bits)


def test_the_end_of_a_slot_counts_as_any_other_moment() -> None:
    meter = a_meter()
    flows = {RecordType.GENERATION: 0, RecordType.THROUGH: 0}
    assert levels(meter.measure(START + 15, {**flows, RecordType.STORED: percent(51)})) == []
    (level,) = levels(meter.measure(START + 30, {**flows, RecordType.STORED: percent(48)}))
    assert (level.level, level.time) == (percent(48), START + 30)


def test_each_whole_percent_below_the_minimum_and_the_return_are_sent() -> None:
    sent = told(a_meter(), 51, 49.5, 49.2, 49, 48.7, 47.9, 48.5, 49.9, 50, 52)
    assert sent == [False, True, False, True, False, True, False, False, True, False]


def test_a_level_that_oscillates_about_a_mark_is_sent_once() -> None:
    assert sum(told(a_meter(), *(48.1, 47.9) * 100)) == 2  # the first of each


@pytest.mark.parametrize("apart_s", [1, 5, 15])
def test_a_level_that_oscillates_about_the_minimum_is_sent_once_a_slot_at_most(apart_s: int) -> None:
    assert sum(told(a_meter(), *(49.9, 50.1) * 60, apart_s=apart_s)) <= 120 * apart_s // SLOT_S


def test_the_change_that_had_to_wait_is_sent_with_the_next_sample_after_the_wait() -> None:
    assert told(a_meter(), 49.9, 50.1, 50.1, 50.1, 50.1, apart_s=5) == [True, False, False, True, False]


def test_a_level_that_was_requested_is_not_sent_again() -> None:
    meter = a_meter()
    assert told(meter, 51, 49.9) == [False, True]
    assert levels(meter.report_level(START + 20, percent(48.9))) == []  # it waits
    assert levels(meter.receive(topics.COMMANDS, GET, START + 21))
    assert levels(meter.report_level(START + 60, percent(48.8))) == []


def test_a_clock_that_was_set_back_delays_nothing() -> None:
    meter = a_meter()
    assert levels(meter.report_level(START + 86_400, percent(49)))
    assert levels(meter.report_level(START, percent(51)))


def test_the_switch_for_records_does_not_keep_a_level_back() -> None:
    assert told(a_meter(push=False), 51, 49) == [False, True]


def test_a_stopped_meter_or_a_lost_level_sends_nothing() -> None:
    meter = a_meter()
    assert levels(meter.report_level(START, None)) == []
    meter.receive(topics.COMMANDS, Command(id="c2", cmd="stop", issuer="r001", epoch=(1, 0)).pack(), START)
    assert meter.commanded(START) == Commanded()
    assert told(meter, 49) == [False]


def test_donors_are_told_in_the_second_in_which_a_level_fell_within_a_slot(tmp_path: Path) -> None:
    world, meter = World(tmp_path / "gateway.db"), a_meter()
    for each in (1, 2, METER):
        world.introduce(each)
        world.level(each, 80)
    world.now = START + 22
    for level in levels(meter.report_level(world.now, percent(47.9))):
        sent = world.meter_says(METER, topics.LEVELS, level.pack())
    shares = [p.topic.split("/")[2] for p in sent for c in commands([p]) if c.cmd == "share_power_on"]
    assert (world.now, shares) == (START + 22, ["1", "2"])
    world.store.close()
