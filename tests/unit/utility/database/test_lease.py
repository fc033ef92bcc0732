"""One utility of several is active, and a commit without an answer is looked up: nothing is lost or done twice."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from threading import Event, Thread

import pytest
from sqlalchemy import Engine, func, select, text
from sqlalchemy.exc import OperationalError, SQLAlchemyError

from harness.network.proxy import Way
from harness.real.postgres import Line, Postgres
from utility.database.base import setting
from utility.database.checks import is_away, is_unknown
from utility.database.database import Database, open_database, save_setting
from utility.database.postgres import commits
from utility.database.postgres.lease import EXPIRES_S, OWN_EXPIRES_S, Lease, LeaseTakenError, fence

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


@dataclass
class Utility:
    """One utility with a clock of its own."""

    url: str
    name: str
    now: float = 0.0
    database: Database = field(init=False)
    lease: Lease = field(init=False)

    def __post_init__(self) -> None:
        self.database = open_database(self.url, create=False)
        self.lease = Lease(self.url, self.name, lambda: self.now)

    def look(self, after_s: float = 0.0) -> int:
        """Let time pass, look, and return the number of its lease."""
        self.now += after_s
        held = self.lease.number
        self.lease.look()
        if self.lease.number and not held:
            self.lease.guard(self.database)
        return self.lease.number

    def write(self, key: str) -> None:
        with self.database.writes.begin() as connection:
            connection.execute(setting.insert().values(key=key, value=self.name))


@pytest.fixture
def utility(database: Database, url: str) -> Iterator[Callable[[str], Utility]]:
    with ExitStack() as opened:

        def make(name: str) -> Utility:
            made = Utility(url, name)
            opened.callback(made.database.close)
            opened.callback(made.lease.give_up)
            return made

        yield make


def writers(database: Database) -> dict[str, str]:
    with database.reads.begin() as connection:
        rows = connection.execute(select(setting).where(setting.c.key.in_(("a", "b"))))
        return {row.key: row.value for row in rows}


def test_the_second_waits_while_the_first_beats(utility: Callable[[str], Utility]) -> None:
    one, two = utility("one"), utility("two")
    assert one.look() == 1
    for _ in range(9):
        assert one.look(2.0)
        assert two.look(2.0) == 0
    assert two.lease.holder == "one"
    one.write("a")
    assert writers(one.database) == {"a": "one"}


def test_after_silence_the_second_is_active_and_the_first_ends(utility: Callable[[str], Utility]) -> None:
    one, two = utility("one"), utility("two")
    one.look()
    two.look()
    assert two.look(EXPIRES_S - 0.1) == 0
    assert two.look(0.1) == 2
    one.now += EXPIRES_S
    assert not one.lease.is_current()
    with pytest.raises(OperationalError, match="not the active one") as raised:
        one.write("a")
    assert is_away(raised.value)
    two.write("b")
    with pytest.raises(LeaseTakenError, match="two"):
        one.look()
    assert writers(two.database) == {"b": "two"}


def test_one_that_slept_within_a_transaction_commits_nothing(utility: Callable[[str], Utility]) -> None:
    one, two = utility("one"), utility("two")
    one.look()
    two.look()

    def sleep_over_it() -> None:
        with one.database.writes.begin() as connection:
            connection.execute(setting.insert().values(key="a", value="one"))
            assert two.look(EXPIRES_S) == 2, "it does not wait for the sleeper"
            two.write("a")

    with pytest.raises(SQLAlchemyError):
        sleep_over_it()
    assert writers(two.database) == {"a": "two"}


def test_one_that_sleeps_within_a_beat_holds_nobody_up(utility: Callable[[str], Utility]) -> None:
    one, two = utility("one"), utility("two")
    one.look()
    two.look()
    took = Event()

    def look() -> None:
        if two.look(EXPIRES_S) == 2:
            took.set()

    taking = Thread(target=look)
    with suppress(SQLAlchemyError), one.lease._answering() as connection:
        one.lease._beat(connection)
        save_setting(connection, "beat", "in the middle")
        taking.start()
        assert took.wait(30)
    taking.join()


def test_a_process_that_the_holder_started_writes_nothing_after_it(utility: Callable[[str], Utility]) -> None:
    one, two, child = utility("one"), utility("two"), utility("child")
    one.look()
    two.look()
    fence(child.database, one.database.held())
    child.write("a")
    two.look(EXPIRES_S)
    with pytest.raises(OperationalError, match="not the active one"):
        child.write("b")
    assert writers(two.database) == {"a": "child"}


def test_a_planned_stop_hands_over_at_once(utility: Callable[[str], Utility]) -> None:
    one, two = utility("one"), utility("two")
    one.look()
    assert two.look() == 0
    one.lease.give_up()
    assert two.look() == 2


def test_one_that_starts_again_waits_less_for_itself(utility: Callable[[str], Utility]) -> None:
    assert utility("one").look() == 1
    again = utility("one")
    assert again.look() == 0
    assert again.look(OWN_EXPIRES_S) == 2


def test_two_with_one_name_do_not_take_it_from_each_other(utility: Callable[[str], Utility]) -> None:
    one, two = utility("one"), utility("one")
    for _ in range(9):
        assert one.look(2.0) == 1
        assert two.look(2.0) == 0


@pytest.mark.parametrize("names", [("one", "two"), ("one", "one")])
def test_of_two_that_take_it_at_once_one_has_it(utility: Callable[[str], Utility], names: tuple[str, str]) -> None:
    both = [utility(name) for name in names]
    threads = [Thread(target=each.look) for each in both]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = []
    for each in both:
        try:
            found.append(each.look())
        except LeaseTakenError:
            found.append(0)
    assert sorted(map(bool, found)) == [False, True]


def test_time_without_the_database_is_no_silence(utility: Callable[[str], Utility], server: Postgres) -> None:
    one, two = utility("one"), utility("two")
    one.look()
    two.look()
    server.stop()
    try:
        with pytest.raises(SQLAlchemyError):
            two.look(EXPIRES_S)
    finally:
        server.start()
    with pytest.raises(SQLAlchemyError):
        one.look(EXPIRES_S + 1)
    assert two.look(1.0) == 0
    assert one.look(2.0) == 1, "the first goes on: nobody could take it"
    one.write("a")
    assert two.look(EXPIRES_S) == 0


def test_no_transaction_begins_while_commits_wait_for_a_standby(utility: Callable[[str], Utility]) -> None:
    one = utility("one")
    one.look()
    one.lease.waits = True
    with pytest.raises(OperationalError, match="synchronous standby"):
        one.write("a")
    one.look()
    one.write("b")
    assert writers(one.database) == {"b": "one"}
