"""The town: its sums, its numbers that never change, counted or stated, and what its file may say."""

import random
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from commonwatt.cli.main import make_app
from commonwatt.demo.layout import _place_town
from commonwatt.model.exceptions import ConfigError
from commonwatt.model.records import RecordType
from commonwatt.model.units import MilliwattHours
from commonwatt.town.loading import COLUMNS, load_town
from commonwatt.town.town import Direction, Function, Meter, Town

FULL = """
[[microgrid]]
id = "r"
kind = "residential"
count = 800

[[microgrid]]
id = "apt"
kind = "apartment"
apartments = 100

[[microgrid]]
id = "pub"
kind = "public"
"""
SMALL = FULL.replace("800", "2").replace("100", "4")
WH: MilliwattHours = 1000


def town_of(folder: Path, text: str) -> Town:
    path = folder / "town.toml"
    path.write_text(text)
    return load_town(path)


def error_of(folder: Path, text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        town_of(folder, text)
    return str(caught.value).removeprefix(str(folder / "town.toml") + ": ")


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Town:
    return town_of(tmp_path_factory.mktemp("town"), FULL)


@pytest.fixture(scope="module")
def metered(full: Town) -> list[Meter]:
    """The town's meters without the boundaries, which are the controllers' own."""
    return [meter for meter in full.meters if meter.function is not Function.BOUNDARY]


def test_a_microgrid_may_have_no_houses_but_meters_of_other_makers(tmp_path: Path) -> None:
    foreign = '[[meter]]\nmicrogrid = "r001"\nid = 77001\n'
    town = town_of(tmp_path, f'[[microgrid]]\nid = "r001"\nkind = "residential"\nhouses = 0\n{foreign}')
    assert {meter.id for meter in town.meters if meter.function is not Function.BOUNDARY} == {77001}
    alone = town_of(
        tmp_path, f'[[microgrid]]\nid = "r001"\nkind = "residential"\nhouses = 0\nboundary = false\n{foreign}'
    )
    assert {meter.id for meter in alone.meters} == {77001}


def test_full_town_has_the_specified_sums(full: Town, metered: list[Meter]) -> None:  # req: T4
    assert len(full.microgrids) == 802
    assert len(metered) == 16_307
    assert sum(meter.battery is not None for meter in metered) == 8_004
    assert full.accounts == 8_303
    assert len(full.meters) == 16_307 + 2 * 802


def test_house_has_an_outgoing_and_an_incoming_meter_of_one_account(full: Town) -> None:  # req: T1
    meters = full.microgrids["r001"].meters
    assert len(meters) == 22
    out, into = meters[:2]
    assert (out.direction, into.direction) == (Direction.OUTGOING, Direction.INCOMING)
    assert out.account == into.account > 0
    assert out.location == into.location
    assert out.push == into.push, "one switch to a house"
    assert (out.service_amps, into.service_amps) == (200, 200)
    assert out.battery is not None
    assert out.battery.capacity == full.table.house_average_w * 24 * WH
    assert into.battery is None
    assert out.record_types == (RecordType.GENERATION, RecordType.STORED, RecordType.THROUGH)
    assert into.record_types == (RecordType.THROUGH,)


def test_apartments_have_one_meter_each_and_buildings_the_battery(full: Town) -> None:  # req: T2
    meters = full.microgrids["apt"].meters
    apartments = [m for m in meters if m.function is Function.APARTMENT]
    buildings = [m for m in meters if m.function is Function.BUILDING]
    assert (len(apartments), len(buildings)) == (300, 3)
    assert {m.service_amps for m in apartments} == {100}
    assert len({m.account for m in apartments}) == 300
    assert {m.account for m in buildings} == {0}
    capacities = {m.battery.capacity for m in buildings if m.battery}
    assert capacities == {full.table.apartment_average_w * 24 * 100 * WH}


def test_public_microgrid_has_four_meters_and_the_farm_the_battery(full: Town) -> None:  # req: T3
    meters = [m for m in full.microgrids["pub"].meters if m.function is not Function.BOUNDARY]
    assert [m.function for m in meters] == [Function.HOSPITAL, Function.POLICE, Function.FIRE, Function.SOLAR_FARM]
    assert [m.battery is not None for m in meters] == [False, False, False, True]


def test_town_battery_lasts_twelve_hours_of_average_use(full: Town) -> None:  # req: T5
    t = full.table
    watts = 8000 * t.house_average_w + 300 * t.apartment_average_w
    watts += t.hospital_average_w + t.police_average_w + t.fire_average_w
    assert full.average_w == watts
    assert full.battery_capacity == watts * 12 * WH


@pytest.mark.parametrize(
    ("start", "end", "hours"),
    [(7, 13, [*range(7, 13)]), (22, 4, [*range(4), 22, 23]), (18, 24, [*range(18, 24)]), (6, 6, [])],
)
def test_peak_hours_may_pass_midnight(full: Town, start: int, end: int, hours: list[int]) -> None:
    table = full.table.model_copy(update={"peak_start_hour": start, "peak_end_hour": end})
    town = replace(full, table=table)
    assert [hour for hour in range(24) if town.regional_price_factor(hour) > 1] == hours


def test_minima_are_what_householders_may_choose(metered: list[Meter]) -> None:  # req: T6
    by_function: dict[Function, set[int]] = {}
    for meter in metered:
        if meter.battery:
            by_function.setdefault(meter.function, set()).add(meter.battery.minimum_percent)
    assert by_function == {Function.HOUSE: {25, 50, 75}, Function.BUILDING: {50}, Function.SOLAR_FARM: {75}}


def test_every_element_has_its_own_address_and_id(full: Town) -> None:  # req: T8
    addresses = [g.address for g in full.microgrids.values()] + [m.address for m in full.meters]
    assert len(set(addresses)) == len(addresses)
    assert len({m.id for m in full.meters}) == len(full.meters)
    assert [g.number for g in full.microgrids.values()] == list(range(1, 803))


def test_boundary_is_two_meters_one_each_way(full: Town) -> None:
    for microgrid in full.microgrids.values():
        boundary = [m for m in microgrid.meters if m.function is Function.BOUNDARY]
        assert {m.direction for m in boundary} == set(Direction)
        assert all(m.account == 0 and m.push for m in boundary)


def test_share_of_places_that_send_by_themselves_is_met_from_the_start(full: Town) -> None:  # req: M4
    for name in ("r001", "r500"):
        houses = full.microgrids[name].meters[:20:2]
        assert sum(m.push for m in houses) == 7


@pytest.mark.parametrize(
    "more",
    [
        '[[microgrid]]\nid = "new"\nkind = "residential"\n',
        '[[microgrid]]\nid = "n"\nkind = "public"\ncount = 3\n',
        '[[meter]]\nmicrogrid = "r001"\nid = 77\naccount = 4\n',
        '[[meter]]\nmicrogrid = "pub"\nid = 18446744073709551615\nbattery_capacity_mwh = 5\n',
    ],
)
def test_nothing_changes_its_number_when_something_is_appended(tmp_path: Path, more: str) -> None:
    before, after = town_of(tmp_path, SMALL), town_of(tmp_path, SMALL + more)
    meters = {meter.id: meter for meter in after.meters}
    assert len(meters) > len(before.meters)
    for meter in before.meters:
        assert meters[meter.id] == meter
    for name, microgrid in before.microgrids.items():
        assert after.microgrids[name].number == microgrid.number


def test_foreign_meter_joins_a_microgrid_as_its_table_says(tmp_path: Path) -> None:
    more = '[[meter]]\nmicrogrid = "r001"\nid = 77\nrecord_types = ["through", "stored"]\nbattery_capacity_mwh = 9\n'
    meter = town_of(tmp_path, SMALL + more).microgrids["r001"].meters[-1]
    assert (meter.id, meter.function, meter.direction) == (77, Function.FOREIGN, Direction.INCOMING)
    assert meter.record_types == (RecordType.STORED, RecordType.THROUGH)
    assert meter.battery is not None
    assert meter.battery.capacity == 9
    assert not meter.emulated
    adapted = town_of(tmp_path, f"{SMALL}{more}adapter = true\nshares = false\n").microgrids["r001"].meters[-1]
    assert (adapted.function, adapted.emulated, adapted.shares) == (Function.ADAPTED, False, False)


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ('[[microgrid]]\nid = "r"\nkind = "castle"\n', "line 3: microgrid.0.kind: "),
        ('[[microgrid]]\nid = "R"\nkind = "public"\n', "line 2: microgrid.0.id: "),
        (
            '[[microgrid]]\nid = "r"\nkind = "public"\n[[microgrid]]\nid = "s"\n',
            "line 4: microgrid.1.kind: missing; The",
        ),
        (SMALL + "[[microgrid]]\nid = 5\n", "microgrid.3.id: "),
        ('[town]\ntimezone = "Mars/Olympus"\n' + SMALL, "line 2: town.timezone: must be a time zone"),
        ('[town]\ntimezone = "America"\n' + SMALL, "line 2: town.timezone: must be a time zone"),
        ("[town]\nlatitude = 91\n" + SMALL, "line 2: town.latitude: "),
        ("[town]\nhouse_average_w = 0\n" + SMALL, "line 2: town.house_average_w: "),
        ("[town]\n# a comment\n\nmayor = 1\n" + SMALL, "line 4: town.mayor: unknown key; known here: name, "),
        ('[[microgrid]]\nid = "r"\nkind = "public"\nhouse = 3\n', "line 4: microgrid.0.house: unknown key; known"),
        (SMALL + '[[meter]]\nmicrogrid = "r001"\nid = 0\n', "line 17: meter.0.id: "),
        (SMALL + '[[meter]]\nmicrogrid = "r001"\nid = 1\nrecord_types = []\n', "line 18: meter.0.record_types: "),
        ("[town]\n", "microgrid: missing"),
    ],
)
def test_error_names_the_line_and_the_key(tmp_path: Path, text: str, where: str) -> None:
    assert where in error_of(tmp_path, text)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (SMALL + '[[microgrid]]\nid = "r001"\nkind = "public"\n', "microgrid r001 is there twice"),
        (SMALL + '[[meter]]\nmicrogrid = "nowhere"\nid = 1\n', "microgrid nowhere, which is not in this file"),
        (SMALL + '[[meter]]\nmicrogrid = "r001"\nid = 10001\n', "meter 10001 is there twice"),
        (SMALL + '[[meter]]\nmicrogrid = "r001"\nid = 7\n[[meter]]\nmicrogrid = "pub"\nid = 7\n', "meter 7 is there"),
        (
            SMALL + "".join(f'[[meter]]\nmicrogrid = "r001"\nid = {n}\nreplaces = 10001\n' for n in (7, 8)),
            "[[meter]] 7 and [[meter]] 8 both replace meter 10001",
        ),
        ('[[microgrid]]\nid = "utility"\nkind = "public"\n', "microgrid utility has the name of a folder"),
        (FULL.replace("800", "999\nhouses = 99"), "more than records can name"),
        ('[[microgrid]]\nid = "abcdefghijklmnop"\nkind = "public"\ncount = 2\n', "abcdefghijklmnop001"),
        ("town", "not TOML"),
    ],
)
def test_town_that_can_not_be_numbered_is_refused(tmp_path: Path, text: str, why: str) -> None:
    assert why in error_of(tmp_path, text)


