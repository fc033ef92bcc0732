"""Two head-ends, real Mosquittos with TLS, and one utility: the gateway goes from one that fails to the other."""

import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.network.waiting import eventually, free_port
from harness.real import forks
from harness.real.brokers import Mosquitto, render
from harness.real.site import Site, sound

TOWN = '[[microgrid]]\nid = "r001"\nkind = "residential"\nhouses = 2\n'
SECOND = "head-end-2"
# Shorter time-outs, which have no setting.
IMPATIENT = "import {0} as s; s.WATCH_EVERY_S = 0.2; s.HEAD_END_QUIET_S = 2.0; s.LINK_SILENT_S = 4.0"


class TwoEnds(Site):
    """A town whose head-end has a second one beside it, with the same devices."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, TOWN, plain_text=False)
        self.put_mosquitto("head-end")
        first = self.address("head-end")
        self.ends = (first, ("127.0.0.1", free_port()))
        shutil.copytree(self.folder / "head-end", self.folder / SECOND)
        config = self.folder / SECOND / "broker.toml"
        one, two = (f"{host}:{port}" for host, port in self.ends)
        config.write_text(config.read_text().replace(one, two))
        self._run = render(config, config.parent / "mosquitto")
        for name in ("r001 gateway", "utility"):
            path = self.layout.part(name).config
            path.write_text(path.read_text().replace(f'head_end = "{one}"', f'head_end = ["{one}", "{two}"]'))

    def second(self) -> Mosquitto:
        """Start the second head-end."""
        return Mosquitto(self._run, self.ends[1], self.folder / SECOND / "mosquitto.log")

    def hurry(self, name: str, module: str) -> None:
        """Start a part that notices a silence soon."""
        part = self.layout.part(name)
        first = IMPATIENT.format(module)
        command = [sys.executable, "-c", f"{first}; from commonwatt.cli.main import main; main()", *part.command[3:]]
        self.processes[name] = forks.start(command, part.log)
        eventually(lambda: self.status(name) is not None)

    @property
    def at(self) -> str:
        """The head-end with which the gateway is connected; empty: with none."""
        status = self.status("r001 gateway") or {}
        return str(status["head_end"]) if status.get("connected", {}).get("head_end") else ""

    def stored(self) -> int:
        status = self.status("utility") or {}
        return int(status.get("microgrids", {}).get("r001", {}).get("received_slots", 0))

    def goes_on(self, at: tuple[str, int]) -> None:
        """Wait until batches go over a head-end, and are acknowledged."""
        eventually(lambda: self.at == "{}:{}".format(*at))
        before = self.stored()
        eventually(lambda: self.stored() > before + 50)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[TwoEnds]:
    with TwoEnds(tmp_path / "site") as it:
        yield it


def test_a_gateway_goes_from_a_head_end_that_is_killed_or_deaf_to_the_other_and_nothing_is_lost(site: TwoEnds) -> None:
    first, second = site.ends
    with site.second() as other:
        site.start("head-end", "r001 broker")
        site.hurry("utility", "utility.assembly.head_ends")
        site.hurry("r001 gateway", "gateway.links")
        site.start("r001 meters")
        site.goes_on(first)
        site.kill("head-end")
        site.goes_on(second)
        assert (site.status("utility") or {})["head_ends"] == {
            "{}:{}".format(*first): False,
            "{}:{}".format(*second): True,
        }
        site.start("head-end")
        eventually(lambda: all((site.status("utility") or {})["head_ends"].values()))
        assert site.at == "{}:{}".format(*second), "both are equal: it stays"
        other.signal(signal.SIGSTOP)
        site.goes_on(first)
        assert "connecting to {}:{} again: silent".format(*second) in site.log("r001 gateway")
        other.signal(signal.SIGCONT)
        site.stop("r001 meters")
        eventually(lambda: (site.status("r001 gateway") or {})["backlog"]["parts"] == 0)
        site.stop("r001 gateway", "utility")
    audit = sound(site.folder)
    assert audit.total("stored_exact") > 150
