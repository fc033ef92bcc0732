"""A running town whose utility loses its SQLite database and restores a backup: no acknowledged data is lost."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.network.waiting import eventually
from harness.real import forks
from harness.real.site import Site, audited

TOWN = '[[microgrid]]\nid = "r001"\nkind = "residential"\nhouses = 2\n'
PARTS = ("head-end", "utility", "r001 broker", "r001 gateway", "r001 meters")
BATCHES = "commonwatt_utility_batches_total"


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with Site(tmp_path / "site", TOWN, speed=120) as site:
        yield site


def do(site: Site, *words: str) -> str:
    """Run one of the utility's commands."""
    part = site.layout.part("utility")
    command = [*part.command[: part.command.index("run")], *words, "--config", str(part.config)]
    done = forks.run(command)
    assert done.returncode == 0, done.stderr
    return done.stdout


def grows(site: Site, by: int = 4) -> None:
    before = site.metric("utility", BATCHES)
    eventually(lambda: site.metric("utility", BATCHES) >= before + by)


def test_what_was_acknowledged_since_the_backup_comes_again(site: Site, tmp_path: Path) -> None:
    site.start(*PARTS)
    grows(site)
    do(site, "backup", str(tmp_path / "kept"))  # while it runs
    grows(site)
    site.stop("r001 meters")  # without its memory of acknowledged batches
    site.drained()
    site.stop("utility")
    stored = site.dump()
    do(site, "restore", str(tmp_path / "kept"), "--replace")
    lost = len(stored) * 60 - int((site.dump().quality > 0).sum())
    assert lost > 0
    site.start("utility")
    # An audit is good while records are on their way. A last put of the meters may have come after the utility's end.
    eventually(lambda: int((site.dump().quality > 0).sum()) >= int((stored.quality > 0).sum()))
    eventually(lambda: audited(site.folder).good)
