"""Sharing and commands: which battery is told to share, when, what is sent again, and what the utility is told."""

import random
from collections import Counter
from itertools import pairwise

import pytest

from commonwatt.energy.strategies import LEAST_S
from commonwatt.look.sharing_words import RoleReason, reason_of_code
from commonwatt.model.records import Log, State
from commonwatt.model.time import Now, Trust
from commonwatt.protocol.batches import BatchAck
from commonwatt.protocol.commands import Command, Kind, Outcome, Stage
from commonwatt.protocol.heartbeats import Heartbeat, Program
from commonwatt.protocol.json_messages import unpack_json
from gateway.control.manager import RENEW_S, SHARE_FOR_S
from gateway.control.meter_view import RESEND_AT_MOST_S, RESEND_S
from gateway.control.sharing import RENEWED_S
from gateway.shown.status import heartbeat
from harness.surroundings.gateway import CAPACITY, START, World, batches, commands, readings


def households(world: World, *percents: float) -> list[tuple[str, str]]:
    """Introduce meters and their levels; return (meter topic number, command) of the sharing commands sent."""
    before = len(world.sent)
    for meter, percent in enumerate(percents, 1):
        world.introduce(meter)
        world.level(meter, percent)
    return sharing_since(world, before)


def sharing_since(world: World, before: int) -> list[tuple[str, str]]:
    return [(p.topic.split("/")[2], c.cmd) for p in world.sent[before:] for c in commands([p]) if "share" in c.cmd]


def sharing_for(world: World, before: int = 0) -> list[tuple[str, int | None]]:
    sent = [(p.topic.split("/")[2], c) for p in world.sent[before:] for c in commands([p])]
    return [(meter, c.for_s) for meter, c in sent if c.cmd == "share_power_on"]


def test_those_above_share_as_soon_as_a_level_below_its_minimum_arrives(world: World) -> None:
    assert households(world, 80, 70, 48) == [("1", "share_power_on"), ("2", "share_power_on")]


def test_a_level_in_a_put_decides_as_well(world: World) -> None:
    households(world, 80, 70)
    world.introduce(3)
    before = len(world.sent)
    world.put(3, 1, readings(3, 1, 1, kind=2, value=13_000_000, start=START + 15))
    assert sharing_since(world, before) == [("1", "share_power_on"), ("2", "share_power_on")]


