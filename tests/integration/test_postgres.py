"""The utility on a real PostgreSQL that crashes."""

import os
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import Connection, create_engine, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import NullPool

from commonwatt.cli.status import verdict
from commonwatt.model.exceptions import StoreError
from harness.network.waiting import eventually
from harness.real.postgres import Postgres
from harness.real.site import Site, sound
from utility.assembly.recovery import examined
from utility.database import database, engines
from utility.database.checks import is_away

TOWN = '[[microgrid]]\nid = "r001"\nkind = "residential"\nhouses = 2\n'
PARTS = ("head-end", "utility", "r001 broker", "r001 gateway", "r001 meters")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Postgres]:
    with Postgres(tmp_path) as it:
        yield it


@contextmanager
def asking(server: Postgres) -> Iterator[Connection]:
    engine = create_engine(server.url, poolclass=NullPool)
    with engine.connect() as connection:
        yield connection


def use_server(site: Site, server: Postgres) -> None:
    """Register the town in the server's database, and make the utility use it, with a lock time-out of 3 s."""
    site.register(server.url)
    config = site.layout.part("utility").config
    url = f"{server.url}?options=-c%20lock_timeout%3D3s"
    config.write_text(config.read_text().replace("sqlite:///utility.db", url))


KEYS = "SELECT quarter, meter_no, record_type FROM"
BLOCKS = f"SELECT count(*) FROM ({KEYS} part UNION {KEYS} compacted) AS block"


def stored(server: Postgres) -> tuple[int, int]:
    """Return the number of counted batches, and of blocks with data."""
    with asking(server) as connection:
        batches = connection.execute(text("SELECT coalesce(sum(batches), 0) FROM tally")).scalar_one()
        return int(batches), connection.execute(text(BLOCKS)).scalar_one()


def crash_in_mid_batch(site: Site, server: Postgres) -> None:
    """Crash the server while a batch's parts are written and its transaction is not over; nothing of it may stay."""
    with asking(server) as locking, asking(server) as looking:
        # The last statement of a transaction waits for this lock, so its parts are written and it can't end.
        locking.execute(text("LOCK TABLE tally IN EXCLUSIVE MODE"))
        before = locking.execute(text("SELECT sum(batches) FROM tally")).scalar_one()
        waiting = text("SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'tally'::regclass")
        eventually(lambda: looking.execute(waiting).scalar_one())
        blocks = looking.execute(text(BLOCKS)).scalar_one()
        site.processes["utility"].send_signal(signal.SIGSTOP)
        server.crash()
        locking.invalidate()
        looking.invalidate()
    server.start()
    assert stored(server) == (before, blocks)
    site.processes["utility"].send_signal(signal.SIGCONT)


def errors(site: Site) -> float:
    return site.metric("utility", "commonwatt_utility_store_errors_total")


def fails(site: Site, before: float) -> bool:
    return errors(site) > before


def lock_for_long(site: Site, server: Postgres) -> None:
    """Block appends, as a VACUUM FULL does, until the utility has given up; check that nothing is counted."""
    batches = text("SELECT sum(batches) FROM tally")
    errors_before = errors(site)
    with asking(server) as locking:
        locking.execute(text("LOCK TABLE batch IN ACCESS EXCLUSIVE MODE"))
        before = locking.execute(batches).scalar_one()
        eventually(partial(fails, site, errors_before))
        assert locking.execute(batches).scalar_one() == before


def grows(server: Postgres, by: int = 3) -> None:
    before, _ = stored(server)
    eventually(lambda: stored(server)[0] >= before + by)


def test_a_server_that_does_not_answer_is_given_up_in_time(server: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(engines.SERVER_TIMEOUTS, "connect_timeout", 2)
    monkeypatch.setitem(engines.SERVER_TIMEOUTS, "options", "-c lock_timeout=100ms")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"postgresql+psycopg://postgres@127.0.0.1:{silent.getsockname()[1]}/postgres"
        with pytest.raises(StoreError, match="timeout expired") as raised:
            database.open_database(url, create=True)
        assert raised.value.__cause__ is not None
        assert is_away(raised.value.__cause__)
    opened = database.open_database(server.url, create=True)
    with opened.writes.begin() as connection:
        connection.execute(text("LOCK TABLE tally"))
        with opened.writes.connect() as other, pytest.raises(OperationalError, match="lock timeout"):
            other.execute(text("LOCK TABLE tally"))
        descriptor = connection.connection.driver_connection.fileno()  # type: ignore[union-attr]
        with socket.socket(fileno=os.dup(descriptor)) as sock:
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 20_000
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 10
    opened.close()


def test_an_outage_of_the_server_is_said_once_and_its_end_with_what_waited(tmp_path: Path, server: Postgres) -> None:
    with Site(tmp_path / "site", TOWN, speed=120) as site:
        use_server(site, server)
        site.start(*PARTS)
        grows(server)
        said = len(site.log("utility").splitlines())
        before = errors(site)
        server.crash()
        eventually(lambda: errors(site) > before + 10)
        status = site.status("utility")
        assert status is not None
        assert status["alarms"] == ["database_away"]
        assert (status["totals"], status["microgrids"]) == ({}, {}), "no figure is invented"
        assert "the database has not answered since" in verdict(site.layout.part("utility").config, status)
        server.start()
        grows(server)
        eventually(lambda: (site.status("utility") or {}).get("alarms") == [])
        after = site.log("utility").splitlines()[said:]
        # The pool names a cursor that was open at the crash, with its traceback; ours begin with the time.
        ours = [line for line in after if line[:1].isdigit() and "sqlalchemy.pool" not in line]
        lines = [line for line in ours if "database" in line or "rror" in line]
        assert ["does not answer" in lines[0], "answers again" in lines[-1]] == [True, True], lines
        assert [line for line in lines[1:-1] if "has not answered for" not in line] == []
        assert examined(server.url, runs=True)["r001"]["received_batches"], "a durable server passes the doctor's check"


def test_row_13_the_database_restarts_in_mid_batch(tmp_path: Path, server: Postgres) -> None:
    with Site(tmp_path / "site", TOWN, speed=120) as site:
        use_server(site, server)
        site.start(*PARTS)
        for _ in range(2):
            grows(server)
            crash_in_mid_batch(site, server)
        grows(server)
        lock_for_long(site, server)
        grows(server)
        for end in (server.stop, server.crash):
            before = errors(site)
            end()
            eventually(partial(fails, site, before))
            server.start()
            grows(server)
        assert site.processes["utility"].poll() is None, "it must continue without a restart"
        site.stop("r001 meters")
        site.drained()
        audit = sound(site.folder)
        assert audit.total("stored_exact") > 100
