"""Releases for researchers from a database: what is written, what is refused, who approves, what is logged."""

import csv
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from commonwatt.model.calendar import iso, parse_time
from commonwatt.model.units import QUARTER_S
from commonwatt.runtime.clock import Clock
from commonwatt.town.town import Town
from harness.commands import WHO, logged_in, shown, typed
from harness.furnished import CANARY, found_in
from harness.research import emulated_homes, emulated_town
from harness.surroundings import databases
from harness.surroundings.stored import store_homes
from utility.access.store import audit_log
from utility.customers.people import Contact
from utility.customers.store import set_contact
from utility.database.database import Database, open_database
from utility.database.migrate import empty_database
from utility.registry.store.accounts import load_dated_registry
from utility.research import store as store
from utility.research.cli import app
from utility.research.homes import HomeMeasure, Homes, homes_of
from utility.research.jobs.files import write_release
from utility.webkit import cli as options

DAY_S = 86_400


@lru_cache(maxsize=1)
def small_town() -> tuple[Town, Homes]:
    """Twenty houses over two days; eight quarter-hours of the first are missing."""
    town = emulated_town(20, 0)
    homes = emulated_homes(town, 2)
    homes.known[0, 48:56] = False
    return town, homes


@lru_cache(maxsize=1)
def filled_file() -> bytes:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "utility.db"
        path.write_bytes(empty_database())
        database = open_database(f"sqlite:///{path}", create=True)
        store_homes(database, *small_town())
        database.close()
        return path.read_bytes()


@pytest.fixture
def database(url: str, kind: str) -> Iterator[Database]:
    if kind == "sqlite":
        Path(url.removeprefix("sqlite:///")).write_bytes(filled_file())
    opened = open_database(url, create=True)
    if kind == "postgresql":
        store_homes(opened, *small_town())
    yield opened
    opened.close()


Research = Callable[..., str]


@pytest.fixture
def research(tmp_path: Path, url: str, kind: str, database: Database, monkeypatch: pytest.MonkeyPatch) -> Research:
    """Run a command of research, which must exit with ``code``; return its output. ``{out}`` is a new folder."""
    homes = small_town()[1]
    now = homes.start + 4 * DAY_S
    monkeypatch.setattr(options, "load_clock", lambda _: Clock(origin=now, monotonic_origin=0, speed=0))
    address = url.replace("@", ":secret@") if kind == "postgresql" else url
    config = tmp_path / "utility.toml"

    def run(*words: str, code: int = 0, limit: float = 100) -> str:
        config.write_text(f'[utility]\ndatabase = "{address}"\n[utility.research]\nlimit_percent = {limit}\n')
        if words[0] == "do":
            return typed(config, database, *words, code=code)
        with logged_in(database, config, words) as left:
            done = CliRunner(env={"COLUMNS": "250"}).invoke(app, [*left, "--config", str(config)])
        assert done.exit_code == code, done.output
        return " ".join(done.output.split())

    return run


def period(first: int = 0, last: int = 2) -> list[str]:
    start = small_town()[1].start
    return ["--from", iso(start + first * DAY_S), "--to", str(start + last * DAY_S)]


def log_of(database: Database) -> list[tuple[str, str, str]]:
    """Return the audit log's person, action and state of releases, the newest first."""
    with database.reads.begin() as connection:
        found = audit_log.entries(connection, audit_log.AuditFilter(action="release."), 99)
    return [(one["person"], one["action"], json.loads(one["after"] or "{}").get("state", "")) for one in found]


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@databases.on_both_kinds
def test_homes_are_read_from_the_store_as_they_were_measured(database: Database) -> None:
    _, truth = small_town()
    first, until = truth.start // QUARTER_S, truth.start // QUARTER_S + 2 * 96
    with database.reads.begin() as connection:
        homes, meters = homes_of(load_dated_registry(connection), first, until)
    assert homes == truth.homes
    read = store.load_quarters(database, homes, meters, first, until)
    # The level before the next quarter is missing, too.
    known = truth.known.copy()
    known[0, 56] = False
    assert (read.known == known).all()
    for measure in HomeMeasure:
        assert (read.values[measure] == truth.values[measure] * known).all(), measure
    slots = store.load_slots(database, homes, meters, first, first + 8)
    assert slots.known[1:].all()
    for measure in HomeMeasure:
        assert (slots.in_steps(QUARTER_S).values[measure][1:] == truth.values[measure][1:, :8]).all(), measure


