"""Planted bugs of settlement and billing, as real mistakes of programmers: none is by the author of the code."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any
from unittest.mock import patch
from zoneinfo import ZoneInfo

from sqlalchemy import Connection, Table, true

from commonwatt.model.calendar import month_quarters
from commonwatt.model.units import AccountNumber, Quarter, unsigned64
from harness.world.planted import Bug, _around
from utility.billing import inputs, stored_run
from utility.billing.rules.sums import Chunk
from utility.energy.quarters import Quantity
from utility.jobs import store as job_leases
from utility.jobs.store import Turn
from utility.jobs.tables import period, settlement_due
from utility.readings.store import quarters
from utility.registry.accounts import Installed
from utility.settlement.store import settled


def _marks_no_late_day(real: Callable[..., None], connection: Connection, table: Table, *rest: Any) -> None:
    if table is not settlement_due:
        real(connection, table, *rest)


def _of_any_attempt(turn: Turn) -> tuple[object, ...]:
    return period.c.job == turn.job, period.c.start == turn.period.start


def _shared_is_credited(real: Callable[..., object], self: Chunk, quantity: Quantity) -> object:
    return real(self, Quantity.SHARED_OUT if quantity is Quantity.EXPORTED else quantity)


def _last_holder(
    real: Callable[..., list[tuple[AccountNumber, Quarter, Quarter]]], self: Installed, first: Quarter, until: Quarter
) -> list[tuple[AccountNumber, Quarter, Quarter]]:
    held = real(self, first, until)
    return [(held[-1][0], held[0][1], held[-1][2])] if held else []


def _next_quarter(real: Callable[..., tuple[Quarter, Quarter]], month: str, zone: ZoneInfo) -> tuple[Quarter, Quarter]:
    first, until = real(month, zone)
    return first, until + 1


def _without_earlier(real: Callable[..., object], of: Any, result: Any, earlier: object, *rest: Any) -> object:
    del earlier
    return real(of, result, (), *rest)


def _first_version(real: Callable[..., int], connection: Connection, found: Any, *rest: Any) -> int:
    ids = found.meters.tolist()
    known = {unsigned64(row.id) for row in settled._rows(connection, ids, range(found.day, found.day + 1), None)}
    kept = [n for n, meter in enumerate(ids) if meter not in known]
    fewer = replace(
        found,
        meters=found.meters[kept],
        energies={q: values[kept] for q, values in found.energies.items()},
        has={q: flags[kept] for q, flags in found.has.items()},
        quality=found.quality[kept],
    )
    return real(connection, fewer, *rest) if kept else 0


MONTH_BUGS: dict[str, Bug] = {
    "late readings mark no day": Bug(lambda: _around(quarters, "mark", _marks_no_late_day)),
    "any attempt ends a period": Bug(
        lambda: patch.multiple(job_leases, _of=_of_any_attempt, _is_idle=lambda _: true())
    ),
    "shared energy is credited": Bug(lambda: _around(Chunk, "table", _shared_is_credited)),
    "the new account pays the whole month": Bug(lambda: _around(Installed, "held", _last_holder)),
    "months of UTC": Bug(
        lambda: patch.object(inputs, "month_quarters", lambda name, _: month_quarters(name, ZoneInfo("UTC")))
    ),
    "a quarter is billed in two months": Bug(lambda: _around(inputs, "month_quarters", _next_quarter)),
    "issued bills are not corrected": Bug(lambda: _around(stored_run, "with_corrections", _without_earlier)),
    "the first version of a day stays": Bug(lambda: _around(settled, "_save_versions", _first_version)),
}
"""By name."""