def test_missing_town_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        load_town(tmp_path / "none.toml")


def test_no_two_elements_have_one_address_even_if_ids_of_other_makers_would_give_it(tmp_path: Path) -> None:  # req: T8
    path = tmp_path / "town.toml"
    ids = [77, 77 + 2**24, 10_001 + 2**24, 77 + 6_767_216, 2**64 - 1, 1, 10_000, 20_001 + 2**24]
    path.write_text(
        'microgrid = [{id = "r", kind = "residential", count = 2, houses = 1}]\n'
        + "".join(f'[[meter]]\nmicrogrid = "r00{1 + n % 2}"\nid = {i}\n' for n, i in enumerate(ids))
    )
    town = load_town(path)
    addresses = [meter.address for meter in town.meters] + [m.address for m in town.microgrids.values()]
    assert len(set(addresses)) == len(addresses)
    path.write_text(path.read_text() + f'[[meter]]\nmicrogrid = "r001"\nid = {77 + 2 * 2**24}\n')
    later = {meter.id: meter.address for meter in load_town(path).meters}
    assert all(later[meter.id] == meter.address for meter in town.meters), "what is appended changes no address"


def test_a_boundary_carries_what_all_behind_it_can_draw(full: Town) -> None:
    amps = {m.service_amps for m in full.microgrids["apt"].meters if m.function is Function.BOUNDARY}
    assert amps == {30_000}


