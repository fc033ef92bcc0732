"""A PostgreSQL server goes back, to a minute or to a snapshot, while gateways and utility run: nothing is lost."""

import re
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from commonwatt.audit.comparison import Audit
from harness.network.waiting import eventually
from harness.real.pgbackrest import PgBackRest
from harness.real.postgres import Postgres
from harness.real.site import Site, audited

TOWN = '[[microgrid]]\nid = "r001"\nkind = "residential"\nhouses = 2\n'
PARTS = ("head-end", "utility", "r001 broker", "r001 gateway", "r001 meters")
UNCHECKED = """
import sys
from gateway.relay import relay
relay.lost = lambda *_: None
from commonwatt.cli.main import main
main()
"""


class Town:
    """A running site on a private server with backups."""

    def __init__(self, site: Site, server: Postgres, backups: PgBackRest) -> None:
        self.site, self.server, self.backups = site, server, backups

    def ask(self, statement: str) -> str:
        engine = create_engine(self.server.url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            return str(connection.execute(text(statement)).scalar_one())

    def grows(self, by: int = 4) -> None:
        batches = "SELECT coalesce(sum(batches), 0) FROM tally"
        before = int(self.ask(batches))
        eventually(lambda: int(self.ask(batches)) >= before + by)

    def settle(self) -> Audit:
        """Stop the meters, wait until the gateway has nothing left, and audit."""
        self.site.stop("r001 meters")
        eventually(lambda: (self.site.status("r001 gateway") or {"backlog": {"parts": 1}})["backlog"]["parts"] == 0)
        return audited(self.site.folder)


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Town]:
    with ExitStack() as stack:
        site = stack.enter_context(Site(tmp_path / "site", TOWN, speed=120))
        server = stack.enter_context(Postgres(tmp_path))
        backups = PgBackRest(server)
        stack.callback(backups.clear)
        backups.set_up()
        site.register(server.url)
        config = site.layout.part("utility").config
        # What is missing is not asked for as a gap: it comes by the gateways' own comparison.
        text = re.sub(r"gap_age_s = \d+", "gap_age_s = 86400", config.read_text())
        config.write_text(text.replace("sqlite:///utility.db", server.url))
        site.add_setting("utility", 'backup = { stanza = "commonwatt" }')
        site.environments["utility"] = server.environment
        yield Town(site, server, backups)


def back_to_a_minute(town: Town) -> None:
    backups = town.backups
    for command in ("stanza-create", "check", "--type=full --repo=1", "--type=full --repo=2"):
        backups.run(command)
    town.grows()
    backups.run("--type=incr")
    town.grows()
    minute = town.ask("SELECT now()")
    town.grows()
    assert "incr backup" in backups.run("info")
    finished = "commonwatt_utility_backup_finished_timestamp_seconds"
    eventually(lambda: all(town.site.metric("utility", f'{finished}{{repository="{n}"}}') > 0 for n in (1, 2)))
    town.ask("SELECT pg_switch_wal()")
    town.server.stop()
    backups.run("--delta --type=time", target=minute)
    town.server.start()
    eventually(lambda: town.ask("SELECT pg_is_in_recovery()") == "False")


def back_to_a_snapshot(town: Town) -> None:
    town.grows()
    data, kept = town.server.data, Path(f"{town.server.data}-snapshot")
    town.server.crash()
    subprocess.run(["cp", "-a", str(data), str(kept)], check=True)
    town.server.start()
    town.grows()
    town.server.crash()
    subprocess.run(["rm", "-r", str(data)], check=True)
    kept.rename(data)
    town.server.start()


@pytest.mark.parametrize("back", [back_to_a_minute, back_to_a_snapshot])
def test_a_database_that_goes_back_gets_all_that_it_acknowledged(town: Town, back: object) -> None:
    town.site.start(*PARTS)
    assert callable(back)
    back(town)
    town.grows()
    audit = town.settle()
    assert audit.good, audit
    assert audit.total("stored_exact") > 100
    assert town.site.metric("utility", "commonwatt_utility_database_went_back_total") == 1
    assert "went back" in town.site.log("utility")


def test_without_the_comparison_the_same_loses_data(town: Town) -> None:
    part = town.site.layout.part("r001 gateway")
    at = part.command.index("gateway")
    town.site.commands["r001 gateway"] = [part.command[0], "-c", UNCHECKED, *part.command[at:]]
    town.site.start(*PARTS)
    back_to_a_snapshot(town)
    town.grows()
    assert not town.settle().good
