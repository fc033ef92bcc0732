"""Two people who decide the same thing at once: one does it, the other one sees it, and the log has one line."""

from collections.abc import Callable
from threading import Barrier, Thread

import pytest

from commonwatt.model.exceptions import ConfigError
from harness.billing.found import found_in_store
from harness.billing.two_months import world_of
from harness.billing.worlds import tariff
from harness.commands import token_for
from harness.real import databases
from tests.unit.utility.conftest import NOW
from tests.unit.utility.corrections.test_pages import FIRST, estimates
from tests.unit.utility.overview.test_quarantine_page import send_letters
from utility.access.actor import Actor, Via
from utility.access.decisions import Second
from utility.access.roles import Role
from utility.access.store import audit_log
from utility.billing import decisions as runs
from utility.corrections.decisions import decide_chosen
from utility.corrections.lifecycle import Action
from utility.corrections.store.corrections import Chosen, propose
from utility.database.database import Database
from utility.readings.decisions import decide_letters
from utility.tariffs import decisions as tariffs
from utility.tariffs.store import tariffs as stored_tariffs

kind = databases.both_kinds
Decision = Callable[[Database, Actor], object]


def publish(database: Database, actor: Actor) -> object:
    return tariffs.publish(database, "town", 1, Second(actor=actor, now=NOW, wait_days=7))


def approve(database: Database, actor: Actor) -> object:
    return decide_chosen(database, Chosen(), Action.APPROVE, actor, "", NOW)


def release(database: Database, actor: Actor) -> object:
    return decide_letters(database, [(3, "released"), (1, "released")], actor, "", NOW)


def issue(database: Database, actor: Actor) -> object:
    runs.issue(database, 1, Second(actor=actor, now=NOW, wait_days=7))
    return None


def someone(name: str) -> Actor:
    return Actor(name=name, roles=frozenset({Role.APPROVER}), account=None, via=Via.SESSION, address="")


@pytest.fixture
def waiting(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proposal, estimates, quarantined readings and a checked run, all by anna."""
    found_in_store(monkeypatch, world_of())
    anna = someone("anna")
    for name in ("anna", "ben", "eve"):
        token_for(database, name, NOW)
    send_letters(database)
    with database.writes.begin() as connection:
        propose(connection, estimates(FIRST, FIRST + 1), NOW)
        stored_tariffs.propose(connection, tariff(name="night"), "", "anna", NOW)
        stored_tariffs.publish(connection, "night", 1, "ben", NOW)
        stored_tariffs.propose(connection, tariff(), "", "anna", NOW)
    runs.draft(database, "2026-10", "night", anna, NOW)
    runs.check(database, 1, anna, NOW)


@pytest.mark.usefixtures("waiting")
@pytest.mark.parametrize("decision", [publish, approve, release, issue])
def test_one_of_two_people_decides_and_the_other_one_is_told(database: Database, decision: Decision) -> None:
    with database.reads.begin() as connection:
        before = len(audit_log.entries(connection, audit_log.Wanted(), 100))
    begin, told, done = Barrier(2), [], []

    def decide(name: str) -> None:
        begin.wait()
        try:
            decision(database, someone(name))
            done.append(name)
        except ConfigError as error:
            told.append(str(error))

    threads = [Thread(target=decide, args=(name,)) for name in ("ben", "eve")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(done), len(told)) == (1, 1), told
    with database.reads.begin() as connection:
        entries = audit_log.entries(connection, audit_log.Wanted(), 100)
    new = entries[: len(entries) - before]
    assert {entry["person"] for entry in new} == set(done)
    assert len(new) == (2 if decision is release else 1)
