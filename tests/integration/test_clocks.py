"""Row 18: machine clocks that jump, or start in 1970, under real processes at real speed."""

import asyncio
import os
import subprocess
import sys
import time
from pathlib import Path

from commonwatt.identity.devices import load_tokens
from commonwatt.model.blocks import Quality
from commonwatt.model.effects import Publish
from commonwatt.model.records import EventRecord, HistoryRecord, Log, RecordType, State
from commonwatt.model.time import Trust
from commonwatt.model.units import QUARTER_S, SLOT_S
from commonwatt.protocol.commands import Command, Epoch, LogIds, Outcome
from commonwatt.protocol.json_messages import unpack_json
from commonwatt.protocol.meter_messages import Put, PutAck, Refusal, unpack_put_ack
from commonwatt.town.registry import RegisteredMeter, load_registry
from harness.network.mqtt import link_of
from harness.network.waiting import become, cancelled, eventually
from harness.real.parts import FakeClock
from harness.real.site import Site, sound

TOWN = '[[microgrid]]\nid = "r001"\nkind = "residential"\nhouses = 3\n'
HOUR = 3600
RIGHT_S = 5  # a reported time is right when it differs by no more
SOON = """
import commonwatt.device.records as m
m.PUT_S, is_due = 5, m.Delivery.is_due
m.Delivery.is_due = lambda delivery, meter, now, _: is_due(delivery, meter, now, m.PUT_S)
"""  # a meter puts every 5 s
IMPATIENT = "import gateway.core as c, gateway.links as l; c.RETRY_S = l.WATCH_EVERY_S = 1"
"""A gateway that looks, and sends again, five times as often as others do."""


def start(site: Site, name: str, clock: FakeClock, first: str = "") -> None:
    """Start a part on the faked clock, without NTP; ``first`` may shorten its time-outs."""
    part = site.layout.part(name)
    lines = part.config.read_text().splitlines()
    # Gateways trust the utility's clock, which is wrong on purpose.
    right = ["clock_is_right = true"] if name == "utility" else []
    part.config.write_text(
        "\n".join([*(line for line in lines if not line.startswith(("clock", "second_person"))), *right]) + "\n"
    )
    command = (
        "import commonwatt.runtime.clock as c; c._synchronised = lambda: False\n"
        f"{first}\nfrom commonwatt.cli.main import main; main()"
    )
    with part.log.open("ab") as log:
        site.processes[name] = subprocess.Popen(
            [sys.executable, "-c", command, *part.command[3:]],
            stdout=log,
            stderr=log,
            env=os.environ | clock.environment,
        )
    eventually(lambda: site.status(name) is not None)


