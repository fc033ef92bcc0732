"""The time from a battery below its minimum to sharing neighbours, at real speed, with real processes."""

import asyncio
import json
import tempfile
from dataclasses import dataclass
from pathlib import Path

from commonwatt.model.records import HistoryRecord, Log, RecordType, State
from commonwatt.model.units import SLOT_S, EpochSeconds
from commonwatt.protocol.commands import Command, HeldState, Kind, LogIds, Outcome
from commonwatt.protocol.json_messages import unpack_json
from commonwatt.protocol.meter_messages import LiveLevel, Put
from commonwatt.protocol.topics import COMMANDS, LEVELS, OUTCOMES, RECORDS, meter_down, meter_up
from commonwatt.runtime.clock import Clock
from commonwatt.town.town import Meter, Microgrid
from harness.docs.measured import Goal, Section, Table, percentile
from harness.network.mqtt import AsyncClient
from harness.real.site import Site

HOMES = '[[microgrid]]\nid = "r"\nkind = "residential"\ncount = {}\n'
APARTMENTS = '[[microgrid]]\nid = "a"\nkind = "apartment"\nbuildings = 3\napartments = 100\ncount = {}\n'
# By number of meters: the town file, and the number of its microgrids, measured in parallel.
MICROGRIDS = {20: (HOMES, 16), 303: (APARTMENTS, 8)}
SAMPLES = 32  # least samples of each kind
# Levels relative to the minimum, percent of the capacity; the gateway polls the first two every 15 s.
ABOVE, BELOW, FULL = 2, -2, 20

PUT_EVERY_S = 60
PATIENCE_S = 180


@dataclass(frozen=True, kw_only=True)
class Sample:
    """The time until the last donor acknowledged, seconds."""

    by_itself: bool  # whether the meter sent the level by itself; else the gateway requested it
    from_slot_s: float  # from the end of the slot in which the level fell below the minimum
    from_level_s: float  # from the time at which the meter sent that level


class Battery:
    """The scripted levels of one battery, relative to its minimum, percent of the capacity."""

    def __init__(self, meter: Meter, percent: int) -> None:
        assert meter.battery is not None
        # When a level below the minimum was sent first since it fell; ``None``: not sent yet.
        self.told: float | None = None
        self._capacity, self._minimum = meter.battery.capacity, meter.battery.minimum_percent
        self._script = [(0, percent)]

    def set_from(self, slot_end: EpochSeconds, percent: int) -> None:
        """Set the level from the end of a slot on."""
        self._script.append((slot_end, percent))
        self.told = None

    def level(self, slot_end: EpochSeconds, now: float) -> int:
        """Return the level at the end of a slot, which is being sent."""
        percent = next(percent for since, percent in reversed(self._script) if since <= slot_end)
        # A put also has older slots, including slots of the previous fall.
        if percent < 0 and self.told is None and slot_end >= self._script[-1][0]:
            self.told = now
        return self._capacity * (self._minimum + percent) // 100


