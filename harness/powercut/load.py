"""Load with known content: simulated meters at a real gateway, a simulated gateway at a real utility.

Each player keeps one message in flight, repeats it until it is acknowledged, and then notes the position of the
recorder of the other side. Data acknowledged there must survive every later power cut.
"""

import asyncio
import json
import random
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from commonwatt.codec.packing import pack
from commonwatt.model.blocks import Blocks, make_blocks
from commonwatt.model.effects import Publish
from commonwatt.model.records import EventRecord, HistoryRecord, Log, RecordType
from commonwatt.model.units import QUARTER_S, SLOT_S, SLOTS
from commonwatt.network.mqtt import MqttLink
from commonwatt.protocol.batches import Batch, BatchRefusal, unpack_batch_ack
from commonwatt.protocol.meter_messages import Put, unpack_put_ack
from commonwatt.protocol.topics import ACKS, BATCHES, EVENTS, RECORDS, gateway_down, gateway_up, meter_down, meter_up
from harness.surroundings.messages import a_record

AGAIN_S = 0.5  # seconds after which an unacknowledged message is sent again

GENERATION = 7
EVENTS_EVERY = 5  # one message of this many is a put of events

TOWN = "".join(
    f'[[microgrid]]\nid = "{microgrid}"\nkind = "residential"\nhouses = 1\n' for microgrid in ("r001", "r002")
) + "".join(
    f'[[meter]]\nmicrogrid = "{microgrid}"\nid = {meter}\nrecord_types = ["through"]\naccount = {meter}\n'
    for microgrid, meter in (("r001", 71), ("r001", 72), ("r001", 73), ("r002", 81))
)
GATEWAYS_METERS = (71, 72, 73)
UTILITYS_METER = 81

Key = tuple[int, int, int]
EventKey = tuple[int, int, int]


@dataclass(frozen=True)
class Acknowledged:
    """The data of one acknowledged message."""

    position: int  # position of the trace at the arrival of the acknowledgement
    blocks: dict[Key, npt.NDArray[np.int64]]  # exact values by the blocks' keys
    events: dict[EventKey, EventRecord]  # by (meter, generation, id)
    # Meter, log, first and last id that must be covered; ``None`` where ids are not kept.
    ids: tuple[int, Log, int, int] | None = None


class Player(ABC):
    """A sender of messages: repeats each until it is acknowledged, and records the trace's position then."""

    def __init__(self, position: Callable[[], int], seed: int) -> None:
        self.acknowledged: list[Acknowledged] = []  # acknowledged data, in order
        self.refused = 0  # number of refused messages
        self._position = position
        self._rng = random.Random(seed)
        self._quarter = int(time.time()) // QUARTER_S - 50_000
        self._number = 0
        self._acks: asyncio.Queue[tuple[int, bytes]] = asyncio.Queue()
        self.link: MqttLink

    def receive(self, topic: str, payload: bytes) -> None:
        """Handle a message from the broker, and note the position of the trace."""
        if topic.endswith(ACKS):
            self._acks.put_nowait((self._position(), payload))

    async def play(self) -> None:
        """Send messages one after the other, until cancelled."""
        while True:
            message, confirms, acknowledged = self.next()
            while True:
                self.link.publish(message)
                try:
                    async with asyncio.timeout(AGAIN_S):
                        position = await self._confirmed(confirms)
                except TimeoutError:
                    continue
                break
            self.acknowledged.append(acknowledged(position))

    async def _confirmed(self, confirms: Callable[[bytes], bool | None]) -> int:
        while True:
            position, payload = await self._acks.get()
            match confirms(payload):
                case True:
                    return position
                case False:
                    self.refused += 1
                case None:
                    pass

    @abstractmethod
    def next(self) -> tuple[Publish, Callable[[bytes], bool | None], Callable[[int], Acknowledged]]:
        """Return a message, the check of its answer (confirmed or refused), and its data."""

    def _values(self) -> npt.NDArray[np.int64]:
        return np.array([self._rng.randrange(5_000) for _ in range(SLOTS)], np.int64)