def test_an_open_release_has_sums_dictionary_licence_and_attacks(  # req: U7
    research: Research, tmp_path: Path, database: Database
) -> None:
    del database
    truth = small_town()[1]
    said = research("release", "open", *period(), "--out", str(tmp_path / "out"), "--as", "anna")
    assert "20 homes" in said
    folder = tmp_path / "out"
    assert {"groups.csv", "sums.csv", "README.md", "LICENCE.txt", "datapackage.json"} <= set(contents(folder))
    groups, sums = rows_of(folder / "groups.csv"), rows_of(folder / "sums.csv")
    assert sum(int(row["homes"]) for row in groups) == 20
    assert len(sums) == len(groups) * 192
    shown = [row for row in sums if row["used_wh"]]
    assert len(shown) > 0.4 * len(sums)
    assert all(int(row["used_wh"]) % 100 == 0 for row in shown)
    totals = dict(zip(map(iso, truth.times.tolist()), truth.values[HomeMeasure.USED].sum(axis=0).tolist(), strict=True))
    for row in shown:
        missing = 2_000_000 if truth.times[48] <= parse_time(row["start"], "") <= truth.times[56] else 0
        assert abs(int(row["used_wh"]) * 1000 - totals[row["start"]]) <= 50_000 + missing
    readme = (folder / "README.md").read_text()
    for word in ("group by half-hours", "group by bills", "use by bill and group", "used_wh", "No home has more than"):
        assert word in readme
    assert "CC BY 4.0" in (folder / "LICENCE.txt").read_text()
    package = json.loads((folder / "datapackage.json").read_text())
    names = {field["name"] for one in package["resources"] for field in one["schema"]["fields"]}
    assert names == {"group", "function", "homes", "start", "used_wh", "generated_wh"}
    assert package["id"] in said
    assert package["release"]["attacks"][0]["trials"] > 100


def test_no_release_has_who_the_people_of_its_homes_are(research: Research, tmp_path: Path, database: Database) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    with database.writes.begin() as connection:
        accounts = load_dated_registry(connection).accounts
        for account in accounts:
            set_contact(connection, account, 0, Contact(**CANARY), b"k" * 32)  # type: ignore[arg-type]
    assert len(accounts) >= 20
    research("do", "agreements", "name=lab", "until=2030-01-01T00:00Z", "--as", "ben")
    tiers: dict[str, list[str]] = {"open": [], "homes": ["--agreement", "lab"]}
    for tier, words in tiers.items():
        out = tmp_path / tier
        research("release", tier, *period(), *words, "--out", str(out), "--as", "anna")
        files = contents(out)
        assert any(name.endswith(".csv") for name in files)
        columns = [str(parquet.read_table(out / name).to_pydict()) for name in files if name.endswith(".parquet")]
        assert columns
        searched = b" ".join([*files.values(), *map(str.encode, [*files, *columns])])
        assert found_in(searched) == [], tier


