"""A gateway's core on a real store, with helpers that send messages as meters and as the utility."""

import asyncio
import json
import random
from pathlib import Path
from typing import Any

from commonwatt.codec.packing import unpack
from commonwatt.config.settings import GatewaySettings
from commonwatt.model.blocks import Blocks, join
from commonwatt.model.effects import Effect, Publish, Write
from commonwatt.model.records import EventRecord, HistoryRecord, Log, State
from commonwatt.model.units import SLOT_S
from commonwatt.protocol.batches import Batch, BatchAck, BatchRefusal, Mark, unpack_batch
from commonwatt.protocol.commands import Command, Kind, LogIds, Outcome
from commonwatt.protocol.controller_commands import ControllerOutcome
from commonwatt.protocol.json_messages import unpack_json
from commonwatt.protocol.meter_messages import LiveLevel, Put, PutAck, unpack_put_ack
from commonwatt.town.registry import RegisteredMeter
from gateway.controller import Controller
from gateway.events import Event, FromMeter, FromUtility, Tick
from gateway.loop.work import Work
from gateway.store.changes import Change
from gateway.store.store import Store
from gateway.timekeeper import Timekeeper
from harness.network.waiting import cancelled
from harness.surroundings.databases import opened
from harness.surroundings.messages import a_record

START = 1_782_000_000  # a quarter's start
CAPACITY = 28_800_000


def registered(meter: int, *, battery: bool = True) -> RegisteredMeter:
    return RegisteredMeter.model_validate(
        {
            "id": str(meter),
            "location": f"house {meter}",
            "function": "house",
            "direction": "outgoing",
            "account": meter,
            "record_types": [1, 2, 3] if battery else [3],
            "service_amps": 200,
            "battery_capacity_mwh": CAPACITY if battery else None,
            "address": "10.0.0.1",
        }
    )


async def end_work(work: Work, running: "asyncio.Task[None]") -> None:
    """End the work of a shell between two commits: one that is under way on another thread needs the store open."""
    async with work.alone():
        await cancelled(running)


