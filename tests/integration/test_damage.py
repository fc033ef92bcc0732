"""Row 5 of the faults on real processes: a gateway's store rots while it is stopped, and the town's audit is good."""

from pathlib import Path

from commonwatt.audit import audit_folder
from commonwatt.damage import set_aside_before
from tests.support.site import Site
from tests.support.waiting import eventually

TOWN = '[[microgrid]]\nid = "r001"\nkind = "residential"\nhouses = 1\npush_share = 1.0\n'
GATEWAY = "r001 gateway"


def damage(store: Path) -> None:
    """Spoil the schema: without it SQLite reads nothing of the file."""
    with store.open("r+b") as file:
        file.seek(2048)
        file.write(bytes(64))


def test_row_05_a_damaged_store_is_set_aside_and_the_town_loses_nothing(tmp_path: Path) -> None:
    with Site(tmp_path / "town", TOWN, speed=120) as site:
        site.start("head-end", "r001 broker", "utility", GATEWAY, "r001 meters")
        eventually(lambda: site.metric(GATEWAY, 'commonwatt_gateway_batches_total{result="acknowledged"}') >= 3)
        site.stop(GATEWAY)
        folder = tmp_path / "town" / "r001"
        damage(folder / "gateway.db")
        site.start(GATEWAY)
        eventually(lambda: site.metric(GATEWAY, "commonwatt_gateway_store_set_aside_total") == 1)
        (aside,) = set_aside_before(folder / "gateway.db")
        status = site.status(GATEWAY)
        assert status is not None
        assert status["store"]["set_aside"] == str(aside)
        assert "is damaged" in site.log(GATEWAY)
        eventually(lambda: site.metric(GATEWAY, 'commonwatt_gateway_batches_total{result="acknowledged"}') >= 3)
        site.stop("r001 meters")
        audit = audit_folder(tmp_path / "town")
        assert audit.good, audit
