"""The figures of the pages on policies and answers come from runs, and each marked part has its maker."""

from pathlib import Path

import numpy as np
import pytest

from commonwatt.model.records import RecordType
from harness.answers.__main__ import PAGES, filled, names_in, parts
from harness.answers.detail import DAYS, detail, emulated
from harness.docs.marked import DOCS
from scenarios.cli import run
from utility.supply.simulated.policies import POLICIES

TOWN = """
[[microgrid]]
id = "r"
kind = "residential"
count = 2
[[microgrid]]
id = "apt"
kind = "apartment"
apartments = 4
[[microgrid]]
id = "pub"
kind = "public"
"""


@pytest.mark.parametrize("name", PAGES)
def test_every_marked_part_of_a_page_has_a_maker_and_figures(name: str) -> None:
    page = (DOCS / name).read_text(encoding="utf-8")
    assert names_in(page)
    assert set(names_in(page)) <= set(parts(Path()))
    assert "-->\n<!-- end of figures" not in page, "run `make scenarios`"


def test_a_storms_part_is_made_from_its_results(tmp_path: Path) -> None:
    file = tmp_path / "town.toml"
    file.write_text(TOWN)
    run("storm", days=1, policy=list(POLICIES), town=file, out=tmp_path)
    page = "before\n<!-- figures of `make scenarios`: storm -->\nstale\n<!-- end of figures -->\nafter\n"
    made = filled(page, parts(tmp_path))
    assert "stale" not in made
    assert all(f"| `{policy}` |" in made for policy in POLICIES)
    assert made.startswith("before\n")
    assert made.endswith("\nafter\n")
    assert filled(made, parts(tmp_path)) == made


def test_lossless_changes_no_reading_and_averages_keep_quarter_hours() -> None:  # req: M7
    rows = {row[0]: row[1:] for row in detail(DAYS["June"], slots=120)}
    assert {changed for _, changed, *_ in rows.values()} == {"0"}
    # Six means of a quarter-hour, each rounded by at most half a milliwatt-hour, of ten slots.
    assert all(int(cells[-1].split()[0].replace(",", "")) <= 30 for name, cells in rows.items() if "level" not in name)


def test_emulated_readings_have_a_value_in_each_slot() -> None:
    found = emulated(DAYS["June"], 10)
    assert {kind for _, kind in found} == {RecordType.GENERATION, RecordType.STORED, RecordType.THROUGH}
    assert all(series.shape == (10,) and series.dtype == np.int64 for series in found.values())
