"""Long works of billing, which pages and API start: a run, a check of one."""

from commonwatt.model.time.local_calendar import parse_month
from utility.access.actor import Actor
from utility.billing import decisions as runs
from utility.billing.run import Progress
from utility.webkit.services import Api
from utility.webkit.works import Kind, Work


def begin_draft(api: Api, actor: Actor, month: str) -> Work:
    """Begin to make the bills of a month, as a draft."""
    parse_month(month)
    now = int(api.clock.now())

    def job(progress: Progress) -> tuple[str, None]:
        number, _ = runs.draft(api.database, month, api.settings.billing.tariff, actor, now, progress)
        return f"/console/runs/{number}", None

    return api.works.start(Kind.BILLS, f"Bills of {month}", actor.name, now, job)


def begin_check(api: Api, actor: Actor, number: int) -> Work:
    """Begin to compute a draft again and to compare it, byte by byte."""
    now = int(api.clock.now())

    def job(progress: Progress) -> tuple[str, None]:
        runs.check(api.database, number, actor, now, progress)
        return f"/console/runs/{number}", None

    return api.works.start(Kind.BILLS, f"Check of run {number}", actor.name, now, job)
