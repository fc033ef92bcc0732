"""Memory and processor time of one process with the meters of many microgrids, and the plant."""

import os
import subprocess
import tempfile
from pathlib import Path
from threading import Event

from benchmarks.processes import MIB, Costs, memory_bytes
from harness.docs.measured import Goal, Section, Table, number
from harness.network.acknowledging import Acknowledging
from harness.network.waiting import eventually
from harness.real.broker_process import resident_bytes
from harness.real.site import Site

TOWN = '[[microgrid]]\nid = "r"\nkind = "residential"\ncount = {}\n'
COUNTS = (1, 10, 100)
RUN_S = 90.0  # at real speed: six slots, and one put of each meter or two
MOST_MIB = 500  # the goal for 100 residential microgrids


class Sizes:
    """A fleet after some time.

    Attributes:
        meters: Its meters.
        resident: Resident memory (RSS), bytes.
        own: Memory that no other process shares, with its part of the shared one (PSS), bytes.
        cores: Busy cores.
    """

    def __init__(self, folder: Path, microgrids: int, seconds: float, speed: float) -> None:
        with Site(folder, TOWN.format(microgrids), speed=speed) as site:
            names = list(site.layout.town.microgrids)
            self.meters = len(site.layout.town.meters)
            brokers = [site.address(f"{name} meters", "broker") for name in names]
            with Acknowledging(brokers) as listener:
                part = site.layout.part("meters")
                with part.log.open("ab") as log:
                    # A process of its own, not a fork of this one, which would share this one's memory.
                    process = subprocess.Popen(part.command, stdout=log, stderr=log)
                try:
                    eventually(lambda: listener.counts["connected"] >= self.meters)
                    costs, puts = Costs({"meters": process.pid}), listener.counts["puts"]
                    Event().wait(seconds)
                    eventually(lambda: listener.counts["puts"] > puts)
                    self.cores = costs.cores()["meters"]
                    self.resident, self.own = resident_bytes(process.pid), memory_bytes(process.pid)
                finally:
                    process.terminate()
                    process.wait()


def bench(*, smoke: bool = False) -> Section:
    """Measure fleets of several sizes."""
    with tempfile.TemporaryDirectory() as folder:
        found = {
            count: Sizes(Path(folder) / str(count), count, *((0.5, 60) if smoke else (RUN_S, 1)))
            for count in (COUNTS[:1] if smoke else COUNTS)
        }
    rows = tuple(
        (
            f"{count} ({number(sizes.meters)} meters)",
            number(sizes.resident / MIB),
            number(sizes.own / MIB),
            f"{sizes.cores:.2f}",
        )
        for count, sizes in found.items()
    )
    columns = ("residential microgrids", "resident (RSS), MiB", "proportional (PSS), MiB", "cores at real speed")
    table = Table(title="One process with the meters of residential microgrids", columns=columns, rows=rows)
    largest = found[max(found)]
    goals = [
        Goal(
            what=f"resident memory of {max(found)} residential microgrids in one process",
            value=largest.resident / MIB,
            unit="MiB",
            at_most=MOST_MIB,
            limited_by="Each meter has a connection, and each microgrid a store.",
        )
    ]
    return Section(
        title="A fleet of emulated meters",
        about=(
            f"One process with the meters of many residential microgrids and the plant, after {RUN_S:.0f} s at real "
            "speed. Each meter has its own connection; a listener acknowledges each put, as brokers and gateways do. "
            f"The process has {os.cpu_count()} cores to share with the listener."
        ),
        tables=(table,),
        goals=() if smoke else tuple(goals),
    )
