"""A person at the office asks a controller for a report, and prints it."""

import sys
from pathlib import Path

from harness.network.waiting import eventually
from harness.real import forks
from harness.real.site import Site

TOWN = '[[microgrid]]\nid = "r001"\nkind = "residential"\nhouses = 2\n'


def commonwatt(*words: object) -> str:
    done = forks.run([sys.executable, "-m", "commonwatt", *map(str, words)])
    assert done.returncode == 0, done.stderr
    return str(done.stdout)


def test_a_report_is_printed_at_the_office(tmp_path: Path) -> None:
    with Site(tmp_path / "town", TOWN) as site:
        config = site.layout.part("utility").config
        site.start("head-end", "utility", "r001 broker", "r001 gateway")
        eventually(lambda: site.ask("r001 gateway", "/status")["connected"]["head_end"])
        asked = commonwatt("utility", "command", "r001", "report", "--wait", "--config", config)
        assert "r001: done" in asked
        printed = commonwatt("fleet", "report", "r001", "--config", config)
        for word in ("report of r001 at", "== alarms", "== doctor", "== machine", "log of this process", "Python"):
            assert word in printed
