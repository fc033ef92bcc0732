"""A commit without an answer is looked up: nothing is lost, nothing done twice, and what is unknown is called so."""

import pytest
from sqlalchemy import Engine, func, select, text
from sqlalchemy.exc import OperationalError

from harness.network.fates import Way
from harness.real.lost_answers import Line
from harness.real.postgres import Postgres
from utility.database.checks import is_away, is_unknown
from utility.database.postgres import commits
from utility.database.tables import setting

pytestmark = pytest.mark.real


@pytest.fixture
def kind() -> str:
    return "postgresql"


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
    assert is_away(raised.value)
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
        assert not is_away(raised.value), "it answers"
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
