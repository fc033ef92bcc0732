"""The ledger: checks at every commit the data that each process has acknowledged or relied on (I1-I3, I7).

The ledger does not use the cores: it reads committed changes, and the stores themselves.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import reduce
from typing import TYPE_CHECKING, NoReturn

from commonwatt.codec.packing import pack
from commonwatt.device import changes as at_meter
from commonwatt.device.commands import DEFAULT
from commonwatt.device.meter import MeterCore
from commonwatt.model.records import EventRecord, Log, Rejection, unpack_event, unpack_history
from commonwatt.model.units import QUARTER_S, SLOT_S, SLOTS, MeterId
from commonwatt.model.validation import EARLY_S, FUTURE_S
from commonwatt.protocol.commands import Command, HeldState, Kind
from commonwatt.protocol.dead_letters import DeadLetter
from commonwatt.protocol.meter_messages import MAX_PUT_RECORDS, unpack_put
from commonwatt.protocol.topics import EVENTS, RECORDS
from gateway.store import changes as at_gateway
from harness.world import masks
from harness.world.masks import Holdings, Key
from utility.outbox import changes as at_utility

if TYPE_CHECKING:
    from harness.world.fleet import Fleet
    from harness.world.gateway import Holder
    from harness.world.world import World

# What a store of the utility has, what gateways rely on, its events, its dead letters.
Snapshot = tuple[Holdings, Holdings, "set[EventKey]", set[DeadLetter]]
Pair = tuple[tuple[int, int], int]
EventKey = tuple[MeterId, int, int]

GRACE_S = 2  # longest time after its end until a state has ended
CLOCKS_APART_S = 60  # largest age of a message when its time is validated; only delayed messages are older

_GROUPS = [0x3FF << 10 * group for group in range(6)]


class Ledger:
    """True readings and acknowledgements of one world."""

    def __init__(self, world: "World") -> None:
        # Every reading ever recorded, by (meter, type) and start of its slot.
        self.made: dict[tuple[MeterId, int], dict[int, int]] = {}
        self.events: dict[EventKey, EventRecord] = {}  # every event ever recorded
        # Readings of slots made twice, by a meter whose clock was set back, and that lost its memory.
        self.made_again: dict[tuple[MeterId, int, int], set[int]] = {}
        # Slots (meter, type, start) that no process had after a store or a memory was lost: acknowledged by that store
        # alone and not relayed, or not acknowledged yet. Only these may be missing.
        self.excused: set[tuple[MeterId, int, int]] = set()
        self.excused_events: set[EventKey] = set()  # the same of events
        self.forged: set[bytes] = set()  # records sent in another device's name; they may only be in dead letters
        self._world = world
        # The holdings of each gateway's store by its commits, and what meters deleted relying on them.
        self._at_gateway: dict[str, Holdings] = {}
        self._deleted: dict[str, Holdings] = {}
        # The same for each store of the utility, and each past that it went back to.
        self._at_utility: dict[int, Holdings] = {}
        self._utility_events: dict[int, set[EventKey]] = {}
        self._relayed: dict[int, Holdings] = {}
        self._puts: dict[tuple[MeterId, int, int, int, int], bytes] = {}
        self._desired_states: dict[MeterId, at_meter.DesiredStates] = {}
        self._ends: dict[tuple[MeterId, Kind, Pair], int] = {}
        self._over: dict[tuple[MeterId, Kind, Pair], float] = {}
        self._generation: dict[MeterId, int] = {}
        # Dead letters by owner: gateways by name, the utility by its store's id.
        self._dead_letters: dict[str | int, set[DeadLetter]] = {}
        self._store_id = 0
        self._store_of_run: dict[int, int] = {}
        # Holdings of gateways' lost stores, whose acknowledgements may still be in transit.
        self._lost: dict[str, Holdings] = {}
        self._lost_events: dict[str, set[EventKey]] = {}

    # Losses.

    def new_utility(self, store_id: int) -> None:
        """Record a new, empty store of the utility."""
        self._at_utility[store_id] = masks.nothing()
        self._utility_events[store_id] = set()
        self._relayed[store_id] = masks.nothing()
        self._dead_letters[store_id] = set()
        self._store_id = store_id
        self._excuse()

    def began(self, run: int) -> None:
        """Record a run of the utility's present store."""
        self._store_of_run[run] = self._store_id

    def snapshot(self) -> Snapshot:
        """Return what the utility's store has and what gateways rely on."""
        of = self._store_id
        both = self._at_utility[of], self._relayed[of]
        # A look at a block makes an empty mask of it.
        held, relayed = (masks.nothing() | {key: mask for key, mask in one.items() if mask.any} for one in both)
        return held, relayed, set(self._utility_events[of]), set(self._dead_letters[of])

    def went_back(self, store: int, snapshot: Snapshot) -> None:
        """Record that the utility's store went back; what it acknowledged since counts for its lost runs alone."""
        self._at_utility[store], self._relayed[store], self._utility_events[store], self._dead_letters[store] = snapshot
        self._store_id = store
        self._excuse()

    def lost_gateway(self, name: str, events: set[EventKey]) -> None:
        """Record a new, empty store of a gateway; the lost one had these events."""
        self._note_lost(name, events)
        self._at_gateway[name] = masks.nothing()
        self._dead_letters[name] = set()
        self._excuse()

    def _note_lost(self, name: str, events: set[EventKey]) -> None:
        """Note what a gateway acknowledged, and may have no more."""
        lost = self._lost.setdefault(name, masks.nothing())
        for key, mask in self._at_gateway[name].items():
            lost[key] = lost[key].join(mask)
        self._lost_events.setdefault(name, set()).update(events)
        self._deleted[name] = masks.nothing()

    def rotted(self, name: str, holdings: Holdings) -> None:
        """Record what a gateway's store still has after bits of its disk were flipped: most of it."""
        before = sum(mask != masks.Mask() for mask in self._at_gateway[name].values())
        if len(holdings) < before // 2:
            self._world.fail(f"I1: {name} has {len(holdings)} blocks of {before} after a bit was flipped")
        meters = self._world.gateways[name].controller.own.meters
        self._note_lost(name, {event for event in self.events if event[0] in meters})
        self._at_gateway[name] = holdings
        self._excuse()

    def has_lost(self, name: str) -> bool:
        """Return whether a gateway ever lost its store."""
        return name in self._lost

    def lost_memory(self, meter: MeterId) -> None:
        """Record a meter that has lost its memory."""
        self._desired_states.pop(meter, None)
        self._excuse()

    def _excuse(self) -> None:
        """Record data that all processes have lost."""
        there = masks.nothing()
        for held in (*self._at_gateway.values(), self._at_utility[self._store_id]):
            for key, mask in held.items():
                there[key] = there[key].join(mask)
        events = set(self._utility_events[self._store_id])
        for fleet in self._world.fleets.values():
            for records in fleet.store.held_records():
                for record in records:
                    for key, mask in masks.of_record(record).items():
                        there[key] = there[key].join(mask)
            events |= {(event.meter_id, generation, event.record_id) for generation, event in fleet.store.held_events()}
        for holder in self._world.all_holders():
            # One that is closed can't be read: its disk is full, and a new one needs space.
            if holder.store.closed:
                continue
            stored = holder.store.all_events(unsent_only=False)
            events |= {(event.meter_id, generation, event.record_id) for generation, event in stored}
        self.excused_events |= self.events.keys() - events - self._events_in_dead_letters()
        dead_letters = self.slots_in_dead_letters()
        for (meter, kind), slots in self.made.items():
            for at in slots:
                mask = there[meter, kind, at // QUARTER_S]
                if (
                    not (mask.exact | mask.averaged) >> at % QUARTER_S // SLOT_S & 1
                    and (meter, kind, at) not in dead_letters
                ):
                    self.excused.add((meter, kind, at))

    def dead_letters(self, of: str | int | None = None) -> set[DeadLetter]:
        """Return the dead letters of one owner, or of all."""
        if of is not None:
            return self._dead_letters[of]
        held = [
            dead_letters
            for who, dead_letters in self._dead_letters.items()
            if isinstance(who, str) or who == self._store_id
        ]
        return set[DeadLetter]().union(*held)

    def slots_in_dead_letters(self, of: int | None = None) -> set[tuple[MeterId, int, int]]:
        """Return the rejected slots (meter, type, start) that are kept in dead letters."""
        records = [unpack_history(x.content) for x in self.dead_letters(of) if x.log == Log.HISTORY]
        return {(r.meter_id, r.record_type, at) for r in records for at in range(r.start, r.end, SLOT_S)}

    def _events_in_dead_letters(self, of: int | None = None) -> set[EventKey]:
        return {(x.meter, x.generation, x.record_id) for x in self.dead_letters(of) if x.log == Log.EVENT}

    def rejected_events(self) -> set[EventKey]:
        """Return the rejected events in the utility's dead letters."""
        return self._events_in_dead_letters(self._store_id)

    def rejected_slots(self) -> set[tuple[MeterId, int, int]]:
        """Return the rejected slots in the utility's dead letters."""
        return self.slots_in_dead_letters(self._store_id)

    # Meters.

    def commanded(
        self, core: MeterCore, command: Command, *, before: Mapping[Kind, HeldState], time: int, now: float
    ) -> None:
        """Check that a meter has not just obeyed an expired command (I7), and record the end of the command.

        Args:
            command: The command that it received.
            before: Its desired states before.
            time: Its time then.
            now: Its own uncorrected clock then.
        """
        meter = core.description.id
        desired, end = command.desired(), command.end(time)
        if desired is None or command.seq is None or end is None:
            return
        kind, pair = desired[0], (command.epoch, command.seq)
        key = meter, kind, pair
        old, held = before.get(kind), core.desired_states.held.get(kind)
        obeyed = held is not None and held != old and (held.epoch, held.seq) == pair and held.value != DEFAULT[kind]
        if obeyed and end <= time:
            self._world.fail(f"I7: meter {meter} obeys {kind} {pair} after its end {end}")
        # The end may be sent as a time and as a duration; the meter uses the first to arrive.
        if command.for_s is None:
            self._ends[key] = max(end, self._ends.get(key, 0))
        else:
            self._over[key] = max(now + command.for_s, self._over.get(key, 0))

    def sent_by_meter(self, meter: MeterId, leaf: str, payload: bytes) -> None:
        """Check that a put is of bounded size, and identical at each repetition (I3)."""
        if leaf not in (RECORDS, EVENTS):
            return
        put = unpack_put(payload)
        key = meter, int(put.log), put.generation, put.first_id, put.last_id
        if len(put.records) > MAX_PUT_RECORDS:
            self._world.fail(f"I10: a put of {len(put.records)} records of meter {meter}")
        if self._puts.setdefault(key, payload) != payload:
            self._world.fail(f"I3: a frozen batch of meter {meter} changed: ids {put.first_id} to {put.last_id}")

    def before_meters(self, fleet: "Fleet", changes: Sequence[at_meter.MeterChange]) -> None:
        """Check the records that meters are about to delete (I1, I3), and their new desired states (I7)."""
        for change in changes:
            if isinstance(change, at_meter.Delete):
                self._check_delete(fleet, change)
            elif isinstance(change, at_meter.DesiredStates):
                self._check_orders(change)
            elif isinstance(change, at_meter.MeterState):
                self._generation[change.meter] = change.generation

    def _check_delete(self, fleet: "Fleet", change: at_meter.Delete) -> None:
        """Check that a gateway's store has every record the meter's store is about to lose."""
        holders = self._world.holders(fleet.microgrid)
        rows = fleet.store.connection.execute(
            "SELECT data FROM record WHERE meter = ? AND log = ? AND first_id <= ?",
            (change.meter, change.log, change.last_id),
        ).fetchall()
        if change.log is Log.EVENT:
            for (data,) in () if any(one.store.closed for one in holders) else rows:
                event = unpack_event(data)
                generation = self._generation[change.meter]
                stored = [one.store.event(change.meter, generation, event.record_id) for one in holders]
                key = change.meter, generation, event.record_id
                if event in stored or key in self._events_in_dead_letters():
                    continue
                if any(key in self._lost_events.get(one.name, ()) for one in holders):
                    self.excused_events.add(key)
                else:
                    self._world.fail(f"I1/I3: meter {change.meter} deletes event {event}, the gateway has {stored}")
            return
        names = [one.name for one in holders]
        rejected = {letter.content for name in names for letter in self._dead_letters.get(name, ())}
        for (data,) in rows:
            if data in rejected:
                continue
            for key, mask in masks.of_record(unpack_history(data)).items():
                lacking = reduce(masks.Mask.join, (self._at_gateway[name][key] for name in names)).lacks(mask)
                if lacking & ~self._excuse_lost(names, key, lacking):
                    self._fail("I1/I3: a meter deletes slots that its gateway has not stored", key, lacking)
                if lacking:
                    continue
                for name in names:
                    deleted = self._deleted.setdefault(name, masks.nothing())
                    deleted[key] = deleted[key].join(self._at_gateway[name][key].common(mask))

    def _excuse_lost(self, names: Sequence[str], key: Key, slots: int) -> int:
        """Excuse slots that a lost store of a gateway had acknowledged; return them."""
        lost = [self._lost[name][key] for name in names if name in self._lost]
        slots &= reduce(masks.Mask.join, lost, masks.Mask()).any
        there = self._at_utility[self._store_id][key].any
        meter, kind, quarter = key
        for slot in range(SLOTS):
            if (slots & ~there) >> slot & 1:
                self.excused.add((meter, kind, quarter * QUARTER_S + slot * SLOT_S))
        return slots

    def _check_orders(self, change: at_meter.DesiredStates) -> None:
        before = self._desired_states.get(change.meter)
        if before is not None and change.epoch < before.epoch:
            self._world.fail(f"I7: epoch of meter {change.meter} goes back from {before.epoch} to {change.epoch}")
        for kind, held in change.held.items():
            pair = held.epoch, held.seq
            old = before.held.get(kind) if before is not None else None
            if old is not None and pair < (old.epoch, old.seq):
                self._world.fail(f"I7: meter {change.meter} obeys {kind} {pair} after {(old.epoch, old.seq)}")
            new = old is None or pair > (old.epoch, old.seq)
            if new and before is not None and held.epoch < before.epoch:
                self._world.fail(f"I8: meter {change.meter} obeys epoch {held.epoch} after {before.epoch}")
            if not new and old is not None and held.value not in (old.value, DEFAULT[kind]):
                self._world.fail(f"I7: meter {change.meter} executes {kind} {pair} twice: {old.value}, {held.value}")

    def after_meters(self, changes: Sequence[at_meter.MeterChange]) -> None:
        """Record true readings and events."""
        for change in changes:
            if isinstance(change, at_meter.NewRecords):
                for row in change.rows:
                    if change.log is Log.EVENT:
                        self.events[change.meter, change.generation, row.first_id] = unpack_event(row.data)
                        continue
                    record = unpack_history(row.data)
                    assert record.end - record.start == SLOT_S
                    slots = self.made.setdefault((change.meter, record.record_type), {})
                    if record.start in slots:
                        again = self.made_again.setdefault((change.meter, record.record_type, record.start), set())
                        again |= {slots[record.start], record.reading}
                    slots.setdefault(record.start, record.reading)
            elif isinstance(change, at_meter.DesiredStates):
                self._desired_states[change.meter] = change

    def check_meter(self, core: MeterCore, now: float) -> None:
        """Check that no state outlives its end (I7): a time by the meter's time, a duration by its own clock.

        The clocks may have an error that was not reported to the meter yet.
        """
        meter = core.description.id
        for kind, held in core.desired_states.held.items():
            key = meter, kind, (held.epoch, held.seq)
            beyond = [core.time(now) - self._ends[key]] if key in self._ends else []
            beyond += [now - self._over[key]] if key in self._over else []
            if held.value != DEFAULT[kind] and beyond and min(beyond) > GRACE_S:
                self._world.fail(f"I7: meter {meter} holds {kind} {held.value} {min(beyond):.0f} s beyond its end")

    # Gateways.

    def before_gateway(self, node: "Holder", changes: Sequence[at_gateway.Change]) -> None:
        """Check that the utility's store has all data that a gateway is about to mark as relayed (I2, I3)."""
        known = node.store.setting("utility_store")
        for change in changes:
            if isinstance(change, at_gateway.Setting) and change.key == "utility_store":
                known = change.value
            elif isinstance(change, at_gateway.Relayed):
                if known is None:
                    self._world.fail(f"I3: {node.name} marks data as relayed before the utility's first message")
                run = change.mark[0] if change.mark is not None else 0
                self._check_relayed(node, change, self._store_of_run[run] if run else int(known))
            elif isinstance(change, at_gateway.AddDeadLetters):
                self._check_dead_letters(node, change)
            elif isinstance(change, at_gateway.AppendParts) and change.instead_of:
                # Only exact slots may replace averages.
                old = masks.of_parts(_parts(node, change.instead_of))
                for part in change.parts:
                    if old[part.key] != masks.of_payload(part.payload):
                        self._world.fail(f"I1: {node.name} compacts {part.key} to something else")

    def _check_dead_letters(self, node: "Holder", change: at_gateway.AddDeadLetters) -> None:
        """Check that rejected records are forged, or outside the time limits of a clock with an undetectable error."""
        clock = self._world.clock()
        for dead_letter in change.dead_letters:
            if dead_letter.content in self.forged:
                continue
            event = dead_letter.log == Log.EVENT
            end = unpack_event(dead_letter.content).time if event else unpack_history(dead_letter.content).end
            ahead = end > clock + FUTURE_S - CLOCKS_APART_S
            # The time it compared with; the same step may have set it before or after the jump.
            behind = node.jumped and dead_letter.time - clock < CLOCKS_APART_S - FUTURE_S
            # Without its meters a gateway that has no time of its own takes the utility's.
            misled = self._world.utility.offset <= -EARLY_S and end > dead_letter.time + EARLY_S
            if dead_letter.reason != Rejection.FUTURE or not (ahead or behind or misled):
                why = Rejection(dead_letter.reason).name
                self._world.fail(f"I6: {node.name} rejects a good record of {dead_letter.meter} as {why}, of {end}")

    def _check_relayed(self, node: "Holder", change: at_gateway.Relayed, store_id: int) -> None:
        held, relayed = self._at_utility[store_id], self._relayed[store_id]
        for ids, coarse in ((change.done, False), (change.averaged, True)):
            for key, payload in _parts(node, ids):
                mask = masks.of_payload(payload)
                lacking = held[key].lacks_any(mask) if coarse else held[key].lacks(mask)
                if lacking:
                    self._fail(f"I2/I3: {node.name} marks missing data as relayed", key, lacking)
                if not coarse:
                    relayed[key] = relayed[key].join(mask)
        if missing := set(change.events) - self._utility_events[store_id]:
            self._world.fail(f"I2/I3: {node.name} marks missing events as relayed: {sorted(missing)}")
        # The utility stores no time after its own, and its clock may be far behind.
        marked = {
            replace(dead_letter, time=0)
            for i in change.dead_letters
            for _, dead_letter in node.store._dead_letters("WHERE number = ?", (i,))
        }
        if lost := marked - {replace(dead_letter, time=0) for dead_letter in self._dead_letters[store_id]}:
            self._world.fail(f"I2/I3: {node.name} marks missing dead letters as relayed: {lost}")

    def after_gateway(self, name: str, changes: Sequence[at_gateway.Change]) -> None:
        """Record the contents of a gateway's store."""
        held = self._at_gateway[name]
        for change in changes:
            if isinstance(change, at_gateway.AppendParts) and not change.instead_of:
                for part in change.parts:
                    held[part.key] = held[part.key].join(masks.of_payload(part.payload))
                    self._check_groups(f"the store of {name}", part.key, held[part.key])
            elif isinstance(change, at_gateway.AppendRecords):
                for record in change.records:
                    for key, mask in masks.of_record(record).items():
                        held[key] = held[key].join(mask)
                        self._check_groups(f"the store of {name}", key, held[key])
            elif isinstance(change, at_gateway.AddDeadLetters):
                self._dead_letters.setdefault(name, set()).update(change.dead_letters)

    def check_gateway(self, name: str, holdings: Holdings) -> None:
        """Compare a reopened gateway's store with the records that meters deleted (I1)."""
        self._at_gateway[name] = holdings
        self._check_kept(f"I1: {name} lost acknowledged data", self._deleted.get(name), holdings)

    # The utility.

    def after_utility(self, store_id: int, changes: Sequence[at_utility.UtilityChange]) -> None:
        """Record the contents of the utility's store."""
        held, events = self._at_utility[store_id], self._utility_events[store_id]
        for change in changes:
            if isinstance(change, at_utility.Append):
                for key, payload in zip(change.blocks.keys(), change.payloads, strict=True):
                    held[key] = held[key].join(masks.of_payload(payload))
                    self._check_groups("the utility", key, held[key])
                # What waits for a confirmed clock is held, and stored at last.
                for kept, blocks in change.quarantined:
                    for key, payload in zip(blocks.keys(), pack(blocks), strict=True):
                        held[key] = held[key].join(masks.of_payload(payload))
                    if kept.log == Log.EVENT:
                        events.add((kept.meter, kept.generation, kept.record_id))
                self._dead_letters[store_id] |= set(change.dead_letters)
                events |= {(event.meter_id, generation, event.record_id) for generation, event in change.events}

    def check_utility(self, store_id: int, holdings: Holdings) -> None:
        """Compare a reopened utility's store with the parts that gateways marked as acknowledged (I2)."""
        self._at_utility[store_id] = holdings
        self._check_kept("I2: the utility lost acknowledged data", self._relayed[store_id], holdings)

    def _check_kept(self, what: str, promised: Holdings | None, holdings: Holdings) -> None:
        for key, mask in (promised or {}).items():
            if lacking := holdings[key].lacks(mask):
                self._fail(what, key, lacking)

    def _check_groups(self, where: str, key: Key, mask: masks.Mask) -> None:
        """Check that no group of ten has averages and exact slots: its sum would be wrong without a gap."""
        for group in _GROUPS:
            if mask.averaged & group and mask.exact & group and not self.may_mix(key, group):
                self._fail(f"I5: averages and exact slots of a group meet in {where}", key, mask.averaged & group)

    def may_mix(self, key: Key, slots: int) -> bool:
        """Return whether averages and exact values may meet: a meter made some slots twice, or a gateway lost its
        store with the note of its averages, and relays its meter's repeated records as exact.
        """
        return self.again(key, slots) or any(lost[key].exact & slots for lost in self._lost.values())

    def again(self, key: Key, slots: int) -> bool:
        """Return whether a meter made any of the slots twice."""
        meter, kind, quarter = key
        start = quarter * QUARTER_S
        return bool(self.made_again) and any(
            slots >> slot & 1 and (meter, kind, start + slot * SLOT_S) in self.made_again for slot in range(SLOTS)
        )

    def _fail(self, what: str, key: Key, slots: int) -> NoReturn:
        self._world.fail(f"{what}: {masks.text(key, slots)}", key=key, slots=slots)


def _parts(node: "Holder", ids: Sequence[int]) -> list[tuple[Key, bytes]]:
    return [(part.key, part.payload) for i in ids for part in node.store._parts("WHERE id = ?", (i,))]
