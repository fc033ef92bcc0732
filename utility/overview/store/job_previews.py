"""Dry runs: what a job would do now, in words. They read the database and change nothing."""

from collections.abc import Callable, Mapping

from commonwatt.config.utility import UtilitySettings
from commonwatt.model.units import QUARTER_S, EpochSeconds
from commonwatt.model.words import counted, moment
from commonwatt.settlement.settled import QUARTERS_A_DAY
from utility.archive.blocks import month_text as name_of_month
from utility.archive.jobs import months_due
from utility.billing.jobs import rates_to_tell
from utility.billing.store.bills_due import bills_wait_for, is_to_bill
from utility.billing.store.witnesses import to_ask
from utility.collection.jobs import ALIVE_S, planned_moves
from utility.control.jobs import weights_to_tell
from utility.corrections.jobs import LATE_S
from utility.corrections.store.checking import days_to_check
from utility.database.database import Database, count_rows
from utility.database.town_zone import zone_of
from utility.exports.jobs import backup_plan, export_folders, exports_wait_for, has_begun
from utility.fleet.store.rollouts import members_of, newest
from utility.jobs.catalogue import plan_of
from utility.jobs.plans import UNCHANGED
from utility.jobs.store.job_states import periods_over
from utility.jobs.tables import sharing_due, usage_due
from utility.ledger.store.entries import due_reminders
from utility.overview.store.days import marked_days
from utility.overview.store.old_records import kept, old_runs, oldest_day
from utility.readings.store.compactor import SETTLE_S
from utility.readings.store.gap_finder import GapFinder
from utility.readings.store.heartbeats import last_heartbeats
from utility.readings.store.parts import count_fresh
from utility.readings.store.retention import Retention
from utility.registry.store.spared import to_tell as spared_to_tell
from utility.settlement.jobs.settlement import FINISHED_S
from utility.settlement.store.settlement_due import due_days
from utility.statistics.months import month_at, month_text
from utility.statistics.store.usage_projection import months_with_usage
from utility.supply.jobs import Planner

_Preview = Callable[[Database, UtilitySettings, EpochSeconds], list[str]]


def preview(database: Database, settings: UtilitySettings, name: str, now: EpochSeconds) -> list[str]:
    """Return what a job would do now, a line each.

    Args:
        database: The database; it is only read.
        name: The job's name.
        now: The time, taken as trusted.
    """
    return PREVIEWS[name](database, settings, now)


def _supply(database: Database, settings: UtilitySettings, now: EpochSeconds) -> list[str]:
    plan = Planner(settings.supply, database, is_trusted=lambda: True).plan(now)
    rations = f"would send {counted(len(plan.rations), 'ration')} to controllers"
    if plan.purchase is not None:
        return [f"would buy {plan.purchase.energy / 1e6:,.3f} kWh: {plan.purchase.reason}", rations]
    return [f"no purchase: {plan.words}" if plan.words else "this quarter-hour has its purchase", rations]


def _rates(database: Database, settings: UtilitySettings, now: EpochSeconds) -> list[str]:
    _, new = rates_to_tell(database, settings.billing.tariff, now)
    return [f"would send rates to {counted(len({name for name, _ in new}), 'controller')}"]


def _weights(database: Database, _: UtilitySettings, now: EpochSeconds) -> list[str]:
    return [f"would tell {counted(len(weights_to_tell(database, now)), 'gateway')} the weights of its accounts"]


def _spared(database: Database, _: UtilitySettings, now: EpochSeconds) -> list[str]:
    return [f"would tell {counted(len(database.read(spared_to_tell, now)), 'gateway')} which places must not be cut"]


def _rollout(database: Database, _: UtilitySettings, __: EpochSeconds) -> list[str]:
    with database.reads.begin() as connection:
        last = newest(connection)
        left = () if last is None else [one for one in members_of(connection, last.no) if one.verdict is None]
    if last is None or last.ended is not None:
        return ["no release is on its way"]
    return [f"release {last.release} is on its way: {counted(len(left), 'controller')} without a verdict"]


def _balance(database: Database, _: UtilitySettings, now: EpochSeconds) -> list[str]:
    with database.reads.begin() as connection:
        alive = {name for name, (time, _) in last_heartbeats(connection).items() if now - time <= ALIVE_S}
        moves = planned_moves(connection, alive, now)[1]
    return [f"would give {counted(len(moves), 'meter')} other brokers"]


