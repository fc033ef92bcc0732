"""Analysis over towns: what SQL may read and what it can't reach; wrong SQL, missing files, a wrong table."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from commonwatt.cli.options import Commands
from commonwatt.model.exceptions import ConfigError
from harness.docs.marked import DOCS
from harness.surroundings.stored import make_exports, make_release, towns_table
from utility.research.groups import MAX_SHARE_PERCENT, MIN_HOMES, UNIT
from utility.research.release import Tier
from utility.towns.analysis.cli.analyse import analyse
from utility.towns.analysis.store import closed
from utility.towns.analysis.store.files import made_from
from utility.towns.analysis.views import MIN_METERS, VIEWS
from utility.towns.table import load_towns

ENERGIES = [f"{name}_milliwatt_hours" for name in ("imported", "shared_in", "exported", "shared_out")]
Files = dict[str, list[tuple[object, ...]]]
OPEN: Files = {
    "groups": [("house-0", "house", 20)],
    "sums": [("house-0", "2026-11-01T00:00:00Z", "1200", ""), ("house-0", "2026-11-01T00:15:00Z", "1300", "0")],
}
SINGLE: Files = {"homes": [("secret", "house")], "readings": [("secret", "2026-11-01T00:00:00Z", "12.5", "")]}

TOWNS = ("alpha", "beta", "tiny")

app = Commands()
app.command()(analyse)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two towns of 80 and 30 meters, and one of ten, which is too few."""
    folder = tmp_path_factory.mktemp("towns")
    for name, microgrids, seed in (("alpha", 8, 1), ("beta", 3, 2), ("tiny", 1, 3)):
        make_exports(folder / name, microgrids, seed)
    make_release(folder / "alpha", "aa11", Tier.OPEN, OPEN)
    make_release(folder / "alpha", "bb22", Tier.HOMES, SINGLE)
    make_release(folder / "beta", "cc33", Tier.HOMES, SINGLE)
    return folder


@pytest.fixture
def run(folder: Path, tmp_path: Path) -> Callable[..., Any]:
    """Run the command over some towns; return the rows of its file, or, with a code, what it says."""

    def run(*words: str, code: int = 0, towns: Sequence[str] = TOWNS, table: Path | None = None) -> Any:
        table = table or towns_table(tmp_path / "some.toml", {name: folder / name for name in towns})
        out = tmp_path / "out.parquet"
        done = CliRunner().invoke(app, [*words, "--towns", str(table), "--out", str(out)])
        assert done.exit_code == code, done.output
        return done.output if code else [tuple(row.values()) for row in pq.read_table(out).to_pylist()]

    return run


def rows_of(folder: Path, view: str = "settled") -> pd.DataFrame:
    rows: pd.DataFrame = closed.made({view: made_from(folder, view)[0]})[view].to_pandas()
    return rows


