"""A controller whose root is read-only: gateway and broker write to the gateway's store folder alone."""

from pathlib import Path

from harness.network.waiting import eventually
from harness.real.parts import need_root
from harness.real.site import Site

TOWN = '[[microgrid]]\nid = "r001"\nkind = "residential"\nhouses = 1\n'

ALONE = 'mount --bind "$0" "$0" && mount -o remount,bind,ro / && exec "$@"'
"""Runs a command in a mount namespace in which one folder of the root's file system can be written."""


def test_a_gateway_and_its_broker_work_with_a_read_only_root(tmp_path: Path) -> None:
    need_root("a root is mounted read-only, for two processes")
    card, refused = tmp_path / "card", tmp_path / "refused"
    card.mkdir()
    with Site(tmp_path / "town", TOWN) as site:
        site.add_setting("r001 gateway", f'store = "{card / "gateway.db"}"')
        for name in ("r001 gateway", "r001 broker"):
            command = ["sh", "-c", f'! touch {refused} && exec "$@"', "sh", *site.layout.part(name).command]
            site.commands[name] = ["unshare", "--mount", "sh", "-c", ALONE, str(card), *command]
        site.start("head-end", "utility", "r001 broker", "r001 gateway", "r001 meters")

        def relayed() -> int:
            return int((site.status("r001 gateway") or {"relayed_slots": 0})["relayed_slots"])

        eventually(lambda: relayed() > 0)
        before = relayed()
        site.kill("r001 gateway")
        site.start("r001 gateway")
        eventually(lambda: relayed() > before)
        site.stop("r001 gateway", "r001 broker")
        assert not refused.exists()
        assert {path.name for path in card.iterdir()} <= {"gateway.db", "gateway.db.ballast", "gateway.db.lock"}