def test_parquet_has_what_csv_has(research: Research, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    research("release", "open", *period(), "--out", str(tmp_path / "out"), "--as", "anna")
    rows = parquet.read_table(tmp_path / "out" / "sums.parquet").to_pylist()
    told = [
        {"group": row["group"], "start": iso(int(row["start"].timestamp()))}
        | {name: "" if row[name] is None else f"{row[name]:.0f}" for name in ("used_wh", "generated_wh")}
        for row in rows
    ]
    assert told == rows_of(tmp_path / "out" / "sums.csv")


def test_the_same_release_is_the_same_bytes_and_its_files_name_no_home(research: Research, tmp_path: Path) -> None:
    for name in ("one", "two"):
        research("release", "open", *period(), "--out", str(tmp_path / name), "--as", "anna")
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    research("do", "agreements", "name=lab", "until=2030-01-01T00:00Z", "--as", "ben")
    words = ["release", "homes", *period(), "--agreement", "lab", "--as", "anna", "--noise", "20", "--sample", "50"]
    for name in ("three", "four"):
        research(*words, "--out", str(tmp_path / name))
    assert contents(tmp_path / "three") == contents(tmp_path / "four")
    for name in ("one", "three"):
        for path, content in contents(tmp_path / name).items():
            assert b"house 1" not in content, path
            assert b"r001" not in content, path


def test_pseudonyms_of_two_releases_cant_be_joined(research: Research, tmp_path: Path) -> None:
    research("do", "agreements", "name=lab", "until=2030-01-01T00:00Z", "--as", "ben")
    names = []
    for number, (first, last) in enumerate(((0, 1), (1, 2))):
        out = tmp_path / str(number)
        words = ["--agreement", "lab", "--as", "anna", "--out", str(out)]
        research("release", "homes", *period(first, last), *words)
        listed = [row["home"] for row in rows_of(out / "homes.csv")]
        assert listed == sorted(listed), "the order tells nothing"
        assert len(listed) == 20
        names.append(set(listed))
        readings = rows_of(out / "readings.csv")
        assert len(readings) == 20 * 96
        assert sum(row["used_wh"] == "" for row in readings) == (9 if number == 0 else 0)
        readme = (out / "README.md").read_text()
        assert "can be identified" in readme
        assert 'agreement "lab"' in (out / "LICENCE.txt").read_text()
        attacks = {a["attack"]: a for a in json.loads((out / "datapackage.json").read_text())["release"]["attacks"]}
        assert min(attacks["half-hours"]["success"], attacks["bills"]["success"]) > 0.9, "it is printed, not hidden"
    assert not names[0] & names[1]


def test_slots_are_released_by_day_and_attacked(research: Research, tmp_path: Path) -> None:
    research("do", "agreements", "name=lab", "until=2030-01-01T00:00Z", "--as", "ben")
    out = tmp_path / "out"
    words = ["--sample", "20", "--step", "300", "--agreement", "lab", "--as", "anna", "--out", str(out)]
    said = research("release", "homes", *period(0, 1), *words)
    assert "4 homes" in said
    truth = small_town()[1]
    day = iso(truth.start)[:10]
    readings = rows_of(out / f"readings-{day}.csv")
    assert len(readings) == 4 * 288
    package = json.loads((out / "datapackage.json").read_text())
    found = {a["attack"]: a["success"] for a in package["release"]["attacks"]}
    assert found["half-hours"] == pytest.approx(0.2, abs=0.06), "four of twenty homes are in it"


@databases.on_both_kinds
def test_above_the_limit_a_second_person_approves(research: Research, tmp_path: Path, database: Database) -> None:
    words = ["release", "open", *period(), "--out", str(tmp_path / "out"), "--as", "anna"]
    said = research(*words, code=1, limit=0)
    assert "a second person approves it" in " ".join(said.lower().split())
    assert not (tmp_path / "out").exists()
    (waiting,) = shown(tmp_path / "utility.toml", "releases", WHO, "anna")["releases"]
    assert (waiting["state"], waiting["asked_by"]) == ("waiting", "anna")
    approve = ["do", f"releases/{waiting['id']}/approve", "why=small town, looked at", "--as"]
    assert "anna asked for it; a second person" in research(*approve, "anna", code=2)
    assert "log in with: commonwatt login" in research(*approve[:-1], code=2)
    assert "there is no such release" in research("do", "releases/x/approve", "why=y", "--as", "ben", code=2)
    assert "why: 1 to 200" in research(*approve[:2], "why= ", "--as", "ben", code=2)
    research(*approve, "ben")
    assert "is approved already" in research(*approve, "ben", code=2)
    assert waiting["id"] in research(*words, limit=0)
    assert (tmp_path / "out" / "sums.csv").is_file()
    (done,) = shown(tmp_path / "utility.toml", "releases", WHO, "anna")["releases"]
    assert (done["state"], done["decided_by"], done["why"]) == ("released", "ben", "small town, looked at")
    assert log_of(database) == [
        ("anna", "release.make", "released"),
        ("anna", "release.read", ""),
        ("ben", "release.approve", "approved"),
        ("anna", "release.make", "waiting"),
        ("anna", "release.read", ""),
    ]


def test_two_releases_of_the_same_time_have_no_difference_to_take(
    research: Research, tmp_path: Path, database: Database
) -> None:
    def open_release(name: str, *words: str, code: int = 0) -> str:
        return research("release", "open", *words, "--out", str(tmp_path / name), "--as", "anna", code=code)

    open_release("first", *period())
    for words in ([*period(0, 1)], [*period(), "--step", "3600"], [*period(), "--homes", "18"]):
        said = open_release("other", *words, code=2)
        assert "could be subtracted" in said
    assert "20 homes" in open_release("again", *period())
    # Late readings of one home change the sums.
    town, homes = small_town()
    late = replace(homes, known=np.zeros_like(homes.known), values={m: v.copy() for m, v in homes.values.items()})
    late.known[0, 48:56] = True
    for measure in (HomeMeasure.USED, HomeMeasure.TAKEN):
        late.values[measure][0, 48:56] += 500_000
    store_homes(database, town, late, compacts=False)
    assert "are not joined yet" in open_release("second", *period(), code=2)
    store_homes(database, town, late)
    assert "every group has changed since an earlier release" in open_release("second", *period(), code=2)


@databases.on_both_kinds
def test_two_open_releases_at_once_are_not_both_made(
    research: Research, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    others = ["ben"]

    def meanwhile(*arguments: Any) -> Any:
        if others:
            research("release", "open", *period(), "--out", str(tmp_path / "other"), "--as", others.pop())
        return write_release(*arguments)

    monkeypatch.setattr("utility.research.jobs.releases.write_release", meanwhile)
    words = ["release", "open", *period(), "--out", str(tmp_path / "out"), "--as", "anna"]
    assert "made meanwhile" in research(*words, code=2)
    assert (tmp_path / "other").is_dir()
    assert not (tmp_path / "out").exists()


def test_identifiable_data_needs_an_agreement_that_holds(
    research: Research, tmp_path: Path, database: Database
) -> None:
    words = ["release", "homes", *period(), "--out", str(tmp_path / "out"), "--as", "anna"]
    assert "agreement: homes can be identified, so one is needed" in research(*words, code=2)
    assert "there is none of this name" in research(*words, "--agreement", "lab", code=2)
    past = research("do", "agreements", "name=lab", "until=2001-01-01T00:00Z", "--as", "ben", code=2)
    assert "until: has to be a day from" in past
    soon = str(small_town()[1].start + 4 * DAY_S + 1)
    research("do", "agreements", "name=lab", f"until={soon}", "--as", "ben")
    assert "agreement of this name" in research("do", "agreements", "name=lab", f"until={soon}", "--as", "ben", code=2)
    assert "lab" in {one["name"] for one in shown(tmp_path / "utility.toml", "agreements", WHO, "anna")["agreements"]}
    research(*words, "--agreement", "lab")
    with database.reads.begin() as connection:
        made, read = audit_log.entries(connection, audit_log.AuditFilter(action="release."), 9)
    assert json.loads(made["after"])["asked"].endswith(" lab")
    assert read["subject"].endswith(" lab")


def test_an_agreement_that_has_ended_is_refused(
    research: Research, tmp_path: Path, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = small_town()[1].start
    research("do", "agreements", "name=lab", f"until={start + 5 * DAY_S!s}", "--as", "ben")
    late = Clock(origin=start + 6 * DAY_S, monotonic_origin=0, speed=0)
    monkeypatch.setattr(options, "load_clock", lambda _: late)
    words = ["release", "homes", *period(), "--out", str(tmp_path / "out"), "--as", "anna", "--agreement", "lab"]
    assert "ended" in research(*words, code=2)
    assert log_of(database) == [], "nothing was read"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["open", "--from", "yesterday", "--to", "0"], "--from: 'yesterday' is no time"),
        (["open", "--from", "2026-06-01T00:00", "--to", "2026-06-02T00:00Z"], "no offset from UTC"),
        (["open", "--from", "2026-06-01T00:07Z", "--to", "2026-06-03T00:00Z"], "is not on an hour"),
        (["open", "--from", "2026-06-01T00:00Z", "--to", "2026-06-01T05:00Z"], "less than a day after"),
        (["open", "--from", "2099-06-01T00:00Z", "--to", "2099-06-03T00:00Z"], "is not over"),
        (["open", *period(), "--round", "10"], "round: not an option of open"),
        (["open", *period(), "--step", "60"], "step 60: of open one of 900, 3600"),
        (["open", *period(), "--homes", "100"], "at least 100 are needed"),
        (["homes", *period(), "--step", "15", "--noise", "20"], "noise: not an option of homes in steps of 15 s"),
        (["homes", *period(), "--homes", "20"], "homes: not an option of homes"),
    ],
)
def test_wrong_input_is_named_and_nothing_is_written(
    research: Research, tmp_path: Path, words: list[str], told: str
) -> None:
    assert told in research("release", *words, "--out", str(tmp_path / "out"), "--as", "anna", code=2)
    assert not (tmp_path / "out").exists()
    assert shown(tmp_path / "utility.toml", "releases", WHO, "anna")["releases"] == []


