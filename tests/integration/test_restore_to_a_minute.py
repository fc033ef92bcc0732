"""A PostgreSQL server goes back while gateways and utility run: nothing is lost, and nothing is done twice."""

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from commonwatt.audit.comparison import Audit
from commonwatt.protocol.controller_commands import Action
from harness.billing.worlds import found_in_store, tariff, world_of
from harness.network.proxy import Proxy
from harness.network.waiting import eventually
from harness.real.postgres import PgBackRest, Postgres
from harness.real.site import Site, audited
from utility.access.people import on_machine
from utility.billing.decisions import draft
from utility.billing.store.runs import check_run, issue_run
from utility.control.changes import AskedChange
from utility.control.decisions import make_change
from utility.database.database import open_database
from utility.tariffs import store as tariffs

ALL = os.environ.get("RESTORES") == "all"  # ``make soak``
TOWN = '[[microgrid]]\nid = "r001"\nkind = "residential"\nhouses = 2\n'
PARTS = ("head-end", "utility", "r001 broker", "r001 gateway", "r001 meters")
NOW = 1_800_000_000  # after the months that are billed
ANNA = on_machine("anna")
RUN_WITHOUT = """
import sys
from {module} import {name} as module
module.{check} = lambda *_, **__: None
from commonwatt.cli.main import main
main()
"""
UNCHECKED = {
    "r001 gateway": RUN_WITHOUT.format(module="gateway.relay", name="relay", check="missing"),
    "utility": RUN_WITHOUT.format(module="utility.readings.store", name="writer", check="advance"),
}
"""By part: its program without the comparison of marks."""