COUNTED = """
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
    (tmp_path / "small.toml").write_text(COUNTED)
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
    path.write_text(COUNTED + table)
    old, new = (next(m for m in load_town(path).meters if m.id == which) for which in (10001, 500))
    assert replace(new, id=10001, address=old.address, replaces=None, stated=False) == old
    assert (old.emulated, new.emulated, new.function) == (True, False, Function.HOUSE)
    path.write_text(COUNTED + table + "account = 4\n")
    with pytest.raises(ConfigError, match="account: is that of the meter that it replaces; leave it out"):
        load_town(path)
    path.write_text(COUNTED + table.replace("r001", "r002"))
    with pytest.raises(ConfigError, match=r"\[\[meter\]\] 500 replaces meter 10001, which r002 does not have"):
        load_town(path)
    del counted


def test_the_towns_figures_count_an_exchanged_meter_once(tmp_path: Path, counted: Town) -> None:
    exchanges = "".join(
        f'[[meter]]\nmicrogrid = "r001"\nid = {new}\nreplaces = {old}\n'
        for new, old in ((500, 10001), (501, 10002), (502, 501))
    )
    (tmp_path / "small.toml").write_text(COUNTED + exchanges)
    town = load_town(tmp_path / "small.toml")
    assert (town.average_w, town.battery_capacity) == (counted.average_w, counted.battery_capacity)
    assert len(town.installed) == len(counted.meters) == len(town.meters) - 3
    assert not {10001, 10002, 501} & {meter.id for meter in town.installed}
