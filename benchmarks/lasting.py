"""How long all microgrids of the town last without their lines: processor time and memory of a projection."""

import time
from zoneinfo import ZoneInfo

import numpy as np

from benchmarks.physics import JUNE, centertown
from commonwatt.energy.controllers import Rules
from commonwatt.energy.lasting import Usual, lasts
from commonwatt.energy.physics.places import Places, streets_of
from commonwatt.energy.strategies import STRATEGIES
from commonwatt.town.town import Town
from harness.docs.measured import Goal, Section, Table, number, percentile

TOWN_S = 0.3  # the goal
RULES = Rules(sharing=STRATEGIES["spec"], reduces=True, sheds=True)
RUNS = 5


def bench(*, smoke: bool = False) -> Section:
    """Measure a projection of the town, and of one street."""
    town, street = centertown(3 if smoke else 800), centertown(1)
    of_town, of_street = _seconds(town, list(town.microgrids)), _seconds(street, list(street.microgrids)[:1])
    return Section(
        title="How long the town lasts without its lines",
        about=f"{len(town.microgrids)} microgrids, 72 hours ahead: with sharing and the two ends of its band, and "
        f"without; processor time, median of {RUNS}, with what is expected of the hours. The utility does it once a "
        "minute, a controller for its own street every five minutes.",
        tables=(
            Table(
                title="A projection, seconds of one core",
                columns=("of", "seconds"),
                rows=(("the town", number(of_town)), ("a street of ten homes", number(of_street))),
            ),
        ),
        goals=(
            Goal(
                what="a projection of the town",
                value=of_town,
                unit="s",
                at_most=TOWN_S,
                limited_by="One core: 72 steps of physics and rules, four times.",
            ),
        ),
    )


def _seconds(town: Town, names: list[str]) -> float:
    blocks = streets_of([town.microgrids[name] for name in names], 3600)
    return percentile([sum(_once(places, run) for places in blocks) for run in range(RUNS)], 50)


def _once(places: Places, run: int) -> float:
    rng = np.random.default_rng(run)
    shape = places.shape
    average = np.where(places.capacity > 0, places.capacity / 24_000, 600) * rng.uniform(0.7, 1.3, shape)
    day = np.clip(np.sin((np.arange(24) - 6) / 12 * np.pi), 0, None) * 2
    usual = Usual(
        use=np.broadcast_to(average, (48, *shape)),
        sun=day[:, None, None] * (places.capacity > 0) * average,
    )
    level = (rng.random(shape) * places.capacity).astype(np.int64)
    began = time.process_time()
    expected = usual.ahead(JUNE, ZoneInfo("America/New_York"), np.ones(shape[0]), np.ones(shape[0]))
    lasts(places, level, level >= 0, expected, JUNE, RULES)
    return time.process_time() - began