def _sharing(database: Database, _: UtilitySettings, now: EpochSeconds) -> list[str]:
    waiting = database.read(count_rows, sharing_due, sharing_due.c.quarter < now // QUARTER_S - 1)
    return [f"would look at {counted(waiting, 'quarter-hour')} of microgrids whose readings changed"]


def _compact(database: Database, _: UtilitySettings, now: EpochSeconds) -> list[str]:
    parts = database.read(count_fresh, 0, (now - SETTLE_S) // QUARTER_S)
    return [f"would join {counted(parts, 'part')} of finished quarter-hours with their blocks"]


def _settlement(database: Database, _: UtilitySettings, now: EpochSeconds) -> list[str]:
    days = database.read(due_days, (now - FINISHED_S) // 86_400)
    if not days:
        return ["nothing is due: every finished day is settled"]
    first = f"the first {_date(min(days))} (UTC)"
    return [f"would settle {counted(len(days), 'day')}, {first}, with {sum(days.values())} days of microgrids"]


def _gaps(database: Database, settings: UtilitySettings, now: EpochSeconds) -> list[str]:
    run = GapFinder(database).plan(now, settings.gap_age_s)
    more = ", and then more" if run.more else ""
    return [f"would ask gateways for {counted(len(run.wanted), 'block')} with missing readings{more}"]


def _bills(database: Database, settings: UtilitySettings, now: EpochSeconds) -> list[str]:
    found: list[str] = []
    for month in periods_over(database, plan_of(settings, "bills"), now):
        is_wanted = is_to_bill(database, month)
        waits_for = bills_wait_for(database, month) if is_wanted else "nothing is to be billed"
        if waits_for is None:
            return [*found, f"would make the draft of {month.name}"]
        found.append(f"{month.name}: {waits_for}")
    return found or ["every month that is over is done"]


def _reminders(database: Database, settings: UtilitySettings, now: EpochSeconds) -> list[str]:
    found = database.read(due_reminders, settings.billing.tariff, now)
    return [f"would make {counted(len(found), 'reminder')} of overdue bills"]


def _witnesses(database: Database, _: UtilitySettings, __: EpochSeconds) -> list[str]:
    return [f"would ask for {counted(len(database.read(to_ask)), 'signature')} under issued bills"]


def _completeness(database: Database, _: UtilitySettings, now: EpochSeconds) -> list[str]:
    marked = database.read(marked_days, now // 86_400)
    return [f"would count {counted(len(marked), 'day')} of microgrids again, and the days that ended since"]


def _statistics(database: Database, _: UtilitySettings, __: EpochSeconds) -> list[str]:
    waiting = database.read(count_rows, usage_due)
    return [f"would take in {counted(waiting, 'settled day')} of microgrids"]


def _projection(database: Database, _: UtilitySettings, now: EpochSeconds) -> list[str]:
    with database.reads.begin() as connection:
        present = month_at(now // QUARTER_S, zone_of(connection))
        months = len(months_with_usage(connection, present))
    return [f"would project {month_text(present + 1)} from {counted(months, 'month')} of usage"]


def _validation(database: Database, _: UtilitySettings, now: EpochSeconds) -> list[str]:
    days = database.read(days_to_check, (now - LATE_S) // 86_400)
    if not days:
        return ["every finished day is checked"]
    return [f"would check {counted(len(days), 'day')}, the first {_date(days.start)} (UTC), and propose estimates"]


def _retention(database: Database, settings: UtilitySettings, now: EpochSeconds) -> list[str]:
    first = Retention(database, settings.all_months).plan(now)
    with database.reads.begin() as connection:
        keep = kept(connection, now, settings.keep_years)
        runs, oldest = old_runs(connection, keep), oldest_day(connection)
    readings = "there are no readings" if first is None else f"would drop readings before {moment(first * QUARTER_S)}"
    days = 0 if oldest is None else max(0, keep.day - oldest)
    return [
        readings,
        f"would drop settled days, sharing and corrections before {_date(keep.day)} (UTC): {counted(days, 'day')}",
        f"would drop {counted(len(runs), 'run')} of bills of months before {keep.month}",
    ]


def _exports(database: Database, settings: UtilitySettings, now: EpochSeconds) -> list[str]:
    found: list[str] = []
    for month in periods_over(database, plan_of(settings, "exports"), now):
        if not has_begun(database, month):
            continue
        waits_for = exports_wait_for(database, settings, month)
        folders = ", ".join(map(str, export_folders(settings, month.name).values()))
        found.append(f"{month.name}: {waits_for}" if waits_for else f"would write {folders}")
    return found or ["every month that is over is done"]


def _backup(database: Database, settings: UtilitySettings, now: EpochSeconds) -> list[str]:
    plan = plan_of(settings, "backup").in_force(UNCHANGED, database.read(zone_of))
    backup = backup_plan(settings, plan.cadence.period_at(now).name)
    made = f"{backup.target} is there" if backup.target.exists() else f"would write {backup.target}"
    return [made, *(f"would delete {old}" for old in backup.old)]


def _archive(database: Database, settings: UtilitySettings, now: EpochSeconds) -> list[str]:
    due = [name_of_month(first) for first in months_due(database, settings, now)]
    return [f"would bring {name} to a file" for name in due] or ["every month that is old enough is in a file"]


PREVIEWS: Mapping[str, _Preview] = {
    "supply": _supply,
    "rates": _rates,
    "weights": _weights,
    "spared": _spared,
    "rollout": _rollout,
    "balance": _balance,
    "sharing": _sharing,
    "compact": _compact,
    "settlement": _settlement,
    "gaps": _gaps,
    "bills": _bills,
    "reminders": _reminders,
    "witnesses": _witnesses,
    "completeness": _completeness,
    "statistics": _statistics,
    "projection": _projection,
    "validation": _validation,
    "retention": _retention,
    "exports": _exports,
    "backup": _backup,
    "archive": _archive,
}


def _date(day: int) -> str:
    return moment(day * QUARTERS_A_DAY * QUARTER_S)[:10]