class ScriptedMeter:
    """A meter with scripted levels that answers at once and puts once a minute."""

    def __init__(self, meter: Meter, clock: Clock, changed: asyncio.Event) -> None:
        self.meter = meter
        self.battery = None if meter.battery is None else Battery(meter, FULL)
        self.sharing = False
        self.answered_at = 0.0
        self._clock = clock
        self._changed = changed
        self._held: dict[Kind, HeldState] = {}
        self._epoch = (0, 0)
        self._next_id = 1

    async def connect(self, port: int, token: str) -> None:
        """Connect."""
        down = meter_down(self.meter.microgrid, self.meter.id, "+")
        self.client = await AsyncClient.connect(port, str(self.meter.id), token, down, self._heard)

    def put(self) -> None:
        """Send the records of the last minute."""
        now = self._clock.now()
        end = int(now) // SLOT_S * SLOT_S
        records = []
        for slot_end in range(end - PUT_EVERY_S + SLOT_S, end + 1, SLOT_S):
            for kind in (RecordType.STORED, RecordType.THROUGH) if self.battery else (RecordType.THROUGH,):
                stored = self.battery is not None and kind is RecordType.STORED
                record = HistoryRecord(
                    record_type=kind,
                    lossy=0,
                    record_id=self._next_id,
                    meter_id=self.meter.id,
                    account=self.meter.account,
                    start=slot_end - SLOT_S,
                    end=slot_end,
                    reading=self.battery.level(slot_end, now) if stored and self.battery else 2500,
                )
                records.append(record.pack())
                self._next_id += 1
        first = self._next_id - len(records)
        put = Put(log=Log.HISTORY, generation=1, first_id=first, last_id=self._next_id - 1, records=tuple(records))
        self._say(RECORDS, put.pack())

    def send_level(self, battery: Battery) -> None:
        """Send the level at the end of the last slot."""
        now = self._clock.now()
        end = int(now) // SLOT_S * SLOT_S
        level = LiveLevel(state=self._bits(), time=end, level=battery.level(end, now))
        self._say(LEVELS, level.pack(), 0)

    def _heard(self, topic: str, payload: bytes) -> None:
        if topic.endswith(f"/{COMMANDS}"):
            self._obey(unpack_json(Command, payload))

    def _obey(self, command: Command) -> None:
        self._epoch = max(self._epoch, command.epoch)
        if command.what == "levels" and self.battery is not None:
            self.send_level(self.battery)
            return
        if (desired := command.desired()) is not None:
            kind, value = desired
            self._held[kind] = HeldState(
                value=value, epoch=command.epoch, seq=command.seq or 0, until=command.end(int(self._clock.now()))
            )
        self._say(OUTCOMES, self._outcome(command))
        held = self._held.get(Kind.SHARING)
        self.sharing = held is not None and held.value == "on"
        self.answered_at = self._clock.now()
        self._changed.set()

    def _outcome(self, command: Command) -> bytes:
        battery = self.meter.battery
        return Outcome(
            id=command.id,
            cmd=command.cmd,
            result="done",
            time=int(self._clock.now()),
            bits=self._bits(),
            held=self._held,
            epoch=self._epoch,
            push=True,
            minimum_percent=battery.minimum_percent if battery else None,
            capacity_mwh=battery.capacity if battery else None,
            history=LogIds.model_validate({"generation": 1, "first": "1", "next": str(self._next_id)}),
        ).pack()

    def _bits(self) -> int:
        return State.INITIALIZED | (State.SHARING if self.sharing else 0)

    def _say(self, leaf: str, payload: bytes, qos: int = 1) -> None:
        self.client.publish(meter_up(self.meter.microgrid, self.meter.id, leaf), payload, qos)


