"""The registry: whole, of one account and as arrays; and meters that are exchanged (row 22)."""

import json
import shlex
from collections.abc import Callable
from dataclasses import replace
from errno import ENOSPC
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Connection, event
from typer.testing import CliRunner

from commonwatt.cli.main import make_app
from commonwatt.codec.packing import pack
from commonwatt.identity import devices
from commonwatt.identity.devices import (
    AUTHORITY_FOLDER,
    DeviceRole,
    broker_token,
    digest,
    load_devices,
    load_tokens,
    mosquitto_digest,
)
from commonwatt.identity.enrolment import revoke_devices
from commonwatt.model.blocks import Key, Keys, from_records
from commonwatt.model.exceptions import ConfigError
from commonwatt.model.records import RecordType
from commonwatt.model.units import MAX_ABS_READING, QUARTER_S
from commonwatt.runtime.files import write_private
from commonwatt.runtime.service import only_one
from commonwatt.town.loading import load_town
from commonwatt.town.registry import load_registry, registry_of, save_registry
from commonwatt.town.town import Function, Town
from harness.surroundings import databases
from harness.surroundings.messages import a_record, compact
from utility.database.database import Database, open_database
from utility.database.town_zone import zone_of
from utility.outbox.changes import Append
from utility.readings.quarantine import is_assigned
from utility.readings.store import reads
from utility.readings.store.retention import count_blocks
from utility.readings.store.writer import Writer
from utility.registry.accounts import DatedRegistry, Holding
from utility.registry.changes import date_text
from utility.registry.snapshot import MeterEntry, RegistrySnapshot
from utility.registry.store.accounts import (
    accounts_at,
    changes_of,
    end_places,
    load_dated_registry,
    load_registry_around,
    save_dated_registry,
)
from utility.registry.store.enrolment import enrol
from utility.registry.store.registration import fill_registry
from utility.registry.store.registry import load_snapshot

CENTERTOWN = """microgrid = [
 {id = "r", kind = "residential", count = 800}, {id = "apt", kind = "apartment", apartments = 100},
 {id = "pub", kind = "public"}]
"""


def test_centertown_has_the_numbers_of_the_specification(url: str, tmp_path: Path) -> None:  # req: T4
    path = tmp_path / "centertown.toml"
    path.write_text(CENTERTOWN)
    database = open_database(url, create=True)
    with database.writes.begin() as connection:
        added = fill_registry(connection, load_town(path))
        town = reads.town(connection)
    assert (added.new_controllers, added.new_meters) == (802, 16_307 + 1_604)
    assert [town[key] for key in ("controllers", "meters", "batteries", "accounts")] == [802, 16_307, 8_004, 8_303]
    database.close()


def test_the_towns_figures_are_those_of_the_meters_that_are_installed(database: Database, tmp_path: Path) -> None:
    figures = []
    for exchange in ("", '[[meter]]\nmicrogrid = "r001"\nid = 77\nreplaces = 10001\n'):
        (tmp_path / "town.toml").write_text(
            f'microgrid = [{{id = "r", kind = "residential", count = 2, houses = 2}}]\n{exchange}'
        )
        with database.writes.begin() as connection:
            fill_registry(connection, load_town(tmp_path / "town.toml"))
            figures.append(reads.town(connection))
    assert figures[0] == figures[1]


