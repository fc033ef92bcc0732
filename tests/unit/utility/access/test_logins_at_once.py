"""Links, sessions and passwords that change at the same time, on both databases: no session outlives its password."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from commonwatt.runtime.clock import Clock
from harness.real import databases
from harness.routes import Visitors
from utility.access.roles import Role
from utility.access.store import access
from utility.assembly.application import make_app
from utility.assembly.metrics import UtilityMetrics
from utility.database.database import Database
from utility.database.health import Health
from utility.webkit.services import Api

NOW = 1_800_005_000

kind = databases.both_kinds


@pytest.fixture
def ann(database: Database) -> str:
    person = access.Person(
        name="ann", display="Ann", state="active", roles=frozenset({Role.VIEWER}), account=None, created=NOW
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
        secret = access.invite(connection, ann, "test", NOW)

    def take(_: int) -> bool:
        with database.writes.begin() as connection:
            return access.take_invitation(connection, secret, NOW)

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
        opened = access.open_session(connection, ann, "192.0.2.1", "x", NOW)
    changing.result(timeout=30)
    with database.reads.begin() as connection:
        assert access.session_actor(connection, opened.cookie, "192.0.2.1", NOW) is None
        assert access.password_of(connection, ann) == "another hash"


def test_a_nul_in_a_name_is_no_fault_of_the_database(database: Database, ann: str) -> None:
    clock = Clock(origin=NOW, monotonic_origin=0, speed=0)
    app = make_app(Api(database, clock, UtilityMetrics(), lambda: True, lambda: "", {}, Health(None)))
    with Visitors(app) as visitors:
        for fields in ({"name": "a\0", "password": "x"}, {"name": "a", "password": "\0"}):
            assert visitors.ask("POST", "/console/login", data=fields).status_code in (401, 422)
        assert visitors.ask("GET", "/console/invitation/%00").status_code == 404
        assert visitors.ask("GET", "/status", {"Authorization": "Bearer \0"}).status_code in (400, 401)
        assert visitors.ask("GET", "/health").json()["alarms"] == []
