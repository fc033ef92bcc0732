"""A utility that lost its store is refilled at a share of the line, behind live data; the heartbeat says how far."""

import numpy as np
import pytest

from commonwatt.codec.packing import pack
from commonwatt.model.block_keys import Keys
from commonwatt.model.blocks import Quality, make_blocks
from commonwatt.model.effects import Publish
from commonwatt.model.units import QUARTER_S
from commonwatt.protocol.batches import Batch
from commonwatt.protocol.heartbeats import Heartbeat, Month, Refilling
from commonwatt.protocol.json_messages import unpack_json
from commonwatt.town.town import Function
from gateway.changes import DONE, AppendParts, Part
from gateway.relay.refill import LINE_BYTES_S, MONTH_S, OTHERS_WAIT_S, SHARE, Pace
from harness.surroundings.gateway import START, World, batches, blocks_of, readings
from harness.surroundings.utility import a_heartbeat
from utility.readings.columns import Refilling as Refill
from utility.readings.refilling import Gateway, refilling

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


def said(world: World) -> Refilling:
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
    pace, allowance = Pace(), 2_000_000_000
    pace.look(Month(used=(allowance + 1, 0), allowance=allowance))
    pace.sent(37_500, START)
    share_s = 37_500 * SHARE * MONTH_S / allowance
    assert pace.waits(int(START + share_s) - 20)
    assert not pace.waits(int(START + share_s))
    pace.look(Month(used=(1, 0), allowance=allowance))
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


def gateway(world: World, heard: int, told: Refilling | None = None) -> Gateway:
    beat = a_heartbeat(refilling={"r001": told or said(world)})
    return Gateway(controller="r001", kind="residential", heard=heard, heartbeat=beat)


def shown(world: World, now: int, told: Refilling | None = None, heard: int | None = None) -> Refill:
    """Return the line of the list at the utility."""
    (row,) = refilling([gateway(world, heard or now, told)], now)
    return row