@pytest.mark.parametrize("town", ["alpha", "beta"])
def test_sums_are_those_of_the_exported_rows(folder: Path, town: str) -> None:
    files = sorted((folder / town / "exports").glob("*/*.parquet"))
    exported = pd.concat([pd.read_parquet(file) for file in files])
    groups = exported.groupby("start_utc")
    found = rows_of(folder / town)
    assert list(found["start_utc"]) == [pd.Timestamp(str(each)).tz_localize(None) for each in groups.groups]
    assert list(found["meters"]) == list(groups.size())
    for name in ENERGIES:
        sums, most = groups[name].sum(), groups[name].max()
        shown = (most * 100 <= MAX_SHARE_PERCENT * sums) | (sums < UNIT // 2)
        expected = [
            (int(one) + UNIT // 2) // UNIT * UNIT if is_shown else None
            for one, is_shown in zip(sums, shown, strict=True)
        ]
        assert [None if pd.isna(each) else int(each) for each in found[name]] == expected
        assert any(expected)
        assert town == "alpha" or None in expected, "with few meters one stands out at times"
    missing = groups["quality"].apply(lambda of: (of == "missing").sum())
    assert list(found["missing"]) == list(missing)


def test_a_town_with_too_few_meters_shows_nothing_but_their_number(folder: Path) -> None:
    assert MIN_METERS == 2 * MIN_HOMES
    found = rows_of(folder / "tiny")
    assert set(found["meters"]) == {10}
    assert found.drop(columns=["start_utc", "meters"]).isna().all().all()


def test_open_releases_are_shown_and_those_of_single_homes_are_not(folder: Path, run: Callable[..., Any]) -> None:
    rows = run("--each-town", "SELECT release, homes, used_wh, generated_wh FROM open_sums", towns=["alpha"])
    assert rows == [("alpha", "aa11", 20, 1200.0, None), ("alpha", "aa11", 20, 1300.0, 0.0)]
    with pytest.raises(ConfigError, match="beta/releases: no open release; those of single homes"):
        made_from(folder / "beta", "open_sums")


def test_each_town_then_over_all(run: Callable[..., Any]) -> None:
    each = run("--each-town", "SELECT count(*) AS quarters, max(meters) AS meters FROM settled")
    assert each == [("alpha", 576, 80), ("beta", 576, 30), ("tiny", 576, 10)]
    then = run("--each-town", "FROM settled", "--then", "SELECT max(meters) AS m, count(DISTINCT town) AS n FROM each")
    assert then == [(80, 3)]


def test_no_column_of_any_table_names_a_home() -> None:
    names = {column.name for view in VIEWS.values() for column in view.columns}
    assert not names & {
        "meter_id",
        "meter_no",
        "account",
        "microgrid",
        "place",
        "address",
        "owner_no",
        "payload",
        "home",
    }


FILE = "/etc/passwd"


@pytest.mark.parametrize(
    "sql",
    [
        f"FROM read_csv('{FILE}')",
        f"FROM read_text('{FILE}')",
        f"FROM read_blob('{FILE}')",
        f"FROM '{FILE}'",
        "FROM read_text('/proc/self/environ')",
        "FROM glob('/etc/*')",
        f"FROM sniff_csv('{FILE}')",
        f"FROM query('FROM read_text(''{FILE}'')')",
        f"FROM parquet_metadata('{FILE}')",
        f"FROM read_duckdb('{FILE}')",
        "FROM read_csv('http://127.0.0.1:1/x.csv')",
        "FROM sqlite_scan('/tmp/a', 'b')",
        f"COPY settled TO '{FILE}.new'",
        "COPY (SELECT 1) TO '/tmp/written.csv'",
        "EXPORT DATABASE '/tmp/written'",
        "ATTACH '/tmp/written.db'",
        "INSTALL httpfs",
        "LOAD httpfs",
        "SET enable_external_access = true",
        "RESET lock_configuration",
        "PRAGMA enable_profiling = 'json'",
        "SELECT 1; SELECT 2",
        "EXPLAIN SELECT 1",
        "SELECT getenv('HOME')",
        "FROM given",
        "FROM tables",  # a variable of the program
        "FROM meter_rows",
        "CALL enable_logging(storage = 'file')",
        "CREATE PERSISTENT SECRET s (TYPE http)",
        "FROM which_secret('s3://x', 's3')",
        "",
    ],
)
def test_sql_reaches_nothing_but_its_tables(sql: str) -> None:
    tables = {"settled": pa.table({"a": [1]})}
    meter_rows = pa.table({"home": [1]})
    with pytest.raises(ConfigError):
        closed.query("", tables, sql)
    assert len(meter_rows) == 1
    assert not [path for path in map(Path, ("/tmp/written.csv", "/tmp/written", "/tmp/written.db")) if path.exists()]


def test_sql_finds_no_path_and_no_other_table(folder: Path, run: Callable[..., Any]) -> None:
    for source in ("duckdb_tables()", "duckdb_views()", "duckdb_external_file_cache()", "duckdb_settings()"):
        rows = run("--each-town", f"SELECT t::VARCHAR AS told FROM {source} t, settled LIMIT 5000", towns=["alpha"])
        assert not [told for _, told in rows if str(folder) in told or "read_parquet([" in told]
    rows = run("--each-town", "SELECT table_name FROM duckdb_tables(), (SELECT 1 FROM settled LIMIT 1)")
    assert rows == [(town, "settled") for town in TOWNS]


def test_a_query_that_never_ends_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(closed, "WITHIN_S", 0.2)
    endless = "SELECT count(*) FROM range(100000000) a, range(100000000) b, range(100000000) c"
    forever = "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r) SELECT max(n) FROM r"
    for sql in (endless, forever):
        with pytest.raises(ConfigError, match=r"town: did not end within 0.2 s; select less"):
            closed.query("town", {}, sql)


def test_a_query_that_wants_more_memory_than_it_may_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(closed, "MAX_BYTES", 10_000_000)
    monkeypatch.setattr(closed, "_BOUNDED", closed._BOUNDED.replace(closed.MEMORY, "100MB"))
    for sql, told in (
        ("SELECT list(a.range) FROM range(100000000) a", "wants more than"),
        ("SELECT repeat('x', 1000000) || a.range AS text FROM range(50) a", "more than 0.01 GB of rows"),
    ):
        with pytest.raises(ConfigError, match=f"town: {told}"):
            closed.query("town", {}, sql)


def test_a_query_with_too_much_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(closed, "MAX_ROWS", 1000)
    assert closed.query("", {}, "FROM range(1000)").num_rows == 1000
    with pytest.raises(ConfigError, match="more than 1,000 rows"):
        closed.query("", {}, "FROM range(1001)")
    monkeypatch.setattr(closed, "_BOUNDED", closed._BOUNDED.replace(closed.MEMORY, "100MB"))
    with pytest.raises(ConfigError, match="more than 1GB of memory"):
        closed.query("", {}, "SELECT list(range(100_000)) FROM range(100_000)")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--each-town", "FROM nothing"), "--each-town: Catalog Error: Table with name nothing does not exist"),
        (("--each-town", "SELECT meter_id FROM settled"), '--each-town: Binder Error: Referenced column "meter_id"'),
        (("--each-town", "DROP TABLE settled"), "--each-town: give one SELECT"),
        (("--each-town", "SELECT 1 AS town"), "--each-town: gives a column `town`"),
        (
            ("--each-town", "SELECT 1 AS a", "--then", "SELECT b FROM each"),
            '--then: Binder Error: Referenced column "b"',
        ),
    ],
)
def test_wrong_words_are_told_before_a_town_has_work(
    run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], said: str
) -> None:
    monkeypatch.setattr("utility.towns.analysis.cli.analyse.result_of", None)
    assert said in run(*words, code=2)


