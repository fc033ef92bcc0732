"""How many records a gateway makes durable: its core and its store, from the meters' messages to the commit."""

import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from commonwatt.config.settings import GatewaySettings
from commonwatt.model.effects import Write
from commonwatt.model.records import HistoryRecord, Log
from commonwatt.model.units import SLOT_S
from commonwatt.protocol.meter_messages import MAX_PUT_RECORDS, Put
from commonwatt.protocol.topics import RECORDS, meter_up
from gateway.controller import Controller
from gateway.events import Committed, FromMeter
from gateway.loop.inbox import MAX_GROUP, Inbox
from gateway.store.store import Store
from harness.docs.measured import Goal, Section, Table, spread
from harness.surroundings.gateway import START, registered

MICROGRID = "r001"
METERS = 303  # the meters of an apartment building
RECORDS_PER_S = 50_000  # the goal

MINUTE, BACKLOG = "puts of a minute, 12 records", "puts of a backlog, 1,000 records"
LIMITED_BY = "Each record is checked separately, on one core."


def puts(meters: int, rounds: int, slots: int) -> list[FromMeter]:
    """Return the messages of ``meters`` meters with a battery, in rounds of ``slots`` slots each."""
    rng = np.random.default_rng(1)
    events: list[FromMeter] = []
    for at in range(rounds):
        for meter in range(1, meters + 1):
            times = [START + SLOT_S * (at * slots + slot) for slot in range(slots)]
            records = [
                HistoryRecord(
                    record_type=record_type,
                    lossy=0,
                    record_id=1 + at * slots * 3 + number,
                    meter_id=meter,
                    account=meter,
                    start=times[number // 3],
                    end=times[number // 3] + SLOT_S,
                    reading=max(0, round(rng.normal(5_000, 150))),
                )
                for number, record_type in enumerate((1, 2, 3) * slots)
            ]
            put = Put(
                log=Log.HISTORY,
                generation=1,
                first_id=records[0].record_id,
                last_id=records[-1].record_id,
                records=tuple(record.pack() for record in records),
            )
            events.append(FromMeter(meter_up(MICROGRID, meter, RECORDS), put.pack()))
    return events


def bench(*, smoke: bool = False) -> Section:
    """Measure live load and a backlog."""
    meters, rounds, runs = (3, 1, 1) if smoke else (METERS, 6, 7)
    loads = {MINUTE: puts(meters, rounds, 4), BACKLOG: puts(min(meters, 60), 1, MAX_PUT_RECORDS // 3)}
    samples: dict[str, list[float]] = {name: [] for name in loads}
    with tempfile.TemporaryDirectory() as folder:
        for run in range(runs):
            for name, events in loads.items():
                samples[name].append(_gateway(Path(folder) / f"{run}.db", events))
                for file in Path(folder).iterdir():
                    file.unlink()
    return Section(
        title="A gateway's core and store",
        about=f"{meters} meters with batteries; messages are taken into transactions as the gateway does it, without a "
        "broker: every record is checked, packed and committed durably, its acknowledgement made.",
        tables=(
            Table(
                title="Records a second made durable",
                columns=("messages", "gateway"),
                rows=tuple((name, spread(rates)) for name, rates in samples.items()),
            ),
        ),
        goals=tuple(
            Goal(
                what=f"core and store, {name}",
                value=statistics.median(rates),
                unit="records/s",
                at_least=RECORDS_PER_S,
                limited_by=LIMITED_BY,
            )
            for name, rates in samples.items()
        ),
    )


def _gateway(path: Path, events: Sequence[FromMeter]) -> float:
    """Return how many records a second were acknowledged after their commit."""
    store = Store.open(path)
    meters = {meter: registered(meter) for meter in range(1, METERS + 1)}
    controller = Controller(GatewaySettings(microgrid=MICROGRID), store, meters)
    core = controller.own
    now = START + 86_400
    core.time.network(now, now, 0)
    started = time.perf_counter()
    for group in _groups(events):
        effects = [effect for event in group for effect in controller.handle(MICROGRID, event, now)]
        store.commit([effect.change for effect in effects if isinstance(effect, Write)])
        store.commit([effect.change for effect in core.handle(Committed(MICROGRID), now) if isinstance(effect, Write)])
    taken_s = time.perf_counter() - started
    store.close()
    return sum(core.collector.counts.records.values()) / taken_s


def _groups(events: Sequence[FromMeter]) -> Iterator[list[FromMeter]]:
    """Yield the messages of each transaction, as the gateway's inbox chooses them."""
    inbox = Inbox()
    for event in events:
        inbox.queue(event)
        if len(inbox) >= MAX_GROUP:
            yield [event for event in inbox.take() if isinstance(event, FromMeter)]
    while group := inbox.take():
        yield [event for event in group if isinstance(event, FromMeter)]