class Meter:
    """A meter with the right time, that puts given slots."""

    def __init__(self, site: Site, meter: RegisteredMeter) -> None:
        self.readings: dict[int, int] = {}
        self._meter = meter
        self._acks: dict[tuple[Log, int], PutAck] = {}
        self._next = 1
        self.link = link_of(
            "{}:{}".format(*site.address("r001 broker")),
            str(meter.id),
            load_tokens(site.folder / "r001" / "meter-tokens.json")[str(meter.id)],
            f"cw1/r001/{meter.id}/d/+",
            on_message=self._hear,
        )

    async def put(self, slot: int) -> PutAck:
        """Put the slot, and an event, which is relayed at once; return the answer."""
        self._next += 1
        record = HistoryRecord(
            record_type=3,
            lossy=0,
            record_id=self._next,
            meter_id=self._meter.id,
            account=self._meter.account,
            start=slot,
            end=slot + SLOT_S,
            reading=self._next,
        )
        up = self._next % 2
        event = EventRecord(
            previous_state=State(1 - up), new_state=State(up), record_id=self._next, meter_id=self._meter.id, time=slot
        )
        self.readings[slot] = self._next
        self._tell("again", "get", (0, 0))
        ack = await self._send(Log.HISTORY, record.pack())
        await self._send(Log.EVENT, event.pack())
        return ack

    async def _send(self, log: Log, record: bytes) -> PutAck:
        number = self._next
        put = Put(log=log, generation=1, first_id=number, last_id=number, records=(record,))
        async with asyncio.timeout(120):
            while (log, number) not in self._acks:
                self._say("rec" if log is Log.HISTORY else "ev", put.pack())
                await asyncio.sleep(0.2)
        return self._acks[log, number]

    def _hear(self, topic: str, payload: bytes) -> None:
        if topic.endswith("/ack"):
            ack = unpack_put_ack(payload)
            self._acks[ack.log, ack.first_id] = ack
            return
        command = unpack_json(Command, payload)
        self._tell(command.id, command.cmd, command.epoch)

    def _tell(self, name: str, cmd: str, epoch: Epoch) -> None:
        """Send its state and its time."""
        ids = LogIds.model_validate({"generation": 1, "first": str(self._next), "next": str(self._next)})
        outcome = Outcome(
            id=name,
            cmd=cmd,
            result="done",
            time=int(time.time()),
            bits=1,
            epoch=epoch,
            push=True,
            history=ids,
            events=ids,
        )
        self._say("out", outcome.pack())

    def _say(self, leaf: str, payload: bytes) -> None:
        self.link.publish(Publish(f"cw1/r001/{self._meter.id}/u/{leaf}", payload))


