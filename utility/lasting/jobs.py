"""Projects each minute how long the town and its microgrids last, and scores real islands; and the metrics of it."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
from prometheus_client.metrics_core import Metric

from commonwatt.energy import lasting as lasting_proof
from commonwatt.energy.lasting import HORIZON_H, Band, Floats, HoursLeft, band, use_ends, use_error
from commonwatt.look.writing import DOLLARS, Writing
from commonwatt.model.calendar import load_cells
from commonwatt.model.units import AccountNumber, EpochSeconds, MicrogridId
from commonwatt.runtime.metric_families import MetricRow, families, gauge
from utility.database.metrics import PREFIX
from utility.lasting.rules import DAYS, Alike, Days, Said, Score, project, scored, seen, summary, town_left
from utility.lasting.store import load_blocks, load_used, read_scores, save_scores
from utility.registry.store.registry import registry_revision
from utility.webkit.services import Api

TOWN = ""  # in place of a microgrid's name: the whole town
EVERY_S = 60  # clock seconds between two projections
PAST_S, PASTS_AT_ONCE = 86_400, 4  # how old a microgrid's past may be, and how many of them are read at a projection
LEAST_HOMES = 5  # homes of a microgrid from which on its residents are told: of fewer, each could tell the others'


class Lasting:
    """The newest projection, and the scores of islands."""

    def __init__(self, api: Api) -> None:
        self.left: Mapping[MicrogridId, HoursLeft] = {}  # by name of the microgrid, and of ``TOWN``
        self.said: Mapping[MicrogridId, Said] = {}  # what gateways said then
        self.scores: Sequence[Score] = ()  # in the order in which they began
        self._api = api
        self._loaded: tuple[int, int] | None = None
        self._blocks: list[Alike] = []
        self._projected: list[Alike] = []  # those of the newest projection
        self._days: Days = {}
        self._homes: Mapping[MicrogridId, int] = {}  # homes of each microgrid
        # When each microgrid's past was read, and the use at the ends of the band by it.
        self._read: dict[MicrogridId, EpochSeconds] = {}
        self._ends: dict[MicrogridId, Floats | None] = {}

    def look(self, said: Sequence[Said]) -> None:
        """Project from what gateways said; what is usual is read when the registry changed, and each hour."""
        now, zone, database = int(self._api.clock.now()), self._api.zone.read(), self._api.database
        stand = database.read(registry_revision), now // 3600
        if stand != self._loaded:
            self._blocks, self._loaded = database.read(load_blocks, now), stand
        self.said, left = {each.microgrid: each for each in said}, dict[MicrogridId, HoursLeft]()
        for block in self._blocks:
            known = seen(block, self.said, self._days, now, zone)._replace(ends=self._ends)
            left |= project(block, known, now, zone)
        homes: dict[MicrogridId, int] = {}
        if left:
            homes = dict(pair for each in self._blocks for pair in zip(each.places.microgrids, each.homes, strict=True))
            left[TOWN] = town_left(left, np.array([homes[name] for name in left]), now)
        self.left, self._homes, self._projected = left, homes, self._blocks
        self._read_pasts(now, zone)

    def _read_pasts(self, now: EpochSeconds, zone: ZoneInfo) -> None:
        """Read how far use was from what was expected, of some microgrids."""
        names, hour = [name for block in self._blocks for name in block.places.microgrids], now // 3600
        cells = load_cells(np.arange(4 * (hour - 24 * DAYS), 4 * hour, 4), zone)
        for name in sorted(names, key=lambda each: self._read.get(each, 0))[:PASTS_AT_ONCE]:
            if not 0 <= now - self._read.get(name, 0) < PAST_S:
                self._read[name] = now
                self._ends[name] = use_ends(self._api.database.read(load_used, name, hour), cells)

    def score(self, said: Sequence[Said]) -> None:
        """Score islands by the newest projection; stored only by the active utility."""
        before = self._api.database.read(read_scores)
        self.scores = scored(before, said, self.left, int(self._api.clock.now()))
        if self.scores != before and self._api.database.is_active():
            self._api.database.write(save_scores, self.scores)

    def told(self, name: MicrogridId = TOWN, writing: Writing = DOLLARS) -> dict[str, Any]:
        """Return what pages show of a microgrid or the town: the hours left, and how good such projections were."""
        errors = [use_error(ends) for of, ends in self._ends.copy().items() if name in (of, TOWN) and ends is not None]
        words = lasting_proof.words(float(np.quantile(errors, 0.9)) if errors else None, writing)
        return {"left": self.left.get(name), "how_good": f"{words} {summary(self.scores, writing)}"}

    def told_to_residents(
        self, names: Iterable[MicrogridId], account: AccountNumber, writing: Writing
    ) -> list[dict[str, Any]]:
        """Return what a resident's page shows of its microgrids, and of its own homes in them."""
        told = {n: self.told(n, writing) | {"homes": []} for n in names if self._homes.get(n, 0) >= LEAST_HOMES}
        for block in self._projected:
            for row, column in block.accounts.get(account, ()):
                name, place = block.places.microgrids[row], block.places.names[row][column]
                if name in told and (left := self.left.get(name)) is not None and left.homes is not None:
                    told[name]["homes"].append((place, band(left.homes, column)))
        return list(told.values())


def hours_of(band: Band) -> float:
    """Return the expected hours of a band, at most ``HORIZON_H``."""
    return HORIZON_H if band.middle is None else band.middle


_ROWS: tuple[MetricRow[Mapping[MicrogridId, HoursLeft]], ...] = (
    gauge("left_seconds",
          "Expected seconds until the first home, half or all are dark if the line fails now; at most 72 hours.",
        lambda lasting: {
              (name, dark): 3600 * hours_of(band)
              for name, left in lasting.items()
              for dark, band in left.bands.items()
          },
          "microgrid dark"),
)  # fmt: skip


def metrics_of(lasting: Mapping[MicrogridId, HoursLeft]) -> Iterator[Metric]:
    """Yield the expected seconds that are left, by microgrid; without a name: of the town."""
    yield from families(PREFIX, _ROWS, lasting)


def lasting_of(api: Api) -> Lasting:
    """Return the projection of a service, made by the first call."""
    if Lasting not in api.parts:
        api.parts[Lasting] = Lasting(api)
        api.metrics.watch(lambda: metrics_of(lasting_of(api).left))
    found: Lasting = api.parts[Lasting]
    return found
