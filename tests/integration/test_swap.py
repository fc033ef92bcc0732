"""A controller is exchanged while meters, utility and town go on; the audit finds nothing lost and nothing doubled."""

from pathlib import Path

import pytest

from harness.network.waiting import eventually
from harness.real import forks
from harness.real.site import Site, sound

TOWN = '[[microgrid]]\nid = "r001"\nkind = "residential"\nhouses = 2\npush_share = 1.0\n'
GATEWAY, BROKER, HEAD_END = "r001 gateway", "r001 broker", "head-end"
BACKLOG = 'commonwatt_gateway_backlog{kind="parts"}'
ACKNOWLEDGED = 'commonwatt_gateway_batches_total{result="acknowledged"}'


def command(site: Site, *words: str) -> tuple[int, str]:
    """Run a command of the gateway with the controller's file; return its exit code and all that it prints."""
    part = site.layout.part(GATEWAY)
    done = forks.run([*part.command[:3], "gateway", *words, "--config", str(part.config)], timeout=60)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("late", [False, True], ids=["before its first start", "after it stored records"])
def test_a_new_controller_takes_over_while_meters_go_on(late: bool, tmp_path: Path) -> None:
    with Site(tmp_path / "town", TOWN, speed=120) as site:
        folder = site.layout.part(GATEWAY).config.parent
        handover = tmp_path / "r001.handover"
        site.start(HEAD_END, BROKER, "utility", GATEWAY, "r001 meters")
        eventually(lambda: site.metric(GATEWAY, ACKNOWLEDGED) >= 2)
        # Without the line, records wait in the old controller's store alone: its meters have deleted them.
        site.stop(HEAD_END)
        waited = site.metric(GATEWAY, BACKLOG)
        eventually(lambda: site.metric(GATEWAY, BACKLOG) >= waited + 20)

        refused, said = command(site, "release", "--out", str(handover))
        assert refused == 2, said
        assert "a running gateway is using it; stop that one" in said
        site.stop(GATEWAY, BROKER)
        assert command(site, "release", "--out", str(handover))[0] == 0
        again = forks.run(site.layout.part(GATEWAY).command, timeout=60)
        assert again.returncode == 2
        assert "was handed over to a new controller" in again.stderr

        # The new machine has the old one's address, and a folder without its files.
        for path in folder.glob("gateway.db*"):
            path.rename(tmp_path / path.name)
        if late:
            site.start(BROKER, GATEWAY)
            eventually(lambda: site.metric(GATEWAY, BACKLOG) >= 5)
            site.stop(GATEWAY)
        code, said = command(site, "take-over", str(handover))
        assert code == 0, said
        assert ("had records; " if late else "is the store that was released") in said
        site.start(*([] if late else [BROKER]), GATEWAY, HEAD_END)
        eventually(lambda: site.metric(GATEWAY, ACKNOWLEDGED) >= 2)
        site.stop("r001 meters")
        eventually(lambda: site.metric(GATEWAY, BACKLOG) == 0)
        sound(site.folder)
        assert site.metric(GATEWAY, "commonwatt_gateway_gone_ids") == 0
