"""Checks at the end, when all data had time to arrive (I5), and of the bounds of stores (I10); what has some slots."""

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np
from sqlalchemy import select

from commonwatt.codec.packing import unpack_sound
from commonwatt.model.blocks import Quality
from commonwatt.model.records import EventRecord, unpack_history
from commonwatt.model.units import GROUP_SLOTS, QUARTER_S, SLOT_S, SLOTS
from commonwatt.protocol.dead_letters import LocalReason
from gateway.collect import DEAD_LETTERS_A_DAY, FIRST_ID
from gateway.relay.utility_commands import KEPT_OUTCOMES
from harness.world import masks
from utility.readings.core import MAX_JUNK_A_DAY
from utility.readings.gaps import MAX_AGE_QUARTERS, MAX_ASKED, off_mask, off_times
from utility.readings.store.reads import all_blocks, all_events
from utility.readings.tables import dead_letter, gap, series
from utility.registry.tables import meter

if TYPE_CHECKING:
    from harness.world.fleet import Fleet
    from harness.world.gateway import GatewayNode
    from harness.world.utility import UtilityNode
    from harness.world.world import World

_FOR_EVER = 2**32 - 1
_GAPS = select(meter.c.id, gap.c.record_type, gap.c.quarter, gap.c.mask).join(meter, meter.c.no == gap.c.meter_no)
_SERIES = select(meter.c.id, series).join(meter, meter.c.no == series.c.meter_no)


def check(world: "World") -> None:
    """Compare the utility's store with the truth."""
    if not world.drained():
        backlogs = {name: gateway.store.backlog() for name, gateway in world.gateways.items()}
        held = {m: len(c.history.rows) for f in world.fleets.values() for m, c in f.meters.items()}
        world.fail(f"I6: not drained in time: gateways {backlogs}, meters {held}")
    _check_readings(world)
    _check_events(world)
    _check_statuses(world)
    _check_dead_letters(world)
    _check_gone(world)
    for holder in world.all_holders():
        world.ledger.check_gateway(holder.name, holder.holdings())
    world.ledger.check_utility(world.utility.branch, world.utility.holdings())


def _check_gone(world: "World") -> None:
    """Check that gateways with a new store report the records that meters deleted and the lost store had."""
    # Gateways count at their start, without records that arrived late, or were acknowledged late.
    for name, gateway in world.gateways.items():
        # Where several gateways take records, none knows which of them are at others.
        if len(world.holders(name)) > 1 or not world.ledger.has_lost(name):
            continue
        for number, core in world.fleets[name].meters.items():
            if number in gateway.core.manager.epochs.fenced:
                continue  # Another manager commands the meter: this gateway requests nothing from it.
            for log in (core.history, core.events):
                covered = sum(
                    max(0, min(last, log.first_id - 1) - first + 1)
                    for first, last in gateway.store.coverage(number, log.log, log.generation)
                )
                gone, counted = log.first_id - FIRST_ID - covered, gateway.core.collector.gone.get((number, log.log))
                if counted is None or (gone and not counted):
                    world.fail(f"I5: {name} reports {counted} lost ids of {number}'s {log.log.name} log, not {gone}")
                world.story.counts["gone ids"] += gone


def _check_dead_letters(world: "World") -> None:
    """Check that the utility has a dead letter for every rejected record, and no others."""
    with world.utility.database.reads.begin() as connection:
        # What waited for a confirmed clock is stored by now, as other data; what was damaged was asked for again.
        own = (LocalReason.AHEAD, LocalReason.DAMAGED_PART)
        others = select(dead_letter.c.content).where(dead_letter.c.reason.not_in(own))
        stored = set(connection.execute(others).scalars())
    known = {kept.content for kept in world.ledger.dead_letters()}
    if stored != known:
        world.fail(f"I6: {len(stored - known)} unfounded dead letters, {len(known - stored)} missing at the utility")
    world.story.counts["letters"] = len(stored)