class World:
    """One gateway whose effects are performed at once, as the shell does: commit, then publish."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.meters = {meter: registered(meter) for meter in (1, 2, 3)} | {4: registered(4, battery=False)}
        self.settings = GatewaySettings(microgrid="r001")
        self.sent: list[Publish] = []
        self.now = START
        self.rng = random.Random(1)
        self.boot()

    def boot(self) -> None:
        self.store = self.open()
        opened.append(self.store._db.close)
        self.new_core()

    def open(self) -> Store:
        return Store.open(self.path)

    def new_core(self) -> None:
        self.controller = Controller(self.settings, self.store, self.meters)
        self.core = self.controller.own
        self.core.time.network(self.now, self.now, 0)

    def forget_time(self) -> None:
        """Reset the gateway's time to unknown."""
        self.core.time = self.controller.time = Timekeeper(None)
        self.core._shifted_s = self.controller._shifted_s = 0

    def crash(self) -> None:
        self.store.close()
        self.sent.clear()
        self.boot()

    def do(self, effects: list[Effect[Change]]) -> list[Publish]:
        """Commit and publish, then perform the effects that the commit allows, as the shell does."""
        return self._perform(effects) + self._perform(self.core.committed(self.now))

    def _perform(self, effects: list[Effect[Change]]) -> list[Publish]:
        changes = [effect.change for effect in effects if isinstance(effect, Write)]
        if changes:
            self.store.commit(changes)
        new = [effect for effect in effects if isinstance(effect, Publish)]
        self.sent += new
        return new

    def handle(self, event: Event) -> list[Publish]:
        """Let the controller handle an event."""
        return self.do(self.controller.handle("r001", event, self.now))

    def view(self) -> dict[str, Any]:
        """Return what the status page shows."""
        return self.controller.view("r001", self.now)

    def tick(self, job: str) -> list[Publish]:
        return self.handle(Tick(job))

    def connect(self) -> list[Publish]:
        """Report the connection to the head-end."""
        return self.do(self.core.connected(self.now))

    def meter_says(self, meter: int, leaf: str, payload: bytes) -> list[Publish]:
        return self.handle(FromMeter(f"cw1/r001/{meter}/u/{leaf}", payload))

    def put(
        self,
        meter: int,
        first_id: int,
        records: list[HistoryRecord] | list[EventRecord],
        last_id: int | None = None,
        generation: int = 1,
    ) -> PutAck:
        log = Log.HISTORY if isinstance(records[0], HistoryRecord) else Log.EVENT
        put = Put(
            log=log,
            generation=generation,
            first_id=first_id,
            last_id=last_id or first_id + len(records) - 1,
            records=tuple(record.pack() for record in records),
        )
        sent = self.meter_says(meter, "rec" if log is Log.HISTORY else "ev", put.pack())
        return unpack_put_ack(next(p.payload for p in sent if p.topic == f"cw1/r001/{meter}/d/ack"))

    def level(self, meter: int, percent: float, state: int = State.INITIALIZED) -> list[Command]:
        level = LiveLevel(state=state, time=self.now // SLOT_S * SLOT_S, level=int(CAPACITY * percent / 100))
        return commands(self.meter_says(meter, "lvl", level.pack()))

    def introduce(
        self,
        meter: int,
        *,
        minimum: int | None = 50,
        push: bool = True,
        first: int = 1,
        next_id: int = 1,
        held: dict[Kind, dict[str, object]] | None = None,
        cmd: str = "initialize",
        epoch: tuple[int, int] = (0, 0),
        bits: int = State.INITIALIZED,
        name: str = "x",
        late_s: int = 0,
        put_s: int | None = 60,
        result: str = "done",
        states: dict[Kind, dict[str, object]] | None = None,
    ) -> list[Command]:
        """Let a meter answer the command ``name``, by a clock that is ``late_s`` behind."""
        outcome = Outcome.model_validate(
            {
                "id": name,
                "cmd": cmd,
                "result": result,
                "device": None if states is None else {"name": "shed", "preset": "mine", "states": states},
                "time": self.now - late_s,
                "bits": bits,
                "push": push,
                "minimum_percent": minimum,
                "capacity_mwh": None if minimum is None else CAPACITY,
                "held": held or {},
                "put_s": put_s,
                "epoch": epoch,
                "history": LogIds.model_validate({"generation": 1, "first": str(first), "next": str(next_id)}),
                "events": LogIds.model_validate({"generation": 1, "first": "1", "next": "1"}),
            }
        )
        return commands(self.meter_says(meter, "out", outcome.pack()))

    def answer(self, command: Command, meter: int) -> None:
        """Let the meter obey, and report the pair as its state."""
        desired = command.desired()
        assert desired is not None
        kind, value = desired
        self.introduce(
            meter,
            cmd=command.cmd,
            held={kind: {"value": value, "epoch": command.epoch, "seq": command.seq, "until": command.until}},
        )

    def utility_says(self, leaf: str, payload: bytes) -> list[Publish]:
        return self.handle(FromUtility(f"cw1/r001/d/{leaf}", payload))

    def acknowledge(
        self,
        batch: Batch,
        store: int = 7,
        status: BatchRefusal = BatchRefusal.NONE,
        slow_s: int = 0,
        marks: tuple[Mark, ...] = (),
    ) -> list[Publish]:
        ack = BatchAck(
            time=self.now,
            utility_store=store,
            store=batch.store,
            sequence=batch.sequence,
            status=status,
            blocks=len(batch.keys),
            events=len(batch.events),
            dead_letters=len(batch.dead_letters),
            slow_s=slow_s,
            marks=marks,
        )
        return self.utility_says("ack", ack.pack())

    def ask(self, **fields: object) -> tuple[list[Batch], ControllerOutcome]:
        message = json.dumps({"v": 1, "id": f"u{self.rng.random()}", "until": self.now + 600, **fields}).encode()
        sent = self.utility_says("cmd", message)
        outcome = next(p for p in sent if p.topic == "cw1/r001/u/out")
        return batches(sent), unpack_json(ControllerOutcome, outcome.payload)


def readings(
    meter: int, first_id: int, count: int, *, start: int = START, kind: int = 3, value: int = 1000
) -> list[HistoryRecord]:
    return [
        a_record(start + SLOT_S * i, value + i, meter=meter, record_id=first_id + i, kind=kind, account=meter)
        for i in range(count)
    ]


def commands(sent: list[Publish]) -> list[Command]:
    return [unpack_json(Command, p.payload) for p in sent if p.topic.endswith("/d/cmd")]


def batches(sent: list[Publish]) -> list[Batch]:
    return [unpack_batch(p.payload) for p in sent if p.topic == "cw1/r001/u/batch"]


def blocks_of(found: list[Batch]) -> Blocks:
    return join([unpack(b.keys, b.payloads) for b in found])