def test_all_towns_with_missing_files_are_named(run: Callable[..., Any]) -> None:
    said = run("--each-town", "FROM open_sums", code=2)
    assert "town alpha" not in said
    assert [line[:9] for line in said.splitlines()] == ["town beta", "town tiny", "nothing w"]
    assert said.count("no open release") == 2


def test_a_query_that_fails_on_the_rows_of_one_town_gives_no_rows(run: Callable[..., Any]) -> None:
    sql = "SELECT CASE WHEN max(meters) = 30 THEN error('too few') END AS a FROM settled"
    said = run("--each-town", sql, code=1)
    assert "error: town beta: " in said
    assert "too few" in said


def spoil_size(folder: Path) -> None:
    next(folder.glob("settled-2026-11/*.parquet")).write_bytes(b"x")


def spoil_month(folder: Path) -> None:
    next(folder.glob("settled-2026-11/*.parquet")).unlink()


def spoil_finality(folder: Path) -> None:
    for manifest in folder.glob("*/export.json"):
        manifest.write_text(manifest.read_text().replace('"closed": true', '"closed": false'))


def spoil_selection(folder: Path) -> None:
    for manifest in folder.glob("*/export.json"):
        manifest.write_text(manifest.read_text().replace('"microgrids": []', '"microgrids": ["r001"]'))