class PlayedMeter(Player):
    """A meter of r001 that puts a quarter-hour at a time, and now and then events."""

    def __init__(self, meter: int, folder: Path, address: str, position: Callable[[], int]) -> None:
        super().__init__(position, meter)
        self._meter = meter
        self._next_id = {Log.HISTORY: 1, Log.EVENT: 1}
        self.link = MqttLink(
            address=address,
            identity=str(meter),
            token=json.loads((folder / "meter-tokens.json").read_text())[str(meter)],
            subscribe=meter_down("r001", meter, "+"),
            on_message=self.receive,
            on_connect=lambda: None,
            rng=self._rng,
        )

    def next(self) -> tuple[Publish, Callable[[bytes], bool | None], Callable[[int], Acknowledged]]:
        """Return a put."""
        self._number += 1
        log = Log.EVENT if self._number % EVENTS_EVERY == 0 else Log.HISTORY
        first = self._next_id[log]
        blocks: dict[Key, npt.NDArray[np.int64]] = {}
        events: list[EventRecord] = []
        if log is Log.HISTORY:
            self._quarter += 1
            values = self._values()
            blocks[self._meter, RecordType.THROUGH, self._quarter] = values
            packed = tuple(self._record(first + slot, slot, int(value)).pack() for slot, value in enumerate(values))
        else:
            events = [self._event(first + i) for i in range(3)]
            packed = tuple(event.pack() for event in events)
        last = first + len(packed) - 1
        self._next_id[log] = last + 1
        put = Put(log=log, generation=GENERATION, first_id=first, last_id=last, records=packed)

        def confirms(payload: bytes) -> bool | None:
            ack = unpack_put_ack(payload)
            if (ack.log, ack.first_id) != (log, first):
                return None
            return ack.confirms(put) and not ack.rejected

        keyed = {(self._meter, GENERATION, event.record_id): event for event in events}
        topic = meter_up("r001", self._meter, RECORDS if log is Log.HISTORY else EVENTS)
        ids = (self._meter, log, first, last)
        return Publish(topic, put.pack()), confirms, lambda position: Acknowledged(position, blocks, keyed, ids)

    def _record(self, record_id: int, slot: int, value: int) -> HistoryRecord:
        start = self._quarter * QUARTER_S + slot * SLOT_S
        return a_record(start, value, meter=self._meter, record_id=record_id, account=self._meter)

    def _event(self, record_id: int) -> EventRecord:
        return EventRecord(
            previous_state=record_id % 2,
            new_state=1 - record_id % 2,
            record_id=record_id,
            meter_id=self._meter,
            time=self._quarter * QUARTER_S + record_id % QUARTER_S,
        )


class PlayedGateway(Player):
    """The gateway of r002, with some blocks and an event in each batch."""

    def __init__(self, folder: Path, address: str, position: Callable[[], int]) -> None:
        super().__init__(position, 2)
        self.link = MqttLink(
            address=address,
            identity="r002",
            token=json.loads((folder / "gateway-tokens.json").read_text())["r002"],
            subscribe=gateway_down("r002", "+"),
            on_message=self.receive,
            on_connect=lambda: None,
            rng=self._rng,
        )

    def next(self) -> tuple[Publish, Callable[[bytes], bool | None], Callable[[int], Acknowledged]]:
        """Return a batch."""
        self._number += 1
        number = self._number
        blocks = self._blocks()
        values = dict(zip(blocks.keys(), blocks.values, strict=True))
        event = EventRecord(
            previous_state=number % 2,
            new_state=1 - number % 2,
            record_id=number,
            meter_id=UTILITYS_METER,
            time=self._quarter * QUARTER_S,
        )
        batch = Batch(
            owner="r002",
            store=2,
            sequence=number,
            time=int(time.time()),
            keys=blocks.keys(),
            payloads=pack(blocks),
            events=[(GENERATION, event)],
            dead_letters=[],
        )

        def confirms(payload: bytes) -> bool | None:
            ack = unpack_batch_ack(payload)
            if ack.sequence != number:
                return None
            return ack.status is BatchRefusal.NONE and (ack.blocks, ack.events) == (len(blocks), 1)

        events = {(UTILITYS_METER, GENERATION, number): event}
        message = Publish(gateway_up("r002", BATCHES), batch.pack())
        return message, confirms, lambda position: Acknowledged(position, values, events)

    def _blocks(self) -> Blocks:
        self._quarter += 8
        keys = [(UTILITYS_METER, int(RecordType.THROUGH), self._quarter + i) for i in range(8)]
        return make_blocks(keys, [self._values() for _ in keys], [[2] * SLOTS for _ in keys])
