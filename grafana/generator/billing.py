"""The dashboard *billing*: what waits before bills can be issued, and do the jobs run?"""

from grafana.generator.panel_kinds import (
    COUNT,
    NONE_WANTED,
    ORANGE,
    Dashboard,
    Look,
    Query,
    Section,
    graph,
    stat,
    table,
)

_OF = "commonwatt_utility"
_WAITS = Look(decimals=0, steps=((1, ORANGE),))


def _runs(state: str) -> Query:
    return Query(f'max({_OF}_bill_runs{{state="{state}"}})')


def _job(name: str) -> Query:
    return Query(f"max by (task) ({_OF}_job_{name})")


_NOW = Section(
    "",
    [
        stat(
            "Drafts",
            "Runs of bills that a clerk has not checked. Look at the newest: commonwatt bills list.",
            _runs("draft"),
        ),
        stat(
            "Checked",
            "Runs that wait for a second person, who issues them: commonwatt bills issue.",
            _runs("checked"),
            look=_WAITS,
        ),
        stat(
            "Months issued",
            "Runs that were issued. They never change; corrections are lines of the next month's bills.",
            _runs("issued"),
        ),
        stat(
            "Bills, last month",
            "Bills of the last month that was issued: one for each account with a meter.",
            Query(f"max({_OF}_issued_bills)"),
        ),
        stat(
            "Provisional",
            "Settled days of microgrids that wait for readings, or for the deadline of their month.",
            Query(f"max({_OF}_settlement_provisional)"),
            look=Look(decimals=0),
        ),
        stat(
            "Estimates waiting",
            "Estimates of missing readings that wait for a person: commonwatt corrections list. Bills leave them out.",
            Query(f"max({_OF}_proposed_corrections)"),
            look=_WAITS,
        ),
        stat(
            "Beyond the bound",
            "Microgrids whose members and boundary differ by more than rounding; see CommonwattResidual.",
            Query(f"max({_OF}_settlement_residual_microgrids)"),
            look=NONE_WANTED,
        ),
        stat(
            "Rates proposed",
            "Versions of tariffs that wait for a second person: commonwatt tariff list.",
            Query(f"max({_OF}_proposed_rates)"),
            look=_WAITS,
        ),
    ],
)

_COURSE = Section(
    "In the course of days",
    [
        graph(
            "Provisional days of microgrids",
            "It rises by the number of microgrids each day, and falls as readings come. What stays has missing meters.",
            Query(f"max({_OF}_settlement_provisional)", "provisional"),
            look=COUNT,
        ),
        graph(
            "Open findings, by check",
            "What the daily checks found. Look at them before the month is billed: commonwatt corrections findings.",
            Query(f"max by (check) ({_OF}_open_findings)", "{{check}}"),
            look=COUNT,
            stacked=True,
        ),
        graph(
            "Settled again within an hour",
            "New versions of meters' settled days: each day once, and again for late readings and corrections.",
            Query(f"sum(increase({_OF}_settled_versions_total[1h]))", "versions"),
            look=COUNT,
        ),
    ],
)

_JOBS = Section(
    "Jobs",
    [
        table(
            "Jobs, the latest first",
            "A job that is late or fails has a reason on the console's page Jobs. Paused ones wait for a person.",
            "task",
            [
                ("late by", _job("late_seconds"), Look("s", decimals=0, steps=((1, ORANGE),))),
                ("periods overdue", _job("periods_overdue"), COUNT),
                ("periods failed", _job("periods_failed"), NONE_WANTED),
                ("paused", _job("paused"), Look(words={0: "no", 1: "paused"}, steps=((1, ORANGE),))),
                ("last run took", _job("last_run_seconds"), Look("s", decimals=1)),
            ],
            "late by",
        ),
    ],
)

BILLING = Dashboard(
    "billing",
    "Commonwatt billing",
    "What waits before bills can be issued, and do the jobs run?",
    [_NOW, _COURSE, _JOBS],
    hours=7 * 24,
)
