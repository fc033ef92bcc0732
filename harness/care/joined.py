"""A town of 84 controllers that one person sets up by labels: ``python -m harness.care.joined [--folder FOLDER]``.

The office, the utility and each controller run the installed commands, in network namespaces: the utility, two hosts
with the gateways and brokers of 40 controllers each, four controllers alone, the meters, and two machines of strangers.
Then strangers try to join and renew; each must be refused, and its alarm stand on the utility's board.
"""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import mean
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from harness.care.effort import table, with_bundles
from harness.care.fleet import BY_FILE, NAMES, Fleet
from harness.care.strangers import tries
from harness.network.waiting import eventually
from harness.real import forks
from harness.takeover.real.namespaces import why_not

WITHIN_S = 600.0  # seconds within which all 84 have sent readings: two processors run all their parts


def run(fleet: Fleet, say: Callable[[str], object]) -> None:
    """Set up the town, wait until all of it is seen, and let strangers try."""
    fleet.set_up_utility()
    say(f"the utility runs; {len(NAMES)} controllers join")
    joined = [fleet.join(name) for name in NAMES]
    say(table(fleet.effort, with_bundles(fleet.site, NAMES), len(BY_FILE)))
    say(f"a join on the line, both ways: {mean(joined):,.0f} bytes in the mean, {max(joined):,} at most")
    fleet.start_all()
    began = time.monotonic()
    eventually(lambda: set(fleet.seen().values()) == {len(NAMES)}, WITHIN_S)
    say(f"seen by the utility after {time.monotonic() - began:.0f} s: {fleet.seen()}")
    for line in tries(fleet):
        say(line)


def main(folder: Annotated[Path | None, typer.Option(help="A new folder for all files, which stay.")] = None) -> None:
    """Set up the town, and print what it took and who was refused."""
    if why := why_not():
        raise SystemExit(why)
    forks.enable()
    with TemporaryDirectory(prefix="joined-") as own:
        fleet = Fleet(folder or Path(own))
        try:
            run(fleet, partial(print, flush=True))
        finally:
            fleet.close()


if __name__ == "__main__":
    typer.run(main)
