"""Projects each minute how long the town and its microgrids last, and scores real islands; and the metrics of it."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, time, timedelta
from typing import Any

import numpy as np
from prometheus_client.metrics_core import GaugeMetricFamily, Metric

from commonwatt.energy.hours_left import HoursLeft
from commonwatt.energy.lasting import HORIZON_H
from commonwatt.energy.lasting_proof import PROOF
from commonwatt.model.units import EpochSeconds, MicrogridId
from utility.database.metrics import PREFIX, AtEachScrape
from utility.lasting.levers import levers, rules_of
from utility.lasting.rules import Block, Days, Said, Seen, expected, project, seen, town_left
from utility.lasting.scores import DARK, Score, scored, summary
from utility.lasting.store import load_blocks, save_scores, scores
from utility.registry.store.registry import registry_revision
from utility.webkit.services import Api

TOWN = ""  # in place of a microgrid's name: the whole town
EVERY_S = 60  # clock seconds between two projections
WEAKEST = 10  # microgrids of which the levers are computed
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
        self._is_new = False
        self._seen: tuple[EpochSeconds, list[tuple[Block, Seen]]] = 0, []

    def look(self, said: Sequence[Said]) -> None:
        """Project from what gateways said; what is usual is read when the registry changed, and each hour."""
        now, zone = int(self._api.clock.now()), self._api.zone.read()
        with self._api.database.reads.begin() as connection:
            stand = registry_revision(connection), now // 3600
            if stand != self._loaded:
                self._blocks, self._loaded = load_blocks(connection, now), stand
            before = scores(connection)
        of, left = {each.microgrid: each for each in said}, dict[MicrogridId, HoursLeft]()
        known = [(block, seen(block, of, self._days, now, zone)) for block in self._blocks]
        for block, each in known:
            left |= project(block, each, now, zone)
        homes = [count for block in self._blocks for count in block.homes.tolist()]
        self._seen, self.scores = (now, known), scored(before, said, left, now)
        self.left = left | ({TOWN: town_left(left, homes, now)} if sum(homes) else {})
        self._is_new = self.scores != before

    def save(self) -> None:
        """Store the scores, if they changed and this is the active utility."""
        if self._is_new and self._api.database.is_active():
            self._api.database.write(save_scores, self.scores)

    def told(self, name: MicrogridId = TOWN) -> dict[str, Any]:
        """Return what pages show of a microgrid or the town: the hours left, and how good such projections were."""
        return {"left": self.left.get(name), "proof": PROOF, "islands": summary(self.scores)}

    def levers(self) -> list[tuple[MicrogridId, list[float]]]:
        """Return the microgrids whose first home is dark soonest, with the hours of ``levers`` from this evening on."""
        (now, known), zone = self._seen, self._api.zone.read()
        day = datetime.fromtimestamp(now, zone)
        until = int(datetime.combine(day.date() + timedelta(days=day.time() >= EVENING), EVENING, zone).timestamp())
        first = {
            name: HORIZON_H if it.first.middle is None else it.first.middle for name, it in self.left.items() if name
        }
        weakest = sorted(first, key=lambda name: first[name])[:WEAKEST]
        found = dict[MicrogridId, list[float]]()
        for block, its in known:
            for strategy in set(its.strategy):
                names = zip(block.places.microgrids, its.strategy, strict=True)
                rows = np.array([name in weakest and each == strategy for name, each in names])
                if rows.any():
                    places = block.places.only(rows)
                    cases = [expected(block, rows, its.parts, at, zone) for at in (now, until)]
                    hours = levers(places, its.level[rows], now, cases[0], until, cases[1], rules_of(strategy))
                    found |= dict(zip(places.microgrids, hours.T.tolist(), strict=True))
        return [(name, found[name]) for name in weakest if name in found]

    def metrics(self) -> Iterator[Metric]:
        """Yield the expected seconds that are left."""
        text = "Expected seconds until the first home, half or all are dark if the line fails now; 72 h: later."
        family = GaugeMetricFamily(f"{PREFIX}_left_seconds", text, labels=["microgrid", "dark"])
        for name, it in self.left.items():
            for dark in DARK:
                hours = getattr(it, dark).middle
                family.add_metric([name, dark], 3600 * (HORIZON_H if hours is None else hours))
        yield family


def lasting_of(api: Api) -> Lasting:
    """Return the projection of a service, made by the first call."""
    if Lasting not in api.parts:
        api.parts[Lasting] = lasting = Lasting(api)
        api.metrics.registry.register(AtEachScrape(lasting.metrics))
    found: Lasting = api.parts[Lasting]
    return found
