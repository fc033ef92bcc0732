"""A town whose numbers are stated: the same town as the counted one, and nothing follows from a row's position."""

import random
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from commonwatt.cli.main import make_app
from commonwatt.demo.layout import _place_town
from commonwatt.model.exceptions import ConfigError
from commonwatt.town.loading import load_town
from commonwatt.town.places import COLUMNS
from commonwatt.town.town import Direction, Function, Town

SMALL = """
[town]
name = "Small"
seed = 7

[[microgrid]]
id = "r"
kind = "residential"
count = 2
houses = 2

[[microgrid]]
id = "apt"
kind = "apartment"
apartments = 2
buildings = 1

[[microgrid]]
id = "pub"
kind = "public"

[[meter]]
microgrid = "r001"
id = 18446744073709551615
account = 7
"""


def generate(out: Path, *words: str, code: int = 0) -> str:
    done = CliRunner().invoke(make_app("town"), ["town", "generate", "--out", str(out), *words])
    assert done.exit_code == code, done.output
    return " ".join(done.output.split())


@pytest.fixture
def counted(tmp_path: Path) -> Town:
    (tmp_path / "small.toml").write_text(SMALL)
    return load_town(tmp_path / "small.toml")


@pytest.fixture
def stated(tmp_path: Path, counted: Town) -> Path:
    del counted
    generate(tmp_path / "stated.toml", "--from", str(tmp_path / "small.toml"))
    return tmp_path / "stated.toml"


def same(town: Town, other: Town) -> bool:
    def plain(one: Town) -> list[object]:
        return [replace(g, meters=tuple(replace(m, stated=True) for m in g.meters)) for g in one.microgrids.values()]

    return plain(town) == plain(other)


def test_a_town_keeps_all_its_numbers_when_they_are_stated(counted: Town, stated: Path) -> None:
    town = load_town(stated)
    assert same(town, counted)
    assert (town.table.name, town.table.seed) == ("Small", 7)
    again = stated.with_name("again.toml")
    generate(again, "--from", str(stated))
    assert again.with_suffix(".csv").read_text() == stated.with_suffix(".csv").read_text()


def test_rows_may_stand_in_any_order_and_a_house_in_the_middle_changes_no_number(counted: Town, stated: Path) -> None:
    table = stated.with_suffix(".csv")
    head, *rows = table.read_text().splitlines()
    random.Random(1).shuffle(rows)
    table.write_text("\n".join([head, *rows]))
    assert same(load_town(stated), counted)
    rows.insert(3, "r001,1,residential,house 3,house,,900,10007,10008,200,28800000,50,yes")
    table.write_text("\n".join([head, *rows]))
    after = {meter.id: meter for meter in load_town(stated).meters}
    assert after.keys() - {m.id for m in counted.meters} == {10007, 10008}
    assert all(replace(after[m.id], stated=m.stated) == m for m in counted.meters)
    assert (after[10007].account, after[10007].location, after[10007].direction) == (900, "house 3", Direction.OUTGOING)


