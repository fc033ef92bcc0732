"""What a gateway sends to a utility that lost its store, and the turns of hosted microgrids on one line."""

from collections import deque
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from commonwatt.codec.packing import pack
from commonwatt.model.blocks import Keys, Quality, make_blocks
from commonwatt.model.effects import Publish
from commonwatt.model.units import QUARTER_S
from commonwatt.protocol.batches import Batch, BatchFlag, Mark
from commonwatt.protocol.heartbeats import Heartbeat, LineMonth, RefillProgress
from commonwatt.protocol.json_messages import unpack_json
from commonwatt.town.town import Function
from gateway.relay.outbox import LATE_S, WINDOW, WINDOW_BYTES, Turns
from gateway.relay.refill import LINE_BYTES_S, MONTH_S, OTHERS_WAIT_S, SHARE, RefillPace
from gateway.store.changes import DONE, KEPT, AckStretch, AppendParts, LostData, Part, grown, lost
from harness.surroundings.gateway import START, World, batches, blocks_of, readings
from harness.surroundings.messages import a_heartbeat
from utility.readings.columns import Gateway, refilling
from utility.readings.columns import Refilling as Refill

PARTS = 40_000


def fill(world: World, parts: int = PARTS) -> None:
    """Give the gateway a backup of joined blocks that an earlier utility has acknowledged."""
    quarters = np.arange(START // QUARTER_S - parts, START // QUARTER_S, dtype=np.uint32)
    keys = Keys(np.full(parts, 1, np.uint64), np.full(parts, 3, np.uint8), quarters)
    values = np.random.default_rng(1).integers(1000, 2000, (parts, 60))
    payloads = pack(make_blocks(keys, values, np.full(values.shape, Quality.EXACT)))
    rows = (Part(0, key, payload, DONE, joined=True) for key, payload in zip(keys, payloads, strict=True))
    world.store.commit([AppendParts(tuple(rows))])


def lose(world: World) -> None:
    """Let the gateway see the store of another utility."""
    world.acknowledge(batches(world.connect())[0], store=7)
    settle(world, world.connect())
    while said(world).parts is None:
        settle(world, world.tick("retry"))


def said(world: World) -> RefillProgress:
    sent = world.tick("heartbeat")
    settle(world, sent)
    (payload,) = (publish.payload for publish in sent if publish.topic.endswith("/stat"))
    return unpack_json(Heartbeat, payload).refilling["r001"]


def pass_time(world: World, seconds: int, *, acknowledge: bool = True) -> list[Batch]:
    """Let time pass, with a utility that acknowledges every batch at once; return the batches with blocks."""
    found: list[Batch] = []
    for _ in range(seconds // 5):
        world.now += 5
        sent = world.tick("retry")
        found += settle(world, sent) if acknowledge else batches(sent)
    return [batch for batch in found if batch.keys]


def settle(world: World, sent: list[Publish]) -> list[Batch]:
    """Acknowledge batches, and those that follow; return them."""
    found, waiting = [], batches(sent)
    while waiting:
        found.append(batch := waiting.pop(0))
        waiting += batches(world.acknowledge(batch, store=8))
    return found


def payload_bytes(sent: list[Batch]) -> int:
    return sum(len(payload) for batch in sent for payload in batch.payloads)


def test_a_refill_takes_its_share_of_the_line_and_no_more(world: World) -> None:
    fill(world)
    lose(world)
    assert not pass_time(world, OTHERS_WAIT_S - 10), "public microgrids are first"
    assert said(world).begins == said(world).since + OTHERS_WAIT_S
    pass_time(world, 60)
    taken = payload_bytes(pass_time(world, 60)) / 60
    assert taken == pytest.approx(LINE_BYTES_S / SHARE, rel=0.15)


def test_a_public_microgrid_begins_at_once(world: World) -> None:
    world.meters[4] = world.meters[4].model_copy(update={"function": Function.HOSPITAL})
    world.new_core()
    fill(world, 1000)
    lose(world)
    pass_time(world, 60)
    assert world.store.backlog() == (0, 0, 0)
    assert said(world).end is not None


def test_live_data_does_not_wait_for_a_refill(world: World) -> None:
    fill(world)
    lose(world)
    pass_time(world, OTHERS_WAIT_S)
    pass_time(world, 60, acknowledge=False)
    assert len(world.core.relay.in_flight) == 1, "one batch of the refill waits"
    world.put(2, 1, readings(2, 1, 4, start=world.now // QUARTER_S * QUARTER_S))
    assert world.core.backlog_age_s(world.core.now) == 0, "no alarm: it refills"
    (batch,) = batches(world.tick("relay_s"))
    assert blocks_of([batch]).meter.tolist() == [2]


def test_in_a_month_that_is_used_up_a_refill_takes_its_share_of_the_allowance() -> None:
    pace, allowance = RefillPace(), 2_000_000_000
    pace.look(LineMonth(used=(allowance + 1, 0), allowance=allowance))
    pace.sent(37_500, START)
    share_s = 37_500 * SHARE * MONTH_S / allowance
    assert pace.waits(int(START + share_s) - 20)
    assert not pace.waits(int(START + share_s))
    pace.look(LineMonth(used=(1, 0), allowance=allowance))
    pace.sent(int(LINE_BYTES_S / SHARE) * 60, START + 9_000)
    assert not pace.waits(START + 9_060)
    assert not pace.waits(START - 10**6), "the time was set back"


def test_the_progress_shown_is_near_the_truth_from_the_first_tenth_on(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.relay.refill.LINE_BYTES_S", 12_500)  # so that it takes half an hour
    fill(world)
    lose(world)
    assert shown(world, world.now).state == "waiting"
    pass_time(world, OTHERS_WAIT_S)
    truth: list[tuple[int, int]] = []
    views: list[tuple[int, Refill]] = []
    while world.store.unsent_before(START // QUARTER_S):
        told, at = said(world), world.now
        for _ in range(6):
            pass_time(world, 10)
            truth.append((world.now, PARTS - world.store.unsent_before(START // QUARTER_S)))
            views.append((truth[-1][1], shown(world, world.now, told, at)))
    end = next(now for now, sent in truth if sent == PARTS)
    begin = truth[0][0] - 10
    later = [view for view in views if PARTS / 10 <= view[0] < PARTS]
    assert len(later) > 10
    for sent, view in later:
        assert view.sent == pytest.approx(sent, rel=0.2)
        assert view.end == pytest.approx(end, abs=0.2 * (end - begin))
    pass_time(world, 60)
    assert shown(world, world.now).state == "refilled"
    assert world.core.relay.refill.before == 0, "all data is live again"


def test_a_refill_goes_on_after_a_crash(world: World) -> None:
    fill(world)
    lose(world)
    pass_time(world, OTHERS_WAIT_S + 60)
    before = said(world)
    assert before.parts == PARTS
    world.crash()
    after = said(world)
    assert (after.since, after.parts) == (before.since, PARTS)
    assert after.left <= before.left
    pass_time(world, 60)
    assert said(world).left < before.left


def test_who_is_not_heard_is_listed_first(world: World) -> None:
    fill(world, 10)
    lose(world)
    rows = refilling([gateway(world, world.now), Gateway(controller="p001", kind="public")], world.now)
    assert [(row.microgrid, row.state) for row in rows] == [("p001", "not heard"), ("r001", "waiting")]
    (row,) = refilling([gateway(world, world.now)], world.now + 200)
    assert (row.state, row.parts, row.end) == ("not heard", 10, None)


def gateway(world: World, heard: int, told: RefillProgress | None = None) -> Gateway:
    beat = a_heartbeat(refilling={"r001": told or said(world)})
    return Gateway(controller="r001", kind="residential", heard=heard, heartbeat=beat)


def shown(world: World, now: int, told: RefillProgress | None = None, heard: int | None = None) -> Refill:
    """Return the line of the list at the utility."""
    (row,) = refilling([gateway(world, heard or now, told)], now)
    return row


A, B = 0xA, 0xB  # runs


def relay(world: World) -> list[Batch]:
    world.now += 60
    return [b for b in batches(world.tick("relay_s")) if b.keys]


def deliver(world: World, minutes: range, marks: tuple[Mark, ...]) -> None:
    """Collect, relay and have acknowledged one batch a minute, the acknowledgement of each an hour after the last."""
    for number in minutes:
        world.now = START + number * 3600
        world.put(1, number * 4 + 1, readings(1, number * 4 + 1, 4, start=START + number * 3600))
        (batch,) = relay(world)
        (run, counter), *history = marks
        world.acknowledge(batch, marks=((run, counter + number), *history))


def compare(world: World, run: int, *history: Mark, store: int = 7) -> list[Batch]:
    """Connect the gateway to a utility of this run and history; return what it sends again until nothing is left."""
    again: list[Batch] = []
    sent, asked, counter = batches(world.connect()), 0, 0
    for turn in range(10):
        while sent:
            batch = sent.pop(0)
            asks, counter = BatchFlag.HISTORY in batch.flags, counter + 1
            asked += asks
            again += [batch] if len(batch.keys) else []
            told = ((run, counter), (run, counter), *history) if asks else ((run, counter),)
            sent += batches(world.acknowledge(batch, store=store, marks=told))
        world.now += OTHERS_WAIT_S * (turn == 1)
        sent = relay(world)
    assert asked == 1
    assert world.store.backlog() == (0, 0, 0)
    return again


def quarters(sent: list[Batch]) -> list[int]:
    return sorted({(int(quarter) * QUARTER_S - START) // 3600 for batch in sent for quarter in batch.keys.quarter})


def test_a_utility_that_only_restarted_is_sent_nothing_again(world: World) -> None:
    deliver(world, range(6), ((A, 10),))
    assert compare(world, B, (A, 15)) == []
    assert world.store.backlog() == (0, 0, 0)


def test_a_database_that_went_back_is_sent_what_was_acknowledged_since_and_nothing_older(world: World) -> None:
    deliver(world, range(6), ((A, 10),))
    assert quarters(compare(world, B, (A, 12))) == [3, 4, 5]
    assert compare(world, 0xC, (A, 12), (B, 9)) == [], "once"


def test_after_a_restart_that_followed_the_loss_unseen_nothing_is_overlooked(world: World) -> None:
    deliver(world, range(4), ((A, 10),))
    deliver(world, range(4, 6), ((B, 10),))  # B began without A's last two commits; its history was not asked for yet
    assert quarters(compare(world, 0xC, (A, 11), (B, 15))) == [2, 3, 4, 5]


@pytest.mark.parametrize("history", [(), ((0xE, 99),), ((A, 9),)])
def test_a_database_from_before_all_that_is_remembered_is_sent_the_whole_backup(
    world: World, history: tuple[Mark, ...]
) -> None:
    deliver(world, range(6), ((A, 10),))
    assert quarters(compare(world, B, *history)) == [*range(6)]


def test_a_new_store_without_a_history_is_sent_the_whole_backup(world: World) -> None:
    deliver(world, range(3), ((A, 10),))
    assert quarters(compare(world, B, store=8)) == [*range(3)]


def test_a_new_store_id_alone_sends_nothing_again_to_a_database_with_the_whole_history(world: World) -> None:
    deliver(world, range(3), ((A, 10),))
    assert compare(world, B, (A, 12), store=8) == []


def test_an_older_utility_with_a_new_store_is_sent_the_whole_backup(world: World) -> None:
    deliver(world, range(3), ((A, 10),))
    (hello,) = batches(world.connect())
    world.acknowledge(hello, store=8)
    world.now += OTHERS_WAIT_S
    assert quarters(relay(world)) == [*range(3)]


def test_the_question_is_asked_again_until_it_is_answered_also_after_a_crash(world: World) -> None:
    deliver(world, range(2), ((A, 10),))
    (hello,) = batches(world.connect())
    (asking,) = batches(world.acknowledge(hello, marks=((B, 1),)))
    assert BatchFlag.HISTORY in asking.flags
    world.crash()
    assert quarters(compare(world, B, (A, 10))) == [1]


def test_the_heartbeat_names_the_last_mark(world: World) -> None:
    def told() -> Heartbeat:
        return next(unpack_json(Heartbeat, p.payload) for p in world.tick("heartbeat") if p.topic.endswith("stat"))

    assert told().mark is None
    deliver(world, range(2), ((A, 10),))
    assert told().mark == (A, 11)


@given(
    st.lists(st.tuples(st.integers(0, 3), st.booleans()), max_size=200),
    st.integers(0, 200),
)
def test_each_acknowledgement_that_a_database_lost_is_in_what_is_sent_again(
    steps: list[tuple[int, bool]], back_to: int
) -> None:
    """Each acknowledgement comes some hours after the last, in a new run or not; the database keeps the first few."""
    found: list[AckStretch] = []
    acknowledged: list[Mark] = []
    run, counter, hour = 1, 0, 0
    for part, (hours, restarted) in enumerate(steps):
        run, counter = (run + 1, 1) if restarted else (run, counter + 1)
        hour += hours
        acknowledged.append((run, counter))
        found = grown(found, (run, counter), hour, part + 1)
    history = dict(acknowledged[:back_to])
    missing = lost(found, history)
    if back_to >= len(steps):
        assert missing is None
    else:
        assert missing is not None
        assert missing.part <= back_to + 1
        assert all(stretch.last <= history.get(stretch.run, -1) for stretch in found[: missing.kept])
    assert len(found) <= KEPT


def test_what_is_no_longer_remembered_is_not_taken_for_kept() -> None:
    found: list[AckStretch] = []
    for hour in range(KEPT + 10):
        found = grown(found, (A, hour), hour, hour + 1)
    assert lost(found, {A: 5}) == LostData(0, 0)
    assert lost(found, {A: 50}) == LostData(52, 41)


RATE = 125_000  # bytes a second: 1 Mbit/s
WEIGHTS = {"homes": 1.0, "flats": 1.0, "hospital": 2.0}
MOST = 100_000


@dataclass
class Line:
    """A line that carries one batch after the other, each acknowledged at its end."""

    backlog: dict[str, deque[int]]
    turns: Turns = field(default_factory=Turns)
    now: float = 0.0
    flying: deque[tuple[str, int, int]] = field(default_factory=deque)
    acknowledged: dict[str, float] = field(default_factory=lambda: dict.fromkeys(WEIGHTS, 0.0))
    sequence: int = 0

    def __post_init__(self) -> None:
        for name, weight in WEIGHTS.items():
            self.turns.join(name)
            self.turns.weigh(name, weight)

    def send(self, name: str, size: int) -> None:
        self.sequence += 1
        self.turns.sent(name, self.sequence, size, int(self.now))
        self.flying.append((name, self.sequence, size))

    def ask(self) -> None:
        """Let each owner send what it may, as after a commit."""
        for name, sizes in self.backlog.items():
            while sizes and self.turns.may_send(name, int(self.now)):
                self.send(name, sizes.popleft())
            if not sizes:
                self.turns.rest(name)

    def carry(self) -> tuple[str, int]:
        name, sequence, size = self.flying.popleft()
        self.now += size / RATE
        self.turns.ended(name, sequence)
        self.acknowledged[name] += size / WEIGHTS[name]
        return name, size


def spread(line: Line) -> float:
    """Return how far an owner with a backlog is from the mean of them, in bytes acknowledged by weight."""
    left = [line.acknowledged[name] for name, sizes in line.backlog.items() if sizes]
    mean = sum(left) / len(left) if left else 0
    return max((abs(one - mean) for one in left), default=0)


SIZES = st.lists(st.integers(1000, MOST), min_size=20, max_size=60).map(deque)


@given(st.fixed_dictionaries(dict.fromkeys(WEIGHTS, SIZES)))
def test_bytes_are_shared_by_weight_within_two_batches_as_long_as_all_have_a_backlog(
    backlog: dict[str, deque[int]],
) -> None:
    line = Line(backlog)
    line.ask()
    # What the first one sent before the others had asked is no debt.
    for name, _, size in line.flying:
        line.acknowledged[name] -= size / WEIGHTS[name]
    while line.flying:
        assert sum(size for _, _, size in line.flying) < WINDOW_BYTES + MOST
        line.carry()
        line.ask()
        if all(line.backlog.values()):
            assert spread(line) <= 2 * MOST
    assert not any(line.backlog.values()), "all is sent in the end"


def test_what_an_owner_with_an_empty_backlog_did_not_use_it_does_not_get_later() -> None:
    line = Line({"homes": deque(), "flats": deque([10_000] * 500), "hospital": deque()})
    line.ask()
    for _ in range(200):
        line.carry()
        line.ask()
    line.backlog["homes"] = deque([10_000] * 200)
    before = dict(line.acknowledged)
    for _ in range(60):
        line.ask()
        line.carry()
    gained = {name: line.acknowledged[name] - before[name] for name in ("homes", "flats")}
    assert abs(gained["homes"] - gained["flats"]) <= 2 * WINDOW * 10_000


def test_live_data_of_any_owner_goes_before_anybodys_backlog() -> None:
    line = Line({"homes": deque([10_000] * 9), "flats": deque([10_000] * 9), "hospital": deque()})
    line.turns.due("flats", 0)
    assert not line.turns.may_send("homes", 0)
    line.send("flats", 500)
    assert line.turns.may_send("homes", 0)


def test_an_owner_whose_acknowledgements_do_not_come_or_that_does_not_ask_holds_up_nobody() -> None:
    line = Line({"homes": deque([10_000] * 9), "flats": deque([10_000] * 9), "hospital": deque()})
    while line.turns.may_send("homes", 0):
        line.send("homes", 10_000)
    line.turns.due("homes", 0)
    assert not line.turns.may_send("flats", 0), "the window is full"
    assert line.turns.may_send("flats", LATE_S + 1)


def test_what_the_line_lost_is_sent_again_in_the_same_owners_turn() -> None:
    line = Line({name: deque([10_000] * 9) for name in WEIGHTS})
    line.ask()
    for name, sequence, size in line.flying:
        line.turns.ended(name, sequence, lost=True)
        line.backlog[name].appendleft(size)
    line.flying.clear()
    line.ask()
    while all(line.backlog.values()):
        line.carry()
        line.ask()
    assert spread(line) <= 20_000
