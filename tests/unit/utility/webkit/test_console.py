"""What people are shown: the groups of pages, plots, what a page loads, and lists in the terminal."""

import csv
import io
import json
import re
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.commands import WHO, logged_in, run_as, shown
from harness.furnished import furnished
from tests.unit.utility.conftest import NOW
from utility.access.people import PEOPLE, Actor, Role, Via
from utility.database.database import open_database
from utility.webkit import cli as module
from utility.webkit.cli import Described, read
from utility.webkit.console.navigation import NAVIGATION, NavigationEntry, entries_for, groups_of
from utility.webkit.console.plots import MOST_MARKS, SOME_MISSING, Series, marks, plotted, thinned
from utility.webkit.console.rendering import FLOW_ICONS
from utility.webkit.console.static_files import load_static


def offered(role: Role) -> list[NavigationEntry]:
    return [entry for entry in NAVIGATION if role in entry.roles]


@pytest.mark.parametrize("role", sorted(PEOPLE))
def test_nobody_has_more_than_five_groups_to_choose_from(role: Role) -> None:
    groups = groups_of(offered(role))
    assert 1 <= len(groups) <= 5, [group.title for group in groups]
    assert len({group.title for group in groups}) == len(groups)


def test_a_page_is_in_one_group_and_so_are_the_pages_below_it() -> None:
    for here, title in (
        ("/console/microgrids/r001", "Town"),
        ("/console/quarantine/findings", "Billing"),
        ("/console/jobs/gaps", "Operation"),
    ):
        assert [group.title for group in groups_of(NAVIGATION) if group.holds(here)] == [title]
    assert not any(group.holds("/console/account") for group in groups_of(NAVIGATION))


@pytest.mark.parametrize("has_site", [False, True])
@pytest.mark.parametrize("is_demonstration", [False, True])
def test_a_street_of_one_microgrid_begins_with_its_page_and_has_none_of_towns(
    *, is_demonstration: bool, has_site: bool
) -> None:
    actor = Actor(name="one", roles=frozenset({Role.ADMIN}), account=None, via=Via.SESSION, address="")
    offered = entries_for(actor, is_demonstration, "street", has_site)
    assert (offered[0].title, offered[0].path) == ("Street", "/console/microgrids/street")
    paths = {entry.path for entry in offered}
    assert not {"/console/town", "/console/microgrids", "/console/fleet"} & paths
    assert ("/console/schedules" not in paths, "/console/setup" in paths) == (has_site, has_site), "it has no line"
    groups = [group.title for group in groups_of(offered)]
    assert groups[0] == "Street"
    assert len(set(groups)) == len(groups)


WORDS = {1: "averaged"}
slots = st.lists(st.tuples(st.integers(-(2**53), 2**53), st.integers(0, 2)), min_size=1, max_size=300)


def series(values: list[tuple[int, int]]) -> Series:
    energies = np.array([value if quality else 0 for value, quality in values], np.int64)
    quality = np.array([quality for _, quality in values], np.uint8)
    none = np.zeros(len(values), np.bool_)
    return Series(start=900, step_s=15, low=energies, high=energies, quality=quality, lacking=none)


@given(slots, st.integers(1, 40))
def test_each_step_of_a_thinned_series_has_the_extremes_of_what_it_stands_for(
    values: list[tuple[int, int]], most: int
) -> None:
    whole = series(values)
    found = thinned(whole, most)
    assert len(found) <= most
    many = found.step_s // whole.step_s
    for at in range(len(found)):
        some = [value for value, quality in values[at * many : (at + 1) * many] if quality]
        worst = [quality for _, quality in values[at * many : (at + 1) * many] if quality]
        assert int(found.quality[at]) == min(worst, default=0), "a step without any value is a gap, the others are not"
        assert bool(found.lacking[at]) == (0 < len(some) < len(values[at * many : (at + 1) * many]))
        if some:
            assert (int(found.low[at]), int(found.high[at])) == (min(some), max(some))


@given(slots)
def test_a_plot_draws_gaps_as_gaps_and_marks_what_is_not_exact(values: list[tuple[int, int]]) -> None:
    found = plotted(series(values), 0.5, WORDS)
    assert [value is None for value in found["high"]] == [quality == 0 for _, quality in values]
    assert found["missing"] == sum(quality == 0 for _, quality in values)
    assert "low" not in found, "one value a step is a line, not a band"
    marked = {at for begin, end, _ in found["marks"] for at in range(begin, end, 15)}
    if len(found["marks"]) < MOST_MARKS:
        assert marked == {900 + 15 * n for n, (_, quality) in enumerate(values) if quality == 1}


def test_a_step_that_lacks_a_value_is_marked() -> None:
    found = thinned(series([(5, 2), (0, 0), (7, 2), (7, 2)]), 2)
    assert marks(found, WORDS) == [(900, 930, SOME_MISSING)]


def test_marks_are_bounded() -> None:
    found = marks(series([(1, 1 + n % 2) for n in range(4 * MOST_MARKS)]), WORDS)
    assert len(found) == MOST_MARKS
    assert found[-1][1] == 900 + 15 * (4 * MOST_MARKS - 1)