def double(folder: Path) -> None:
    (folder / "settled-2026-11").rename(folder / "b")
    (folder / "settled-2026-10").rename(folder / "a")
    content = json.loads((folder / "a/export.json").read_text())
    files = json.loads((folder / "b/export.json").read_text())["files"]
    content["files"] |= files
    (folder / "a/export.json").write_text(json.dumps(content))
    for name in files:
        (folder / "a" / name).write_bytes((folder / "b" / name).read_bytes())


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (spoil_size, "settled-15min-2026-11.parquet: is not there as export.json has it"),
        (spoil_month, "settled-15min-2026-11.parquet: is not there as export.json has it"),
        (spoil_finality, "no final month of settled"),
        (spoil_selection, "no final month of settled"),
        (double, "is of the same month; move one of them elsewhere"),
    ],
)
def test_exports_that_are_not_whole_are_named(
    run: Callable[..., Any], tmp_path: Path, spoil: Callable[[Path], None], said: str
) -> None:
    make_exports(tmp_path / "town", 3, 1)
    spoil(tmp_path / "town" / "exports")
    table = towns_table(tmp_path / "towns.toml", {"alpha": tmp_path / "town"})
    assert said in run("--each-town", "FROM settled", code=2, table=table)


def test_a_town_without_a_folder_or_a_table_without_towns_is_told(run: Callable[..., Any], tmp_path: Path) -> None:
    table = tmp_path / "towns.toml"
    table.write_text('[towns.alpha]\ndatabase = "postgresql+psycopg:///a"\n')
    assert "town alpha: " in (said := run("--each-town", "FROM settled", code=2, table=table))
    assert "has no `files` of it" in said
    table.write_text("")
    assert "has no town" in run("--each-town", "FROM settled", code=2, table=table)


def test_a_terminal_shows_the_first_rows(folder: Path, tmp_path: Path) -> None:
    table = towns_table(tmp_path / "towns.toml", {"tiny": folder / "tiny"})
    words = ["--towns", str(table), "--each-town", "FROM settled ORDER BY start_utc"]
    shown = CliRunner(env={"COLUMNS": "200"}).invoke(app, words)
    assert shown.exit_code == 0
    for said in ("rows (200 shown)", "576 rows in all", "tiny: settled of 2 months, 2026-10 to 2026-11"):
        assert said in shown.output


def test_without_sql_the_tables_are_shown_and_the_page_has_them() -> None:
    shown = CliRunner(env={"COLUMNS": "200"}).invoke(app, []).output
    page = (DOCS / "cluster.md").read_text()
    for name, view in VIEWS.items():
        assert f"{name}: {view.about}" in shown
        assert f"### `{name}`\n\n{view.about}" in page
        for column in view.columns:
            assert column.name in shown
            assert f"| `{column.name}` | {column.kind} | {column.meaning} |" in page


SERVER = "postgresql+psycopg://commonwatt:secret@127.0.0.1"
NORTH = f'[towns.north]\ndatabase = "{SERVER}/north"\n'


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "towns.toml"


def test_a_relative_folder_is_taken_from_the_table(path: Path) -> None:
    path.write_text(f'{NORTH}files = "files/north"\n')
    assert load_towns(path)["north"].files == path.parent / "files" / "north"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[towns.north]\nfiles = "one"\n', "line 1: towns.north.database: missing"),
        ('[towns.north]\ndatabase = "mysql://u:secret@h/n"\n', "line 2: towns.north.database: mysql is not supported"),
        (f'{NORTH}utilities = ["u1:8080"]\n', "line 3: towns.north.utilities.0: must match the pattern ^https?"),
        (f"{NORTH}owner = 1\n", "line 3: towns.north.owner: unknown key; known here: database, utilities"),
        (NORTH.replace("north]", "North]"), "towns.North.[key]: must match the pattern"),
        ("[town.north]\n", "town: unknown key; known here: towns"),
        (
            f'{NORTH}[towns.south]\ndatabase = "postgresql+psycopg://other@127.0.0.1:5432/north"\n',
            "towns.south.database: is the database of north too",
        ),
    ],
)
def test_a_wrong_table_is_refused_with_its_file_and_key(path: Path, text: str, said: str) -> None:
    path.write_text(text)
    with pytest.raises(ConfigError) as refused:
        load_towns(path)
    assert str(refused.value).startswith(f"{path}: ")
    assert said in str(refused.value)
    assert "secret" not in str(refused.value)


def test_a_missing_table_says_how_to_begin_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"docs/cluster\.md"):
        load_towns(tmp_path / "towns.toml")
