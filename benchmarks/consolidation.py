"""What the meters' lossless aggregation saves on their way to the controller, over a day of an emulated house."""

import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from commonwatt.device.changes import DesiredStates, MeterState, Stored
from commonwatt.device.meter import Effects, Limits, Meter
from commonwatt.model.effects import Publish
from commonwatt.model.records import Log, RecordType
from commonwatt.model.units import SLOT_S
from commonwatt.protocol import topics
from commonwatt.protocol.commands import Command, Held, Kind
from commonwatt.protocol.meter_messages import unpack_put
from commonwatt.town.loading import load_town
from commonwatt.town.town import Meter as Description
from commonwatt.town.town import Town
from harness.docs.measured import Section, Table
from harness.energy.alone import Alone
from harness.worlds.meters import ack_of

DAY_S = 86_400
BEGIN = 1_781_913_600  # a midnight in June, UTC

TOWN = '[[microgrid]]\nid = "r001"\nkind = "residential"\nhouses = 10\n'
GET = Command(id="g", cmd="get", issuer="r001", epoch=(1, 0), what="records", from_id=1)

EVERY_S = {"once a minute (push)": 60, "once a quarter-hour": 900}  # how often a meter puts its records


@dataclass
class Sent:
    """What a meter sent in a day."""

    records: int = 0  # history records
    octets: int = 0  # bytes of its puts


class Metered:
    """A meter's core without a store; each put is acknowledged at once."""

    def __init__(self, description: Description, mode: str, resolution: int) -> None:
        held = Held(value=mode, epoch=(1, 0), seq=1)
        states = DesiredStates(description.id, (1, 0), {Kind.AGGREGATION: held})
        stored = Stored(state=MeterState(meter=description.id, generation=BEGIN), desired_states=states)
        self.sent = Sent()
        self._meter = Meter(description, Limits(resolution=resolution), stored, Counter())
        self._meter.boot(BEGIN, power_lost=False)

    def measure(self, end: int, readings: dict[RecordType, int]) -> None:
        """Record a slot."""
        self._meter.measure(end, readings)

    def put(self, now: int) -> None:
        """Put what there is; it is acknowledged."""
        self._deliver(self._meter.receive(topics.COMMANDS, GET.pack(), now), now)

    def _deliver(self, effects: Effects, now: int) -> None:
        for effect in effects:
            if isinstance(effect, Publish) and effect.topic.endswith(f"/{topics.RECORDS}"):
                put = unpack_put(effect.payload)
                assert put.log is Log.HISTORY
                self.sent.records += len(put.records)
                self.sent.octets += len(effect.payload)
                self._deliver(self._meter.receive(topics.ACKS, ack_of(put, now).pack(), now), now)


def day(town: Town, mode: str, every_s: int, slots: int, resolution: int) -> Sent:
    """Return what the two meters of the first house send in a day."""
    microgrid = town.microgrids["r001"]
    physics = Alone(town, microgrid)
    house = microgrid.meters[0].location
    meters = {m.id: Metered(m, mode, resolution) for m in microgrid.meters if m.location == house}
    levels = physics.initial_levels(BEGIN)
    for slot in range(slots):
        step = physics.step(levels, BEGIN + slot * SLOT_S, {})
        levels, end = step.levels, BEGIN + (slot + 1) * SLOT_S
        for meter, core in meters.items():
            core.measure(end, step.readings[meter])
            if end % every_s == 0:
                core.put(end)
    return Sent(
        records=sum(core.sent.records for core in meters.values()),
        octets=sum(core.sent.octets for core in meters.values()),
    )


def bench(*, smoke: bool = False) -> Section:
    """Measure a day, with and without aggregation."""
    slots = 240 if smoke else DAY_S // SLOT_S
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "town.toml"
        file.write_text(TOWN)
        town = load_town(file)
    rows = []
    for words, every_s in EVERY_S.items():
        plain, less = (day(town, mode, every_s, slots, 100) for mode in ("none", "lossless"))
        rows.append(
            (
                words,
                f"{plain.records:,}",
                f"{less.records:,}",
                f"{plain.octets:,}",
                f"{less.octets:,}",
                f"{100 - 100 * less.octets / plain.octets:.0f} %",
            )
        )
    return Section(
        title="Lossless aggregation by meters",
        about=(
            "The two meters of an emulated house on a day in June: what they put to the controller without "
            "aggregation, and with `lossless` from their start on. Most readings change in every slot, but the "
            "incoming meter reads 0 while sun and battery suffice, and generation is 0 at night."
        ),
        tables=(
            Table(
                title="A day's history records, and the bytes of their puts",
                columns=("put", "records", "lossless", "bytes", "lossless", "saved"),
                rows=tuple(rows),
            ),
        ),
    )