class Town:
    """A running site on a private server with backups."""

    def __init__(self, site: Site, server: Postgres, backups: PgBackRest) -> None:
        self.site, self.server, self.backups = site, server, backups
        self.last: Callable[[], object] = (
            self.grows
        )  # what happens just before the moment to which the server goes back
        self.since: Callable[[], object] = self.grows  # what happens after the moment to which the server goes back

    def ask(self, statement: str) -> str:
        engine = create_engine(self.server.url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            return str(connection.execute(text(statement)).scalar_one())

    def grows(self, by: int = 4) -> None:
        batches = "SELECT coalesce(sum(batches), 0) FROM tally"
        before = int(self.ask(batches))
        eventually(lambda: int(self.ask(batches)) >= before + by)

    def change(self, seconds: int) -> None:
        """Have people change a period of the gateway."""
        asked = AskedChange(action=Action.SCHEDULE, fields={"periods": {"levels_s": seconds}}, everyone=True)
        with closing(open_database(self.server.url, create=False)) as database:
            make_change(database, ANNA, asked, NOW)

    def outcomes(self) -> list[str]:
        """Return what became of all changes, the oldest first, once each gateway has answered."""
        eventually(lambda: self.ask("SELECT count(*) FROM command WHERE state = 'open'") == "0")
        found = self.ask(
            "SELECT coalesce(string_agg(outcome, ';' ORDER BY created, id), '') FROM command WHERE id LIKE 'op-%'"
        )
        return found.split(";")

    def bill(self, month: str) -> str:
        """Have two people issue a month's bills; return what their bytes add up to."""
        with closing(open_database(self.server.url, create=False)) as database:
            number, bills = draft(database, month, "town", ANNA, NOW)
            with database.writes.begin() as connection:
                check_run(connection, number, "ben", NOW)
                issue_run(connection, number, "eve", NOW)
        return bills.digest

    def bills(self) -> str:
        """Return the issued runs with the digests of their bills."""
        return self.ask("SELECT string_agg(month || state || digest, ',' ORDER BY no) FROM bill_run")

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
    town.last()
    minute = town.ask("SELECT now()")
    town.since()
    assert "incr backup" in backups.run("info")
    finished = "commonwatt_utility_backup_finished_timestamp_seconds"
    eventually(lambda: all(town.site.metric("utility", f'{finished}{{repository="{n}"}}') > 0 for n in (1, 2)))
    town.ask("SELECT pg_switch_wal()")
    trial = town.server.data.with_name("trial")
    backups.run("--repo=2", **{"pg1-path": str(trial)})
    assert (trial / "PG_VERSION").read_text() == (town.server.data / "PG_VERSION").read_text()
    shutil.rmtree(trial)
    town.server.stop()
    backups.run("--delta --type=time", target=minute)
    town.server.start()
    eventually(lambda: town.ask("SELECT pg_is_in_recovery()") == "False")


def back_to_a_snapshot(town: Town) -> None:
    town.last()
    data, kept = town.server.data, Path(f"{town.server.data}-snapshot")
    town.server.crash()
    subprocess.run(["cp", "-a", str(data), str(kept)], check=True)
    town.server.start()
    town.since()
    town.server.crash()
    subprocess.run(["rm", "-r", str(data)], check=True)
    kept.rename(data)
    town.server.start()


def to_a_standby(town: Town) -> None:
    """Promote, in the lost primary's place, an asynchronous standby to which its last commits did not come."""
    town.grows()
    with Proxy(("127.0.0.1", town.server.port)) as line:
        standby = town.server.standby(int(line.address.rpartition(":")[2]))
        try:
            follows = "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'"
            eventually(lambda: town.ask(follows) == "1")
            town.grows()
            line.darken()
            town.since()
            town.server.crash()
        finally:
            standby.crash()
    subprocess.run(["rm", "-r", str(town.server.data)], check=True)
    standby.data.rename(town.server.data)
    town.server.start()
    assert town.ask("SELECT pg_is_in_recovery()") == "True"
    assert town.ask("SELECT pg_promote()") == "True"


@pytest.mark.parametrize("back", [back_to_a_minute, back_to_a_snapshot, to_a_standby])
def test_a_database_that_goes_back_gets_all_that_it_acknowledged(town: Town, back: Callable[[Town], None]) -> None:
    town.site.start(*PARTS)
    back(town)
    town.grows()
    audit = town.settle()
    assert audit.good, audit
    assert audit.total("stored_exact") > 100
    assert town.site.metric("utility", "commonwatt_utility_database_went_back_total") == 1
    assert "went back" in town.site.log("utility")


@pytest.fixture
def billed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let bills be of a town with two settled months."""
    found_in_store(monkeypatch, world_of())


@pytest.mark.usefixtures("billed")
@pytest.mark.parametrize("back", [back_to_a_minute, back_to_a_snapshot] if ALL else [back_to_a_snapshot])
def test_bills_and_decisions_are_there_once_after_it(town: Town, back: Callable[[Town], None]) -> None:
    """A command that was open at that moment is sent again, and not done again; what people did since, they repeat."""
    before: list[object] = []

    def since() -> None:
        town.site.start("r001 gateway")
        before.extend([town.outcomes(), town.bill("2026-11"), town.bills()])
        town.change(180)
        before.append(town.outcomes())
        town.grows()

    town.since = since
    with closing(open_database(town.server.url, create=False)) as database, database.writes.begin() as connection:
        stored = tariffs.propose(connection, tariff(), "", "anna", 0)
        tariffs.publish(connection, stored.name, stored.version, "ben", 0)
    october = town.bill("2026-10")
    town.site.start(*PARTS)
    grows = town.grows

    def quiet() -> None:
        grows()
        town.site.stop("r001 gateway")
        town.change(120)

    town.last = quiet
    back(town)
    assert town.outcomes() == before[0], "the first answer, with its time"
    assert town.bills() == f"2026-10issued{october}"
    assert town.bill("2026-11") == before[1], "byte for byte as those that were delivered"
    assert town.bills() == before[2]
    town.change(180)
    assert len(town.outcomes()) == 2
    town.grows()
    audit = town.settle()
    assert audit.good, audit


@pytest.mark.parametrize("part", list(UNCHECKED))
def test_without_the_comparison_the_same_loses_data(town: Town, part: str) -> None:
    command = town.site.layout.part(part).command
    at = command.index(part.rpartition(" ")[2])
    town.site.commands[part] = [command[0], "-c", UNCHECKED[part], *command[at:]]
    town.site.start(*PARTS)
    back_to_a_snapshot(town)
    town.grows()
    assert not town.settle().good
