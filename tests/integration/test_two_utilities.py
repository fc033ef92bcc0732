"""Two utilities on one PostgreSQL: one is active, the other takes over; nothing is lost or counted twice."""

import signal
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from commonwatt.cli.status import verdict
from harness.network.waiting import eventually, free_port
from harness.real.postgres import Postgres
from harness.real.site import Site, sound

TOWN = '[[microgrid]]\nid = "r001"\nkind = "residential"\nhouses = 2\n'
FIRST, SECOND = "utility", "utility 2"
OTHERS = ("head-end", "r001 broker", "r001 gateway", "r001 meters")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Postgres]:
    with Postgres(tmp_path) as it:
        yield it


@pytest.fixture
def site(tmp_path: Path, server: Postgres) -> Iterator[Site]:
    with Site(tmp_path / "site", TOWN, speed=120) as made:
        made.register(server.url)
        first = made.layout.part(FIRST)
        config = first.config.with_name("utility-2.toml")
        command = tuple(word.replace(str(first.config), str(config)) for word in first.command)
        http, log = f"127.0.0.1:{free_port()}", config.with_suffix(".log")
        second = replace(first, name=SECOND, config=config, http=http, log=log, command=command)
        made.layout = replace(made.layout, parts=(*made.layout.parts, second))
        text = first.config.read_text().replace("sqlite:///utility.db", f"{server.url}?connect_timeout=3")
        config.write_text(
            text.replace(str(first.http), str(second.http)).replace("[utility]", '[utility]\nname_in_cluster = "u2"')
        )
        first.config.write_text(text.replace("[utility]", '[utility]\nname_in_cluster = "u1"'))
        yield made


def is_active(site: Site, name: str) -> bool:
    return site.metric(name, "commonwatt_utility_active") == 1


def batches(site: Site, name: str) -> int:
    """Return how many batches a utility counts; 0 while it does not answer, or stands by."""
    return int((site.status(name) or {}).get("totals", {}).get("received_batches", 0))


def stores(site: Site, name: str, by: int = 3) -> None:
    """Wait until a utility is active and has stored more batches."""
    eventually(lambda: batches(site, name))
    before = batches(site, name)
    eventually(lambda: batches(site, name) >= before + by)


def check(site: Site) -> None:
    site.stop("r001 meters")
    site.drained()
    audit = sound(site.folder)
    assert audit.total("stored_exact") > 100


def test_one_serves_and_the_other_takes_over(site: Site) -> None:
    site.start(FIRST, *OTHERS)
    stores(site, FIRST)
    site.start(SECOND)
    status = {"stands_by": "u1 is the active utility"}
    eventually(lambda: site.status(SECOND) == status)
    assert verdict(site.layout.part(SECOND).config, status) == "working"
    with pytest.raises(urllib.error.HTTPError) as raised:
        urllib.request.urlopen(f"http://{site.layout.part(SECOND).http}/console/login")
    assert raised.value.code == 503
    assert "u1 is the active utility" in raised.value.read().decode()

    site.kill(FIRST)
    stores(site, SECOND)
    site.start(FIRST)
    eventually(lambda: site.status(FIRST) == {"stands_by": "u2 is the active utility"})

    # One that sleeps for longer than the lease, and wakes.
    site.processes[SECOND].send_signal(signal.SIGSTOP)
    stores(site, FIRST)
    site.processes[SECOND].send_signal(signal.SIGCONT)
    eventually(lambda: site.processes[SECOND].poll() is not None)
    assert "u1 has become the active utility" in site.log(SECOND)
    del site.processes[SECOND]
    site.start(SECOND)

    # A planned stop hands over at once.
    site.stop(FIRST)
    eventually(lambda: is_active(site, SECOND), within_s=8)
    stores(site, SECOND)
    check(site)


def test_while_no_standby_confirms_commits_nothing_is_acknowledged(site: Site, server: Postgres) -> None:
    site.start(FIRST, *OTHERS)
    stores(site, FIRST)
    server.execute("ALTER SYSTEM SET synchronous_standby_names = '*'", "SELECT pg_reload_conf()")
    eventually(lambda: (site.status(FIRST) or {}).get("alarms") == ["no_standby"])
    before = batches(site, FIRST)
    # Longer than until the watchdog calls a thread stuck.
    with pytest.raises(AssertionError, match="not within"):
        eventually(lambda: batches(site, FIRST) > before, within_s=35)
    with urllib.request.urlopen(f"http://{site.layout.part(FIRST).http}/console/login") as page:
        assert page.status == 200, "pages can be read"
    assert site.metric(FIRST, 'commonwatt_utility_stuck_total{what="writer"}') == 0
    assert site.processes[FIRST].poll() is None, site.log(FIRST)
    server.execute("ALTER SYSTEM RESET synchronous_standby_names", "SELECT pg_reload_conf()")
    stores(site, FIRST)
    eventually(lambda: (site.status(FIRST) or {}).get("alarms") == [])
    check(site)