def test_whole_town_is_generated(tmp_path: Path) -> None:  # req: T4
    told = generate(tmp_path / "town.toml")
    assert told.endswith("802 controllers, 16307 meters beside those of the boundaries, 8303 accounts")
    town = load_town(tmp_path / "town.toml")
    assert (len(town.microgrids), town.accounts, len(town.meters)) == (802, 8303, 16_307 + 1_604)
    assert len({meter.address for meter in town.meters}) == len(town.meters)
    (tmp_path / "town.csv").rename(tmp_path / "kept.csv")
    assert "is there already" in generate(tmp_path / "town.toml", code=2)
    assert not (tmp_path / "town.csv").exists()


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ("r001,1,residential,x,house,,1,10900,,200,,,yes", "row {n}, column account: row 2 has this account too"),
        ("r001,1,residential,x,house,,900,10001,,200,,,yes", "row {n}, column outgoing: row 2 has this meter too"),
        ("r001,1,residential,house 1,house,,900,10900,,200,,,yes", "row {n}, column place: row 2 has this place too"),
        ("r001,9,residential,x,house,,900,10900,,200,,,yes", "column number: microgrid r001 is residential with"),
        ("new,1,residential,boundary,boundary,,,10900,10901,200,,,yes", "column number: is that of microgrid r001"),
        ("new,9,residential,x,house,,900,10900,,200,,,yes", "microgrid new has 0 rows of its boundary, and needs one"),
        ("r001,1,residential,x,house,tower,900,10900,,200,,,yes", "column building: 'tower' is no building in r001"),
        ("r001,1,residential,x,house,,900,,,200,,,yes", "row {n}: has no meter: give outgoing, incoming or both"),
        ("r001,1,residential,x,house,,900,10900,10900,200,,,yes", "row {n}: outgoing and incoming are the same meter"),
        ("r001,1,residential,x,house,,900,,10900,200,5,50,yes", "row {n}: battery_mwh needs an outgoing meter"),
        ("r001,1,residential,x,boundary,,900,10900,10901,200,,,yes", "row {n}: a boundary has two meters and no acc"),
        ("r001,1,residential,x,castle,,900,10900,,200,,,yes", "row {n}, column function: must be 'house'"),
        ("r001,1,residential,x,house,,70000,10900,,200,,,yes", "row {n}, column account: must be less than"),
        ("r001,1,residential,x,house,,a,10900,,200,,,yes", "row {n}, column account: must be a whole number"),
        ("r001,1,residential,x", "row {n}: has 4 cells, but there are 13 columns"),
        ('"r001', "can't be read as CSV in UTF-8"),
    ],
)  # fmt: skip
def test_mistake_in_the_table_is_named_with_its_row_and_column(stated: Path, row: str, told: str) -> None:
    table = stated.with_suffix(".csv")
    rows = table.read_text().splitlines()
    table.write_text("\n".join([*rows, row]))
    with pytest.raises(ConfigError) as caught:
        load_town(stated)
    assert str(caught.value).startswith(f"{table}: ")
    assert told.format(n=len(rows) + 1) in str(caught.value)


def test_table_that_is_missing_or_no_table_is_named(stated: Path) -> None:
    table = stated.with_suffix(".csv")
    table.write_text("a,b\n1,2\n")
    with pytest.raises(ConfigError, match=f"row 1 must name the columns: {','.join(COLUMNS)}"):
        load_town(stated)
    table.unlink()
    with pytest.raises(ConfigError, match=r"stated\.csv: No such file"):
        load_town(stated)


def test_the_demonstration_takes_the_table_along(stated: Path, counted: Town, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    _place_town(tmp_path / "data" / "town.toml", stated)
    assert same(load_town(tmp_path / "data" / "town.toml"), counted)
    _place_town(tmp_path / "data" / "town.toml", stated)
    table = stated.with_suffix(".csv")
    table.write_text(table.read_text().replace(",house 1,", ",first house,"))
    with pytest.raises(ConfigError, match="holds another town"):
        _place_town(tmp_path / "data" / "town.toml", stated)


def test_a_town_has_counted_or_stated_numbers(stated: Path) -> None:
    stated.write_text(stated.read_text() + '[[microgrid]]\nid = "x"\nkind = "public"\n')
    with pytest.raises(ConfigError, match=r"there are \[\[microgrid\]\] tables and `places` in \[town\]"):
        load_town(stated)


def test_meter_that_replaces_another_one_is_like_it(tmp_path: Path, counted: Town) -> None:
    path = tmp_path / "small.toml"
    table = '[[meter]]\nmicrogrid = "r001"\nid = 500\nreplaces = 10001\n'
    path.write_text(SMALL + table)
    old, new = (next(m for m in load_town(path).meters if m.id == which) for which in (10001, 500))
    assert replace(new, id=10001, address=old.address, replaces=None, stated=False) == old
    assert (old.emulated, new.emulated, new.function) == (True, False, Function.HOUSE)
    path.write_text(SMALL + table + "account = 4\n")
    with pytest.raises(ConfigError, match="account: is that of the meter that it replaces; leave it out"):
        load_town(path)
    path.write_text(SMALL + table.replace("r001", "r002"))
    with pytest.raises(ConfigError, match=r"\[\[meter\]\] 500 replaces meter 10001, which r002 does not have"):
        load_town(path)
    del counted


def test_the_towns_figures_count_an_exchanged_meter_once(tmp_path: Path, counted: Town) -> None:
    exchanges = "".join(
        f'[[meter]]\nmicrogrid = "r001"\nid = {new}\nreplaces = {old}\n'
        for new, old in ((500, 10001), (501, 10002), (502, 501))
    )
    (tmp_path / "small.toml").write_text(SMALL + exchanges)
    town = load_town(tmp_path / "small.toml")
    assert (town.average_w, town.battery_capacity) == (counted.average_w, counted.battery_capacity)
    assert len(town.installed) == len(counted.meters) == len(town.meters) - 3
    assert not {10001, 10002, 501} & {meter.id for meter in town.installed}
