"""How long the plant's battery lasts, and those of islands: in the API, the terminal, and metrics."""

import math
from collections.abc import Callable, Iterable
from functools import partial

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric

from commonwatt.model.control.supply import SupplyState
from commonwatt.model.units import QUARTER_S
from commonwatt.protocol.plant_messages import PlantQuarter, PlantReport
from commonwatt.runtime.metric_families import AtEachScrape
from utility.database.database import Database
from utility.outbox.changes import SawPlant
from utility.outbox.store.plant import write_plant
from utility.supply.deciding import plant_lasts_until
from utility.supply.metrics import plant_metrics
from utility.supply.store.supply_view import supply_view

NOW = 1_990_000 * QUARTER_S + 60
KEEP = 24_000_000


def report(level: int, *levels: int) -> PlantReport:
    """Return a report with the levels at the ends of the last quarter-hours, oldest first."""
    first = NOW // QUARTER_S - len(levels)
    quarters = (PlantQuarter(first + n, 60, 0, 0, 0, 0, each) for n, each in enumerate(levels))
    return PlantReport(
        time=NOW,
        level_mwh=level,
        capacity_mwh=100_000_000,
        battery_limit_w=9_000,
        line_w=9_000,
        supply=SupplyState.NORMAL,
        prices=((NOW, 1000),),
        prices_until=NOW + QUARTER_S,
        keep_mwh=KEEP,
        quarters=tuple(quarters),
    )


SINCE_S = 3 * QUARTER_S + 60  # from the end of the oldest of four quarter-hours to the report

LASTING = report(KEEP + 6_000_000, *(KEEP + each * 1_000_000 for each in (9, 8, 7, 6)))


@pytest.mark.parametrize(
    ("it", "until"),
    [
        (LASTING, NOW + 2 * SINCE_S),
        (report(KEEP // 2, KEEP, KEEP, KEEP, KEEP), NOW + SINCE_S),  # below the reserve: until it is empty
        (report(KEEP, KEEP - 1_000_000, KEEP - 1_000_000), None),
        (report(KEEP + 6_000_000, KEEP + 7_000_000), None),  # a minute says nothing
        (report(KEEP + 6_000_000), None),
    ],
)
def test_the_plants_battery_lasts_to_its_reserve_at_the_last_hours_mean(it: PlantReport, until: int | None) -> None:
    assert plant_lasts_until(it) == until


def test_quarter_hours_from_before_the_last_hour_do_not_count() -> None:
    old = PlantQuarter(NOW // QUARTER_S - 6, 60, 0, 0, 0, 0, 90_000_000)
    assert plant_lasts_until(LASTING.model_copy(update={"quarters": (old, *LASTING.quarters)})) == NOW + 2 * SINCE_S


def value(read: Callable[[], Iterable[Metric]], name: str, **labels: str) -> float | None:
    """Return a sample of some metrics."""
    registry = CollectorRegistry()
    registry.register(AtEachScrape(read))
    return registry.get_sample_value(f"commonwatt_utility_{name}", labels)


def test_the_plants_hours_are_a_metric() -> None:
    for it, left_s in ((LASTING, 2 * SINCE_S), (report(KEEP), math.nan)):
        found = value(partial(plant_metrics, (NOW, it), NOW + 5), "plant_left_seconds")
        assert found == pytest.approx(left_s, nan_ok=True)


def test_the_plants_hours_are_shown_with_the_time_they_end(database: Database) -> None:
    with database.writes.begin() as connection:
        write_plant(connection, [SawPlant(time=NOW, report=LASTING)])
        plant = supply_view(connection, NOW + 5, 1)["plant"]
    assert (plant["hours_left"], plant["lasts_until"]) == (round(2 * SINCE_S / 3600, 1), NOW + 2 * SINCE_S)
