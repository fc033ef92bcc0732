"""Projects each minute how long the town and its microgrids last, and scores real islands; and the metrics of it."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, time, timedelta
from typing import Any

import numpy as np
from prometheus_client.metrics_core import Metric

from commonwatt.energy import lasting_proof
from commonwatt.energy.hours_left import Band, HoursLeft
from commonwatt.energy.lasting import HORIZON_H
from commonwatt.model.units import EpochSeconds, MicrogridId
from utility.database.metrics import gauges_by
from utility.lasting.rules import RULES, Block, Days, Said, Seen, expected, levers, project, seen, town_left
from utility.lasting.scores import Score, scored, summary
from utility.lasting.store import load_blocks, read_scores, save_scores
from utility.registry.store.registry import registry_revision
from utility.webkit.services import Api

TOWN = ""  # in place of a microgrid's name: the whole town
EVERY_S = 60  # clock seconds between two projections
LEAST_HOMES = 5  # homes of a microgrid from which on its residents are told: of fewer, each could tell the others'
EVENING = time(20)  # the local time at which the line fails in the levers' cases


class Lasting:
    """The newest projection, and the scores of islands."""

    def __init__(self, api: Api) -> None:
        self.left: Mapping[MicrogridId, HoursLeft] = {}  # by name of the microgrid, and of ``TOWN``
        self.scores: Sequence[Score] = ()  # in the order in which they began
        self._api = api
        self._loaded: tuple[int, int] | None = None
        self._blocks: list[Block] = []
        self._days: Days = {}
        self._homes: Mapping[MicrogridId, int] = {}  # homes of each microgrid
        # Of the newest projection: its time, and its blocks with what was known of each.
        self._seen: tuple[EpochSeconds, list[tuple[Block, Seen]]] = 0, []

    def look(self, said: Sequence[Said]) -> None:
        """Project from what gateways said; what is usual is read when the registry changed, and each hour."""
        now, zone, database = int(self._api.clock.now()), self._api.zone.read(), self._api.database
        stand = database.read(registry_revision), now // 3600
        if stand != self._loaded:
            self._blocks, self._loaded = database.read(load_blocks, now), stand
        of, left = {each.microgrid: each for each in said}, dict[MicrogridId, HoursLeft]()
        known = [(block, seen(block, of, self._days, now, zone)) for block in self._blocks]
        for block, its in known:
            left |= project(block, its, now, zone)
        homes: dict[MicrogridId, int] = {}
        if left:
            homes = dict(pair for each in self._blocks for pair in zip(each.places.microgrids, each.homes, strict=True))
            left[TOWN] = town_left(left, np.array([homes[name] for name in left]), now)
        self._seen, self.left, self._homes = (now, known), left, homes

    def score(self, said: Sequence[Said]) -> None:
        """Score islands by the newest projection; stored only by the active utility."""
        before = self._api.database.read(read_scores)
        self.scores = scored(before, said, self.left, int(self._api.clock.now()))
        if self.scores != before and self._api.database.is_active():
            self._api.database.write(save_scores, self.scores)

    def told(self, name: MicrogridId = TOWN) -> dict[str, Any]:
        """Return what pages show of a microgrid or the town: the hours left, and how good such projections were."""
        return {"left": self.left.get(name), "how_good": f"{lasting_proof.WORDS} {summary(self.scores)}"}

    def told_to_residents(self, names: Iterable[MicrogridId]) -> list[dict[str, Any]]:
        """Return what a resident's page shows of its microgrids."""
        return [self.told(name) for name in dict.fromkeys(names) if self._homes.get(name, 0) >= LEAST_HOMES]

    def levers(self, names: Sequence[MicrogridId]) -> Mapping[MicrogridId, Sequence[float]]:
        """Return the hours of ``levers`` from the next evening on."""
        (now, known), zone, found = self._seen, self._api.zone.read(), dict[MicrogridId, Sequence[float]]()
        day = datetime.fromtimestamp(now, zone)
        until = int(datetime.combine(day.date() + timedelta(days=day.time() >= EVENING), EVENING, zone).timestamp())
        for block, its in known:
            for strategy in set(its.strategy):
                rows = np.isin(block.places.microgrids, names) & (its.strategy == strategy)
                if rows.any():
                    of = block.places.only(rows)
                    before, after = (expected(block, rows, its.parts, at, zone) for at in (now, until))
                    hours = levers(of, its.level[rows], now, before, until, after, RULES[strategy])
                    found |= dict(zip(of.microgrids, hours.T.tolist(), strict=True))
        return found


def hours_of(band: Band) -> float:
    """Return the expected hours of a band, at most ``HORIZON_H``."""
    return HORIZON_H if band.middle is None else band.middle


def metrics_of(lasting: Mapping[MicrogridId, HoursLeft]) -> Iterator[Metric]:
    """Yield the expected seconds that are left, by microgrid; without a name: of the town."""
    text = "Expected seconds until the first home, half or all are dark if the line fails now; at most 72 hours."
    bands = {(name, dark): band for name, left in lasting.items() for dark, band in left.bands.items()}
    seconds = {key: 3600 * hours_of(band) for key, band in bands.items()}
    yield gauges_by("left_seconds", text, seconds, "microgrid", "dark")


def lasting_of(api: Api) -> Lasting:
    """Return the projection of a service, made by the first call."""
    if Lasting not in api.parts:
        api.parts[Lasting] = Lasting(api)
        api.metrics.watch(lambda: metrics_of(lasting_of(api).left))
    found: Lasting = api.parts[Lasting]
    return found
