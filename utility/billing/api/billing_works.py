"""Long works of billing, which pages and API start: a preview of a tariff, a run, a check of one."""

from dataclasses import dataclass

from commonwatt.model.local_calendar import month_before, month_of, parse_month
from commonwatt.model.units import QUARTER_S, EpochSeconds
from utility.access.actor import Actor
from utility.billing import decisions as runs
from utility.billing.preview import Change
from utility.billing.run import Progress
from utility.database.town_zone import zone_of
from utility.statistics.decisions import Outlook, outlook
from utility.tariffs import decisions as tariffs
from utility.tariffs.tariff import Tariff
from utility.webkit.services import Api
from utility.webkit.works import Work


@dataclass(frozen=True, kw_only=True)
class Preview:
    """What a tariff would have made of a month."""

    tariff: Tariff  # the tariff
    source: str  # its text
    month: str  # the local month
    made: EpochSeconds  # when it was computed
    changes: list[Change]  # each account's change, the largest fall first
    outlook: Outlook | None  # what the next month would bring by it; ``None``: no month's usage is known


def last_month(api: Api) -> str:
    """Return the local month before the present one."""
    with api.database.reads.begin() as connection:
        zone = zone_of(connection)
    return month_before(month_of(int(api.clock.now()) // QUARTER_S, zone))


def begin_preview(api: Api, actor: Actor, tariff: Tariff, source: str, month: str) -> Work:
    """Begin to compute what a tariff would have made of a month (empty: the last one) for every account.

    Raises:
        ConfigError: It is no month, or too many works wait.
    """
    wanted, now = month or last_month(api), int(api.clock.now())
    parse_month(wanted)

    def job(progress: Progress) -> tuple[str, Preview]:
        changes = tariffs.previewed(api.database, tariff, wanted, api.settings.billing.tariff, progress)
        changes.sort(key=lambda change: (change.difference, change.account))
        ahead = outlook(api.database, tariff, api.settings.billing.tariff, now)
        made = Preview(tariff=tariff, source=source, month=wanted, made=now, changes=changes, outlook=ahead)
        return "/console/rates/preview/{id}", made

    return api.works.start(f"Preview of {tariff.name} for {wanted}", actor.name, now, job)


def begin_draft(api: Api, actor: Actor, month: str) -> Work:
    """Begin to make the bills of a month, as a draft.

    Raises:
        ConfigError: It is no month, or too many works wait.
    """
    parse_month(month)
    now = int(api.clock.now())

    def job(progress: Progress) -> tuple[str, None]:
        number, _ = runs.draft(api.database, month, api.settings.billing.tariff, actor, now, progress)
        return f"/console/runs/{number}", None

    return api.works.start(f"Bills of {month}", actor.name, now, job)


def begin_check(api: Api, actor: Actor, number: int) -> Work:
    """Begin to compute a draft again and to compare it, byte by byte.

    Raises:
        ConfigError: Too many works wait.
    """
    now = int(api.clock.now())

    def job(progress: Progress) -> tuple[str, None]:
        runs.check(api.database, number, actor, now, progress)
        return f"/console/runs/{number}", None

    return api.works.start(f"Check of run {number}", actor.name, now, job)
