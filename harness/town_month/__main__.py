"""``python -m harness.town_month``: a month of the whole town from a scenario to issued bills; ``make town-month``.

--scenario NAME  its weather and demand (default normal)
--month MONTH    the local month (default 2026-10)
--days N         its last N days only (default: all)
--small          a town of five microgrids
--out FOLDER     keep the database there
"""

import argparse
import shutil
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table

from commonwatt.runtime.service import progress_bar
from commonwatt.town.loading import WHOLE_TOWN, load_town
from harness.settlement.emulated import small_town
from harness.town_month.month import Asked, Made, make
from utility.energy.quarters import Quantity


def main() -> None:
    """Make the month, and print what it took and gave."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenario", default="normal")
    parser.add_argument("--month", default="2026-10")
    parser.add_argument("--days", type=int, default=31)
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    town = small_town(50) if given.small else load_town(WHOLE_TOWN)
    with tempfile.TemporaryDirectory() as folder:
        asked = Asked(town=town, scenario=given.scenario, month=given.month, days=given.days, folder=Path(folder))
        with progress_bar() as progress:
            task = progress.add_task("", total=1)
            made = make(asked, lambda what, part: progress.update(task, description=what, completed=part))
        _show(made)
        if given.out is not None:
            shutil.copytree(folder, given.out, dirs_exist_ok=True)


def _show(made: Made) -> None:
    console = Console()
    table = Table("step", "seconds", title="From a scenario to issued bills")
    for step, seconds in made.seconds.items():
        table.add_row(step, f"{seconds:.1f}")
    console.print(table)
    for quantity in (Quantity.IMPORTED, Quantity.EXPORTED):
        flowed, settled = made.flowed[quantity], made.settled[quantity]
        console.print(
            f"{quantity.name.lower()} over the boundaries: {flowed / 1e9:.6f} MWh flowed, {settled / 1e9:.6f} settled"
        )
    figures = made.run["figures"]
    console.print(f"run {made.run['no']}: {made.run['state']}, {figures['bills']} bills, {figures['total']} dollars")


if __name__ == "__main__":
    main()
