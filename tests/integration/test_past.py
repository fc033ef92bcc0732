"""The demonstration begins with a past, and goes on from it."""

from contextlib import closing
from pathlib import Path

from sqlalchemy import func, select

from commonwatt.demo.layout import STARTS_AT
from commonwatt.model.units import QUARTER_S
from harness.real.demonstration import FORKING
from tests.integration.test_town import PERFECT, amiss, demo, report_of, running
from utility.billing.bill import LineKind
from utility.billing.store.runs import bills_of_run, runs
from utility.database.database import Database, open_database
from utility.readings.store.batches import execute, fresh
from utility.readings.tables import compacted, gap
from utility.research.tables import research_release


def months_of(database: Database) -> dict[str, list[LineKind]]:
    """Return the issued months, and the kinds of lines of their bills."""
    with database.reads.begin() as connection:
        issued = [run for run in runs(connection, 100) if run["state"] == "issued"]
        return {
            run["month"]: [line.kind for bill in bills_of_run(connection, run["no"]) for line in bill.lines]
            for run in issued
        }


def test_the_demonstration_has_issued_bills_and_goes_on_from_its_past_without_a_gap(tmp_path: Path) -> None:
    data = tmp_path / "town"
    with running(demo(data, "--for", "20s", program=FORKING), tmp_path) as (process, said):
        output = said.read()
    assert process.returncode == 0, output
    assert "left out: the town's emulated past, which is everything before 2026-06-20 14:00:00Z" in output
    assert amiss(report_of(data)) == PERFECT
    with closing(open_database(f"sqlite:///{data / 'utility' / 'utility.db'}", create=False)) as database:
        months = months_of(database)
        assert (min(months), max(months), len(months)) == ("2025-05", "2026-05", 13)
        assert [month for month, kinds in months.items() if LineKind.CORRECTION in kinds] == ["2026-03"]
        with database.reads.begin() as connection:
            quarters = {
                quarter
                for table in (compacted, fresh)
                for quarter in execute(connection, select(table.c.quarter).distinct()).scalars()
            }
            # At its end the meters stop within a quarter-hour, which may be searched then.
            of_the_past = select(func.count()).where(gap.c.quarter < STARTS_AT // QUARTER_S)
            assert connection.execute(of_the_past).scalar_one() == 0
            made = connection.execute(select(research_release.c.id)).scalar_one()
    assert quarters == set(range(min(quarters), max(quarters) + 1))
    assert min(quarters) < STARTS_AT // QUARTER_S - 7 * 96 < STARTS_AT // QUARTER_S < max(quarters)
    assert (data / "utility" / "releases" / made).is_dir()
