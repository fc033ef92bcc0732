"""A street with a gateway whose store has readings of past days, and its projection of the hours left."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast
from zoneinfo import ZoneInfo

import numpy as np

from commonwatt.codec.packing import pack
from commonwatt.config.settings import GatewaySettings
from commonwatt.energy.hours_left import HoursLeft
from commonwatt.model.blocks import Quality, make_blocks
from commonwatt.model.records import RecordType
from commonwatt.model.units import QUARTER_S, SLOTS
from commonwatt.town.registry import RegisteredMeter
from commonwatt.town.town import Direction
from gateway.changes import AppendParts, Part
from gateway.core import RETRY
from gateway.loop.hosted_store import HostedStore
from gateway.loop.work import Work
from gateway.shown.lasting import TURN_S, Lasting
from harness.worlds.gateway import CAPACITY, START, World, registered

USE_W, SUN_W = 1200, 3600  # use of a home, and its sun from 14 to 22 o'clock UTC, watts
_QUARTER_MWH = 1000 // 4  # milliwatt-hours of a watt in a quarter


def homes(count: int) -> dict[int, RegisteredMeter]:
    """Return the meters of homes: of home 1 meter 1 at its battery and sun, and meter 1001 at its intake."""
    own = [registered(number) for number in range(1, count + 1)]
    intakes = [
        one.model_copy(
            update={
                "id": one.id + 1000,
                "direction": Direction.INCOMING,
                "record_types": (RecordType.THROUGH,),
                "battery_capacity_mwh": None,
            }
        )
        for one in own
    ]
    return {one.id: one for one in (*own, *intakes)}


class Street(World):
    """Homes with a gateway, without a utility."""

    def __init__(self, path: Path, count: int = 10) -> None:
        super().__init__(path)
        self.now = START + 1800
        self.meters = homes(count)
        self.settings = GatewaySettings(microgrid="r001")
        self.begin()

    def begin(self) -> None:
        """Begin, or begin again after an end."""
        self.new_core()
        self.known: dict[int, float] = {}  # the levels that are told, percent, by meter
        self.hosted = HostedStore(self.path, (self.store, None))
        self.lasting = Lasting(cast("Work", self), ZoneInfo("America/New_York"))

    @property
    def stores(self) -> dict[str, HostedStore]:
        return {"r001": self.hosted}

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        yield

    def write(self, days: float, *, use_w: int = USE_W, sun_w: int = SUN_W, until: int = START) -> None:
        """Store the readings of days until a time: the battery takes and gives what it can, the town the rest."""
        batteries = [one for one in self.meters.values() if one.battery_capacity_mwh]
        level, parts, end = CAPACITY // 2, [], until // QUARTER_S
        for quarter in range(end - int(days * 96), end):
            sun = sun_w * _QUARTER_MWH if 56 <= quarter % 96 < 88 else 0
            net = sun - use_w * _QUARTER_MWH
            before, level = level, min(max(level + net, 0), CAPACITY)
            rest = net - (level - before)
            keys, values = [], []
            for one in batteries:
                keys += [(one.id, 1, quarter), (one.id, 2, quarter), (one.id, 3, quarter), (one.id + 1000, 3, quarter)]
                values += [sun // SLOTS, level, max(rest, 0) // SLOTS, max(-rest, 0) // SLOTS]
            quality = np.full((len(keys), SLOTS), Quality.EXACT)
            quality[:, quarter % (SLOTS - 1)] = Quality.MISSING  # Now and then a slot is lost.
            blocks = make_blocks(keys, np.repeat(values, SLOTS), quality)
            parts += [Part(0, key, payload) for key, payload in zip(keys, pack(blocks), strict=True)]
        self.store.commit([AppendParts(tuple(parts))])

    def levels(self, percent: float, *, without: int = 0) -> None:
        """Let all batteries but the first ones tell their minima of 50 %, and their levels from now on."""
        batteries = [one.id for one in self.meters.values() if one.battery_capacity_mwh]
        self.known = dict.fromkeys(batteries[without:], percent)
        for meter in self.known:
            self.introduce(meter)

    def turns(self, count: int = 1) -> HoursLeft | str:
        """Let the projection have turns; return what it tells."""
        for _ in range(count):
            self.now += TURN_S
            for meter, percent in self.known.items():
                self.level(meter, percent)
            self.tick(RETRY)
            asyncio.run(self.lasting.turn())
        return self.hosted.figures.hours_left

    def shown(self) -> dict[str, Any]:
        """Return what the status shows."""
        self.hosted.look(self.core, self.view())
        return self.hosted.view
