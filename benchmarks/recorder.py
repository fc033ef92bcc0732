"""What the flight recorder costs a gateway: its share of the processor, its memory, and the time that it keeps."""

import gc
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.gateway_store import MICROGRID, puts
from commonwatt.config.settings import GatewaySettings
from commonwatt.model.effects import Effect, Publish, Write
from commonwatt.protocol.batches import BatchAck, BatchRefusal, unpack_batch
from commonwatt.protocol.topics import ACKS, BATCHES, gateway_down, gateway_up
from gateway.changes import Change
from gateway.controller import HEARTBEAT, Controller
from gateway.core import RETRY
from gateway.events import Committed, Event, FromMeter, FromUtility, Tick
from gateway.recorder.recorder import Recorder
from gateway.store.store import Store
from harness.docs.measured import Goal, Section, Table
from harness.worlds.gateway import START, registered

SITES = {
    "10, each with a battery": (10, (1, 2, 3)),
    "303 of an apartment building": (303, (3,)),
    "303, each with a battery": (303, (1, 2, 3)),
}
"""The meters of a microgrid, with the types of their records."""
MINUTES = 90
MOST_SHARE = 3.0  # percent of a processor core

Handle = Callable[[str, Event, int], list[Effect[Change]]]


def bench(*, smoke: bool = False) -> Section:
    """Measure gateways of each size, with the recorder and without."""
    rows, goals = [], []
    minutes = 3 if smoke else MINUTES
    for name, (many, types) in SITES.items():
        meters = 3 if smoke else many
        events = puts(meters, minutes, 4, types)
        with tempfile.TemporaryDirectory() as folder:
            without = _share(Path(folder) / "without.db", events, meters, minutes, None, types)
            recorders: list[Recorder] = []
            share = _share(Path(folder) / "with.db", events, meters, minutes, recorders, types)
        recorder = recorders[0]
        kept_min = (START + minutes * 60 - recorder.stretches[0].since) / 60
        rows.append(
            (
                name,
                f"{without:.2f} %",
                f"{share:.2f} %",
                f"{recorder.size_bytes / 1e6:.2f} MB",
                f"{kept_min:.0f} min",
            )
        )
        what = f"the recorder of {name}"
        limited_by = "Each event, and what the core read for it, is pickled."
        goals += [
            Goal(what=what, value=share - without, unit="% of a core", at_most=MOST_SHARE, limited_by=limited_by),
            Goal(what=what, value=recorder.size_bytes / 1e6, unit="MB", at_most=2, limited_by=limited_by),
        ]
    return Section(
        title="The flight recorder",
        about="Each meter puts its records once a minute, all batches are acknowledged, no network; "
        "processor time of core, store and recorder by the time that passes in the simulated microgrid.",
        tables=(
            Table(
                title="A gateway with the recorder and without",
                columns=("meters", "without", "with", "memory", "kept"),
                rows=tuple(rows),
            ),
        ),
        goals=tuple(goals),
    )


def _share(
    path: Path,
    events: list[FromMeter],
    meters: int,
    minutes: int,
    into: list[Recorder] | None,
    types: tuple[int, ...],
) -> float:
    """Return the percent of a core that a gateway takes; its recorder goes into ``into``, without it has none."""
    store = Store.open(path)
    settings = GatewaySettings(microgrid=MICROGRID)
    known = {meter: registered(meter, battery=len(types) > 1) for meter in range(1, meters + 1)}
    if into is None:
        controller = Controller(settings, store, known)
        handle: Handle = controller.handle
    else:
        into.append(Recorder(settings, store, known))
        controller, handle = into[0].controller, into[0].handle
    controller.own.time.network(START, START, 0)
    gc.collect()
    began = time.process_time()
    for minute in range(minutes):
        for second in range(0, 60, 5):
            now = START + 60 * minute + second
            some = events[minute * meters : (minute + 1) * meters] if second == 30 else []
            jobs = ("levels_s",) if second % 15 else ("relay_s", HEARTBEAT)
            _step(handle, store, [*some, Tick(RETRY), *(Tick(job) for job in jobs)], now)
    used_s = time.process_time() - began
    store.close()
    return 100 * used_s / (60 * minutes)


def _step(handle: Handle, store: Store, events: list[Event], now: int) -> None:
    """Handle a group of events as the shell does, and the answers of the utility."""
    while events:
        effects = [effect for event in events for effect in handle(MICROGRID, event, now)]
        answers: list[Event] = []
        for _ in range(2):
            if changes := [effect.change for effect in effects if isinstance(effect, Write)]:
                store.commit(changes)
            answers += [
                FromUtility(gateway_down(MICROGRID, ACKS), _ack(each, now)) for each in effects if _is_batch(each)
            ]
            effects = handle(MICROGRID, Committed(), now)
        events = answers


def _is_batch(effect: Effect[Change]) -> bool:
    return isinstance(effect, Publish) and effect.topic == gateway_up(MICROGRID, BATCHES)


def _ack(effect: Effect[Change], now: int) -> bytes:
    assert isinstance(effect, Publish)
    batch = unpack_batch(effect.payload)
    return BatchAck(
        time=now,
        utility_store=7,
        store=batch.store,
        sequence=batch.sequence,
        status=BatchRefusal.NONE,
        blocks=len(batch.keys),
        events=len(batch.events),
        dead_letters=len(batch.dead_letters),
    ).pack()
