"""A commit without an answer is looked up: nothing is lost, nothing done twice, and what is unknown is called so."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import psycopg
import pytest
from sqlalchemy import Engine, func, select, text
from sqlalchemy.exc import OperationalError

from harness.network.fates import Way
from harness.network.proxy import Proxy
from harness.real.postgres import Postgres
from utility.database.checks import is_away, is_unknown
from utility.database.database import Database, open_database
from utility.database.postgres import commits
from utility.database.postgres.commits import CommittingConnection
from utility.database.tables import setting

pytestmark = pytest.mark.real


@pytest.fixture
def kind() -> str:
    return "postgresql"


@dataclass
class Line:
    """The line to the server, whose next answer to a COMMIT is lost."""

    proxy: Proxy
    database: Database
    fault: Callable[[], object] | None = None  # done just before the next COMMIT is sent
    cuts: int = 0
    restored: list[Callable[[], object]] = field(default_factory=list)  # done when the line was cut

    def commit(self, key: str) -> None:
        with self.database.writes.begin() as connection:
            connection.execute(setting.insert().values(key=key, value="x"))

    def count(self, key: str) -> int:
        with self.database.reads.begin() as connection:
            return connection.execute(select(func.count()).where(setting.c.key == key)).scalar_one()


@pytest.fixture
def line(url: str, server: Postgres, monkeypatch: pytest.MonkeyPatch) -> Iterator[Line]:
    monkeypatch.setattr(commits, "COMMIT_S", 0.3)
    monkeypatch.setattr(commits, "LOOK_S", 1.0)
    with Proxy(("127.0.0.1", server.port)) as proxy:
        through = url.replace(str(server.port), proxy.address.rpartition(":")[2])
        # The proxy passes on nothing of one byte, as the answer to an offer of TLS.
        database = open_database(f"{through}?sslmode=disable&gssencmode=disable", create=True)
        made = Line(proxy, database)

        commit = psycopg.Connection.commit

        def strike(self: psycopg.Connection[Any]) -> None:
            fault, made.fault = made.fault, None
            if fault is not None:
                fault()
            commit(self)

        monkeypatch.setattr(psycopg.Connection, "commit", strike)
        real = CommittingConnection._cut

        def cut(self: CommittingConnection) -> None:
            real(self)
            made.cuts += 1
            for each in made.restored:
                each()

        monkeypatch.setattr(CommittingConnection, "_cut", cut)
        yield made
        proxy.heal()
        database.close()


def test_a_commit_whose_answer_is_swallowed_is_found_and_is_no_error(line: Line) -> None:
    line.fault, line.restored = (lambda: line.proxy.darken(Way.DOWN)), [line.proxy.heal]
    line.commit("a")
    assert line.cuts == 1
    assert line.count("a") == 1
    line.commit("b")
    assert line.count("b") == 1, "the next transaction has a new connection"


def test_a_connection_lost_at_the_commit_is_looked_up_too(line: Line) -> None:
    line.fault = line.proxy.cut
    with pytest.raises(OperationalError) as raised:
        line.commit("a")
    assert not is_unknown(raised.value), "the server says that it was not committed"
    assert is_away(raised.value)
    assert line.count("a") == 0
    line.commit("a")
    assert line.count("a") == 1


def test_a_commit_of_which_the_server_says_nothing_is_unknown(line: Line) -> None:
    line.fault = lambda: line.proxy.darken(Way.DOWN)
    line.restored = [line.proxy.refuse, line.proxy.cut]
    with pytest.raises(OperationalError) as raised:
        line.commit("a")
    assert is_unknown(raised.value)
    line.proxy.heal()
    line.proxy.listen()
    assert line.count("a") == 1


def test_another_servers_word_does_not_count(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a failover or a restore the numbers of transactions are given again."""
    line.fault, line.restored = (lambda: line.proxy.darken(Way.DOWN)), [line.proxy.heal]
    monkeypatch.setattr(commits, "_PLACE", "SELECT random()")
    with pytest.raises(OperationalError) as raised:
        line.commit("a")
    assert is_unknown(raised.value)


def test_a_commit_with_a_warning_is_unknown(line: Line) -> None:
    """As PostgreSQL warns when the wait for a synchronous standby was cancelled, and calls the commit a success."""
    with line.database.writes.begin() as connection:
        connection.execute(
            text(
                "CREATE FUNCTION warning() RETURNS trigger LANGUAGE plpgsql AS "
                "$$ BEGIN RAISE WARNING 'as if the wait was cancelled'; RETURN NULL; END $$"
            )
        )
        connection.execute(
            text(
                "CREATE CONSTRAINT TRIGGER warns AFTER INSERT ON setting DEFERRABLE INITIALLY DEFERRED "
                "FOR EACH ROW EXECUTE FUNCTION warning()"
            )
        )
    try:
        with pytest.raises(OperationalError) as raised:
            line.commit("a")
        assert is_unknown(raised.value)
    finally:
        with line.database.writes.begin() as connection:
            connection.execute(text("DROP FUNCTION warning() CASCADE"))


def test_no_setting_of_the_server_cancels_a_wait(line: Line, server: Postgres) -> None:
    server.execute("ALTER DATABASE town SET statement_timeout = '1s'")
    line.database.disconnect()
    with line.database.writes.begin() as connection:
        assert connection.execute(text("SHOW statement_timeout")).scalar_one() == "0"
    server.execute("ALTER DATABASE town RESET statement_timeout")


def test_a_transaction_that_only_reads_waits_for_nothing(line: Line) -> None:
    engine: Engine = line.database.reads
    with engine.begin() as connection:
        assert connection.execute(select(func.count()).select_from(setting)).scalar_one() > 0
    assert line.cuts == 0
