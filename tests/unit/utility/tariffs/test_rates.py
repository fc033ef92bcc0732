"""Controllers receive the rates of their accounts' tariffs, again until they acknowledge, and once (U3)."""

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from commonwatt.config.utility import BillingSettings
from commonwatt.model.units import QUARTER_S
from commonwatt.protocol.controller_commands import MAX_CHANGES, ControllerCommand
from commonwatt.protocol.json_messages import unpack_json
from commonwatt.town.town import Direction, Function
from harness.billing.found import published
from harness.billing.worlds import tariff
from harness.real import databases
from utility.billing.jobs import RatesJob
from utility.billing.store import billing_sources
from utility.database.database import Database
from utility.jobs.calendar_periods import Period
from utility.jobs.store.job_leases import Turn
from utility.jobs.threads import HERE
from utility.outbox.store.commands import open_commands
from utility.registry.accounts import Account, Dated, DatedRegistry, Holding, Installed
from utility.registry.store.registry import registry_changed
from utility.tariffs.rates import next_change, rates_of
from utility.tariffs.store.rates import acknowledged

NEW_YORK = ZoneInfo("America/New_York")
OCTOBER = int(datetime(2026, 10, 15, tzinfo=NEW_YORK).timestamp())
NOVEMBER = int(datetime(2026, 11, 2, tzinfo=NEW_YORK).timestamp())
SETTINGS = BillingSettings()


def registry(own: str | None = None) -> DatedRegistry:
    """Return a registry with one account in each of two microgrids; the second may have a tariff of its own."""
    meters = {
        n: Installed(
            id=n,
            microgrid=f"r{n:03d}",
            place="house",
            function=Function.HOUSE,
            direction=Direction.INCOMING,
            holdings=(Holding(account=n, start=0),),
        )
        for n in (1, 2)
    }
    names = () if own is None else (Dated(start=0, value=own),)
    return DatedRegistry(
        revision=1, meters=meters, accounts={2: Account(number=2, function=Function.HOUSE, tariffs=names)}
    )


publish = published


def run(job: RatesJob, now: int) -> None:
    period = Period(start=now, end=now + 60, name="now")
    asyncio.run(job.run(Turn(job="job", period=period, attempt=1, now=now)))


def waiting(database: Database) -> Mapping[str, list[ControllerCommand]]:
    with database.reads.begin() as connection:
        found: dict[str, list[ControllerCommand]] = {}
        for each in open_commands(connection):
            message = unpack_json(ControllerCommand, each.message.encode())
            found.setdefault(each.controller, []).append(message)
    return found


def job_of(database: Database) -> RatesJob:
    return RatesJob(SETTINGS, database, HERE)


