"""Row 5 of the faults on real processes: a store is damaged while its service is stopped; the audit is good."""

import sqlite3
from pathlib import Path

from commonwatt.sqlite.damage import quarantined_before
from harness.network.waiting import eventually
from harness.real import forks
from harness.real.site import Site, sound

TOWN = '[[microgrid]]\nid = "r001"\nkind = "residential"\nhouses = 1\npush_share = 1.0\n'
GATEWAY = "r001 gateway"


def damage(store: Path, at: int = 2048) -> None:
    """Damage the schema, without which SQLite can't read the file."""
    with store.open("r+b") as file:
        file.seek(at)
        file.write(bytes(64))


def test_row_05_a_damaged_store_is_set_aside_and_the_town_loses_nothing(tmp_path: Path) -> None:
    with Site(tmp_path / "town", TOWN, speed=120) as site:
        site.start("head-end", "r001 broker", "utility", GATEWAY, "r001 meters")
        eventually(lambda: site.metric(GATEWAY, 'commonwatt_gateway_batches_total{result="acknowledged"}') >= 3)
        site.stop(GATEWAY)
        folder = tmp_path / "town" / "r001"
        damage(folder / "gateway.db")
        site.start(GATEWAY)
        eventually(lambda: site.metric(GATEWAY, "commonwatt_gateway_store_quarantined_total") == 1)
        (quarantined,) = quarantined_before(folder / "gateway.db")
        status = site.status(GATEWAY)
        assert status is not None
        assert status["store"]["quarantined"] == str(quarantined)
        assert "is damaged" in site.log(GATEWAY)
        eventually(lambda: site.metric(GATEWAY, 'commonwatt_gateway_batches_total{result="acknowledged"}') >= 3)
        site.stop("r001 meters")
        sound(tmp_path / "town")


def test_row_05_a_damaged_utility_refuses_to_start_and_is_refilled_after_its_recovery(tmp_path: Path) -> None:
    with Site(tmp_path / "town", TOWN, speed=300) as site:
        site.start("head-end", "r001 broker", "utility", GATEWAY, "r001 meters")
        eventually(lambda: site.metric("utility", "commonwatt_utility_batches_total") >= 3)
        site.stop("utility")
        part = site.layout.part("utility")
        store = part.config.parent / "utility.db"
        damage(store, 100)
        before = store.read_bytes()
        refused = forks.run(part.command, timeout=60)
        assert refused.returncode == 1
        assert "the utility's database is damaged" in refused.stderr
        assert "commonwatt utility recover --config" in refused.stderr
        assert store.read_bytes() == before, "the file must be unchanged"
        command = [*part.command[:-3], "recover", "--config", str(part.config)]
        done = forks.run(command, timeout=60)
        assert done.returncode == 0, done.stderr
        (quarantined,) = quarantined_before(store)
        assert str(quarantined) in done.stdout.replace("\n", "")
        # Even if no row were recovered, the backups would restore all data.
        with sqlite3.connect(store) as db:
            for table in ("batch", "part", "compacted"):
                db.execute(f"DELETE FROM {table}")
        db.close()
        site.start("utility")
        eventually(lambda: site.metric("utility", "commonwatt_utility_batches_total") >= 2)
        site.stop("r001 meters")
        sound(tmp_path / "town")
