"""Row 6 of the faults on real processes: stores on small disks that another program fills."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from commonwatt.protocol.commands import Kind
from gateway.store.changes import DONE, AppendParts, Part
from gateway.store.released import open_in_use
from gateway.store.store import Store
from harness.network.waiting import eventually
from harness.real.parts import need_root
from harness.real.site import Site, sound

TOWN = '[[microgrid]]\nid = "r001"\nkind = "residential"\nhouses = 1\n'
MEBIBYTE = 1024 * 1024
GATEWAY = "r001 gateway"
METERS = "r001 meters"
PARTS = ("head-end", "r001 broker", "utility", "r001 gateway", "r001 meters")


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """A disk of 48 MiB."""
    need_root("a small disk is mounted")
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=48m", "tmpfs", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small disk."""
    with small_disk(tmp_path / "disk") as folder:
        yield folder


@pytest.fixture
def other_disk(tmp_path: Path) -> Iterator[Path]:
    """Another one."""
    with small_disk(tmp_path / "other") as folder:
        yield folder


def shares(path: Path) -> bool:
    """Return whether the store has a desired state of sharing that the battery has confirmed."""
    store = Store.open(path, read_only=True)
    try:
        return any(d.kind is Kind.SHARING and d.value == "on" and d.confirmed for d in store.desired())
    finally:
        store.close()


def fill(file: Path) -> None:
    """Fill the rest of a disk."""
    with file.open("wb", buffering=0) as filler:
        try:
            while filler.write(bytes(MEBIBYTE)):
                pass
        except OSError:
            return


def test_row_06_a_full_disk(disk: Path, tmp_path: Path) -> None:
    with Site(tmp_path / "town", TOWN.replace("houses = 1", "houses = 8"), speed=60) as site:
        config = site.layout.part(GATEWAY).config
        config.write_text(config.read_text() + f'store = "{disk / "gateway.db"}"\n')
        site.start("head-end", "r001 broker", "utility", GATEWAY)

        def metric(name: str) -> float:
            return site.metric(GATEWAY, f"commonwatt_gateway_{name}")

        accepted, refused = 'puts_total{result="accepted"}', 'puts_total{result="busy"}'
        eventually(lambda: (disk / "gateway.db.ballast").exists())
        fill(disk / "filler")
        eventually(lambda: metric("refusing_records") == 1)
        eventually(lambda: "records are refused" in site.log(GATEWAY))
        site.start(METERS)
        eventually(lambda: metric(refused) >= 4)
        # Some of these batteries are low and some are not: sharing is commanded, executed, and the confirmation stored.
        eventually(lambda: site.metric(METERS, "commonwatt_meters_sharing") >= 1)
        eventually(lambda: shares(disk / "gateway.db"))
        eventually(lambda: metric('outcomes_total{result="done"}') >= 1)
        commits = metric("commits_total")
        eventually(lambda: metric("commits_total") > commits + 2)
        assert metric(accepted) == 0, "nothing is acknowledged"
        (disk / "filler").unlink()
        eventually(lambda: metric("refusing_records") == 0)
        eventually(lambda: metric(accepted) > 4)
        assert metric("store_failures_total") <= 3, "it must not fail repeatedly"


def test_row_06_a_full_disk_at_the_utility_and_at_the_meters(disk: Path, other_disk: Path, tmp_path: Path) -> None:
    with Site(tmp_path / "town", TOWN, speed=120) as site:
        utility, meters = site.layout.part("utility").config, site.layout.part(METERS).config
        utility.write_text(utility.read_text().replace("sqlite:///utility.db", f"sqlite:///{disk}/utility.db"))
        shutil.move(utility.parent / "utility.db", disk / "utility.db")
        meters.write_text(meters.read_text() + f'store = "{other_disk / "meters.db"}"\n')
        site.start(*PARTS)
        the_utilitys(site, disk)
        the_meters(site, other_disk)
        site.stop(METERS)
        sound(tmp_path / "town")


def test_without_space_for_its_upgrade_a_store_of_0_3_is_used_as_it_is_and_upgraded_later(disk: Path) -> None:
    path, filler = disk / "gateway.db", disk / "filler"
    with closing(Store.open(path)) as store:
        parts = tuple(Part(0, (meter, 3, 1000), b"", DONE) for meter in range(20_000))
        store.commit([AppendParts(parts)])
        store.become(3)
    fill(filler)
    os.truncate(filler, filler.stat().st_size - 100 * 1024)
    for version in (3, 4):
        store, recovery = open_in_use(path, 0)
        store.commit([AppendParts((Part(0, (1, 3, 1001), b""),))])
        assert (store.version, recovery, store.backlog()) == (version, None, (version - 2, 0, 0))
        assert len(store.keys_to_compact(1002, 100_000)) == 20_000
        store.check(path.stat().st_size)
        store.examine(0, 100_000)
        store.close()
        filler.unlink(missing_ok=True)


def the_utilitys(site: Site, disk: Path) -> None:
    """Fill the utility's disk: no batch is acknowledged, this is reported, and the fault ends without a restart."""

    def metric(name: str) -> float:
        return site.metric("utility", f"commonwatt_utility_{name}")

    def asked(path: str) -> dict[str, Any]:
        return site.ask("utility", path)

    eventually(lambda: metric("batches_total") >= 2)
    fill(disk / "filler")
    eventually(lambda: metric('alarm{alarm="disk_full"}') == 1)
    # An acknowledgement from before may still be on its way when the first batch is refused.
    eventually(lambda: metric('messages_total{result="disk_full"}') >= 2)
    before = metric("batches_total"), acknowledged(site)
    refused = metric('messages_total{result="disk_full"}')
    eventually(lambda: metric('messages_total{result="disk_full"}') >= refused + 2)
    assert (metric("batches_total"), acknowledged(site)) == before, "nothing is acknowledged"
    assert asked("/status")["alarms"] == ["disk_full"]
    assert len(asked("/meters")["meters"]) > 0, "the API must answer"
    assert "no data is accepted" in site.log("utility")
    (disk / "filler").unlink()
    eventually(lambda: metric('alarm{alarm="disk_full"}') == 0)
    eventually(lambda: metric("batches_total") >= before[0] + 2)


def acknowledged(site: Site) -> float:
    return site.metric(GATEWAY, 'commonwatt_gateway_batches_total{result="acknowledged"}')


def the_meters(site: Site, disk: Path) -> None:
    """Fill the meters' disk: they pause, and afterwards record the missed slots."""

    def metric(name: str) -> float:
        return site.metric(METERS, f"commonwatt_meters_{name}")

    fill(disk / "filler")
    eventually(lambda: metric('commits_total{result="failed"}') >= 2)
    made = metric("readings_made_total")
    assert "trying again" in site.log(METERS)
    (disk / "filler").unlink()
    eventually(lambda: metric("readings_made_total") > made and metric("lag_seconds") < 60)
    assert metric("slots_not_recorded_total") == 0