@databases.on_both_kinds
def test_each_controller_is_told_once_and_again_at_a_new_version_and_a_new_month(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:  # req: U3
    monkeypatch.setattr(billing_sources, "load_registry", lambda _: registry())
    job = job_of(database)
    run(job, OCTOBER)
    assert waiting(database) == {}, "nothing is published"
    publish(database, tariff())
    for each in (job, job, job_of(database)):  # also after a restart, or a second process
        run(each, OCTOBER)
    told = waiting(database)
    assert {name: [each.tariff for each in of] for name, of in told.items()} == {"r001": ["town"], "r002": ["town"]}
    first = told["r001"][0]
    assert (first.version, first.until) == (1, first.rates_until)
    publish(database, tariff(effective="2026-11-15", prices=(("peak", "0.5", "0.1"), ("low", "0.1", "0.1"))))
    run(job, OCTOBER + 60)
    (second,) = waiting(database)["r001"]
    assert second.version == 2, "the older command is not sent any more"
    run(job, NOVEMBER)
    (third,) = waiting(database)["r001"]
    assert third.rates_until is not None
    assert second.rates_until is not None
    assert third.rates_until > second.rates_until
    with database.reads.begin() as connection:
        rows = acknowledged(connection)
    assert [(row["controller"], row["version"], row["month"], row["state"]) for row in rows] == [
        ("r001", 2, "2026-11", "open"),
        ("r002", 2, "2026-11", "open"),
    ]


def test_controller_is_told_the_tariffs_that_its_accounts_have(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(billing_sources, "load_registry", lambda _: registry("night"))
    publish(database, tariff())
    publish(database, tariff("night"))
    job = job_of(database)
    run(job, OCTOBER)
    assert {name: [each.tariff for each in of] for name, of in waiting(database).items()} == {
        "r001": ["town"],
        "r002": ["night"],
    }
    monkeypatch.setattr(billing_sources, "load_registry", lambda _: registry())
    with database.writes.begin() as connection:
        registry_changed(connection)
    run(job, OCTOBER)
    assert sorted(str(each.tariff) for each in waiting(database)["r002"]) == ["night", "town"]


def test_controller_is_told_a_tariff_when_an_account_begins_to_have_it(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    dated = registry()
    begin, account = OCTOBER // QUARTER_S + 4, dated.accounts[2]
    dated = replace(dated, accounts={2: replace(account, tariffs=(Dated(start=begin, value="night"),))})
    monkeypatch.setattr(billing_sources, "load_registry", lambda _: dated)
    publish(database, tariff())
    publish(database, tariff("night"))
    job = job_of(database)
    told = []
    for quarter in (begin - 4, begin - 1, begin, begin + 1):
        run(job, quarter * QUARTER_S)
        told.append(sorted(str(each.tariff) for each in waiting(database)["r002"]))
    assert told == [["town"], ["town"], ["night", "town"], ["night", "town"]]


@pytest.mark.parametrize(
    ("holdings", "after"),
    [
        ((Holding(account=1, start=0),), None),
        ((Holding(account=1, start=0, end=20),), 20),
        ((Holding(account=1, start=0, end=20), Holding(account=2, start=30)), 20),
        ((Holding(account=2, start=15),), 15),
    ],
)
def test_next_change_of_what_controllers_are_told(holdings: tuple[Holding, ...], after: int | None) -> None:
    dated = registry()
    meters = {1: replace(dated.meters[1], holdings=holdings)}
    assert next_change(replace(dated, meters=meters), 10) == after


def test_rates_told_are_those_that_bills_use() -> None:
    versions = [tariff(), replace(tariff(effective="2026-11-15", peak=("07:00", "09:30")), version=2)]
    found = rates_of(versions, "2026-10", NEW_YORK)
    assert found is not None
    begin, end = (int(datetime(2026, month, 1, tzinfo=NEW_YORK).timestamp()) for month in (10, 12))
    assert (found.changes[0][0], found.until, found.version) == (begin, end, 2)
    place = 0
    for quarter in range(begin // QUARTER_S, end // QUARTER_S):
        while place + 1 < len(found.changes) and found.changes[place + 1][0] <= quarter * QUARTER_S:
            place += 1
        local = datetime.fromtimestamp(quarter * QUARTER_S, NEW_YORK)
        peak = ("07:00", "09:30") if local.strftime("%m-%d") >= "11-15" else ("15:00", "21:00")
        is_peak = local.weekday() < 5 and peak[0] <= local.strftime("%H:%M") < peak[1]
        is_peak = is_peak and local.strftime("%m-%d") != "11-26"
        name = "peak" if is_peak else "off-peak"
        assert found.prices[found.changes[place][1]][0] == name, local


def test_rates_that_change_all_the_time_fit_a_message() -> None:
    names = [f"period {n}" for n in range(2)]
    hours = [
        {"period": names[n % 2], "days": ["every"], "from": f"{n // 4:02d}:{n % 4 * 15:02d}",
         "until": f"{(n + 1) // 4:02d}:{(n + 1) % 4 * 15:02d}"}
        for n in range(96)
    ]  # fmt: skip
    busy = tariff(prices=tuple((name, "1234.123456", "0.1") for name in names), hours=hours)
    found = rates_of([busy], "2026-10", NEW_YORK)
    assert found is not None
    assert (len(found.changes), found.until) == (MAX_CHANGES, found.changes[0][0] + MAX_CHANGES * QUARTER_S)
    message = ControllerCommand(
        id="x", cmd="rates", until=1, tariff="town", version=1, prices=found.prices, changes=found.changes,
        rates_until=found.until,
    ).pack()  # fmt: skip
    assert len(message) < 12_000
    assert unpack_json(ControllerCommand, message).changes == found.changes
    assert rates_of([tariff(effective="2027-01-01")], "2026-10", NEW_YORK) is None