def test_a_level_of_hours_ago_in_a_put_shares_nothing(world: World) -> None:
    households(world, 80, 60, 60)
    world.now += 12 * 3600 + 900
    world.level(2, 30)
    world.level(3, 50)
    before = len(world.sent)
    world.put(1, 1, readings(1, 1, 20, start=START + 900, kind=2, value=CAPACITY * 8 // 10))
    assert sharing_since(world, before) == []
    assert not world.core.manager.batteries(world.core.now)[1].available
    world.put(1, 21, readings(1, 21, 1, start=world.now - 60, kind=2, value=CAPACITY * 8 // 10))
    assert sharing_since(world, before) == [("1", "share_power_on")]


def test_sharing_is_not_ended_by_levels_in_its_first_five_minutes(world: World) -> None:
    households(world, 80, 48, 50.5)
    before = len(world.sent)
    for after_s in range(15, LEAST_S + 15, 15):
        assert sharing_since(world, before) == [], after_s
        world.now = START + after_s
        world.level(1, 80)
        world.level(2, 50)
    assert sharing_since(world, before) == [("1", "share_power_off")]
    world.now += 15
    world.level(2, 48.1)
    assert sharing_since(world, before)[1:] == []
    world.now += 15
    world.level(2, 47.9)
    assert sharing_since(world, before)[1:] == [("1", "share_power_on")], "its start is never delayed"


def test_a_successor_ends_sharing_five_minutes_after_its_start_too(world: World) -> None:
    households(world, 80, 48, 60)
    world.now += LEAST_S - 30
    world.crash()
    for after_s in (15, 30):
        assert sharing_since(world, 0) == []
        world.now = START + LEAST_S - 30 + after_s
        for meter, percent in ((1, 80), (2, 50), (3, 60)):
            world.introduce(meter)
            world.level(meter, percent)
    assert sharing_since(world, 0) == [("1", "share_power_off"), ("3", "share_power_off")]


def test_a_new_weight_does_not_count_as_a_new_start(world: World) -> None:
    world.settings = world.settings.model_copy(update={"sharing": "rangers"})
    world.crash()
    households(world, 70, 60, 25)
    for percents in ((70, 60, 25), (70, 60, 25), (55, 60, 25), (55, 60, 25)):
        world.now += 60
        for meter, percent in enumerate(percents, 1):
            world.level(meter, percent)
    assert weights_of(world, 1)[-1] != weights_of(world, 1)[0]
    before = len(world.sent)
    for at in (START + LEAST_S - 1, START + LEAST_S):
        assert sharing_since(world, before) == []
        world.now = at
        world.level(3, 50.1)
    world.tick("retry")
    world.do(world.core.manager.share(world.core.now))
    assert {cmd for _, cmd in sharing_since(world, before)} == {"share_power_off"}


@pytest.mark.parametrize("cause", ["donor at its minimum", "receivers a band above", "island", "strategy", "isolated"])
def test_sharing_ends_at_once_by_what_is_no_noise(world: World, cause: str) -> None:
    households(world, 80, 48, 50.5)
    world.now += 15
    world.level(2, 50.1)
    before = len(world.sent)
    world.now += 15
    if cause == "donor at its minimum":
        world.level(1, 50)
    elif cause == "receivers a band above":
        world.level(2, 52)
        assert sharing_since(world, before) == [], "one of them is nearer"
        world.level(3, 52)
    elif cause == "island":
        world.core.manager.island = True
        world.level(2, 50.1)
    elif cause == "strategy":
        world.core.manager.strategy = "aces"
        world.do(world.core.manager.share(world.core.now))
    else:
        world.level(1, 80, State.INITIALIZED | State.ISOLATED)
    assert sharing_since(world, before) == [("1", "share_power_off")]


@pytest.mark.parametrize(("half_bands", "most"), [(1, 4), (2, 24)])
@pytest.mark.parametrize("sharing", ["spec", "rangers"])
def test_noise_in_a_receivers_level_does_not_switch_its_donors(
    world: World, sharing: str, half_bands: int, most: int
) -> None:
    """The receiver stands half a band below its minimum, where noise switches most."""
    world.settings = world.settings.model_copy(update={"sharing": sharing})
    world.crash()
    households(world, 85, 80, 49)
    rng, before = random.Random(1), len(world.sent)
    for world.now in range(START + 15, START + 3600 + 1, 15):
        for meter, percent in ((1, 85), (2, 80), (3, 49)):
            world.level(meter, percent + rng.uniform(-1, 1) * half_bands)
    switched = [(meter, a) for (meter, a) in changes(sharing_since(world, before))]
    assert max(Counter(meter for meter, _ in switched).values(), default=0) <= most


def changes(sent: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return the commands that are not renewals."""
    last: dict[str, str] = {}
    found = []
    for meter, cmd in sent:
        if last.get(meter) != cmd:
            found.append((meter, cmd))
        last[meter] = cmd
    return found


def test_a_donor_without_a_level_for_two_periods_stops(world: World) -> None:
    households(world, 80, 40, 90)
    for _ in range(5):
        world.now += 30
        world.level(2, 40)
        before = len(world.sent)
        world.level(3, 90)
    assert world.now - START == 150
    assert sharing_since(world, before) == []
    assert ("1", "share_power_off") in sharing_since(world, 0)
    assert ("3", "share_power_off") not in sharing_since(world, 0)


def test_after_the_clock_was_set_back_a_level_that_came_before_is_old(world: World) -> None:
    households(world, 80, 40)
    confirm(world)
    world.core.time.jumped()
    world.now -= 4 * 3600
    world.level(2, 40)
    before = len(world.sent)
    world.tick("levels_s")
    assert ("1", "share_power_off") in sharing_since(world, before), "its level may be of any time"


@pytest.mark.parametrize(("sharing", "donors"), [("spec", {"1", "2"}), ("rangers", {"2"}), ("aces", set())])
def test_the_strategy_of_the_settings_decides(world: World, sharing: str, donors: set[str]) -> None:
    world.settings = world.settings.model_copy(update={"sharing": sharing})
    world.crash()
    households(world, 60, 80, 45)
    assert {meter for meter, _ in sharing_since(world, 0)} >= donors
    assert set(map(str, world.core.manager.decision.donors)) == donors


def test_a_donor_is_sent_its_weight_again_when_it_is_far_from_the_plan(world: World) -> None:
    world.settings = world.settings.model_copy(update={"sharing": "rangers"})
    world.crash()
    households(world, 70, 60, 25)
    assert [weights_of(world, meter) for meter in (1, 2)] == [[None], [None]] or weights_of(world, 1)
    world.now += 15
    before = len(world.sent)
    world.level(2, 59.9)
    assert sharing_since(world, before) == [], "near enough"
    world.level(1, 55)
    assert weights_of(world, 2)[-1] == 1000
    assert sharing_since(world, before).count(("2", "share_power_on")) == 1


def weights_of(world: World, meter: int) -> list[int | None]:
    sent = [p for p in world.sent if p.topic == f"cw1/r001/{meter}/d/cmd"]
    return [c.weight for c in commands(sent) if c.cmd == "share_power_on"]


def test_sharing_that_a_restarted_gateway_finds_goes_on_until_all_levels_are_known(world: World) -> None:
    households(world, 80, 40, 90)
    world.crash()
    for meter, percent in ((1, 80), (3, 90)):
        world.introduce(meter)
        world.level(meter, percent)
    assert sharing_since(world, 0) == [], "the battery that needs help is not known yet"
    world.introduce(2)
    world.level(2, 40)
    assert sharing_since(world, 0) == []
    world.crash()
    for meter, percent in ((1, 80), (3, 50)):
        world.introduce(meter)
        world.level(meter, percent)
    assert sharing_since(world, 0) == [("3", "share_power_off")], "a donor never falls below its minimum"
    world.now += 121
    world.level(1, 80)
    assert sharing_since(world, 0)[1:] == [("1", "share_power_off")], "two periods without a level"


def test_a_restarted_gateway_does_not_wait_for_a_meter_that_was_replaced(world: World) -> None:
    world.settings = world.settings.model_copy(update={"sharing": "rangers"})
    world.meters = world.meters | {1: world.meters[1].model_copy(update={"replaced": True})}
    world.crash()
    for meter, percent in ((2, 40), (3, 90)):
        world.introduce(meter)
        world.level(meter, percent)
    assert sharing_since(world, 0) == [("3", "share_power_on")]


def test_the_order_ends_by_itself_and_is_renewed_while_needed(world: World) -> None:
    households(world, 80, 40)
    order = next(c for c in commands(world.sent) if c.cmd == "share_power_on")
    assert order.until == START + SHARE_FOR_S
    world.answer(order, 1)
    world.now += SHARE_FOR_S - RENEW_S
    world.level(1, 80)
    before = len(world.sent)
    world.level(2, 40)
    renewed = commands(world.sent[before - 1 :])
    assert any(c.cmd == "share_power_on" and (c.seq or 0) > (order.seq or 0) for c in renewed)


def test_an_unconfirmed_command_is_sent_again_until_it_is_confirmed(world: World) -> None:
    households(world, 80, 40)
    order = next(c for c in commands(world.sent) if c.cmd == "share_power_on")
    world.now += RESEND_S
    again = [c for c in commands(world.tick("retry")) if c.cmd == "share_power_on"]
    assert [(c.seq, c.until) for c in again] == [(order.seq, order.until)]
    world.answer(order, 1)
    world.now += RESEND_AT_MOST_S
    assert not [c for c in commands(world.tick("retry")) if c.cmd == "share_power_on"]


def test_an_unconfirmed_command_outlives_a_crash_but_not_its_end(world: World) -> None:
    households(world, 80, 40)
    world.crash()
    assert [c for c in commands(world.tick("retry")) if c.cmd == "share_power_on"]
    world.crash()
    world.now += SHARE_FOR_S
    assert not [c for c in commands(world.tick("retry")) if c.cmd == "share_power_on"]


def test_a_gateway_that_lost_its_store_goes_on_above_the_meters_pairs(world: World) -> None:
    world.introduce(1, held={Kind.SHARING: {"value": "off", "epoch": (3, 0), "seq": 41}}, epoch=(3, 0))
    world.introduce(2)
    world.level(1, 80)
    world.level(2, 40)
    order = next(c for c in commands(world.sent) if c.cmd == "share_power_on")
    assert order.epoch == (4, 0)
    world.crash()
    assert world.core.manager.epochs.of(1) == (4, 0), "it is in the store before it is on the wire"


def test_a_meter_that_obeys_another_manager_is_not_commanded_and_the_utility_is_told(world: World) -> None:
    households(world, 80, 40)
    world.introduce(1, cmd="share_power_on", epoch=(2, 1))
    before = len(world.sent)
    for _ in range(20):
        world.now += 60
        for job in ("retry", "levels_s", "collect_s"):
            world.tick(job)
        world.level(1, 90)
        world.do(world.core.probe("meters", world.now))
    topics = {p.topic for p in world.sent[before:]}
    assert "cw1/r001/1/d/cmd" not in topics
    assert "cw1/r001/2/d/cmd" in topics, "others are commanded as before"
    (heartbeat,) = world.tick("heartbeat")
    assert unpack_json(Heartbeat, heartbeat.payload).fenced == 1
    meters = world.view()["meters"]
    assert isinstance(meters, dict)
    assert (meters["registered"], meters["answered"], meters["fenced"]) == (4, 2, {"1": [2, 1]})
    world.introduce(1, cmd="get", epoch=(1, 0))
    assert [c for c in commands(world.tick("levels_s")) if c.what == "levels"], "it may have forgotten the other one"


def test_a_pair_of_another_manager_is_not_adopted_either(world: World) -> None:
    households(world, 80, 40)
    world.introduce(1, cmd="share_power_on", held={Kind.SHARING: {"value": "off", "epoch": (2, 1), "seq": 1}})
    world.now += RESEND_S
    assert not [p for p in world.tick("retry") if p.topic == "cw1/r001/1/d/cmd"]


@pytest.mark.parametrize("counter", [2**32 - 1, 2**32 - 2, 10**6])
def test_a_meter_that_claims_a_huge_epoch_of_ours_changes_nothing_for_the_others(world: World, counter: int) -> None:
    households(world, 80, 40)
    for _ in range(100):
        world.introduce(2, cmd="get", epoch=(counter, 0))
    before = len(world.sent)
    world.introduce(1, cmd="get")
    world.now += RESEND_S
    sent = [p for p in [*world.sent[before:], *world.tick("retry")] if p.topic == "cw1/r001/1/d/cmd"]
    assert {c.epoch for c in commands(sent)} == {(1, 0)}
    assert (2 in world.core.manager.epochs.fenced) is (counter == 2**32 - 1)


def test_an_order_is_raised_above_a_higher_pair_a_meter_turns_out_to_hold(world: World) -> None:
    households(world, 80, 40)
    held: dict[Kind, dict[str, object]] = {Kind.SHARING: {"value": "off", "epoch": (1, 0), "seq": 9}}
    assert world.introduce(1, cmd="share_power_on", held=held) == [], "in its turn, not at once"
    world.now += RESEND_S
    (again,) = [c for c in commands(world.tick("retry")) if c.cmd == "share_power_on"]
    assert again.seq == 10


def test_a_meter_that_says_nonsense_is_not_argued_with(world: World) -> None:
    """It holds the pair, it says, but another value; and its numbers are beyond reason."""
    households(world, 80, 40)
    for n in range(100):
        desired = world.core.manager._desired[1, Kind.SHARING]
        seq = 2**53 - 1 if n % 2 else desired.seq
        held: dict[Kind, dict[str, object]] = {Kind.SHARING: {"value": "off", "epoch": desired.epoch, "seq": seq}}
        assert world.introduce(1, cmd="share_power_on", held=held) == []
    before = len(world.sent)
    world.now += 15
    world.level(1, 20)
    world.level(2, 60)
    world.put(3, 1, readings(3, 1, 1))
    assert ("2", "share_power_on") in sharing_since(world, before)
    assert world.store.coverage(3, Log.HISTORY, 1) == [(1, 1)]


def test_a_silent_or_isolated_battery_is_not_told_to_share(world: World) -> None:
    world.introduce(1)
    world.introduce(2)
    world.level(1, 80, State.INITIALIZED | State.ISOLATED)
    before = len(world.sent)
    world.level(2, 40)
    assert sharing_since(world, before) == []
    world.level(1, 80)
    world.now += 600
    world.level(2, 39)
    assert sharing_since(world, before) == [], "the donor's level is ten minutes old"


def test_a_receiver_nobody_hears_of_any_more_keeps_nobody_sharing(world: World) -> None:
    households(world, 80, 40)
    world.now += 600
    before = len(world.sent)
    world.level(1, 80)
    assert sharing_since(world, before) == [("1", "share_power_off")]


def test_time_is_trusted_when_the_utility_confirms_it(world: World) -> None:
    world.crash()
    world.forget_time()
    for off_s, trust in ((5000, Trust.NONE), (10, Trust.NETWORK)):
        confirm(world, off_s)
        world.do(world.core.committed(world.now))
        assert world.core.now.trust is trust
    assert world.view()["time"] == world.now + 10


def confirm(world: World, off_s: int = 0) -> None:
    """The utility says the time, which is so far ahead."""
    (hello,) = batches(world.do(world.core.connected(world.now)))
    time = max(0, world.now + off_s)
    ack = BatchAck(time=time, trust=Trust.NETWORK, utility_store=7, store=hello.store, sequence=hello.sequence)
    world.utility_says("ack", ack.pack())


def test_a_gateway_that_starts_in_1970_goes_on_with_everything_when_it_learns_the_time(world: World) -> None:
    """States were ordered for durations, timers wait as long as they would have, and nothing is thrown away."""
    world.forget_time()
    world.now, today = 600, world.now
    assert world.put(1, 1, readings(1, 1, 2, start=today)).rejected == ()
    households(world, 80, 40)
    assert sharing_for(world) == [("1", SHARE_FOR_S)]
    confirm(world, today - 600)
    assert world.view()["trust"] == "network"
    # It lasts as long as it was ordered to; then it is ordered once more, and left alone.
    assert kept_ends(world) == {(1, Kind.SHARING): today + SHARE_FOR_S}
    before = len(world.sent)
    for after_s in range(0, SHARE_FOR_S - RENEW_S + 60, 60):
        world.now = 600 + after_s
        households(world, 80, 40)
        world.tick("levels_s")
    ends = {c.until for c in commands(world.sent[before:]) if c.cmd == "share_power_on"}
    assert ends == {today + SHARE_FOR_S - RENEW_S + RENEWED_S}


def kept_ends(world: World) -> dict[tuple[int, Kind], int | None]:
    return {(desired.meter, desired.kind): desired.until for desired in world.store.desired()}


@pytest.mark.parametrize("by_s", [3600, -3600, 1_700_000_000])
def test_what_lasts_a_while_does_so_when_the_time_is_set_and_what_ends_at_a_time_ends_then(
    world: World, by_s: int
) -> None:
    manager, relay, start = world.core.manager, world.core.relay, world.now
    world.tick("retry")
    world.do(manager.order(1, Kind.AGGREGATION, "lossy", start + 7200, Now(start, Trust.NETWORK)))  # told as a time
    world.forget_time()
    world.tick("retry")
    world.do(manager.order(2, Kind.AGGREGATION, "lossy", start + 7200, Now(start, Trust.NONE)))  # told as a duration
    world.do(relay.aggregate("lossless", start + 7200))
    set_by(world, by_s)
    assert relay.mode.until == start + 7200 + by_s
    expected = {(1, Kind.AGGREGATION): start + 7200, (2, Kind.AGGREGATION): start + 7200 + by_s}
    assert kept_ends(world) == expected
    world.crash()
    set_by(world, by_s)  # what a store knows of ends is a time, by whatever clock this process began
    assert world.core.relay.mode.until == start + 7200 + by_s
    assert kept_ends(world) == expected


def set_by(world: World, by_s: int) -> None:
    """The utility sets the time."""
    world.core.time.offset_s += by_s
    world.core.time._stepped_s += by_s
    world.core.time.network(world.now, world.now + world.core.time.offset_s, 0)
    world.tick("retry")


def test_an_end_that_is_told_to_its_meter_as_a_time_no_longer_goes_along(world: World) -> None:
    world.forget_time()
    world.tick("retry")
    world.do(world.core.manager.order(1, Kind.AGGREGATION, "lossy", world.now + 7200, Now(world.now, Trust.NONE)))
    set_by(world, 600)
    until = world.now + 7800
    world.now += RESEND_S
    assert [c.until for c in commands(world.tick("retry")) if c.cmd == "aggregate"] == [until]
    set_by(world, 600)
    assert kept_ends(world) == {(1, Kind.AGGREGATION): until}


def test_an_end_that_was_given_as_a_time_stays_though_its_meter_is_told_a_duration_later(world: World) -> None:
    """After a restart without a clock the duration is as wrong as the time; the end is still meant as it was given."""
    until = world.now + 7200
    world.tick("retry")
    (told,) = commands(
        world.do(world.core.manager.order(1, Kind.AGGREGATION, "lossy", until, Now(world.now, Trust.NETWORK)))
    )
    assert told.until == until
    world.crash()
    world.forget_time()
    world.now -= 1800
    assert [c.for_s for c in commands(world.tick("retry")) if c.cmd == "aggregate"] == [9000]
    set_by(world, 1800)
    assert kept_ends(world) == {(1, Kind.AGGREGATION): until}


def test_an_end_set_by_a_time_that_is_not_trusted_is_not_kept(world: World) -> None:
    """The meters may be wrong by a day, and a restart forget that they were followed."""
    world.forget_time()
    world.tick("retry")
    until = world.now + 7200
    world.do(world.core.relay.aggregate("lossless", until))
    for meter in (1, 2, 3):
        world.core.time.meter(world.now, meter, world.now + 86_400)
    world.tick("retry")
    assert world.core.relay.mode.until == until + 86_400
    world.crash()
    assert world.core.relay.mode.until == until


def test_sharing_that_another_clock_has_ordered_for_years_is_decided_anew(world: World) -> None:
    households(world, 80, 40)
    world.crash()
    world.forget_time()
    world.now = 600
    assert [c.cmd for c in commands(world.tick("retry"))] == ["initialize"] * 4
    before = len(world.sent)
    households(world, 80, 40)
    assert sharing_for(world, before) == [("1", SHARE_FOR_S)]


def test_timers_are_unharmed_when_the_time_is_set_back(world: World) -> None:
    households(world, 80, 40)
    world.core.time.jumped()
    confirm(world, -800)
    assert "share_power_on" in [c.cmd for c in commands(world.tick("levels_s"))]
    world.now += RESEND_S
    assert "share_power_on" in [c.cmd for c in commands(world.tick("retry"))]
    world.put(1, 1, readings(1, 1, 2))
    world.now += 60
    assert [len(batch.keys) for batch in batches(world.tick("relay_s"))] == [1]


def test_a_meter_whose_outcome_shows_a_wrong_time_is_told_the_right_one_once_a_minute(world: World) -> None:
    right = world.now
    world.introduce(1)
    world.now -= 3600
    sent = world.introduce(1)
    assert [c for c in sent if c.cmd == "put"] == []
    world.now = right + 10
    outcome = world.core.manager.outcome
    late = Outcome.model_validate(
        {"id": "x", "cmd": "get", "result": "done", "time": right - 3600, "bits": 1, "push": True}
    )
    told = [
        c
        for _ in range(2)
        for c in commands(world.do(outcome(1, late, Now(world.now, Trust.NETWORK))))
        if c.cmd == "put"
    ]
    assert [(c.time, c.trust) for c in told] == [(world.now, Trust.NETWORK)]
    world.now += 60
    assert [c.cmd for c in commands(world.do(outcome(1, late, Now(world.now, Trust.NETWORK))))] == ["put"]


def test_the_minimum_a_meter_names_is_not_dated_by_a_clock_that_is_not_trusted(world: World) -> None:
    world.forget_time()
    world.introduce(1, minimum=30)
    assert world.core.manager.minima() == {1: (30, 0)}
    confirm(world)
    world.introduce(1, minimum=30)
    assert world.core.manager.minima() == {1: (30, world.now)}


def test_an_answer_to_something_long_ago_makes_no_wrong_clock_trusted(world: World) -> None:
    """Found by the simulation: the network had held it, and its time agreed with a clock that was slow."""
    (hello,) = batches(world.do(world.core.connected(world.now)))
    ack = BatchAck(time=world.now, trust=Trust.NETWORK, utility_store=7, store=hello.store, sequence=hello.sequence)
    world.utility_says("ack", ack.pack())
    world.crash()
    world.forget_time()
    world.utility_says("ack", ack.pack())
    assert world.core.now.trust is Trust.NONE


def test_another_value_under_the_same_pair_is_ordered_again_above_it(world: World) -> None:
    """The store was lost, and what was ordered before had the same number."""
    (order,) = commands(
        world.do(world.core.manager.order(4, Kind.AGGREGATION, "none", None, Now(world.now, Trust.NETWORK)))
    )
    held: dict[Kind, dict[str, object]] = {Kind.AGGREGATION: {"value": "lossy", "epoch": order.epoch, "seq": order.seq}}
    assert world.introduce(4, minimum=None, cmd="deaggregate", held=held) == []
    world.now += RESEND_S
    (again,) = [c for c in commands(world.tick("retry")) if c.cmd == "deaggregate"]
    assert again.seq == (order.seq or 0) + 1


def test_a_meter_that_never_confirms_is_asked_less_and_less_often(world: World) -> None:
    households(world, 80, 40)
    sent = 0
    for _ in range(SHARE_FOR_S // 5):
        world.now += 5
        sent += sum(c.cmd == "share_power_on" for c in commands(world.tick("retry")))
    assert 3 <= sent <= 10


def test_levels_near_the_minimum_are_asked_for_every_slot_and_others_by_the_minute(world: World) -> None:
    households(world, 90, 52)
    world.now += 15
    assert asked_levels(world) == {"2"}
    world.now += 45
    assert asked_levels(world) >= {"1", "2"}


def asked_levels(world: World) -> set[str]:
    return {p.topic.split("/")[2] for p in world.tick("levels_s") for c in commands([p]) if c.what == "levels"}


def test_every_meter_is_initialized_until_it_answers(world: World) -> None:
    def asked() -> set[str]:
        return {p.topic.split("/")[2] for p in world.tick("retry") for c in commands([p]) if c.cmd == "initialize"}

    assert asked() == {"1", "2", "3", "4"}
    world.introduce(1)
    world.now += 5
    assert asked() == set()
    world.now += 60
    assert asked() == {"2", "3", "4"}


def test_only_meters_that_wait_to_be_asked_are_asked_for_records(world: World) -> None:
    world.introduce(1, push=True)
    world.introduce(2, push=False)
    sent = world.tick("collect_s")
    asked = {(p.topic.split("/")[2], c.what, c.quiet) for p in sent for c in commands([p])}
    assert asked == {("2", "records", True), ("2", "events", True)}
    assert world.tick("collect_s") == [], "a period that is done is not done again"
    world.now += 60
    assert world.tick("collect_s")


def test_a_job_with_a_long_period_is_not_done_again_after_a_restart(world: World) -> None:
    world.tick("compact_s")
    world.tick("relay_s")
    period = world.store.period("compact_s")
    world.crash()
    world.do(world.core.tick("compact_s", world.now))
    assert not world.core.relay.compacting
    assert (world.store.period("compact_s"), world.store.period("relay_s")) == (period, None)
    world.core.tick("relay_s", world.now)
    assert world.core.relay.sending, "a minute's is not stored: that would be a write to the card each minute"


def codes(world: World) -> dict[int, str]:
    sent = heartbeat(
        world.core, world.controller.line, world.core.now, None, {}, {}, Program(release="0.4", cert_days=9)
    )
    said = unpack_json(Heartbeat, sent.payload)
    assert said.program == Program(release="0.4", cert_days=9)
    return dict(said.sharing)


def test_a_heartbeat_says_why_each_battery_shares_or_not(world: World) -> None:
    assert set(codes(world).values()) == {RoleReason.NO_ANSWER}
    households(world, 80, 70, 48)
    found = codes(world)
    assert (found[1], found[2], found[3]) == ("helps?", "helps?", "low"), "no meter has confirmed yet"
    world.now += 600
    world.level(3, 48)
    assert codes(world)[1] == RoleReason.OLD_LEVEL


def test_the_page_and_the_heartbeat_say_alike_why_a_battery_can_not_take_part(world: World) -> None:
    households(world, 80, 70)
    world.introduce(3)
    assert codes(world)[3] == RoleReason.NO_LEVEL
    world.introduce(3, minimum=None)
    world.level(1, 80, State.INITIALIZED | State.ISOLATED)
    world.level(2, 70, State(0))
    world.level(3, 48)
    found = codes(world)
    assert [found[meter] for meter in (1, 2, 3)] == [RoleReason.ISOLATED, RoleReason.SHUT_DOWN, RoleReason.NO_MINIMUM]
    world.core.manager.epochs.fenced[3] = (2, 1)
    assert codes(world)[3] == RoleReason.FENCED
    shown = {meter: battery["why"] for meter, battery in world.view()["batteries"].items()}
    assert shown == {str(meter): reason_of_code(code, 10).why for meter, code in codes(world).items()}


def test_before_a_boundary_meter_reports_a_battery_says_that_sharing_waits_for_it(world: World) -> None:
    world.core.manager.waits = True
    households(world, 80, 48)
    assert codes(world)[1] == RoleReason.WAITS_BOUNDARY


def test_each_reason_is_a_sentence_and_one_of_a_later_version_says_so() -> None:
    for why in RoleReason:
        assert reason_of_code(why, 20).why.endswith(".")
        assert "{" not in reason_of_code(why, 20).why
    assert reason_of_code("waits-band", 20).why.startswith("Less than 2 % of its capacity")
    assert reason_of_code("helps?", 20).why.endswith("it is sent again.")
    assert reason_of_code("by-the-moon", 20).role == "out"
    with pytest.raises(ValueError, match="by-the-moon"):
        RoleReason("by-the-moon")


def state(stage: Stage, failsafe: str = "watchdog") -> dict[str, object]:
    return {"stage": stage, "since": 5, "failsafe": failsafe, "finding": "should be on, and shows 'idle'"}


def answers(world: World, meter: int, kind: Kind, cmd: str, stage: Stage, result: str = "refused") -> list[Command]:
    """Let a foreign meter answer that its device is at a stage; it withdraws what was refused."""
    desired = world.core.manager.desired(meter, kind)
    assert desired is not None
    held: dict[str, object] = {"value": "on" if result == "done" else "off", "epoch": desired.epoch, "seq": desired.seq}
    until = {"until": desired.until} if result == "done" else {}
    return world.introduce(meter, cmd=cmd, result=result, states={kind: state(stage)}, held={kind: held | until})


def told(world: World, since: int, cmd: str) -> list[str]:
    return [p.topic.split("/")[2] for p in world.sent[since:] for c in commands([p]) if c.cmd == cmd]


def test_others_give_at_once_and_it_is_told_again_after_longer_and_longer_waits(world: World) -> None:
    world.settings = world.settings.model_copy(update={"sharing": "rangers"})
    world.crash()
    households(world, 80, 80, 30)
    before = len(world.sent)
    answers(world, 1, Kind.SHARING, "share_power_on", Stage.DISOBEYS)
    assert "1" in told(world, before, "share_power_off")
    assert codes(world)[1] == RoleReason.DISOBEYS
    assert set(world.core.manager.decision.donors) == {2}
    at = []
    for _ in range(8 * 60):
        world.now += 60
        before = len(world.sent)
        for meter, percent in ((1, 80), (2, 80), (3, 30)):
            world.level(meter, percent)
        world.tick("retry")
        if "1" in told(world, before, "share_power_on"):
            at.append(world.now)
            answers(world, 1, Kind.SHARING, "share_power_on", Stage.DISOBEYS)
    assert [(b - a) // 60 for a, b in pairwise(at)] == [20, 40, 80, 160, 160]
    world.now += 160 * 60
    for meter, percent in ((1, 80), (2, 80), (3, 30)):
        world.level(meter, percent)
    answers(world, 1, Kind.SHARING, "share_power_on", Stage.OBEYS, "done")
    assert codes(world)[1] == RoleReason.HELPS


def test_a_load_that_does_not_reduce_is_not_told_each_minute(world: World) -> None:
    world.introduce(1)
    manager = world.core.manager
    world.do(manager.keep(1, Kind.REDUCING, True, world.core.now))
    answers(world, 1, Kind.REDUCING, "reduce_power_on", Stage.DISOBEYS)
    before = len(world.sent)
    for _ in range(9):
        world.now += 60
        world.do(manager.keep(1, Kind.REDUCING, True, world.core.now))
        world.do(manager.resend(world.core.now))
    assert not told(world, before, "reduce_power_on")
    world.now += 120
    world.do(manager.keep(1, Kind.REDUCING, True, world.core.now))
    world.do(manager.resend(world.core.now))
    assert told(world, before, "reduce_power_on")


def test_a_battery_that_can_not_show_whether_it_obeys_is_unconfirmed_for_people(world: World) -> None:
    households(world, 80, 30)
    assert codes(world)[1] == "helps?"
    answers(world, 1, Kind.SHARING, "share_power_on", Stage.UNCONFIRMED, "done")
    assert codes(world)[1] == "helps~"
    assert reason_of_code("helps~", 10).why.endswith("It can't show whether it obeys (unconfirmed).")


def test_a_switch_that_did_not_open_is_still_permitted_to_close(world: World) -> None:
    world.introduce(1)
    manager = world.core.manager
    world.do(manager.keep(1, Kind.ISOLATED, True, world.core.now))
    answers(world, 1, Kind.ISOLATED, "isolate", Stage.DISOBEYS)
    before = len(world.sent)
    world.do(manager.keep(1, Kind.ISOLATED, False, world.core.now, explicit=True))
    assert told(world, before, "isolate")
    before = len(world.sent)
    world.now += 120
    world.tick("retry")
    assert told(world, before, "isolate"), "until it is confirmed"


def test_refusals_during_a_wait_make_it_no_longer(world: World) -> None:
    """An adapter whose device's broker is away tries to end the state, and is refused again and again."""
    world.introduce(1)
    manager = world.core.manager
    world.do(manager.keep(1, Kind.REDUCING, True, world.core.now))
    for _ in range(6):
        answers(world, 1, Kind.REDUCING, "reduce_power_off", Stage.DISOBEYS)
        world.now += 100
    world.now += 60
    before = len(world.sent)
    world.tick("retry")
    world.do(manager.keep(1, Kind.REDUCING, True, world.core.now))
    world.do(manager.resend(world.core.now))
    assert told(world, before, "reduce_power_on")