def _check_readings(world: "World") -> None:
    """Check that exact slots are true, averages within half a unit a slot, none in conflict, invented or missing."""
    made = {(meter, kind, at): v for (meter, kind), slots in world.ledger.made.items() for at, v in slots.items()}
    excused = world.ledger.excused | world.ledger.rejected_slots()
    seen = 0
    # Read all of them first: a failure's message reads the database too.
    for blocks in list(all_blocks(world.utility.database, 0, _FOR_EVER // QUARTER_S)):
        for row, slot, _ in blocks.extras.tolist():
            meter, kind, quarter = blocks.key(row)
            if (meter, kind, quarter * QUARTER_S + slot * SLOT_S) not in world.ledger.made_again:
                world.fail(f"I5: conflict of {masks.text(blocks.key(row), 1 << slot)}", blocks.key(row), 1 << slot)
        for row in range(len(blocks)):
            meter, kind, quarter = blocks.key(row)
            apart = np.zeros(SLOTS, np.int64)
            quality = blocks.quality[row]
            for slot in np.flatnonzero(quality).tolist():
                key = meter, kind, quarter * QUARTER_S + slot * SLOT_S
                value = made.get(key)
                if value is None:
                    world.fail(f"I6: the utility has {key}, never made", (meter, kind, quarter), 1 << slot)
                seen += 1
                excused.discard(key)
                del made[key]
                stored = int(blocks.values[row, slot])
                if stored in world.ledger.made_again.get(key, ()):
                    value = stored
                apart[slot] = stored - value
                if apart[slot] and quality[slot] == Quality.EXACT:
                    world.fail(f"I6: {key} is {value}, and the utility has {stored}", (meter, kind, quarter), 1 << slot)
            averaged = (quality == Quality.AVERAGED).reshape(-1, GROUP_SLOTS)
            sums = np.where(averaged, apart.reshape(-1, GROUP_SLOTS), 0).sum(axis=1)
            unmixed = not world.ledger.may_mix((meter, kind, quarter), masks.ALL)
            if unmixed and (2 * np.abs(sums) > averaged.sum(axis=1)).any():
                world.fail(f"I6: averages of {meter}, type {kind}, quarter {quarter} beyond half a unit: {sums}")
    world.story.counts["excused"] = len(excused)
    for key in sorted(made.keys() - excused):
        meter, kind, at = key
        block, slot = (meter, kind, at // QUARTER_S), 1 << at % QUARTER_S // SLOT_S
        missing = len(made.keys() - excused)
        world.fail(f"I6: missing at the utility, in all {missing}, the first: {masks.text(block, slot)}", block, slot)


def _check_events(world: "World") -> None:
    stored = {
        (event.meter_id, generation, event.record_id): event
        for generation, event in all_events(world.utility.database, 0, _FOR_EVER)
    }
    made = world.ledger.events
    excused = world.ledger.excused_events | world.ledger.rejected_events()
    for key in sorted(made.keys() | stored.keys()):
        if stored.get(key) != made.get(key) and not (key in excused and key not in stored):
            world.fail(f"I6: event {key}: made {made.get(key)}, stored {stored.get(key)}")


def _check_statuses(world: "World") -> None:
    """Check that every slot of an old enough quarter is present, off, or watched as a gap."""
    horizon = world.utility.find_gaps()
    held = world.utility.holdings()
    with world.utility.database.reads.begin() as connection:
        watched = {(r.id, r.record_type, r.quarter): r.mask for r in connection.execute(_GAPS)}
        first = {(r.id, r.record_type): r.first_quarter for r in connection.execute(_SERIES)}
    events: dict[int, list[tuple[int, EventRecord]]] = {}
    for generation, event in all_events(world.utility.database, 0, _FOR_EVER):
        events.setdefault(event.meter_id, []).append((generation, event))
    off = {number: off_times(of_meter) for number, of_meter in events.items()}
    for (number, kind), begin in first.items():
        for quarter in range(max(begin, horizon - MAX_AGE_QUARTERS), horizon):
            key = number, kind, quarter
            there = held[key].exact | held[key].averaged
            excused = off_mask(off.get(number, ()), quarter)
            gap = watched.get(key, 0)
            if silent := masks.ALL & ~(there | excused | gap):
                world.fail(f"I5: silent gap of {masks.text(key, silent)}")
            if gap & (there | excused):
                world.fail(f"I5: reported as missing, but stored: {masks.text(key, gap & (there | excused))}")
            world.story.counts["slots off"] += (excused & ~there).bit_count()
            world.story.counts["slots missing"] += gap.bit_count()


KINDS = 4  # kinds of desired states
# Most ranges of ids that a gateway's store has of one log; only a lost store leaves holes between them.
MAX_RANGES = 200
SETTINGS = 40  # names of settings that the gateway's modules keep; a name has one value, or one a meter or a microgrid


def check_stores(world: "World") -> None:
    """Check the rows of stores, and other slow growth."""
    for node in world.gateways.values():
        if not node.store.closed:
            _check_gateway_store(node)
    for fleet in world.fleets.values():
        _check_fleet(fleet)
    _check_utility(world.utility)


def _check_gateway_store(node: "GatewayNode") -> None:
    meters = len(node.core.manager.meters)
    rows = {
        table: node.store._db.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
        for table in ("desired", "coverage", "letter", "period")
    }
    names = Counter(key.partition(":")[0] for (key,) in node.store._db.execute("SELECT key FROM setting"))
    most_of_one = max(meters, len(node.world.gateways))
    days = 3  # wrong clocks give other days
    _hold(node.world, node.name, "desired states", rows["desired"], meters * KINDS)
    _hold(node.world, node.name, "ranges of ids", rows["coverage"], meters * MAX_RANGES)
    # Dead letters of junk, and one for each rejected record; all of the latter were real records.
    rejected = sum(map(len, node.world.ledger.made.values())) + len(node.world.ledger.events)
    rejected += len(node.world.ledger.forged)
    _hold(node.world, node.name, "letters", rows["letter"], DEAD_LETTERS_A_DAY * days * (meters + 1) + rejected)
    _hold(node.world, node.name, "names of settings", len(names), SETTINGS)
    _hold(node.world, node.name, "settings of one name", max(names.values(), default=0), most_of_one)
    _hold(node.world, node.name, "periods", rows["period"], 10)
    _hold(node.world, node.name, "outcomes kept", len(node.core.utility_commands._outcomes), KEPT_OUTCOMES)


def _check_fleet(fleet: "Fleet") -> None:
    for number, core in fleet.meters.items():
        _hold(fleet.world, f"meter {number}", "records", len(core.history.rows), fleet.limits.log_records)
    _hold(fleet.world, fleet.name, "waiting messages", len(fleet.waiting), fleet.max_waiting)


def _check_utility(node: "UtilityNode") -> None:
    _hold(node.world, node.name, "waiting messages", len(node.waiting), node.max_waiting)
    if node.up:
        junk = max(node.core._junk.values(), default=0)
        _hold(node.world, node.name, "letters of one sender in a day", min(junk, MAX_JUNK_A_DAY), MAX_JUNK_A_DAY)
    with node.database.reads.connect() as connection:
        # The gap finder's commands, each for many blocks, and the operator's commands.
        commands = connection.exec_driver_sql("SELECT count(*) FROM command WHERE state = 'open'").scalar_one()
    _hold(node.world, node.name, "open commands", commands, MAX_ASKED)


def _hold(world: "World", name: str, what: str, number: int, most: int) -> None:
    if number > most:
        world.fail(f"I10: {name} has {number} {what}, {most} at most")


def of_slots(world: "World", key: masks.Key, mask: int) -> list[str]:
    """Return, as text, where some slots of a block are and were stored."""
    meter, kind, quarter = key
    first = (mask & -mask).bit_length() - 1 if mask else 0
    at = quarter * QUARTER_S + first * SLOT_S
    ledger = world.ledger
    lines = [f"The slots: {masks.text(key, mask)}; of the first, at {at}:"]
    made = ledger.made.get((meter, kind), {}).get(at)
    lines.append(f"  made: {'never' if made is None else made}")
    if (meter, kind, at) in ledger.excused:
        lines.append("  no process had it after a store or a memory was lost")
    for fleet in world.fleets.values():
        if meter in fleet.meters:
            records = [unpack_history(data) for data in fleet.meters[meter].history.rows]
            held = [r for r in records if r.record_type == kind and r.start <= at < r.end]
            lines.append(f"  the meter holds {[(r.record_id, r.reading, r.lossy) for r in held] or 'nothing'}")
    for gateway in (each for each in world.all_holders() if not each.store.closed):
        lines += [
            f"  {gateway.name} part {part.id}, relayed={part.relayed}: {_slot(key, part.payload, first)}"
            for part in gateway.store.block_parts([key])
        ]
    for blocks in all_blocks(world.utility.database, quarter, quarter):
        for row in range(len(blocks)):
            if blocks.key(row) == key:
                value, quality = int(blocks.values[row, first]), int(blocks.quality[row, first])
                lines.append(f"  the utility: value {value}, quality {quality}")
    return lines


def _slot(key: masks.Key, payload: bytes, slot: int) -> str:
    blocks, damaged = unpack_sound([key], [payload])
    if damaged:
        return "damaged"
    there = np.flatnonzero(blocks.quality[0]).tolist()
    return f"slots {there[0]} to {there[-1]}, value {int(blocks.values[0, slot])}, quality {blocks.quality[0, slot]}"