class Play:
    """A microgrid of three meters with the right time, and parts with a wrong time."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.gateway, self.utility = (FakeClock(site.folder, name) for name in ("gateway", "utility"))
        registry = load_registry(site.folder / "r001" / "registry.json")
        self.meters = [Meter(site, meter) for meter in registry.meters if 3 in meter.record_types][:3]
        self._slot = int(time.time()) // QUARTER_S * QUARTER_S - QUARTER_S

    async def put(self) -> PutAck:
        """Let each meter put the next slot; return the answer to the last one."""
        self._slot += SLOT_S
        acks = [await meter.put(self._slot) for meter in self.meters]
        assert {(ack.status, ack.rejected) for ack in acks} == {(Refusal.NONE, ())}
        return acks[-1]

    async def put_until(self, trust: Trust) -> PutAck:
        """Let them put slot after slot until the answer has this trust."""
        async with asyncio.timeout(120):
            while (ack := await self.put()).trust is not trust:  # noqa: ASYNC110 - each asks anew
                await asyncio.sleep(0.5)
        return ack

    async def check(self, trust: Trust) -> None:
        """Check that the reported time is right, and that timers run: a put is at the utility soon."""
        ack = await self.put_until(trust)
        assert abs(ack.time - time.time()) <= RIGHT_S
        await self.arrived()

    async def arrived(self) -> None:
        # Its counters are no measure: repetitions count again.
        slots = sum(len(meter.readings) for meter in self.meters)
        async with asyncio.timeout(60):
            while len(await asyncio.to_thread(utility_has, self.site)) < slots:  # noqa: ASYNC110 - each asks anew
                await asyncio.sleep(0.5)


def utility_has(site: Site) -> dict[tuple[int, int], int]:
    """Return the exact readings of type 3 that the utility stores, by meter and slot; none may be in conflict."""
    blocks, found = site.dump(), {}
    for row in range(len(blocks)):
        meter, kind, quarter = blocks.key(row)
        assert not blocks.extras_of(row)
        for n in blocks.quality[row].nonzero()[0].tolist():
            assert (kind, blocks.quality[row, n]) == (RecordType.THROUGH, Quality.EXACT)
            found[meter, quarter * QUARTER_S + n * SLOT_S] = int(blocks.values[row, n])
    return found


def test_row_18_clocks_that_jump_or_start_in_1970_lose_no_slot_and_harm_no_timer(tmp_path: Path) -> None:
    async def play(site: Site) -> None:
        it = Play(site)
        links = [asyncio.create_task(meter.link.run()) for meter in it.meters]
        await asyncio.to_thread(site.start, "head-end", "r001 broker")
        await asyncio.to_thread(start, site, "utility", it.utility)
        await asyncio.to_thread(start, site, "r001 gateway", it.gateway, IMPATIENT)
        await it.check(Trust.NETWORK)
        for jumps, ahead_s in enumerate((HOUR, 0), start=1):
            it.gateway.set(ahead_s)
            await become(lambda jumps=jumps: f"clock jumped by {'+-'[jumps - 1]}3600 s" in site.log("r001 gateway"))  # type: ignore[misc]
            await it.check(Trust.NETWORK)
        # The utility follows its machine's clock; gateways do not, and reject nothing as future while the two disagree.
        it.utility.set(-HOUR)
        await it.check(Trust.METERS)
        it.utility.set(0)
        await it.check(Trust.NETWORK)
        # Its next start is in 1970; the clock that counts since the machine's start is right.
        site.kill("r001 gateway")
        it.gateway.set(600 - time.time())
        await asyncio.to_thread(start, site, "r001 gateway", it.gateway, IMPATIENT)
        ack = await it.put()
        assert ack.trust >= Trust.HARDWARE
        assert abs(ack.time - time.time()) <= RIGHT_S
        await it.check(Trust.NETWORK)
        # Without any witness and without the utility, all records are still stored.
        site.kill("r001 gateway")
        await asyncio.to_thread(site.stop, "utility")
        for path in (site.folder / "r001").glob("gateway.db*"):
            path.unlink()
        await asyncio.to_thread(start, site, "r001 gateway", it.gateway, IMPATIENT)
        ack = await it.put_until(Trust.METERS)
        assert abs(ack.time - time.time()) <= RIGHT_S
        # Three agreeing meters outvote a utility that is an hour wrong.
        it.utility.set(-HOUR)
        await asyncio.to_thread(start, site, "utility", it.utility)
        async with asyncio.timeout(120):
            while it.site.metric("r001 gateway", "commonwatt_gateway_time_contradictions_total") == 0:
                ack = await it.put()
                await asyncio.sleep(0.5)
        assert (await it.put()).trust is Trust.METERS
        await asyncio.to_thread(site.stop, "utility")
        it.utility.set(0)
        await asyncio.to_thread(start, site, "utility", it.utility)
        # Messages without a receiver are sent again at the next start.
        await asyncio.to_thread(site.stop, "r001 gateway")
        await asyncio.to_thread(start, site, "r001 gateway", it.gateway, IMPATIENT)
        await it.check(Trust.NETWORK)
        await cancelled(*links)
        wanted = {(meter._meter.id, slot): reading for meter in it.meters for slot, reading in meter.readings.items()}
        assert await asyncio.to_thread(utility_has, site) == wanted

    with Site(tmp_path / "site", TOWN, speed=1) as site:
        asyncio.run(play(site))


def test_row_18_meters_an_hour_wrong_are_told_the_time_and_lose_no_slot(tmp_path: Path) -> None:
    def right() -> bool:
        told = site.status("r001 meters")
        return told is not None and abs(told["time"] - time.time()) <= RIGHT_S

    def made() -> int:
        told = site.status("r001 meters")
        return 0 if told is None else int(told["made"])

    with Site(tmp_path / "site", TOWN, speed=1) as site:
        site.start("head-end", "r001 broker")
        clock = FakeClock(site.folder, "meters")
        for name in ("utility", "r001 gateway"):
            start(site, name, FakeClock(site.folder, name))
        for ahead_s in (-HOUR, HOUR):
            clock.set(ahead_s)
            start(site, "r001 meters", clock, SOON)
            eventually(right)
            before = made()
            eventually(lambda before=before: made() > before)  # type: ignore[misc]
            site.stop("r001 meters")
        site.stop("r001 gateway", "utility")
        # Records with future times stay at the meters until then; none is lost or duplicated.
        audit = sound(site.folder)
        assert audit.total("made") > 0