def test_wrong_folders_secrets_and_people_are_named(research: Research, tmp_path: Path) -> None:
    words = ["release", "open", *period(), "--as", "anna", "--out"]
    (tmp_path / "there").mkdir()
    assert "exists already" in research(*words, str(tmp_path / "there"), code=2)
    assert "log in with: commonwatt login" in research(*words[:-3], "--out", str(tmp_path / "out"), code=2)
    research(*words, str(tmp_path / "out"))
    assert (tmp_path / "research-secret").stat().st_mode & 0o777 == 0o600
    (tmp_path / "research-secret").write_text("abc")
    assert "no secret of releases" in research(*words, str(tmp_path / "other"), code=2)
    (tmp_path / "research-secret").write_text("ab" * 32)
    shutil.rmtree(tmp_path / "out")
    assert "every group has changed" in research(*words, str(tmp_path / "out"), code=2), "another secret, other groups"


def test_a_release_that_is_stopped_leaves_no_folder(
    research: Research, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    words = ["release", "open", *period(), "--out", str(tmp_path / "out"), "--as", "anna"]
    with monkeypatch.context() as context:
        context.setattr("utility.research.jobs.releases.keep", stopped)
        research(*words, code=130)
    assert not [path for path in tmp_path.iterdir() if path.name.startswith("out")]
    research(*words)
