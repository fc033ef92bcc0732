"""Messages for tests: records of meters, acknowledgements, batches of gateways; and a utility that gets them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from zoneinfo import ZoneInfo

from commonwatt.codec.packing import pack
from commonwatt.codec.packing_arrays import Payloads
from commonwatt.model.blocks import Blocks, make_blocks
from commonwatt.model.effects import Publish
from commonwatt.model.records import EventRecord, HistoryRecord, Log, RecordType, Rejection
from commonwatt.model.time import Trust
from commonwatt.model.units import QUARTER_S, SLOT_S, EpochSeconds, MeterId, Quarter
from commonwatt.protocol.batches import Batch
from commonwatt.protocol.dead_letters import DeadLetter
from commonwatt.protocol.heartbeats import Heartbeat
from commonwatt.protocol.meter_messages import Put, PutAck
from commonwatt.runtime.clock import Clock
from commonwatt.town.town import Battery, Direction, Function, Meter, Town
from utility.assembly.metrics import UtilityMetrics
from utility.database.database import Database
from utility.database.health import Health
from utility.outbox.changes import Append
from utility.readings.ingest import Ingest
from utility.readings.store.compactor import Compactor
from utility.readings.store.gaps import GapFinder
from utility.readings.store.retention import register_replacement
from utility.registry.accounts import exchanged
from utility.registry.store.accounts import load_for_change, save_dated_registry
from utility.registry.store.registration import fill_registry

SOLAR = (RecordType.GENERATION, RecordType.STORED, RecordType.THROUGH)  # record types of a meter with a battery


def house_meter(
    meter: int, *, battery: Battery | None, record_types: tuple[RecordType, ...] = SOLAR, push: bool = True
) -> Meter:
    """Return the outgoing meter of a house."""
    return Meter(
        id=meter,
        microgrid="r001",
        address="10.0.0.1",
        location="house 1",
        function=Function.HOUSE,
        direction=Direction.OUTGOING,
        account=7,
        record_types=record_types,
        service_amps=200,
        battery=battery,
        push=push,
    )


def ack_of(put: Put, time: EpochSeconds) -> PutAck:
    """Return the acknowledgement of everything in a put."""
    return PutAck(
        log=put.log,
        generation=put.generation,
        first_id=put.first_id,
        last_id=put.last_id,
        time=time,
        accepted=tuple(put.counts().items()),
    )


def a_record(
    start: int,
    reading: int,
    *,
    end: int | None = None,
    meter: int = 10001,
    record_id: int = 1,
    kind: int = 3,
    account: int = 1,
    lossy: int = 0,
) -> HistoryRecord:
    """Return a meter's record of a slot, or of the time until ``end``."""
    return HistoryRecord(
        record_type=kind,
        lossy=lossy,
        record_id=record_id,
        meter_id=meter,
        account=account,
        start=start,
        end=start + SLOT_S if end is None else end,
        reading=reading,
    )


def a_letter(
    record: HistoryRecord,
    reason: int = Rejection.IMPLAUSIBLE,
    *,
    meter: int | None = None,
    generation: int = 1,
    time: int = 1_800_000_000,
) -> DeadLetter:
    """Return a record of the meter that it names, or of ``meter``, that its gateway rejected."""
    return DeadLetter(
        meter=record.meter_id if meter is None else meter,
        log=Log.HISTORY,
        reason=reason,
        generation=generation,
        record_id=record.record_id,
        time=time,
        content=record.pack(),
    )


def blocks(slots: dict[int, int], *, meter: int = 10001, kind: int = 3, quarter: int = 2_000_000, q: int = 2) -> Blocks:
    """Return a block with these values by slot, all of quality ``q``."""
    values = [slots.get(slot, 0) for slot in range(60)]
    return make_blocks([(meter, kind, quarter)], [values], [[q if slot in slots else 0 for slot in range(60)]])


def append(
    blocks: Blocks | None = None,
    *,
    sender: str = "r001",
    events: Sequence[tuple[int, EventRecord]] = (),
    dead_letters: Sequence[DeadLetter] = (),
    received: int = 1_800_000_000,
) -> Append:
    """Return the core's change for a good batch."""
    given = blocks if blocks is not None else make_blocks([], [], [])
    return Append(
        sender=sender,
        owner="r001",
        received=received,
        blocks=given,
        payloads=pack(given),
        events=list(events),
        dead_letters=list(dead_letters),
    )


def batch(
    blocks: Blocks | None = None,
    *,
    owner: str = "r001",
    events: Sequence[tuple[int, EventRecord]] = (),
    dead_letters: Sequence[DeadLetter] = (),
    payloads: list[bytes] | None = None,
) -> Batch:
    """Return a batch as a gateway relays it."""
    given = blocks if blocks is not None else make_blocks([], [], [])
    return Batch(
        owner=owner,
        store=7,
        sequence=3,
        time=1_800_000_000,
        trust=Trust.NETWORK,
        keys=given.keys(),
        payloads=Payloads.of(payloads or pack(given)),
        events=list(events),
        dead_letters=list(dead_letters),
    )


def a_heartbeat(**fields: object) -> Heartbeat:
    """Return the heartbeat of an idle gateway, with ``fields``."""
    nothing = {"time": 5, "store": 7, "backlog_parts": 0, "backlog_events": 0, "backlog_letters": 0}
    return Heartbeat.model_validate({**nothing, "aggregation": "none", **fields})


def register_in(timezone: str, database: Database, town: Town) -> None:
    """Register a town as one of another time zone."""
    with database.writes.begin() as connection:
        fill_registry(connection, replace(town, table=town.table.model_copy(update={"timezone": timezone})))


def ingest_of(
    database: Database,
    clock: Clock,
    publish: Callable[[Publish], None] = lambda _: None,
    *,
    metrics: UtilityMetrics | None = None,
    health: Health | None = None,
    trust: Trust | None = None,
) -> Ingest:
    """Return the service's own ingest, with the settings' own gap age."""
    ingest = Ingest(
        database,
        clock=clock,
        metrics=(metrics or UtilityMetrics()).readings,
        publish=publish,
        gap_age_s=1800,
        health=health or Health(None),
    )
    if trust is not None:
        ingest.trust = trust
    return ingest


def exchange(database: Database, new: Mapping[MeterId, MeterId], at: Quarter) -> None:
    """Exchange meters, each for the one that it is mapped to, from a quarter on."""
    with database.writes.begin() as connection:
        before = after = load_for_change(connection)
        for old, other in new.items():
            register_replacement(connection, old, other)
            after = exchanged(after, old, other, at, None, None)
        save_dated_registry(connection, before, after, "anna", at * QUARTER_S, ZoneInfo("America/New_York"))


def compact(database: Database, now: int) -> int:
    """Compact until nothing is left; return the number of compacted blocks."""
    compactor = Compactor(database)
    made = 0
    while (replacement := compactor.plan(now)) is not None:
        made += compactor.apply(replacement)
    return made


def find_gaps(database: Database, now: int, age_s: int = 0) -> None:
    """Run the gap finder until it has checked all quarters."""
    finder = GapFinder(database)
    more = True
    while more:
        run = finder.plan(now, age_s)
        finder.apply(run, now)
        more = run.more