class ScriptedMicrogrid:
    """All meters of one microgrid; one of its batteries falls below its minimum again and again."""

    def __init__(self, site: Site, microgrid: Microgrid) -> None:
        self.samples: list[Sample] = []  # the measured times, one for each fall
        self._clock = site.layout.clock
        self._changed = asyncio.Event()
        self._name = microgrid.id
        self._port = site.address(self.part("broker"))[1]
        self._tokens = json.loads((site.folder / microgrid.id / "meter-tokens.json").read_text())
        self._meters = [ScriptedMeter(meter, self._clock, self._changed) for meter in microgrid.meters]
        self._faller, *self._donors = [meter for meter in self._meters if meter.battery is not None]

    def part(self, kind: str) -> str:
        """Return the name of its broker or gateway."""
        return f"{self._name} {kind}"

    async def connect(self) -> None:
        """Connect all meters."""
        for meter in self._meters:
            await meter.connect(self._port, self._tokens[str(meter.meter.id)])

    async def run(self, samples: int) -> None:
        """Put once a minute, and let the level fall until there are enough samples of each kind."""
        putting = asyncio.create_task(self._put())
        assert self._faller.battery is not None
        self._faller.battery.set_from(0, ABOVE)
        # The first fall includes the gateway's first requests of states and levels.
        await self._fall_and_rise(by_itself=False)
        del self.samples[0]
        for by_itself in (False, True) * samples:
            await self._fall_and_rise(by_itself=by_itself)
        putting.cancel()
        await asyncio.gather(putting, return_exceptions=True)
        for meter in self._meters:
            meter.client.close()

    async def _fall_and_rise(self, *, by_itself: bool) -> None:
        battery = self._faller.battery
        assert battery is not None
        end = await self._set_level(battery, BELOW, by_itself=by_itself)
        await self._all_donors(sharing=True)
        assert battery.told is not None
        assert battery.told >= end
        last = max(donor.answered_at for donor in self._donors)
        self.samples.append(Sample(by_itself=by_itself, from_slot_s=last - end, from_level_s=last - battery.told))
        await self._set_level(battery, ABOVE, by_itself=by_itself)
        await self._all_donors(sharing=False)

    async def _set_level(self, battery: Battery, percent: int, *, by_itself: bool) -> EpochSeconds:
        """Set the level from the end of a slot on, and return that end; send the level then, or wait to be asked."""
        # The slot before has half the change: faster than the limits of power, the gateway would not believe it.
        end = (int(self._clock.now()) // SLOT_S + 2) * SLOT_S
        battery.set_from(end - SLOT_S, 0)
        battery.set_from(end, percent)
        if by_itself:
            # A timer may be a little early.
            await asyncio.sleep(self._clock.real_s(end - self._clock.now()) + 0.01)
            self._faller.send_level(battery)
        return end

    async def _all_donors(self, *, sharing: bool) -> None:
        async with asyncio.timeout(self._clock.real_s(PATIENCE_S) + 10):
            while not all(donor.sharing is sharing for donor in self._donors):
                self._changed.clear()
                await self._changed.wait()

    async def _put(self) -> None:
        while True:
            for meter in self._meters:
                await asyncio.sleep(self._clock.real_s(PUT_EVERY_S / len(self._meters)))
                meter.put()


async def _start(site: Site, part: str, after_s: float) -> None:
    await asyncio.sleep(after_s)
    await asyncio.to_thread(site.start, part)


async def wait_for(site: Site, samples: int) -> list[Sample]:
    """Return the samples of all microgrids of a town; their gateways poll at times spread over the slot."""
    scripted = [ScriptedMicrogrid(site, microgrid) for microgrid in site.layout.town.microgrids.values()]
    site.start("head-end", "utility", *(each.part("broker") for each in scripted))
    for each in scripted:
        await each.connect()
    apart_s = site.layout.clock.real_s(SLOT_S / len(scripted))
    await asyncio.gather(*(_start(site, each.part("gateway"), n * apart_s) for n, each in enumerate(scripted)))
    async with asyncio.TaskGroup() as group:
        for each in scripted:
            group.create_task(each.run(-(-samples // len(scripted))))
    return [sample for each in scripted for sample in each.samples]


def bench(*, smoke: bool = False) -> Section:
    """Measure microgrids of 20 meters, then of 303."""
    found: dict[tuple[int, bool], tuple[int, list[Sample]]] = {}
    for meters, (town, count) in MICROGRIDS.items():
        with tempfile.TemporaryDirectory() as folder:
            microgrids, samples, speed = (1, 1, 60.0) if smoke else (count, SAMPLES, 1.0)
            with Site(Path(folder) / "site", town.format(microgrids), speed=speed) as site:
                measured = asyncio.run(wait_for(site, samples))
        for by_itself in (True, False):
            found[meters, by_itself] = microgrids, [each for each in measured if each.by_itself is by_itself]
        print(f"  {meters} meters: {len(measured)} samples", flush=True)
        if smoke:
            break
    return Section(
        title="From need to help",
        about=(
            "Microgrids of real brokers and gateways at real speed, with scripted meters. The meters answer at once "
            "and put once a minute. The level of one battery falls below its minimum at the end of a slot, again and "
            "again, from a level so near that its gateway requests it every 15 s. Its meter sends it by itself at the "
            "end of the slot, or when it is requested, in turns. The time is measured until the last "
            "of the other batteries has acknowledged share_power_on. It starts at the end of the slot in which the "
            "level fell, or when the meter sent that level. Both times are taken at the meters, so they include one "
            "message to the gateway, like the time from the level's arrival to the acknowledgement's. Gateways are "
            "started at times spread evenly over the slot, and so request levels at different times of it."
        ),
        tables=(_table(found),),
        goals=() if smoke else tuple(goal for key, (_, samples) in found.items() for goal in _goals(*key, samples)),
        notes=("The published figure of ACES is a little over a minute, since ACES polls levels once a minute.",),
    )


def _table(found: dict[tuple[int, bool], tuple[int, list[Sample]]]) -> Table:
    return Table(
        title="Seconds until all donors had acknowledged",
        columns=(
            "meters",
            "level sent",
            "microgrids",
            "samples",
            "from the end of the slot: median",
            "99 %",
            "most",
            "from the level: median",
            "99 %",
            "most",
        ),
        rows=tuple(
            (
                str(meters),
                "by itself" if by_itself else "when requested",
                str(microgrids),
                str(len(samples)),
                *_figures([sample.from_slot_s for sample in samples]),
                *_figures([sample.from_level_s for sample in samples]),
            )
            for (meters, by_itself), (microgrids, samples) in found.items()
        ),
    )


def _figures(samples_s: list[float]) -> tuple[str, str, str]:
    return f"{percentile(samples_s, 50):.2f}", f"{percentile(samples_s, 99):.2f}", f"{max(samples_s):.2f}"


def _goals(meters: int, by_itself: bool, samples: list[Sample]) -> tuple[Goal, Goal]:
    sent = "sent by itself" if by_itself else "when requested"
    return (
        Goal(
            what=f"from the end of the slot, {meters} meters, level {sent}, 99 %",
            value=percentile([sample.from_slot_s for sample in samples], 99),
            unit="s",
            at_most=2 if by_itself else 16,
            limited_by="Commands wait for the gateway's commit." if by_itself else "The gateway asks every 15 s.",
        ),
        Goal(
            what=f"from the level, {meters} meters, level {sent}, 99 %",
            value=percentile([sample.from_level_s for sample in samples], 99),
            unit="s",
            at_most=1,
            limited_by="Commands wait for the gateway's commit, and are sent to one donor after the other.",
        ),
    )