ROOMS = Path(__file__).resolve().parents[4] / "utility"
PAGES = {path: path.read_text() for path in ROOMS.glob("*/templates/*.html")}
MOST_BYTES = 150_000  # of the files that a first visit loads


def test_no_line_of_a_template_is_longer_than_a_reader_sees() -> None:
    assert [path.name for path, text in PAGES.items() if max(map(len, text.splitlines())) > 160] == []


def test_first_visit_loads_little() -> None:
    base = next(text for path, text in PAGES.items() if path.name == "base.html")
    names = set(re.findall(r"static\('([^']+)'\)", base)) | {"icons.svg"}
    files = load_static().files
    sizes = {
        name: len(files[name].content if name.endswith("woff2") else files[name].compressed)
        for name in names - {"app.webmanifest", "worker.js"}
    }
    assert sum(sizes.values()) <= MOST_BYTES, sizes


def test_each_icon_that_is_named_is_in_the_picture_of_icons() -> None:
    shown = set(re.findall(r'<symbol id="([^"]+)"', load_static().files["icons.svg"].content.decode()))
    named = {name for text in PAGES.values() for name in re.findall(r'icon\("([^"]+)"\)', text)}
    named |= {group.icon for group in groups_of(NAVIGATION)} | set(FLOW_ICONS.values())
    assert named <= shown
    assert shown <= named, "an icon that no page shows"


@pytest.mark.parametrize("role", sorted(PEOPLE))
def test_a_role_is_offered_as_many_entries_as_a_phones_bar_has_room_for(role: Role) -> None:
    actor = Actor(name="one", roles=frozenset({role}), account=None, via=Via.SESSION, address="")
    assert 1 <= len(groups_of(entries_for(actor, is_demonstration=True))) <= 5


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("town")
    with furnished(folder, NOW):
        pass
    (folder / "utility.toml").write_text(f'[utility]\ndatabase = "sqlite:///{folder / "utility.db"}"\n')
    return folder / "utility.toml"


@pytest.fixture
def told(town: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Print in a terminal of 160 columns; return what is printed, or the error."""
    monkeypatch.setenv("COLUMNS", "160")

    def run(*words: str) -> str:
        try:
            return run_as(town, "show", *words)
        except SystemExit:
            return capsys.readouterr().err

    return run


def test_without_a_name_all_names_are_listed_with_their_filters(told: Callable[..., str]) -> None:
    lines = {line.split()[0]: line for line in told().splitlines() if line.strip()}
    assert "dead-letters" in lines
    assert {"runs/{number}/bills/{account}", "assignments/{microgrid}", "accounts"} <= lines.keys()
    assert lines["gaps"].split()[-1] == "limit"
    assert "(approver, clerk)" in told(), "who may read it, if not everybody at the utility"
    assert not {"export/bills", "metrics", "openapi.json", "console/town"} & lines.keys()


def test_everything_that_needs_no_further_word_is_shown_in_a_terminal(
    town: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    database = open_database(f"sqlite:///{town.with_name('utility.db')}", create=False)
    with closing(database), logged_in(database, town, (WHO, "anna")):
        things = [
            thing
            for thing in Described(read(town, "/openapi.json")).things
            if "{" not in thing.name and not any(thing.filters.values()) and Role.CLERK in (thing.roles or {Role.CLERK})
        ]
        for thing in things:
            module.show(town, [thing.name])
            assert capsys.readouterr().out.strip(), thing.name
    assert len(things) > 25


def test_a_list_is_the_same_as_a_table_as_csv_and_as_json(told: Callable[..., str], town: Path) -> None:
    rows = shown(town, "accounts")["accounts"]
    assert len(rows) > 3
    table = told("accounts").splitlines()
    assert table[0].strip() == f"accounts ({len(rows)} shown)"
    assert [int(line.split()[0]) for line in table[3:] if line.strip()] == [row["account"] for row in rows]
    read = list(csv.DictReader(io.StringIO(told("accounts", "--format", "csv"))))
    assert [json.loads(row["meters"]) for row in read] == [row["meters"] for row in rows]
    assert told("accounts", "account=1") != told("accounts")


def test_a_name_may_be_given_in_parts(told: Callable[..., str]) -> None:
    assert told("assignments/r001") == told("assignments", "r001") == told("/assignments/r001/")
    assert "r001" in told("assignments", "r001")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("gapz",), "gapz: nothing has this name; near: gaps; all names: commonwatt show"),
        (("gaps", "limt=3"), "limt: no filter of gaps; near: limit; it has: limit"),
        (("gaps", "limit=many"), "limit: Input should be a valid integer"),
        (("assignments", "r009"), "r009"),
        (("sharing",), "start: Field required"),
    ],
)
def test_what_is_wrong_is_named_with_what_is_near(told: Callable[..., str], words: tuple[str, ...], says: str) -> None:
    assert says in told(*words)
