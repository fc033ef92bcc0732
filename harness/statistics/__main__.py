"""``python -m harness.statistics``: the backtest of projections on synthetic towns of several years.

--towns N    how many towns, by seed (default 3)
--years N    years of each (default 7); projected are those after the third
--houses N   houses of each (default 200)
--ahead N    months ahead (default 2: the next month, while the present one is not over)
"""

import argparse

from rich.console import Console
from rich.table import Table

from harness.statistics.backtest import scores
from harness.statistics.town import years_of
from utility.statistics.projection import NEXT_MONTH


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--towns", type=int, default=3)
    parser.add_argument("--years", type=int, default=7)
    parser.add_argument("--houses", type=int, default=200)
    parser.add_argument("--ahead", type=int, default=NEXT_MONTH)
    given = parser.parse_args()
    towns = [years_of(seed, given.years, given.houses) for seed in range(1, given.towns + 1)]
    table = Table(
        *(
            "quantity",
            "of",
            "months",
            "band holds",
            "pinball loss",
            "last year's band holds",
            "last year's loss",
            "less loss",
        ),
        title=f"{given.towns} towns of {given.years} years, {given.ahead} months ahead",
    )
    for quantity in ("imported", "exported", "used"):
        for one in scores(towns, quantity, given.ahead):
            better = 1 - one.loss / one.naive_loss
            held = (
                f"{100 * one.held:.1f} %",
                f"{one.loss:.4f}",
                f"{100 * one.naive_held:.1f} %",
                f"{one.naive_loss:.4f}",
            )
            table.add_row(quantity, one.scope, str(one.months), *held, f"{100 * better:.0f} %")
    Console(width=140).print(table)


if __name__ == "__main__":
    main()
