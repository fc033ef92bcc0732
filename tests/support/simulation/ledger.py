"""What everybody has promised, checked at every commit (I1-I3, I7, M6).

The ledger takes nothing from the cores: it reads changes as they are committed, and the stores themselves.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from commonwatt.commands import Command, Kind
from commonwatt.messages import MAX_PUT_RECORDS, unpack_put
from commonwatt.records import EventRecord, HistoryRecord, Log, unpack_event, unpack_history
from commonwatt.topics import EVENTS, RECORDS
from commonwatt.units import SLOT_S, MeterId
from gateway import changes as at_gateway
from meter_sim import changes as at_meter
from meter_sim.meter import Meter
from meter_sim.orders import DEFAULT
from tests.support.simulation import masks
from tests.support.simulation.masks import Holdings, Key
from utility.store import changes as at_utility

if TYPE_CHECKING:
    from tests.support.simulation.fleet import Fleet
    from tests.support.simulation.gateway import GatewayNode
    from tests.support.simulation.world import World

Pair = tuple[tuple[int, int], int]
EventKey = tuple[MeterId, int, int]

GRACE_S = 2
"""A state has ended so long after its end at the latest."""


class Ledger:
    """Truth and promises of one world.

    Attributes:
        made: Every reading ever recorded, by (meter, type) and start of its slot.
        events: Every event ever recorded.
        excused: Readings and events that a meter held when it lost its memory: they may be gone.
    """

    def __init__(self, world: "World") -> None:
        self.made: dict[tuple[MeterId, int], dict[int, int]] = {}
        self.events: dict[EventKey, EventRecord] = {}
        self.excused: list[HistoryRecord] = []
        self.excused_events: set[EventKey] = set()
        self._world = world
        # What each gateway's store holds by its commits, and what meters deleted relying on it.
        self._at_gateway: dict[str, Holdings] = {}
        self._deleted: dict[str, Holdings] = {}
        # The same of each store the utility ever had.
        self._at_utility: dict[int, Holdings] = {}
        self._utility_events: dict[int, set[EventKey]] = {}
        self._relayed: dict[int, Holdings] = {}
        self._puts: dict[tuple[MeterId, int, int, int, int], bytes] = {}
        self._orders: dict[MeterId, at_meter.Orders] = {}
        self._ends: dict[tuple[MeterId, Kind, Pair], int] = {}
        self._generation: dict[MeterId, int] = {}

    def new_utility(self, store_id: int) -> None:
        """Begin with a store of the utility that has nothing."""
        self._at_utility[store_id] = masks.nothing()
        self._utility_events[store_id] = set()
        self._relayed[store_id] = masks.nothing()

    # Meters.

    def excuse(self, meter: MeterId, stored: at_meter.Stored | None) -> None:
        """Note what a meter holds that is about to lose its memory."""
        self._orders.pop(meter, None)
        if stored is not None:
            self.excused += [unpack_history(row.data) for row in stored.history]
            self.excused_events |= {(meter, stored.state.generation, row.first_id) for row in stored.events}

    def commanded(self, meter: MeterId, command: Command, now: int) -> None:
        """Note until when a command that has reached a meter is wanted."""
        desired, end = command.desired(), command.end(now)
        if desired is not None and command.seq is not None and end is not None:
            key = meter, desired[0], (command.epoch, command.seq)
            # It may be sent as a time and as a duration; the meter takes the first that comes.
            self._ends[key] = max(end, self._ends.get(key, 0))

    def sent_by_meter(self, meter: MeterId, leaf: str, payload: bytes) -> None:
        """Check that a put is of bounded size, and the same whenever it is sent (M6)."""
        if leaf not in (RECORDS, EVENTS):
            return
        put = unpack_put(payload)
        key = meter, int(put.log), put.generation, put.first_id, put.last_id
        if len(put.records) > MAX_PUT_RECORDS:
            self._world.fail(f"I10: a put of {len(put.records)} records of meter {meter}")
        if self._puts.setdefault(key, payload) != payload:
            self._world.fail(f"M6: a frozen batch of meter {meter} changed: ids {put.first_id} to {put.last_id}")

    def before_meters(self, fleet: "Fleet", changes: Sequence[at_meter.Change]) -> None:
        """Check what meters are about to delete (I1, I3), and the orders they take on (I7)."""
        for change in changes:
            if isinstance(change, at_meter.Delete):
                self._check_delete(fleet, change)
            elif isinstance(change, at_meter.Orders):
                self._check_orders(change)
            elif isinstance(change, at_meter.MeterState):
                self._generation[change.meter] = change.generation

    def _check_delete(self, fleet: "Fleet", change: at_meter.Delete) -> None:
        """Check that the gateway's store has every record the meter's store is about to lose."""
        gateway = self._world.gateways[fleet.microgrid]
        rows = fleet.store._connection.execute(
            "SELECT data FROM record WHERE meter = ? AND log = ? AND first_id <= ?",
            (change.meter, change.log, change.last_id),
        ).fetchall()
        if change.log is Log.EVENT:
            for (data,) in rows:
                event = unpack_event(data)
                stored = gateway.store.event(change.meter, self._generation[change.meter], event.record_id)
                if stored != event:
                    self._world.fail(f"I1/I3: meter {change.meter} deletes event {event}, the gateway has {stored}")
            return
        held, deleted = self._at_gateway[gateway.name], self._deleted.setdefault(gateway.name, masks.nothing())
        for (data,) in rows:
            for key, mask in masks.of_record(unpack_history(data)).items():
                if lacking := held[key].lacks(mask):
                    self._world.fail(f"I1/I3: a meter deletes what its gateway has not: {masks.text(key, lacking)}")
                deleted[key] = deleted[key].join(mask)

    def _check_orders(self, change: at_meter.Orders) -> None:
        before = self._orders.get(change.meter)
        if before is not None and change.epoch < before.epoch:
            self._world.fail(f"I7: epoch of meter {change.meter} goes back from {before.epoch} to {change.epoch}")
        for kind, held in change.held.items():
            pair = held.epoch, held.seq
            old = before.held.get(kind) if before is not None else None
            if old is not None and pair < (old.epoch, old.seq):
                self._world.fail(f"I7: meter {change.meter} obeys {kind} {pair} after {(old.epoch, old.seq)}")
            new = old is None or pair > (old.epoch, old.seq)
            if not new and old is not None and held.value not in (old.value, DEFAULT[kind]):
                self._world.fail(f"I7: meter {change.meter} executes {kind} {pair} twice: {old.value}, {held.value}")
            end = self._ends.get((change.meter, kind, pair))
            if new and held.value != DEFAULT[kind] and end is not None and end <= self._world.time:
                self._world.fail(f"I7: meter {change.meter} obeys {kind} {pair} after its end {end}")

    def after_meters(self, changes: Sequence[at_meter.Change]) -> None:
        """Keep the truth."""
        for change in changes:
            if isinstance(change, at_meter.Made):
                for row in change.rows:
                    if change.log is Log.EVENT:
                        self.events[change.meter, change.generation, row.first_id] = unpack_event(row.data)
                        continue
                    record = unpack_history(row.data)
                    assert record.end - record.start == SLOT_S
                    self.made.setdefault((change.meter, record.record_type), {})[record.start] = record.reading
            elif isinstance(change, at_meter.Orders):
                self._orders[change.meter] = change

    def check_meter(self, core: Meter, now: float) -> None:
        """Check that no state outlives its end (I7)."""
        meter = core.description.id
        for kind, held in core.orders.held.items():
            end = self._ends.get((meter, kind, (held.epoch, held.seq)))
            if held.value != DEFAULT[kind] and end is not None and now > end + GRACE_S:
                self._world.fail(f"I7: meter {meter} holds {kind} {held.value} {now - end:.0f} s beyond its end")

    # Gateways.

    def before_gateway(self, node: "GatewayNode", changes: Sequence[at_gateway.Change]) -> None:
        """Check that the utility's store has all a gateway is about to mark as there (I2, I3)."""
        known = node.store.setting("utility_store")
        for change in changes:
            if isinstance(change, at_gateway.Setting) and change.key == "utility_store":
                known = change.value
            elif isinstance(change, at_gateway.Relayed):
                assert known is not None
                self._check_relayed(node, change, int(known))
            elif isinstance(change, at_gateway.ReplaceParts) and change.by is not None:
                old = masks.of_parts(_parts(node, change.ids))[change.by.key]
                if old != masks.of_payload(change.by.payload):
                    self._world.fail(f"I1: {node.name} compacts {change.by.key} to something else")

    def _check_relayed(self, node: "GatewayNode", change: at_gateway.Relayed, store_id: int) -> None:
        held, relayed = self._at_utility[store_id], self._relayed[store_id]
        for ids, coarse in ((change.done, False), (change.averaged, True)):
            for key, payload in _parts(node, ids):
                mask = masks.of_payload(payload)
                lacking = held[key].lacks_any(mask) if coarse else held[key].lacks(mask)
                if lacking:
                    self._world.fail(f"I2/I3: {node.name} marks as relayed, not there: {masks.text(key, lacking)}")
                if not coarse:
                    relayed[key] = relayed[key].join(mask)
        if missing := set(change.events) - self._utility_events[store_id]:
            self._world.fail(f"I2/I3: {node.name} marks events as relayed that are not there: {sorted(missing)}")

    def after_gateway(self, name: str, changes: Sequence[at_gateway.Change]) -> None:
        """Note what a gateway's store holds now."""
        held = self._at_gateway[name]
        for change in changes:
            if isinstance(change, at_gateway.AppendParts):
                for part in change.parts:
                    held[part.key] = held[part.key].join(masks.of_payload(part.payload))

    def check_gateway(self, name: str, holdings: Holdings) -> None:
        """Check what a store that was opened holds against what meters deleted (I1)."""
        self._at_gateway[name] = holdings
        self._check_kept(f"I1: {name} acknowledged, and has no longer", self._deleted.get(name), holdings)

    # The utility.

    def after_utility(self, store_id: int, changes: Sequence[at_utility.Change]) -> None:
        """Note what the utility's store holds now."""
        held, events = self._at_utility[store_id], self._utility_events[store_id]
        for change in changes:
            if isinstance(change, at_utility.Append):
                for key, payload in zip(change.blocks.keys(), change.payloads, strict=True):
                    held[key] = held[key].join(masks.of_payload(payload))
                events |= {(event.meter_id, generation, event.record_id) for generation, event in change.events}

    def check_utility(self, store_id: int, holdings: Holdings) -> None:
        """Check what a store that was opened holds against what gateways marked as there (I2)."""
        self._at_utility[store_id] = holdings
        self._check_kept("I2: the utility acknowledged, and has no longer", self._relayed[store_id], holdings)

    def _check_kept(self, what: str, promised: Holdings | None, holdings: Holdings) -> None:
        for key, mask in (promised or {}).items():
            if lacking := holdings[key].lacks(mask):
                self._world.fail(f"{what}: {masks.text(key, lacking)}")


def _parts(node: "GatewayNode", ids: Sequence[int]) -> list[tuple[Key, bytes]]:
    return [(part.key, part.payload) for i in ids for part in node.store._parts("WHERE id = ?", (i,))]