@databases.on_both_kinds
def test_registering_again_adds_only_what_is_new(database: Database, town: Town, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert enrol(town, out) == 2 * (6 + 1) + 2
    tokens = load_tokens(out / "r001" / "meter-tokens.json")
    path = tmp_path / "town.toml"
    path.write_text(
        'microgrid = [{id = "r", kind = "residential", count = 2, houses = 2}]\n'
        '[[meter]]\nmicrogrid = "r001"\nid = 18446744073709551615\nrecord_types = ["register"]\n'
    )
    larger = load_town(path)
    with database.writes.begin() as connection:
        before = load_snapshot(connection)
        added = fill_registry(connection, larger)
        known = load_snapshot(connection)
        again = fill_registry(connection, larger)
        assert load_snapshot(connection).revision == known.revision
    assert (added.new_controllers, added.new_meters, added.changed) == (0, 1, 0)
    assert (again.new_meters, again.changed) == (0, 0)
    assert known.revision > before.revision
    assert known.meters[2**64 - 1].record_types == {RecordType.REGISTER}
    assert enrol(larger, out) == 1
    assert tokens.items() < load_tokens(out / "r001" / "meter-tokens.json").items()


def test_files_admit_each_device_to_its_broker_alone(town: Town, tmp_path: Path) -> None:
    enrol(town, tmp_path)
    token = load_tokens(tmp_path / "r001" / "gateway-tokens.json")["r001"]
    own = load_devices(tmp_path / "r001" / "devices.json")
    head = load_devices(tmp_path / "head-end" / "devices.json")
    assert set(own) == {"r001", *(str(m.id) for m in town.meters)}, "r001 may manage r002"
    assert own["r001"].serves == ("r002",)
    tokens = load_tokens(tmp_path / "r002" / "meter-tokens.json")
    secrets = load_tokens(tmp_path / "r002" / "meter-secrets.json")
    for meter in town.microgrids["r002"].meters:
        plain, here = tokens[str(meter.id)], broker_token(secrets[str(meter.id)], "r001")
        home = load_devices(tmp_path / "r002" / "devices.json")[str(meter.id)]
        assert (home.owns(plain.encode()), home.owns(here.encode())) == (True, False)
        assert [own[str(meter.id)].owns(one.encode()) for one in (plain, secrets[str(meter.id)], here)] == [0, 0, 1]
    assert set(head) == {"r001", "r002", "utility", "plant"}
    assert own["r001"].token_sha256 == head["r001"].token_sha256 == digest(token.encode())
    assert own["r001"].mosquitto == head["r001"].mosquitto == mosquitto_digest(token.encode())
    assert (own["10001"].role, own["10001"].microgrid, head["utility"].role) == (
        DeviceRole.METER,
        "r001",
        DeviceRole.UTILITY,
    )
    assert load_registry(tmp_path / "r001" / "registry.json") == registry_of(town.microgrids["r001"])
    private = [path for path in tmp_path.rglob("*.json") if path.stat().st_mode & 0o777 != 0o600]
    assert private == []


def test_meter_that_was_moved_in_the_town_file_is_refused(database: Database, tmp_path: Path) -> None:
    path = tmp_path / "town.toml"
    path.write_text('microgrid = [{id = "pub", kind = "public"}, {id = "r", kind = "residential", count = 2}]\n')
    with database.writes.begin() as connection, pytest.raises(ConfigError, match="append at its end"):
        fill_registry(connection, load_town(path))


def test_changed_account_of_a_registered_meter_is_taken_if_the_change_is_dated(
    database: Database, tmp_path: Path
) -> None:
    def town_with(account: int) -> Town:
        path = tmp_path / "town.toml"
        extra = f'[[meter]]\nmicrogrid = "r001"\nid = 77\nrecord_types = ["register"]\naccount = {account}\n'
        path.write_text('microgrid = [{id = "r", kind = "residential", count = 2, houses = 2}]\n' + extra)
        return load_town(path)

    with database.writes.begin() as connection:
        fill_registry(connection, town_with(4))
        before = load_snapshot(connection)
        registry = load_dated_registry(connection)
    refused = r"meter 77 is registered with account 4, and the town file now says 3; a move is dated with `commonwatt"
    with database.writes.begin() as connection:
        with pytest.raises(ConfigError, match=refused):
            fill_registry(connection, town_with(3))
        assert load_snapshot(connection) == before
    meter = registry.meters[77]
    moved = replace(meter, holdings=(Holding(account=4, start=0, end=9), Holding(account=3, start=9)))
    after = replace(registry, meters={**registry.meters, 77: moved})
    with database.writes.begin() as connection:
        assert save_dated_registry(connection, registry, after, "anna", 5, ZoneInfo("UTC")) == 1
        assert fill_registry(connection, town_with(3)).changed == 1
        assert accounts_at(connection, 9 * 900 - 1)[77] == 4
        assert accounts_at(connection, 9 * 900)[77] == 3


def test_renumbered_accounts_are_refused_by_files_without_the_database(town: Town, tmp_path: Path) -> None:
    enrol(town, tmp_path / "out")
    path = tmp_path / "town.toml"
    path.write_text(
        'microgrid = [{id = "r001", kind = "residential", houses = 3}, {id = "r002", kind = "residential", houses = 2}]'
    )
    with pytest.raises(ConfigError, match="append at its end"):
        enrol(load_town(path), tmp_path / "out")


def test_gateways_are_told_the_present_accounts(town: Town, tmp_path: Path) -> None:
    enrol(town, tmp_path, accounts={10001: 900})
    told = {m.id: m.account for m in load_registry(tmp_path / "r001" / "registry.json").meters}
    assert (told[10001], told[10002]) == (900, 1)
    with pytest.raises(ConfigError, match="account"):
        enrol(town, tmp_path)
    enrol(town, tmp_path, accounts={})
    assert load_registry(tmp_path / "r001" / "registry.json") == registry_of(town.microgrids["r001"])


def test_meter_added_later_belongs_to_its_account_from_its_registration(
    database: Database, town: Town, tmp_path: Path
) -> None:
    path = tmp_path / "town.toml"
    path.write_text(
        'microgrid = [{id = "r", kind = "residential", count = 2, houses = 2}]\n'
        '[[meter]]\nmicrogrid = "r001"\nid = 77\naccount = 9\n'
    )
    with database.writes.begin() as connection:
        fill_registry(connection, load_town(path), now=1000 * 900 + 1)
        registry = load_dated_registry(connection)
        told = [change["after"] for change in changes_of(connection, [], 9)]
    first, added = registry.meters[10001], registry.meters[77]
    assert (first.start, first.place, first.capacity, first.holdings) == (
        None,
        "house 1",
        town.microgrids["r001"].meters[0].battery.capacity,  # type: ignore[union-attr]
        (Holding(account=1, start=0),),
    )
    assert (added.start, added.account_at(999), added.account_at(1000)) == (1000, None, 9)
    assert {number: account.function for number, account in registry.accounts.items()} == {
        **dict.fromkeys(range(1, 5), Function.HOUSE),
        9: Function.FOREIGN,
    }
    assert told == ["1 meter and 1 account added", "12 meters and 4 accounts added"]


def test_a_place_that_the_town_file_renames_is_renamed_and_a_removed_meter_ends(
    database: Database, tmp_path: Path
) -> None:
    path, head = tmp_path / "town.toml", 'microgrid = [{id = "r", kind = "residential", count = 2, houses = 2}]\n'
    path.write_text(head + '[[meter]]\nmicrogrid = "r001"\nid = 77\naccount = 9\nlocation = "Home 1"\n')
    with database.writes.begin() as connection:
        fill_registry(connection, load_town(path), now=900)
    path.write_text(path.read_text().replace("Home 1", "Miller"))
    with database.writes.begin() as connection:
        fill_registry(connection, load_town(path), now=1800)
        assert load_dated_registry(connection).meters[77].place == "Miller"
        end_places(connection, [77], "anna", 5 * 900 + 1)
        assert load_dated_registry(connection).meters[77].end == 5
        assert [change["person"] for change in changes_of(connection, ["meter 77"], 9)] == ["anna", "town file"]


@pytest.mark.parametrize("name", ["utility", "authority"])
def test_microgrid_named_like_a_folder_of_the_utility_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / "town.toml"
    path.write_text(f'microgrid = [{{id = "{name}", kind = "public"}}]\n')
    with pytest.raises(ConfigError, match="another id"):
        enrol(load_town(path), tmp_path)


def test_nobody_registers_while_somebody_is_revoked(town: Town, tmp_path: Path) -> None:
    with only_one(tmp_path / AUTHORITY_FOLDER, "a revocation"), pytest.raises(ConfigError, match="another enrolment"):
        enrol(town, tmp_path)
    assert not (tmp_path / "head-end").exists()
    enrol(town, tmp_path)
    assert (tmp_path / "head-end" / "devices.json").exists()


def test_a_revoked_device_that_leaves_the_town_and_comes_back_is_still_revoked(town: Town, tmp_path: Path) -> None:
    enrol(town, tmp_path)
    revoke_devices(tmp_path, "10001", "stolen", 0, with_meters=False)
    revoke_devices(tmp_path, "r002", "lost", 0, with_meters=False)
    first = town.microgrids["r001"]
    smaller = replace(first, meters=tuple(meter for meter in first.meters if meter.id != 10001))
    enrol(replace(town, microgrids={"r001": smaller}), tmp_path)
    enrol(town, tmp_path)
    assert load_devices(tmp_path / "r001" / "devices.json")["10001"].revoked == "stolen"
    assert load_devices(tmp_path / "head-end" / "devices.json")["r002"].revoked == "lost"


@pytest.mark.parametrize(
    ("name", "tokens"),
    [
        ("r001", ("r001/meter-tokens.json", "r001/gateway-tokens.json")),
        ("head-end", ("utility/utility-tokens.json", "plant/plant-tokens.json")),
    ],
)
def test_a_lost_devices_file_is_not_made_again_with_its_tokens(
    town: Town, tmp_path: Path, name: str, tokens: tuple[str, str]
) -> None:
    enrol(town, tmp_path)
    revoke_devices(tmp_path, "r002", "stolen", 0, with_meters=False)
    meter = load_tokens(tmp_path / "r001" / "meter-tokens.json")["10001"].encode()
    path = tmp_path / name / "devices.json"
    content = path.read_text()
    path.unlink()
    with pytest.raises(ConfigError, match="is lost") as refused:
        enrol(town, tmp_path)
    assert all(str(tmp_path / file) in str(refused.value) for file in (*tokens, f"{name}/devices.json"))
    path.write_text(content)
    assert enrol(town, tmp_path) == 0
    path.unlink()
    for file in tokens:
        (tmp_path / file).unlink()
    assert enrol(town, tmp_path) > 0
    assert load_devices(tmp_path / "head-end" / "devices.json")["r002"].revoked == "stolen"
    assert load_devices(tmp_path / "r001" / "devices.json")["10001"].owns(meter) is (name == "head-end")


@pytest.mark.parametrize("writes", range(1, 9))
def test_a_first_registration_that_was_interrupted_is_completed_by_the_next(
    town: Town, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, writes: int
) -> None:
    left = iter(range(writes))

    def write(path: Path, text: str) -> None:
        if next(left, None) is None:
            raise OSError(ENOSPC, "No space left on device")
        write_private(path, text)

    with monkeypatch.context() as patch:
        patch.setattr(devices, "write_private", write)
        with pytest.raises(OSError, match="No space left"):
            enrol(town, tmp_path)
    enrol(town, tmp_path)
    for place in ("r001", "head-end"):
        token = load_tokens(tmp_path / "r001" / "gateway-tokens.json")["r001"]
        assert load_devices(tmp_path / place / "devices.json")["r001"].owns(token.encode())


def test_registry_file_with_mistakes_names_them(town: Town, tmp_path: Path) -> None:
    path = tmp_path / "registry.json"
    with pytest.raises(ConfigError, match="commonwatt utility register"):
        load_registry(path)
    save_registry(path, registry_of(town.microgrids["r001"]))
    content = json.loads(path.read_text())
    assert content["controller"] == {"number": 1, "address": "10.0.39.16"}
    assert content["meters"][0]["id"] == "10001"
    assert content["meters"][0]["record_types"] == [1, 2, 3]
    content["meters"][0]["account"] = -1
    path.write_text(json.dumps(content | {"more": 1}))
    with pytest.raises(ConfigError, match=r"(?s)meters\.0\.account.*more: unknown key"):
        load_registry(path)
    content["meters"][0] = content["meters"][1]
    path.write_text(json.dumps(content))
    with pytest.raises(ConfigError, match="twice"):
        load_registry(path)


@databases.on_both_kinds
def test_an_account_comes_with_its_whole_microgrid_and_nothing_else(database: Database) -> None:
    with database.reads.begin() as connection:
        whole, around = load_dated_registry(connection), load_registry_around(connection, 3)
    its = whole.meters[20001].microgrid
    assert around.meters == {i: meter for i, meter in whole.meters.items() if meter.microgrid == its}
    assert around.accounts == {number: whole.accounts[number] for number in (3, 4)}
    assert around.revision == whole.revision


@pytest.mark.parametrize("number", [99, 0, -1])
def test_an_unknown_account_has_no_part(database: Database, number: int) -> None:
    with database.reads.begin() as connection:
        found = load_registry_around(connection, number)
    assert found == DatedRegistry(revision=found.revision)


ids = st.sampled_from([0, 1, 77, 2**63, 2**64 - 1])
controllers = st.sampled_from(["r001", "r002", "r003"])
types = st.sampled_from([0, 1, 2, 4, 62, 63, 64, 255])
meters = st.dictionaries(
    ids,
    st.builds(
        MeterEntry,
        no=st.just(1),
        microgrid=st.sampled_from(["r001", "r002"]),
        record_types=st.frozensets(types),
        limits=st.dictionaries(st.integers(1, 4), st.integers(0, 10**9)),
    ),
)


@given(meters, st.lists(st.tuples(ids, types, st.just(9)), max_size=3), controllers, controllers)
def test_block_is_assigned_to_the_senders_its_meter_names(
    meters: dict[int, MeterEntry], keys: list[Key], sender: str, microgrid: str
) -> None:
    registered = RegistrySnapshot(meters=meters)
    rows = registered.rows(Keys.of(keys).meter)
    assert (rows is None) == any(meter not in meters for meter, _, _ in keys)
    if rows is None:
        return
    assigned = registered.assigned(rows, sender, microgrid).tolist()
    assert assigned == [is_assigned(meters[meter], sender, microgrid) for meter, _, _ in keys]
    recorded = registered.recorded(rows, Keys.of(keys)).tolist()
    # What is not recorded is judged block by block, so a type beyond any mask may be left to that.
    assert recorded == [kind in meters[meter].record_types and kind < 63 for meter, kind, _ in keys]


@given(meters, st.data())
def test_limits_of_a_batch_are_those_of_its_meters(meters: dict[int, MeterEntry], data: st.DataObject) -> None:
    key = st.tuples(st.sampled_from(sorted(meters)), types, st.just(9)) if meters else st.nothing()
    keys = data.draw(st.lists(key, max_size=5 if meters else 0))
    registered = RegistrySnapshot(meters=meters)
    rows = registered.rows(Keys.of(keys).meter)
    assert rows is not None
    limits = registered.limits(rows, Keys.of(keys)).tolist()
    assert limits == [meters[meter].limits.get(record_type, MAX_ABS_READING) for meter, record_type, _ in keys]


AT = 2_000_000
OLD, NEW = 10002, 77_000_000_123

Swap = Callable[..., str]


@pytest.fixture
def swap(tmp_path: Path, url: str, kind: str, database: Database) -> Swap:
    """Run the command with some options; return what it prints."""
    config = tmp_path / "utility.toml"
    url = url if kind == "sqlite" else url.replace("@", ":secret@")
    config.write_text(f'[utility]\ndatabase = "{url}"\n')
    with database.reads.begin() as connection:
        at = date_text(AT, zone_of(connection))
    good = {"old": str(OLD), "new": str(NEW), "at": at, "last-register": "8123.5", "first-register": "0.000001"}

    def run(*words: str, answer: str = "", code: int = 0, **options: str | None) -> str:
        given = good | {name.replace("_", "-"): value for name, value in options.items()}
        stated = [word for name, value in given.items() if value is not None for word in (f"--{name}", value)]
        line = ["swap", "meter", "--config", str(config), *stated, *words]
        done = CliRunner(env={"COLUMNS": "200"}).invoke(make_app("swap"), line, input=answer)
        assert done.exit_code == code, done.output
        return done.output

    return run


def store(database: Database, meter: int, quarters: range, reading: int) -> None:
    """Store a meter's readings of whole quarter-hours."""
    records = [
        a_record(quarter * QUARTER_S, reading, end=(quarter + 1) * QUARTER_S, meter=meter, account=0)
        for quarter in quarters
    ]
    blocks = from_records(records)
    append = Append(
        sender="r001", owner="r001", received=0, blocks=blocks, payloads=pack(blocks), events=[], dead_letters=[]
    )
    Writer(database).commit([append])


def test_quarters_of_a_meter_are_counted_without_reading_the_town(database: Database) -> None:
    quarters = range(2_000_000, 2_000_006)
    store(database, OLD, quarters, 600)
    compact(database, quarters[-1] * QUARTER_S)
    store(database, OLD, quarters[4:], 600)
    plans: list[str] = []

    def explain(connection: Connection, _: object, statement: str, parameters: Any, *__: object) -> None:
        if statement.startswith("SELECT"):
            cursor = connection.connection.cursor()
            plans.extend(row[3] for row in cursor.execute(f"EXPLAIN QUERY PLAN {statement}", parameters))

    event.listen(database.reads, "before_cursor_execute", explain)
    with database.reads.begin() as connection:
        counts = [count_blocks(connection, OLD, 0, quarters[2]), count_blocks(connection, OLD, quarters[2])]
        assert count_blocks(connection, NEW, 0, quarters[2]) == 0
    event.remove(database.reads, "before_cursor_execute", explain)
    assert counts == [2, 4]
    assert [plan for plan in plans if "(quarter<" in plan or "(quarter>" in plan] == []


def energy_of(database: Database, account: int) -> int:
    """Return the incoming energy of an account, milliwatt-hours: of each meter while the account had it."""
    with database.reads.begin() as connection:
        meters = load_dated_registry(connection).meters.values()
        numbers = {meter.id: reads.meter_number(connection, meter.id) for meter in meters}
    total = 0
    for meter in meters:
        number = numbers[meter.id]
        assert number is not None
        blocks = reads.readings(database, number, RecordType.THROUGH, AT - 10, AT + 10)
        held = [meter.account_at(int(quarter)) == account for quarter in blocks.quarter]
        total += int(blocks.values[np.array(held, np.bool_)].sum()) if len(blocks) else 0
    return total


@databases.on_both_kinds
def test_row_22_an_exchange_makes_no_phantom_energy(swap: Swap, database: Database) -> None:
    store(database, OLD, range(AT - 3, AT), 7)
    told = swap("--yes")
    assert f"meter {OLD}\n  - r001, house 1\n  - account 1\n  + r001, house 1 to " in told
    assert f"meter {NEW}\n  + r001, house 1 from " in told
    # The old one runs on in the workshop, and the new one was tested on the bench.
    store(database, OLD, range(AT, AT + 5), 9)
    store(database, NEW, range(AT - 2, AT), 1000)
    store(database, NEW, range(AT, AT + 4), 11)
    assert energy_of(database, 1) == 60 * (3 * 7 + 4 * 11)
    with database.reads.begin() as connection:
        old, new = (load_dated_registry(connection).meters[which] for which in (OLD, NEW))
        just_before, then = (accounts_at(connection, AT * QUARTER_S - s) for s in (1, 0))
        assert [when[which] for when in (just_before, then) for which in (OLD, NEW)] == [1, 0, 0, 1]
        listed = {row["id"]: row["account"] for row in reads.meter_rows(connection, "r001", 0, 100, AT * QUARTER_S)}
        assert (listed[str(OLD)], listed[str(NEW)]) == (0, 1)
        snapshot = load_snapshot(connection)
    assert (old.last_register, new.first_register) == (8_123_500_000, 1), "a register that begins anew is no energy"
    assert (old.end, new.start, new.end, new.place, new.function) == (AT, AT, None, old.place, old.function)
    assert snapshot.meters[NEW].record_types == snapshot.meters[OLD].record_types


def test_readings_that_the_exchange_gives_to_nobody_are_told(swap: Swap, database: Database) -> None:
    store(database, OLD, range(AT - 3, AT + 2), 7)
    assert "note: 2 quarter-hours of the old meter from then on are stored and belong to no account" in swap("--yes")


def test_what_no_option_states_is_asked(swap: Swap, database: Database) -> None:
    unanswered = {"old": None, "new": None, "first_register": None}
    told = swap(answer=f"{OLD}\n{NEW}\n-\nn\n", code=1, **unanswered)
    assert "Id of the old meter: " in told
    with database.reads.begin() as connection:
        before = load_dated_registry(connection)
    assert NEW not in before.meters, "not confirmed"
    swap(answer=f"{OLD}\n{NEW}\n-\ny\n", **unanswered)
    with database.reads.begin() as connection:
        assert load_dated_registry(connection).meters[NEW].first_register is None
    assert "is not at house 1 at that time" in swap("--yes", new="5", code=2)


def test_the_steps_that_it_prints_enrol_the_new_meter(
    swap: Swap, database: Database, town: Town, tmp_path: Path
) -> None:
    del town
    told = swap("--yes")
    table = "\n".join(line.strip() for line in told.splitlines() if line.startswith("       "))
    path = tmp_path / "town.toml"
    path.write_text('microgrid = [{id = "r", kind = "residential", count = 2, houses = 2}]\n' + table)
    with database.writes.begin() as connection:
        registry = load_dated_registry(connection)
        assert fill_registry(connection, load_town(path), AT * QUARTER_S).new_meters == 0
        assert load_dated_registry(connection).meters == registry.meters
    commands = [line[line.index("commonwatt") :] for line in told.splitlines() if "  commonwatt" in line]
    assert [shlex.split(line)[1] for line in commands] == ["utility", "enroll"]


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"old": "99"}, "meter 99 is not registered"),
        ({"old": "x"}, "--old x: is no meter's id"),
        ({"new": "10003"}, "meter 10003 is already at house 2; each meter has one place"),
        ({"at": "2026-11-15T14:10"}, "--at: 2026-11-15T14:10 is not on a quarter-hour"),
        ({"at": "2027-03-14T02:30"}, "--at: 2027-03-14T02:30 does not exist in America/New_York"),
        ({"last_register": "1,5"}, "--last-register 1,5: is no register in kWh, such as 12345.678"),
        ({"last_register": "-2"}, "is no register in kWh"),
        ({"first_register": "0.0000001"}, "is no register in kWh"),
        ({"first_register": "nan"}, "is no register in kWh"),
        ({"first_register": "1e9999999"}, "is no register in kWh"),
    ],
)
def test_wrong_input_changes_nothing(swap: Swap, database: Database, wrong: dict[str, str], told: str) -> None:
    with database.reads.begin() as connection:
        before = load_dated_registry(connection)
    assert told in swap("--yes", code=2, **wrong)
    with database.reads.begin() as connection:
        assert load_dated_registry(connection) == before


def test_registered_meter_of_another_kind_can_not_take_the_place(
    swap: Swap, database: Database, tmp_path: Path
) -> None:
    path = tmp_path / "town.toml"
    path.write_text(
        'microgrid = [{id = "r", kind = "residential", count = 2, houses = 2}]\n'
        f'[[meter]]\nmicrogrid = "r001"\nid = {NEW}\nreplaces = 10001\n'
    )
    with database.writes.begin() as connection:
        fill_registry(connection, load_town(path))
        assert NEW not in load_dated_registry(connection).meters, "it is installed by the exchange"
    assert "is registered with direction outgoing, and meter 10002 with incoming" in swap("--yes", code=2)
    swap("--yes", old="10001")
