"""From a scenario's physics at 15 s to settled days in a database, and on to issued bills by the installed commands."""

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from commonwatt.model.blocks import empty
from commonwatt.model.calendar import month_quarters
from commonwatt.model.units import QUARTER_S, SLOT_S, MicrogridId, Quarter
from commonwatt.town.scenario import load
from commonwatt.town.town import Town
from harness.commands import WHO, run_as, shown
from harness.settlement.compare import settle_day
from harness.settlement.emulated import EmulatedQuarter, EmulatedTown
from utility.database.database import Database, open_database
from utility.energy.quarters import QUARTERS_A_DAY, Corrected, Quantity, applied, no_overlay
from utility.registry.accounts import Holding, Installed
from utility.registry.layout import Day, layout_of
from utility.registry.store.accounts import load_for_change, save_dated_registry
from utility.registry.store.registration import fill_registry
from utility.settlement.day import SettledDay, SettlementRules
from utility.settlement.store.readings import owners
from utility.settlement.store.settled import save

TARIFF = Path("docs/examples/tariff.toml")

_RESOLUTION = 100


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What is to be made."""

    town: Town  # the town
    scenario: str  # the name of its scenario
    month: str  # the local month
    days: int  # the last days of the month that are emulated; everybody moves in at their beginning
    folder: Path  # an empty folder for the database and the files
    bills: bool = True  # whether a tariff is published and the month billed
    step_s: int = SLOT_S  # seconds of a step of the physics


@dataclass(kw_only=True)
class Made:
    """What was made."""

    seconds: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))  # duration of each step
    # What flowed over the microgrids' boundaries, by quantity, milliwatt-hours.
    flowed: Counter[Quantity] = field(default_factory=Counter)
    settled: Counter[Quantity] = field(default_factory=Counter)  # the same as it was settled
    run: Mapping[str, Any] = field(default_factory=dict)  # the issued run, as ``commonwatt show runs`` shows it

    @contextmanager
    def timed(self, step: str) -> Iterator[None]:
        """Add the duration of a step."""
        began = time.monotonic()
        yield
        self.seconds[step] += time.monotonic() - began


def make(asked: Asked, tell: Callable[[str, float], object]) -> Made:
    """Emulate, settle, bill and issue; ``tell`` takes what is done, and which part of it."""
    made = Made()
    zone = ZoneInfo(asked.town.table.timezone)
    first, until = month_quarters(asked.month, zone)
    begin = max(first, until - asked.days * QUARTERS_A_DAY)
    config = asked.folder / "utility.toml"
    url = f"sqlite:///{asked.folder.absolute()}/utility.db"
    config.write_text(f'[utility]\ndatabase = "{url}"\n')
    database = open_database(url, create=True)
    try:
        with made.timed("register"):
            register(database, asked.town, begin, zone)
        _settle(asked, database, made, (begin, until), tell)
    finally:
        database.close()
    if asked.bills:
        _bill(asked.month, config, made, tell)
    return made


def register(database: Database, town: Town, begin: Quarter, zone: ZoneInfo) -> None:
    """Register the town; everybody moves in at ``begin``."""

    def moved_in(one: Installed) -> Installed:
        return replace(one, holdings=tuple(Holding(account=held.account, start=begin) for held in one.holdings))

    with database.writes.begin() as connection:
        fill_registry(connection, town)
        known = load_for_change(connection)
        after = replace(known, meters={number: moved_in(one) for number, one in known.meters.items()})
        save_dated_registry(connection, known, after, "anna", begin * QUARTER_S, zone)


def _settle(
    asked: Asked, database: Database, made: Made, period: tuple[Quarter, Quarter], tell: Callable[[str, float], object]
) -> None:
    begin, until = period
    rules = SettlementRules(resolution=_RESOLUTION, battery_loss_permille=asked.town.table.charging_loss_permille)
    with database.reads.begin() as connection:
        members = list(owners(connection).values())
    readings = _Emulated(asked, made, begin, until)
    days = range(begin // QUARTERS_A_DAY, (until - 1) // QUARTERS_A_DAY + 1)
    for done, day in enumerate(days):
        tell("days settled", done / len(days))
        emulated = made.seconds["emulate"]
        with made.timed("settle"):
            layouts = [layout_of(owner.microgrid, owner.meters, day) for owner in members]
            found = settle_day(day, layouts, readings, rules)
            _count(found, made, day, period)
        made.seconds["settle"] -= made.seconds["emulate"] - emulated
        with made.timed("store"), database.writes.begin() as connection:
            save(connection, found, members, [], rules.convention, (day + 1) * 86_400, is_over=True)


def _count(found: SettledDay, made: Made, day: Day, period: tuple[Quarter, Quarter]) -> None:
    inside = slice(*(min(max(at - day * QUARTERS_A_DAY, 0), QUARTERS_A_DAY) for at in period))
    for quantity in (Quantity.IMPORTED, Quantity.EXPORTED):
        made.settled[quantity] += int(found.energies[quantity][:, inside].sum())


class _Emulated:
    """The readings of a town's quarters in order; before and after the emulated ones there are none."""

    def __init__(self, asked: Asked, made: Made, begin: Quarter, until: Quarter) -> None:
        local = datetime.fromtimestamp(begin * QUARTER_S, UTC).astimezone(ZoneInfo(asked.town.table.timezone))
        # A day before, whose last quarter has the batteries' levels at the beginning.
        start = local.date() - timedelta(days=1)
        scenario = load(asked.scenario).model_copy(update={"start": start, "days": asked.days + 2})
        town = EmulatedTown(asked.town, scenario, resolution=_RESOLUTION, step_s=asked.step_s)
        hours = (begin * QUARTER_S - town.begin) // 3600 - 1
        self._stream = town.quarters(town.begin // QUARTER_S + hours * 4, hours)
        self._made, self._begin, self._until = made, begin, until
        self._last: tuple[Quarter, Corrected] | None = None

    def __call__(self, quarter: Quarter) -> Corrected:
        if self._last is not None and self._last[0] == quarter:
            return self._last[1]
        if not self._begin - 1 <= quarter < self._until:
            return applied(empty(), no_overlay())
        with self._made.timed("emulate"):
            one = next(one for one in self._stream if one.quarter == quarter)
        if quarter >= self._begin:
            self._add(one)
        self._last = quarter, one.readings
        return one.readings

    def _add(self, one: EmulatedQuarter) -> None:
        sums: Mapping[MicrogridId, Any] = one.truth
        for flowed in sums.values():
            self._made.flowed[Quantity.IMPORTED] += int(flowed.imported.sum())
            self._made.flowed[Quantity.EXPORTED] += int(flowed.exported.sum())


def _bill(month: str, config: Path, made: Made, tell: Callable[[str, float], object]) -> None:
    steps: list[tuple[str, list[str]]] = [
        ("tariff", ["tariff", "propose", str(TARIFF), "--as", "anna"]),
        ("tariff", ["do", "tariffs/town/1/approve", "--as", "ben"]),
        ("bill", ["do", "runs", f"month={month}", "--as", "anna"]),
        ("check", ["do", "runs/1/check", "--as", "anna"]),
        ("issue", ["do", "runs/1/issue", "--as", "ben"]),
    ]
    for done, (step, words) in enumerate(steps):
        tell("billing", done / len(steps))
        with made.timed(step):
            run_as(config, *words)
    made.run = shown(config, "runs", WHO, "anna")["runs"][0]
