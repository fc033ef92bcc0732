"""A gateway with a clique: it commands what it manages, and nothing else (docs/controllers.md)."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from commonwatt.clique.beats import BEAT_S, LATE_S, PATIENT_S, PAUSE_S, Beat, Bits, Signs
from commonwatt.clique.messages import (
    MOST_BYTES,
    MOST_STATES_BYTES,
    CliqueMessage,
    Grant,
    Known,
    Sealing,
    States,
    Vote,
    Yield,
)
from commonwatt.config.settings import GatewaySettings
from commonwatt.device.records import RETRY_S
from commonwatt.model.effects import Publish
from commonwatt.model.time import Now, Trust
from commonwatt.model.units import SLOT_S, ControllerId
from commonwatt.protocol.commands import EPOCH_STEP, RAISES, Outcome
from commonwatt.protocol.controller_commands import ControllerOutcome
from commonwatt.protocol.heartbeats import Heartbeat
from commonwatt.protocol.json_messages import unpack_json
from commonwatt.protocol.meter_messages import LiveLevel, Refusal
from commonwatt.protocol.topics import UTILITY
from gateway.clique.core import CliqueCore
from gateway.clique.effects import Begin, EpochPair, Means, Post, TakeStates
from gateway.clique.hearing import ASK_AGAIN_S, HOSTED_S, MANAGED_S, MOST_AT_ONCE, Hearing, Reports
from gateway.clique.member import STEP_S, Member
from gateway.collect import LEAVING_S, UNANSWERED_S, Departures
from gateway.control.epochs import GrantedEpochs
from gateway.controller import HEARTBEAT, Controller, carried, take
from gateway.core import RETRY
from gateway.events import FromMeter, Granted, Tick, ToldStates
from gateway.store.store import Store
from harness.surroundings.gateway import START, World, commands, readings, registered

ORDER = ("r001", "r002", "r003")
RANKS = {"r001": 1, "r002": 2, "r003": 3}


class Cliqued(World):
    """A gateway of r001 with a part in its clique."""

    def new_core(self) -> None:
        post = Post(microgrid="r001", own="r001", order=ORDER, ranks=RANKS, meters=len(self.meters))
        self.member = Member(post, EpochPair((1, 1), (1, 1)), Signs((*ORDER[1:], UTILITY), 0), 0, 1)
        self.controller = Controller(self.settings, self.store, self.meters, {"r001": self.member})
        self.core = self.controller.own
        self.core.time.network(self.now, self.now, 0)

    def confirmed(self) -> None:
        """Let two meters say that they know no higher epoch."""
        for meter in (1, 2):
            self.member.meter_said(meter, (0, 0), 0)
        assert self.member.commands

    def command(self, **fields: Any) -> list[ControllerOutcome]:
        """Let the utility send a command; return the answers."""
        content = {"v": 1, "until": self.now + 3600, **fields}
        sent = self.utility_says("cmd", json.dumps(content).encode())
        return [unpack_json(ControllerOutcome, one.payload) for one in sent if one.topic == "cw1/r001/u/out"]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[Cliqued]:
    world = Cliqued(tmp_path / "gateway.db")
    yield world
    world.store.close()


def test_nothing_is_commanded_before_the_epoch_is_confirmed(world: Cliqued) -> None:
    assert commands(world.tick(RETRY)) == []
    world.confirmed()
    sent = commands(world.tick(RETRY))
    assert {(command.cmd, command.epoch, command.issuer) for command in sent} == {("initialize", (1, 1), "r001")}
    assert len(sent) == len(world.meters)


def deposed(world: Cliqued) -> None:
    world.confirmed()
    for meter in (1, 2):
        world.member.meter_said(meter, (5, 2), 0)


def test_a_deposed_gateway_commands_nothing_and_still_takes_records(world: Cliqued) -> None:
    deposed(world)
    for job in (RETRY, "levels_s", "collect_s"):
        assert commands(world.tick(job)) == []
    assert world.introduce(1, epoch=(5, 2)) == []
    with pytest.raises(StopIteration):
        world.put(1, 1, readings(1, 1, 3))
    world.now += UNANSWERED_S
    assert world.put(1, 1, readings(1, 1, 3)).status is Refusal.NONE


def test_a_deposed_gateway_answers_no_put_for_so_long_that_each_meter_leaves_it(world: Cliqued) -> None:
    deposed(world)
    world.tick(RETRY)
    world.now += LEAVING_S
    with pytest.raises(StopIteration):
        world.put(2, 1, readings(2, 1, 3))
    world.now += 1
    assert world.put(2, 1, readings(2, 1, 3)).status is Refusal.NONE, "it has been here for an hour"
    assert RETRY_S[0] + RETRY_S[1] + 15 < UNANSWERED_S, "two misses, and a slot"


def test_a_meter_is_served_after_a_step_of_the_clock() -> None:
    departures = Departures()
    departures.look(START, deposed=True)
    assert departures.awaits(1, START)
    assert not departures.awaits(1, START - 7_200)
    assert not departures.awaits(1, START + 7_200)


def test_a_gateway_that_manages_again_answers_at_once(world: Cliqued) -> None:
    deposed(world)
    with pytest.raises(StopIteration):
        world.put(1, 1, readings(1, 1, 3))
    world.member.handle(UTILITY, Grant(microgrid="r001", epoch=(6, 1), replaces=(5, 2)), 0)
    assert world.put(1, 1, readings(1, 1, 3)).status is Refusal.NONE, "it manages again"


def test_the_manager_names_the_order_of_brokers(world: Cliqued) -> None:
    world.confirmed()
    assert {one.brokers for one in commands(world.tick(RETRY))} == {()}, "as installed"
    post = Post(microgrid="r001", own="r002", order=ORDER, ranks=RANKS, meters=3)
    epochs = GrantedEpochs(Member(post, EpochPair((1, 2), (1, 2)), Signs(("r001", "r003", UTILITY), 0), 0, 1))
    assert epochs.brokers == ("r002", "r003", "r001")


def test_one_meter_that_claims_a_higher_epoch_is_left_alone_and_no_other(world: Cliqued) -> None:
    world.confirmed()
    world.introduce(3, epoch=(9, 3))
    assert {command.epoch for command in commands(world.tick(RETRY))} == {(1, 1)}
    assert world.core.manager.epochs.fenced == {3: (9, 3)}
    assert len(commands(world.sent)) > 0
    world.sent.clear()
    world.now += 60
    world.tick(RETRY)
    assert not [one for one in world.sent if one.topic == "cw1/r001/3/d/cmd"]


def test_a_new_grant_begins_with_initialize_and_forgets_what_was_desired(world: Cliqued) -> None:
    world.confirmed()
    world.tick(RETRY)
    for meter in world.meters:
        world.introduce(meter)
    world.command(id="1", cmd="reduce", state="on", for_s=3600)
    assert {desired.kind for desired in world.store.desired()} == {"reducing"}

    world.member.kept = EpochPair((7, 1), (7, 1))
    world.sent.clear()
    sent = commands(world.handle(Granted("r001")))
    assert {(command.cmd, command.epoch) for command in sent} == {("initialize", (7, 1))}
    assert len(sent) == len(world.meters)
    assert world.store.desired() == []


def test_a_deposed_gateway_refuses_commands_for_meters_and_still_answers_for_data(world: Cliqued) -> None:
    assert world.command(id="1", cmd="reduce", state="on", for_s=60) == [], "it does not know yet: it is sent again"
    for meter in (1, 2):
        world.member.meter_said(meter, (5, 2), 0)
    (refused,) = world.command(id="1", cmd="reduce", state="on", for_s=60)
    assert (refused.result, refused.reason) == ("refused", "deposed by [5, 2]")
    (info,) = world.command(id="2", cmd="system_info")
    assert info.result == "done"


def test_a_command_for_a_hosted_microgrid_names_microgrid_and_epoch(world: Cliqued) -> None:
    world.confirmed()
    wrapped = {"v": 1, "id": "7", "cmd": "reduce", "until": world.now + 60, "state": "on", "for_s": 60}
    asked = {"id": "7", "cmd": "hosted", "microgrid": "r001", "command": wrapped}
    (refused,) = world.command(epoch=[2, 2], **asked)
    assert (refused.result, refused.reason) == ("refused", "the epoch is [1, 1]")
    (refused,) = world.command(epoch=[1, 1], **asked | {"microgrid": "r009"})
    assert (refused.result, refused.reason) == ("refused", "r009 is not managed here")
    (done,) = world.command(epoch=[1, 1], **asked)
    assert (done.id, done.cmd, done.result) == ("7", "reduce", "done")
    (again,) = world.command(epoch=[1, 1], **asked)
    assert again == done, "once alone"


def test_the_heartbeat_names_the_managed_microgrids_with_their_epochs(world: Cliqued) -> None:
    def manages() -> object:
        (beat,) = [one for one in world.tick(HEARTBEAT) if one.topic == "cw1/r001/u/stat"]
        return unpack_json(Heartbeat, beat.payload).manages

    assert manages() == {}
    world.confirmed()
    assert manages() == {"r001": (1, 1)}


def test_the_heartbeat_has_minima_and_levels_of_what_is_managed_for_another(world: Cliqued, tmp_path: Path) -> None:
    world.confirmed()
    post = Post(microgrid="r002", own="r001", order=("r002", "r001"), ranks=RANKS, meters=1)
    member = Member(post, EpochPair((3, 1), (3, 1)), Signs(("r002", UTILITY), 0), 0, 1)
    controller = Controller(world.settings, world.store, world.meters, {"r001": world.member, "r002": member})
    store = Store.open(tmp_path / "other.db")
    controller.host("r002", store, {9: registered(9)})
    fields = {"id": "x", "cmd": "initialize", "result": "done", "time": world.now, "bits": 1, "push": True}
    said = Outcome.model_validate(fields | {"minimum_percent": 30, "capacity_mwh": 10_000_000})
    controller.handle("r002", FromMeter("cw1/r002/9/u/out", said.pack()), world.now)

    def beat() -> Heartbeat:
        *_, sent = controller.handle("r001", Tick(HEARTBEAT), world.now)
        assert isinstance(sent, Publish)
        return unpack_json(Heartbeat, sent.payload)

    assert 9 not in beat().minima, "it does not manage r002"
    assert beat().hosted == {}
    member.meter_said(9, (3, 1), 0)
    level = LiveLevel(state=1, time=world.now // SLOT_S * SLOT_S, level=4_000_000)
    controller.handle("r002", FromMeter("cw1/r002/9/u/lvl", level.pack()), world.now)
    assert beat().minima[9][0] == 30
    energy = beat().hosted["r002"]
    assert energy.levels == (400,)
    assert energy.stored is not None
    assert energy.stored[0] == 4_000_000
    store.close()


def test_a_phase_stored_under_an_earlier_grant_is_not_that_of_the_next(world: Cliqued) -> None:
    world.confirmed()
    epochs = world.core.manager.epochs
    assert isinstance(epochs, GrantedEpochs)
    assert epochs.own == (1, 1)
    world.member.kept = EpochPair((1, 1), (2, 2))
    assert (epochs.commands, epochs.deposed_by) == (False, (2, 2))


# What a successor knows


def test_a_successor_has_what_the_utility_set_with_ends_by_its_own_clock(world: Cliqued, tmp_path: Path) -> None:
    world.confirmed()
    world.command(id="1", cmd="supply", supply="LOW", import_limit_w=500, for_s=3600)
    world.command(id="2", cmd="schedule", periods={"relay_s": 300}, meters="lossless")
    world.command(id="3", cmd="sharing", strategy="rangers", weights={"1": 7})
    world.command(id="4", cmd="spare", spared=["2"])
    successor = World(tmp_path / "other.db")
    successor.now += 1000
    effects = successor.controller.handle("r001", ToldStates("r001", carried(world.core), world.now), successor.now)
    successor.do(effects)
    for core in (successor.core, Controller(successor.settings, successor.store, successor.meters).own):
        assert (core.modes.states.supply, core.modes.states.import_limit_w) == ("LOW", 500)
        assert core.modes.states.supply_until == successor.now + 3600
        assert core.modes.states.weights_at(Now(successor.now, Trust.NETWORK)) == {1: 7}
        assert core.utility_commands.periods["relay_s"] == 300
        assert core.modes.meters_mode.mode == "lossless"
        assert core.modes.spared == {2}
    successor.tick(RETRY)
    assert successor.core.manager.strategy == "rangers"
    successor.store.close()


def test_the_strategy_of_the_managers_file_holds_at_its_successor_and_is_its_own_again_at_home(
    world: Cliqued, tmp_path: Path
) -> None:
    world.confirmed()
    other = World(tmp_path / "other.db")
    other.settings = GatewaySettings(microgrid="r001", sharing="aces")
    other.new_core()
    take(world.core, carried(other.core), 0, Now(0, Trust.NETWORK))
    world.tick(RETRY)
    assert world.core.manager.strategy == "aces"
    take(other.core, carried(world.core), 0, Now(0, Trust.NETWORK))
    assert other.core.modes.states.sharing == (), "as in its file"
    other.store.close()


def test_states_that_do_not_fit_go_without_weights(world: Cliqued) -> None:
    world.confirmed()
    world.command(id="1", cmd="sharing", weights={str(n): 1000 for n in range(10_001, 10_300)}, strategy="aces")
    for spared in (40, 500):
        ids = [2**64 - n for n in range(1, spared + 1)]
        world.command(id=f"s{spared}", cmd="spare", spared=list(map(str, ids)))
        told = carried(world.core)
        assert len(json.dumps(told)) <= MOST_STATES_BYTES
        world.core.modes.spare([1])
        take(world.core, told, 0, Now(0, Trust.NETWORK))
        assert world.core.modes.states.weights_at(Now(0, Trust.NETWORK)) == {}
        assert world.core.modes.spared == (set(ids) if spared == 40 else {1}), "those that do not fit stay as known"


def test_the_largest_states_fit_into_a_datagram(world: Cliqued) -> None:
    world.confirmed()
    for n in range(8):
        fields = {
            "strategy": "rangers",
            "from_time": world.now + 86_400 * n,
            "weights": {str(m): 999 for m in range(9)},
        }
        world.command(id=f"s{n}", cmd="sharing", **fields)
    world.command(id="1", cmd="supply", supply="CRITICAL", import_limit_w=10**9, for_s=2**30)
    message = States(microgrid="r001", now=2**32 - 1, states=carried(world.core))
    frame = Sealing(1, bytes(32)).seal(b"\x06" + message.pack(), 0)
    assert len(frame) <= MOST_BYTES


@pytest.mark.parametrize(
    "changed",
    [
        {"states": None},
        {"states": {"supply": "x"}},
        {"states": {"reduce_until": "soon"}},
        {"states": {"sharing": [{"strategy": "mine", "from_time": 0}]}},
        {"states": {"weighting": [{"weights": {"1": 0}, "from_time": 0}]}},
        {"periods": {"relay_s": 0}},
        {"periods": {"explode_s": 60}},
        {"periods": 1},
        {"meters": "lossy"},
        {"spared": 7},
        {"spared": "seven"},
    ],
    ids=str,
)
def test_states_that_can_not_be_meant_are_kept_for_inspection_and_change_nothing(
    world: Cliqued, changed: dict[str, object]
) -> None:
    world.command(id="1", cmd="schedule", periods={"relay_s": 300}, meters="lossless")
    before = world.core.modes.states, dict(world.core.utility_commands.tuned), world.core.modes.meters_mode.mode
    told = carried(world.core) | changed
    world.handle(ToldStates("r001", told, world.now))
    after = world.core.modes.states, world.core.utility_commands.tuned, world.core.modes.meters_mode.mode
    assert after == before
    assert [json.loads(letter.content) for _, letter in world.store.unsent_dead_letters(9)] == [told]


def test_only_the_manager_says_what_the_utility_has_set(world: Cliqued) -> None:
    said = States(microgrid="r001", now=5, states={})
    world.confirmed()
    assert world.member.handle("r002", said, 1) == [], "it manages itself"
    for meter in (1, 2):
        world.member.meter_said(meter, (5, 2), 1)
    assert world.member.handle("r003", said, 1) == []
    assert world.member.handle("r002", said, 1) == [TakeStates(said)]


# Which meters are reached


def test_a_controller_that_commands_notices_within_minutes_that_two_thirds_of_its_meters_are_gone() -> None:
    hearing = Hearing(range(6))
    for meter in range(6):
        hearing.heard(meter, 0)
    assert hearing.is_enough(hearing.reached(MANAGED_S - 1, manages=True))
    hearing.heard(0, 100)
    assert not hearing.is_enough(hearing.reached(MANAGED_S + 1, manages=True))
    assert hearing.is_enough(hearing.reached(MANAGED_S + 1, manages=False)), "elsewhere they are silent for long"
    assert not hearing.is_enough(hearing.reached(HOSTED_S + 101, manages=False))


def test_meters_with_a_long_period_of_puts_are_not_asked_in_vain() -> None:
    hearing = Hearing(range(6))
    for put_s in (60, 300, 900):
        hearing.put_s = put_s
        for meter in range(6):
            hearing.heard(meter, 0)
        assert not hearing.due(put_s + 15, manages=True), "its put may be a moment late"
        assert hearing.due(put_s + 30, manages=True)
        assert hearing.is_enough(hearing.reached(2 * put_s + 59, manages=True))
        assert not hearing.is_enough(hearing.reached(2 * put_s + 61, manages=True))


def test_silent_meters_are_asked_in_turn_and_not_too_often() -> None:
    hearing = Hearing(range(30))
    first = hearing.due(0, manages=True)
    second = hearing.due(0, manages=True)
    assert (len(first), sorted(first + second)) == (MOST_AT_ONCE, list(range(30)))
    for meter in range(29):
        hearing.heard(meter, 1)
    asked = [second for second in range(61) if hearing.due(second, manages=True)]
    assert asked == [2, 6, 14, 29, 44, 59], "soon at first: after a start of the broker its meters connect"
    hearing.lost()
    assert len(hearing.due(ASK_AGAIN_S, manages=True)) == MOST_AT_ONCE


def test_where_answers_take_long_silent_meters_are_asked_less_often() -> None:
    hearing = Hearing(range(6))
    hearing.due(0, manages=True)
    for meter in range(5):
        hearing.heard(meter, 5)
    asked = [second for second in range(5, 60) if hearing.due(second, manages=True)]
    assert asked == [10, 20, 30, 45], "not before twice the time that the last answers took"
    hearing.heard(5, 60)
    hearing.heard(5, 200)
    assert hearing.due(60 + MANAGED_S, manages=True), "a meter that was away makes nobody wait for long"


def test_an_epoch_that_one_meter_made_up_is_not_believed_because_another_exceeds_it() -> None:
    reports = Reports(4)
    reports.say(1, (9, 3))
    reports.say(2, (10, 1))
    assert reports.believed((6, 3)) == (0, 0), "nobody granted the lower one, and one meter alone says the higher one"
    assert not Reports(4).confirm((6, 3))
    reports.say(3, (6, 3))
    reports.say(4, (6, 3))
    assert not reports.confirm((6, 3)), "two meters obey somebody newer, whoever that is"
    reports.say(3, (10, 1))
    assert reports.believed((6, 3)) == (10, 1)


THIEF = "r003"


def controller(own: ControllerId, kept: EpochPair, *, sure: bool = True) -> CliqueCore:
    """Return the part of a controller in microgrid r001, at second 100, with lines that are known."""
    post = Post(microgrid="r001", own=own, order=ORDER, ranks=RANKS, meters=6)
    it = CliqueCore(own, [post], {"r001": kept}, 0)
    it.members["r001"].sure = sure
    for second in range(101):
        for name in it.signs.lines:
            it.signs.sign(name, second)
        it.members["r001"].now = second
    return it


OWNER = EpochPair((1, 1), (1, 1))


@pytest.mark.parametrize(
    "message",
    [
        Grant(microgrid="r001", epoch=(2, 3), replaces=(1, 1)),
        Known(microgrid="r001", highest=(9, 3), manages=True),
        Known(microgrid="r001", highest=(2**31, 3), manages=True),
        Vote(microgrid="r001", nonce=1, saw="lost", highest=(9, 3)),
        Yield(microgrid="r001", epoch=(2 + EPOCH_STEP, 1)),
        Yield(microgrid="r001", epoch=(2, 3)),
    ],
    ids=str,
)
def test_no_message_of_a_mate_deposes_a_living_manager(message: CliqueMessage) -> None:
    owner = controller("r001", OWNER)
    assert not [effect for effect in owner.handle(THIEF, message, 100.1) if isinstance(effect, Begin)]
    assert owner.members["r001"].commands


def test_only_the_utility_grants() -> None:
    mate = controller("r002", EpochPair((0, 2), (1, 1)))
    grant = Grant(microgrid="r001", epoch=(2, 2), replaces=(1, 1))
    assert mate.handle(THIEF, grant, 100.1) == []
    assert [effect for effect in mate.handle(UTILITY, grant, 100.1) if isinstance(effect, Begin)]


def test_a_lying_vote_ends_no_manager_that_the_asker_hears() -> None:
    mate = controller("r002", EpochPair((0, 2), (1, 1)))
    member = mate.members["r001"]
    for tenth in range(1, 150):
        now = 100 + tenth / 10
        if tenth % 33 == 0:
            mate.signs.sign("r001", now)
        mate.tick(now)
        if member.claim is not None:
            lie = Vote(microgrid="r001", nonce=member.claim.nonce, saw="lost", highest=(1, 1))
            effects = mate.handle(THIEF, lie, now)
            assert not [effect for effect in effects if isinstance(effect, Begin)]
    assert not member.commands


def test_it_may_give_away_what_it_manages_and_nothing_else() -> None:
    mate = controller("r002", EpochPair((0, 2), (1, 1)))
    effects = mate.handle(THIEF, Yield(microgrid="r001", epoch=(2, 2)), 100.1)
    assert not [effect for effect in effects if isinstance(effect, Begin)]
    mate = controller("r002", EpochPair((0, 2), (1, 3)))
    effects = mate.handle(THIEF, Yield(microgrid="r001", epoch=(2, 2)), 100.1)
    assert [effect.epoch for effect in effects if isinstance(effect, Begin)] == [(2, 2)]


@pytest.mark.parametrize("step", [1, EPOCH_STEP])
def test_its_word_raises_a_counter_a_step_a_day_and_a_hundred_times(step: int) -> None:
    mate = controller("r002", EpochPair((0, 2), (1, 3)))
    for day in (0, 1):
        for n in range(1_000):
            counter = mate.members["r001"].kept.highest[0] + step
            mate.handle(THIEF, Known(microgrid="r001", highest=(counter, 3), manages=True), 100.1 + day * 86_400 + n)
        assert mate.members["r001"].kept.highest[0] == 1 + (day + 1) * (RAISES if step == 1 else EPOCH_STEP)


def test_its_own_beats_may_keep_its_own_microgrid_and_make_no_takeover_of_another() -> None:
    mate = controller("r002", EpochPair((0, 2), (1, 1)))
    says = Bits(able=frozenset(ORDER), manages=frozenset(ORDER))
    for tenth in range(1, 300):
        effects = mate.beat(THIEF, Beat(says, tenth), 100 + tenth / 10)
        if tenth % 33 == 0:
            mate.signs.sign("r001", 100 + tenth / 10)
            mate.signs.sign(UTILITY, 100 + tenth / 10)
        effects += mate.tick(100 + tenth / 10)
        assert not [effect for effect in effects if isinstance(effect, Begin)]


ORDERS = {"r001": ("r001", "r002"), "r002": ("r002", "r001")}
PAIR_RANKS = {"r001": 1, "r002": 2}
WELL = Bits(able=frozenset(ORDERS), manages=frozenset({"r002"}))  # what r002 says while all is well


def calm_at(now: float) -> CliqueCore:
    """Return r001 in its clique, which manages its own microgrid and stands by in r002, the utility heard."""
    posts = [
        Post(microgrid=name, own="r001", order=order, ranks=PAIR_RANKS, meters=4) for name, order in ORDERS.items()
    ]
    takeover = CliqueCore("r001", posts, {"r001": EpochPair((1, 1), (1, 1)), "r002": EpochPair((0, 1), (1, 2))}, now)
    for member in takeover.members.values():
        member.means = Means(able=True, commits=True, connected=4)
    for meter in (1, 2):
        takeover.members["r001"].meter_said(meter, (0, 0), now)
    takeover.tick(now)
    takeover.beat(UTILITY, Beat(is_answer=True, hears=frozenset({"r002"})), now)
    return takeover


def test_it_rests_until_the_next_beat() -> None:
    assert calm_at(100.0).rests_until(100.1) == 100.0 + BEAT_S


def test_in_doubt_it_rests_no_longer_than_between_two_probes() -> None:
    takeover = calm_at(100.0)
    takeover.members["r001"].restore(EpochPair((1, 1), (1, 1)))
    assert takeover.rests_until(100.1) == 100.1 + STEP_S


def test_the_loss_of_the_utility_makes_it_step_for_each_beat_and_probe_alone() -> None:
    takeover = calm_at(100.0)
    lost = 100.0 + PATIENT_S
    now = 100.0
    steps = 0
    while now < lost + 60:
        now = max(takeover.rests_until(now), now + 0.1)
        takeover.tick(now)
        takeover.beat("r002", Beat(WELL, is_answer=True), now)
        steps += 1
    # A beat to each, a look whether r002 is late, and a probe a second to the utility until it is lost.
    assert steps <= 3 * 72 / BEAT_S + PATIENT_S


def test_a_late_sign_of_another_one_is_no_later_for_the_rest_when_the_utility_is_gone() -> None:
    takeover = calm_at(100.0)
    now, heard = 100.0, 0.0
    while now < 130.0:
        now = max(takeover.rests_until(now), now + 0.1)
        takeover.tick(now)
        if now < 120.0:
            takeover.beat("r002", Beat(WELL, is_answer=True), now)
            heard = now
        elif takeover.members["r002"].claim is not None:
            break
    assert now <= heard + BEAT_S + LATE_S + 0.1


def test_a_long_rest_is_no_pause_if_the_time_is_noted_and_a_stop_is_one() -> None:
    takeover = calm_at(100.0)
    assert not any(takeover.note(100.0 + second) for second in range(1, 5))
    assert not takeover.note(104.0 + PAUSE_S - 0.1)
    assert takeover.members["r001"].commands
    assert takeover.note(110.0 + PAUSE_S)
    assert not takeover.members["r001"].commands
