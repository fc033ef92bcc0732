"""``python -m harness.past``: makes the past of the demonstration anew, about 10 minutes; ``make past``.

--out FILE  write the archive there (default commonwatt/demo/past.tar.zst)
"""

import argparse
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from commonwatt.demo.layout import BUILT_IN_TOWN, STARTS_AT
from commonwatt.demo.parts import SHIPPED
from commonwatt.runtime.service import progress_bar
from commonwatt.town.loading import load_town
from commonwatt.town.town import Direction, Town
from harness.past.energy import Fault, Span
from harness.past.making import Asked, Late, make, write_archive

LATE_HOUSE = 3  # the account whose meter was late, so that its bill was corrected


def of_demonstration(folder: Path) -> Asked:
    """Return the past of the demonstration."""
    town = load_town(BUILT_IN_TOWN)
    span = Span(
        first=_day(2025, 5, 1),
        fine=_day(2026, 6, 13),
        end=STARTS_AT,
        faults=(
            Fault(start=_time(2025, 10, 12, 12), hours=6, announced=_time(2025, 10, 11, 14)),
            Fault(start=_time(2026, 6, 16, 23), hours=3),
        ),
    )
    late = Late(meter=_meter(town, LATE_HOUSE), day=_day(2026, 2, 10))
    release = (_time(2026, 6, 14), _time(2026, 6, 20))
    return Asked(town=town, span=span, folder=folder, late=late, release=release)


def _time(*date: int) -> int:
    return int(datetime(*date, tzinfo=UTC).timestamp())  # type: ignore[misc,arg-type]


def _day(*date: int) -> int:
    return _time(*date) // 86_400


def _meter(town: Town, account: int) -> int:
    return next(m.id for m in town.meters if m.account == account and m.direction is Direction.INCOMING)


def main() -> None:
    """Make the past, and write it where the demonstration reads it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=SHIPPED)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, progress_bar() as progress:
        task = progress.add_task("", total=1)
        asked = of_demonstration(Path(name))
        make(asked, lambda what, part: progress.update(task, description=what, completed=part))
        write_archive(asked, given.out)
    print(f"{given.out}: {given.out.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
