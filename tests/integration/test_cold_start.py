"""Starts without a network, without the other parts, and without earlier stores."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from commonwatt.audit.comparison import Audit
from harness.network.waiting import eventually
from harness.real import forks
from harness.real.site import Site, prepared, sound

TOWN = '[[microgrid]]\nid = "r001"\nkind = "residential"\nhouses = 2\n'


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with Site(tmp_path / "site", TOWN, plain_text=False) as it:
        yield it


def backlog(site: Site) -> int:
    return int((site.status("r001 gateway") or {"backlog": {"parts": -1}})["backlog"]["parts"])


def failing(site: Site) -> set[str]:
    return set((site.status("r001 gateway") or {}).get("connection_failures", {}))


def stored(site: Site) -> int:
    return int(
        (site.status("utility") or {"microgrids": {"r001": {"received_slots": 0}}})["microgrids"]["r001"][
            "received_slots"
        ]
    )


def settled(site: Site) -> Audit:
    """Return the audit of all made readings, after all are relayed."""
    site.stop("r001 meters")
    eventually(lambda: backlog(site) == 0)
    site.stop("utility", "r001 gateway", "head-end", "r001 broker")
    return sound(site.folder)


@pytest.mark.smoke
def test_a_gateway_starts_alone_collects_when_meters_come_and_relays_when_the_utility_appears(site: Site) -> None:
    site.start("r001 gateway")
    eventually(lambda: failing(site) == {"meters", "head_end"})
    assert site.log("r001 gateway").count("r001: no connection to ") == 2, "each failure is logged once"
    site.start("r001 broker", "r001 meters")
    eventually(lambda: backlog(site) > 20)
    eventually(lambda: failing(site) == {"head_end"})
    eventually(lambda: "r001: connected to {}:{}".format(*site.address("r001 broker")) in site.log("r001 gateway"))
    site.stop("r001 gateway")
    site.start("r001 gateway")
    held = backlog(site)
    assert held > 20, "collected data is stored after a restart"
    site.start("utility")
    site.start("head-end")
    eventually(lambda: stored(site) > held)
    audit = settled(site)
    assert audit.total("stored_exact") > held


def test_a_utility_that_starts_empty_gets_everything_back_from_the_gateways_backup(site: Site) -> None:
    site.start("head-end", "utility", "r001 broker", "r001 gateway", "r001 meters")
    eventually(lambda: stored(site) > 200)
    before = stored(site)
    site.kill("utility")
    for path in (site.folder / "utility").glob("utility.db*"):
        path.unlink()
    site.register(f"sqlite:///{site.folder / 'utility' / 'utility.db'}")
    site.start("utility")
    eventually(lambda: stored(site) > before)
    audit = settled(site)
    assert audit.total("stored_exact") > before
    assert audit.events_stored


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (('microgrid = "r001"', 'microgrid = "R1"'), "microgrid"),
        (("head_end", "headend"), "head_end"),
        (('microgrid = "r001"', 'microgrid = "r001"\nrelay_s = 3'), "15"),
        (('microgrid = "r001"', 'microgrid = "r001"\nregistry = "no.json"'), "commonwatt utility register"),
        (('microgrid = "r001"', 'microgrid = "r002"'), "r002"),
    ],
)
def test_a_gateway_with_a_wrong_file_says_which_line_and_what_to_do(
    tmp_path: Path, change: tuple[str, str], says: str
) -> None:
    layout = prepared(tmp_path / "site", _town(tmp_path), plain_text=False)
    part = layout.part("r001 gateway")
    part.config.write_text(part.config.read_text().replace(*change, 1))
    done = forks.run(part.command)
    assert done.returncode == 2, done.stderr
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def _town(folder: Path) -> Path:
    path = folder / "town.toml"
    path.write_text(TOWN)
    return path


def test_a_second_gateway_or_fleet_on_the_same_store_is_kept_out(site: Site) -> None:
    site.start("r001 broker", "r001 gateway", "r001 meters")
    for name in ("r001 gateway", "r001 meters"):
        second = forks.run(site.layout.part(name).command, timeout=30)
        assert second.returncode == 2
        assert "is using it" in second.stderr
        mode = next(path for path in (site.folder / "r001").glob("*.db")).stat().st_mode & 0o777
        assert mode == 0o600, "other local users must not read households' readings"
