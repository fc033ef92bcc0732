"""Two people at once, on both databases: decisions are made once, and no session outlives its password."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier, Thread

import pytest

from commonwatt.model.exceptions import ConfigError
from commonwatt.runtime.clock import Clock
from harness.billing.worlds import found_in_store, tariff, world_of
from harness.commands import token_for
from harness.routes import Visitors
from harness.surroundings import databases
from tests.unit.utility.conftest import NOW
from tests.unit.utility.corrections.test_pages import FIRST, estimates
from tests.unit.utility.overview.test_inbox import send_letters
from utility.access.decisions import Second
from utility.access.people import Actor, Role, Via
from utility.access.store import access, audit_log
from utility.assembly.application import make_app
from utility.assembly.metrics import UtilityMetrics
from utility.billing import decisions as runs
from utility.corrections.correction import Review
from utility.corrections.decisions import decide_chosen
from utility.corrections.store.corrections import ChosenCorrections, propose
from utility.database.database import Database
from utility.database.health import Health
from utility.readings.decisions import decide_letters
from utility.tariffs import decisions as tariffs
from utility.tariffs import store as stored_tariffs
from utility.webkit.services import Api

kind = databases.both_kinds
Decision = Callable[[Database, Actor], object]


def publish(database: Database, actor: Actor) -> object:
    return tariffs.publish(database, "town", 1, Second(actor=actor, now=NOW, wait_days=7))


def approve(database: Database, actor: Actor) -> object:
    return decide_chosen(database, ChosenCorrections(), Review.APPROVE, actor, "", NOW)


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
        before = len(audit_log.entries(connection, audit_log.AuditFilter(), 100))
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
        entries = audit_log.entries(connection, audit_log.AuditFilter(), 100)
    new = entries[: len(entries) - before]
    assert {entry["person"] for entry in new} == set(done)
    assert len(new) == (2 if decision is release else 1)


LOGINS_NOW = 1_800_005_000


@pytest.fixture
def ann(database: Database) -> str:
    person = access.Person(
        name="ann", display="Ann", state="active", roles=frozenset({Role.VIEWER}), account=None, created=LOGINS_NOW
    )
    with database.writes.begin() as connection:
        access.add_person(connection, person, "test")
        access.set_password(connection, "ann", "the first hash")
    return "ann"


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as made:
        yield made


def test_one_of_many_uses_a_link(database: Database, ann: str, pool: ThreadPoolExecutor) -> None:
    with database.writes.begin() as connection:
        secret = access.invite(connection, ann, "test", LOGINS_NOW)

    def take(_: int) -> bool:
        with database.writes.begin() as connection:
            return access.take_invitation(connection, secret, LOGINS_NOW)

    assert sorted(pool.map(take, range(4))) == [False, False, False, True]


def test_session_that_is_opened_while_the_password_changes_ends(
    database: Database, ann: str, pool: ThreadPoolExecutor
) -> None:
    def change() -> None:
        with database.writes.begin() as connection:
            access.set_password(connection, ann, "another hash")

    with database.writes.begin() as connection:
        assert access.password_of(connection, ann, lock=True) == "the first hash"
        changing = pool.submit(change)
        with pytest.raises(TimeoutError):
            changing.result(timeout=0.3)  # It waits for the login.
        opened = access.open_session(connection, ann, "192.0.2.1", "x", LOGINS_NOW)
    changing.result(timeout=30)
    with database.reads.begin() as connection:
        assert access.session_actor(connection, opened.cookie, "192.0.2.1", LOGINS_NOW) is None
        assert access.password_of(connection, ann) == "another hash"


def test_a_nul_in_a_name_is_no_fault_of_the_database(database: Database, ann: str) -> None:
    clock = Clock(origin=LOGINS_NOW, monotonic_origin=0, speed=0)
    app = make_app(Api(database, clock, UtilityMetrics(), lambda: True, lambda: "", {}, Health(None)))
    with Visitors(app) as visitors:
        for fields in ({"name": "a\0", "password": "x"}, {"name": "a", "password": "\0"}):
            assert visitors.ask("POST", "/console/login", data=fields).status_code in (401, 422)
        assert visitors.ask("GET", "/console/invitation/%00").status_code == 404
        assert visitors.ask("GET", "/status", {"Authorization": "Bearer \0"}).status_code in (400, 401)
        assert visitors.ask("GET", "/health").json()["alarms"] == []
