"""Two utilities on one PostgreSQL: one is active, the other takes over; nothing is lost or counted twice."""

import signal
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from commonwatt.cli.status import verdict
from harness.network.waiting import eventually, free_port
from harness.real.postgres import Postgres
from harness.real.site import Site, audited

TOWN = '[[microgrid]]\nid = "r001"\nkind = "residential"\nhouses = 2\n'
FIRST, SECOND = "utility", "utility 2"
BOTH = FIRST, SECOND
OTHERS = ("head-end", "r001 broker", "r001 gateway", "r001 meters")
ACTIVE = "commonwatt_utility_active"


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
        second = replace(
            first, name=SECOND, config=config, http=f"127.0.0.1:{free_port()}", log=config.with_suffix(".log")
        )
        made.layout = replace(made.layout, parts=(*made.layout.parts, second))
        text = first.config.read_text().replace("sqlite:///utility.db", f"{server.url}?connect_timeout=3")
        config.write_text(
            text.replace(str(first.http), str(second.http)).replace("[utility]", '[utility]\nname_in_cluster = "u2"')
        )
        first.config.write_text(text.replace("[utility]", '[utility]\nname_in_cluster = "u1"'))
        yield made


def active(site: Site) -> str | None:
    """Return which of the running utilities is active."""
    found = [name for name in BOTH if name in site.processes and site.metric(name, ACTIVE)]
    return found[0] if len(found) == 1 else None


def stores(site: Site, by: int = 3) -> None:
    """Wait until the active utility has stored more batches."""

    def received() -> int:
        name = active(site)
        status = site.status(name) if name is not None else None
        return 0 if status is None else int(status.get("totals", {}).get("received_batches", 0))

    eventually(received)
    before = received()
    eventually(lambda: received() >= before + by)


def check(site: Site) -> None:
    site.stop("r001 meters")
    eventually(lambda: (site.status("r001 gateway") or {"backlog": {"parts": 1}})["backlog"]["parts"] == 0)
    audit = audited(site.folder)
    assert audit.good, audit
    assert audit.total("stored_exact") > 100


def test_one_serves_and_the_other_takes_over(site: Site) -> None:
    site.start(FIRST, *OTHERS)
    eventually(lambda: active(site) == FIRST)
    site.start(SECOND)
    stores(site)
    status = site.status(SECOND)
    assert status == {"stands_by": "u1 is the active utility"}
    assert "stands by: u1 is the active utility" in verdict(site.layout.part(SECOND).config, status)
    with pytest.raises(urllib.error.HTTPError) as raised:
        urllib.request.urlopen(f"http://{site.layout.part(SECOND).http}/console/login")
    assert raised.value.code == 503
    assert "u1 is the active utility" in raised.value.read().decode()

    site.kill(FIRST)
    eventually(lambda: active(site) == SECOND)
    stores(site)
    site.start(FIRST)
    assert site.status(FIRST) == {"stands_by": "u2 is the active utility"}

    # One that sleeps for longer than the lease, and wakes.
    site.processes[SECOND].send_signal(signal.SIGSTOP)
    eventually(lambda: active(site) == FIRST)
    stores(site)
    site.processes[SECOND].send_signal(signal.SIGCONT)
    eventually(lambda: site.processes[SECOND].poll() is not None)
    assert "u1 has become the active utility" in site.log(SECOND)
    del site.processes[SECOND]
    site.start(SECOND)

    # A planned stop hands over at once.
    site.stop(FIRST)
    eventually(lambda: active(site) == SECOND, within_s=5)
    stores(site)
    check(site)


def test_while_no_standby_confirms_commits_nothing_is_acknowledged(
    site: Site, server: Postgres, tmp_path: Path
) -> None:
    site.start(FIRST, *OTHERS)
    stores(site)
    server.execute("ALTER SYSTEM SET synchronous_standby_names = '*'", "SELECT pg_reload_conf()")
    eventually(lambda: (site.status(FIRST) or {}).get("alarms") == ["no_standby"])
    told = site.status(FIRST)
    assert told is not None
    acknowledged = told["totals"]["received_batches"]
    # Longer than its watchdog's patience.
    with pytest.raises(AssertionError):
        eventually(partial(has_more, site, acknowledged), within_s=75)
    assert site.processes[FIRST].poll() is None, site.log(FIRST)
    server.execute(
        "SET synchronous_commit = local; ALTER SYSTEM RESET synchronous_standby_names", "SELECT pg_reload_conf()"
    )
    stores(site)
    assert site.status(FIRST)["alarms"] == []  # type: ignore[index]
    check(site)


def has_more(site: Site, than: int) -> bool:
    status = site.status(FIRST)
    return status is not None and status["totals"]["received_batches"] > than
