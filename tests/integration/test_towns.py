"""Two towns in one server; one is moved to another server by pgBackRest under load, and nothing is lost or doubled."""

import re
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import psycopg
import pytest

from harness.network.waiting import eventually
from harness.real.postgres import PgBackRest, Postgres
from harness.real.site import Site, sound

TOWN = '[[microgrid]]\nid = "r001"\nkind = "residential"\nhouses = 2\n'
PARTS = ("head-end", "utility", "r001 broker", "r001 gateway", "r001 meters")
NAMES = ("north", "south")
STORE = "SELECT value FROM setting WHERE key = 'store_id'"


GUIDE = Path(__file__).parents[2] / "docs" / "cluster.md"
CLOSED = (
    "ALTER DATABASE north ALLOW_CONNECTIONS false",
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'north' AND usesysid IS NOT NULL",
)
SESSIONS = "SELECT count(*) FROM pg_stat_activity WHERE datname = 'north' AND usesysid IS NOT NULL"


class Towns:
    """Two running towns, each a database of one server."""

    def __init__(self, server: Postgres, backups: PgBackRest, sites: dict[str, Site]) -> None:
        self.server, self.backups, self.sites = server, backups, sites

    def ask(self, name: str, statement: str, server: Postgres | None = None) -> str:
        url = (server or self.server).url_of(name).replace("+psycopg", "")
        with psycopg.connect(url, autocommit=True) as connection:
            row = connection.execute(statement.encode()).fetchone()
            return str(row and row[0])

    def grows(self, name: str, server: Postgres | None = None, by: int = 3) -> None:
        batches = "SELECT coalesce(sum(batches), 0) FROM tally"
        before = int(self.ask(name, batches, server))
        eventually(lambda: int(self.ask(name, batches, server)) >= before + by)

    def use(self, name: str, server: Postgres) -> None:
        """Have a town's utility use its database of a server."""
        config = self.sites[name].layout.part("utility").config
        text = re.sub('database = "[^"]*"', f'database = "{server.url_of(name)}"', config.read_text())
        # What is missing is not asked for as a gap: only what gateways keep by themselves comes again.
        config.write_text(re.sub(r"gap_age_s = \d+", "gap_age_s = 86400", text))


@pytest.fixture
def towns(tmp_path: Path) -> Iterator[Towns]:
    with ExitStack() as stack:
        server = stack.enter_context(Postgres(tmp_path))
        server.execute(*(f"CREATE DATABASE {name}" for name in NAMES))
        backups = PgBackRest(server)
        stack.callback(backups.clear)
        backups.set_up()
        for command in ("stanza-create", "--type=full --repo=1"):
            backups.run(command)
        sites = {name: stack.enter_context(Site(tmp_path / name, TOWN, speed=60)) for name in NAMES}
        towns = Towns(server, backups, sites)
        for name, site in sites.items():
            site.register(server.url_of(name))
            towns.use(name, server)
        yield towns


def settled(site: Site) -> None:
    """Stop the meters, wait until the gateway has nothing left, and audit: nothing is lost or counted twice."""
    site.stop("r001 meters")
    site.drained()
    audit = sound(site.folder)
    assert audit.total("stored_exact") > 100


def test_a_town_is_moved_under_load_and_the_other_goes_on(towns: Towns, tmp_path: Path) -> None:
    north, south = towns.sites["north"], towns.sites["south"]
    for site in (north, south):
        site.start(*PARTS)
    towns.grows("north")
    store_id = towns.ask("north", STORE)
    sleeper = psycopg.connect(towns.server.url_of("north").replace("+psycopg", ""))
    sleeper.execute("INSERT INTO setting VALUES ('slept', '1')")
    # A utility that sleeps over the whole move has a batch that it took in, perhaps not yet committed.
    north.processes["utility"].send_signal(signal.SIGSTOP)
    new = Postgres(tmp_path)
    new.environment, new.sockets = towns.server.environment, towns.server.sockets
    # The steps of docs/cluster.md, "Move a town".
    towns.server.execute(*CLOSED)

    def is_alone() -> bool:
        towns.server.execute(CLOSED[1])
        return towns.ask("postgres", SESSIONS) == "0"

    eventually(is_alone)
    end = towns.ask("postgres", "SELECT pg_current_wal_insert_lsn()")
    segment = towns.ask("postgres", "SELECT pg_walfile_name(pg_switch_wal())")
    with pytest.raises(psycopg.OperationalError):
        sleeper.commit()
    eventually(lambda: towns.ask("postgres", "SELECT last_archived_wal FROM pg_stat_archiver") >= segment)
    towns.grows("south")
    (line,) = (line.strip() for line in GUIDE.read_text().splitlines() if "--db-include=north" in line)
    line = re.sub("--target=[^ ]*", f"--target={end}", line)
    towns.backups.run_line(line.replace(" restore", f" --pg1-path={new.data} restore"))
    try:
        new.start()
        eventually(lambda: towns.ask("postgres", "SELECT pg_is_in_recovery()", new) == "False")
        new.execute("ALTER DATABASE north ALLOW_CONNECTIONS true")
        # The utility that slept wakes at the old place: it commits and acknowledges nothing there.
        north.processes["utility"].send_signal(signal.SIGCONT)
        eventually(lambda: "nothing is acknowledged until it does" in north.log("utility"))
        with pytest.raises(psycopg.OperationalError, match="not currently accepting connections"):
            towns.ask("north", "SELECT 1")
        north.kill("utility")
        towns.use("north", new)
        north.start("utility")
        towns.grows("north", new)
        assert towns.ask("north", "SELECT count(*) FROM setting WHERE key = 'slept'", new) == "0"
        assert towns.ask("north", STORE, new) == store_id
        for site in (north, south):
            settled(site)
            assert site.metric("utility", "commonwatt_utility_database_went_back_total") == 0
            assert "went back" not in site.log("utility")
        assert "database was restored from a backup" not in north.log("utility")
    finally:
        sleeper.close()
        for site in (north, south):
            site.kill("utility")
        new.__exit__(None, None, None)
