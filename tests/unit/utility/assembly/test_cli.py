"""The utility's tables in a terminal of 80 columns, and the examination of its database."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from commonwatt.doctor.checks import Check, Finding, Level, run_check, worst
from commonwatt.doctor.running import Running
from commonwatt.model.records import EventRecord, State
from commonwatt.protocol.controller_commands import ControllerCommand
from commonwatt.protocol.dead_letters import DeadLetter
from commonwatt.protocol.heartbeats import Heartbeat, LineMonth
from harness.commands import run_as, shown
from harness.network.waiting import free_port
from harness.surroundings import messages
from harness.surroundings.messages import a_record, append
from utility.assembly.cli import app
from utility.assembly.doctor import DOCTOR
from utility.database.database import Database
from utility.outbox.changes import OpenCommand, SawGateway
from utility.outbox.store import add_command
from utility.readings.store.writer import Writer
from utility.settings import UtilitySettings

NOON = 1_800_014_400 - 1_800_014_400 % 86_400 + 12 * 3600
READING = a_record(NOON, 5000, record_id=7, account=0)
EVENT = EventRecord(
    previous_state=State.INITIALIZED,
    new_state=State.INITIALIZED | State.SHARING | 0x8000,
    record_id=8,
    meter_id=10001,
    time=NOON - 86_400,
)


@pytest.fixture
def show(config: Path) -> Callable[..., Any]:
    return lambda *words: shown(config, *words)


@pytest.fixture
def table(config: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    monkeypatch.setenv("COLUMNS", "120")
    return lambda *words: run_as(config, "show", *words)


def given(database: Database, **fields: Any) -> str:
    command = ControllerCommand(id="cli-0123456789abcdef", until=NOON, **fields)
    with database.writes.begin() as connection:
        message = command.pack().decode()
        add_command(connection, OpenCommand(id=command.id, controller="r001", message=message, until=NOON), NOON)
    return command.id


@pytest.mark.parametrize(
    ("fields", "what"),
    [
        ({"cmd": "schedule", "periods": {"relay_s": 900}}, "schedule relay 900 s"),
        ({"cmd": "schedule", "periods": {"relay_s": None}}, "schedule relay as installed"),
        ({"cmd": "schedule", "periods": {}, "meters": "lossless"}, "schedule meters lossless"),
        ({"cmd": "aggregate"}, "aggregate"),
        ({"cmd": "aggregate", "at": "meters", "mode": "lossy", "for_s": 600}, "aggregate at meters, lossy, for 10 min"),
        ({"cmd": "deaggregate"}, "deaggregate"),
        ({"cmd": "get", "blocks": [(10001, 3, 2_000_000, "f")]}, "get 1 block"),
        (
            {"cmd": "get", "first_quarter": 2_000_000, "last_quarter": 2_000_001},
            "get 2027-01-15 08:00:00Z to 2027-01-15 08:30:00Z",
        ),
    ],
)
def test_commands_are_told_in_words(
    show: Callable[..., Any], database: Database, fields: dict[str, Any], what: str
) -> None:
    name = given(database, **fields)
    (found,) = show("commands")["commands"]
    assert (found["id"], found["controller"], found["what"], found["state"]) == (name, "r001", what, "open")


@pytest.mark.parametrize(
    ("log", "content", "told"),
    [
        (1, READING.pack(), "type 3, 12:00:00-12:00:15, 5000 mWh, account 0"),
        (2, EVENT.pack(), "2027-01-14 12:00:00, initialized > initialized, sharing, 0x8000"),
        (0, b"\xfe\xed", "feed"),
        (1, b"\xfe\xed", "feed"),
    ],
)
def test_letters_are_told_in_words(
    show: Callable[..., Any], database: Database, log: int, content: bytes, told: str
) -> None:
    dead_letter = DeadLetter(meter=10001, log=log, reason=9, generation=2, record_id=7, time=NOON, content=content)
    Writer(database).commit([append(dead_letters=[dead_letter])])
    (found,) = show("dead-letters")["dead_letters"]
    assert (found["no"], found["sender"], found["meter"]) == (1, "r001", "10001")
    assert (found["reason_text"], found["told"], found["content"]) == ("wrong account", told, content.hex())


def test_a_town_is_not_registered_at_a_database_that_others_could_listen_to(tmp_path: Path) -> None:
    town = tmp_path / "town.toml"
    town.write_text('microgrid = [{id = "r", kind = "residential", count = 1, houses = 1}]\n')
    words = [
        "--town",
        str(town),
        "--database",
        "postgresql+psycopg://u:secret@db.example/x",
        "--out",
        str(tmp_path / "out"),
    ]
    done = CliRunner().invoke(app, ["register", *words])
    assert (done.exit_code, "sslmode=verify-full" in done.stderr, "secret" in done.output) == (2, True, False)
    assert not (tmp_path / "out").exists()


@pytest.fixture
def town_file(tmp_path: Path) -> Path:
    path = tmp_path / "town.toml"
    path.write_text('microgrid = [{id = "r", kind = "residential", count = 1, houses = 1}]\n')
    return path


def test_a_town_is_registered_with_its_secrets_and_its_database_apart(town_file: Path, tmp_path: Path) -> None:
    out, database = tmp_path / "out", tmp_path / "utility.db"
    made = CliRunner().invoke(app, ["register", "--town", str(town_file), "--out", str(out)])
    assert made.stdout == f"1 microgrid and 4 meters registered; 7 new tokens in {out}\n"
    assert (out / "r001" / "devices.json").exists()
    filled = CliRunner().invoke(app, ["register", "--town", str(town_file), "--database", f"sqlite:///{database}"])
    assert filled.stdout == "1 microgrid and 4 meters registered, of them new: 1 and 4\n"
    assert {path.name for path in tmp_path.iterdir()} <= {"town.toml", "out", "utility.db", "utility.db.lock"}


def test_a_town_is_registered_in_the_database_that_the_file_of_the_utility_names(
    town_file: Path, tmp_path: Path
) -> None:
    file = tmp_path / "utility.toml"
    file.write_text('[utility]\ndatabase = "sqlite:///own.db"\n')
    words = ["register", "--town", str(town_file), "--config", str(file)]
    filled = CliRunner().invoke(app, words)
    assert filled.stdout == "1 microgrid and 4 meters registered, of them new: 1 and 4\n"
    assert (tmp_path / "own.db").exists()
    done = CliRunner().invoke(app, [*words, "--database", "sqlite:///other.db"])
    assert (done.exit_code, "give --database or --config, not both" in done.stderr) == (2, True)


INSERTED = 'microgrid = [{id = "a001", kind = "public"}, {id = "r001", kind = "residential", houses = 1}]\n'


def test_a_town_file_that_moves_a_meter_is_refused_by_the_files_of_the_town_alone(
    town_file: Path, tmp_path: Path
) -> None:
    out, database = tmp_path / "site", tmp_path / "new.db"
    words = ["register", "--town", str(town_file), "--out", str(out)]
    assert CliRunner().invoke(app, words).exit_code == 0
    before = {path: path.read_bytes() for path in out.rglob("*.json")}
    town_file.write_text(INSERTED)
    for refused in (words, [*words, "--database", f"sqlite:///{database}"]):
        done = CliRunner().invoke(app, refused)
        assert done.exit_code == 2, done.output
        assert "meter 10001 is registered with microgrid r001, and the town file now says a001" in done.stderr
        assert "append at its end" in done.stderr
    assert {path: path.read_bytes() for path in out.rglob("*.json")} == before
    assert not (out / "a001").exists()
    assert not database.exists(), "nothing was put in there either"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (('"number": 1', '"number": 2'), "controller r001 is registered with number 2, and the town file now says 1"),
        (('"function": "house"', '"function": "boundary"'), "is registered with function boundary"),
        (('"number": 1', '"number": "one"'), "or delete it, and register again"),
    ],
)
def test_files_of_a_town_that_say_otherwise_are_named(
    town_file: Path, tmp_path: Path, change: tuple[str, str], says: str
) -> None:
    words = ["register", "--town", str(town_file), "--out", str(tmp_path / "site")]
    assert CliRunner().invoke(app, words).exit_code == 0
    path = tmp_path / "site" / "r001" / "registry.json"
    assert change[0] in path.read_text()
    path.write_text(path.read_text().replace(*change))
    done = CliRunner().invoke(app, words)
    assert (done.exit_code, says in done.stderr, str(path) in done.stderr) == (2, True, True), done.output


def test_a_town_is_not_registered_nowhere(town_file: Path) -> None:
    done = CliRunner().invoke(app, ["register", "--town", str(town_file)])
    assert (done.exit_code, "give --database, --config or --out" in done.stderr) == (2, True)


def test_lines_are_shown_in_gigabytes(
    show: Callable[..., Any], table: Callable[..., str], database: Database
) -> None:  # req: C9
    month = LineMonth(used=(812_000_000, 1_204_000_000), expected=(983_000_000, 2_100_000_000), allowance=2_000_000_000)
    said = Heartbeat(
        time=NOON, store=7, backlog_parts=0, backlog_events=0, backlog_letters=0, aggregation="none", lte=month
    )
    Writer(database).commit([SawGateway(controller="r001", time=NOON, heartbeat=said)])
    line = next(line for line in table("lines").splitlines() if line.startswith("r001"))
    assert line.split() == ["r001", "at_risk", "0.812", "1.204", "0.983", "2.100", "2.000"]
    one, other = show("lines")["lines"][:2]
    assert (one["expected_down"], other["level"]) == (2_100_000_000, "unknown")


@pytest.mark.parametrize(("name", "told"), [("/town", "town: "), ("", "")])
def test_a_server_that_does_not_answer_is_named_with_the_file_and_the_line_of_its_key(
    tmp_path: Path, name: str, told: str
) -> None:
    config = tmp_path / "utility.toml"
    url = f"postgresql+psycopg://u:secret@127.0.0.1:{free_port()}{name}"
    config.write_text(f'[utility]\n# where it is\ndatabase = "{url}"\n')
    done = CliRunner().invoke(app, ["dump", "--config", str(config)])
    assert done.exit_code == 1
    assert done.stderr.startswith(f"error: {config}: line 3: utility.database: {told}no connection to the server: ")
    assert "Connection refused" in done.stderr
    assert done.stderr.rstrip().endswith("see that it runs, and that the URL is right")
    assert "secret" not in done.stderr


def test_a_dump_is_of_all_times_or_of_those_that_are_given(config: Path, database: Database) -> None:
    Writer(database).commit([append(messages.blocks({0: 5}))])  # 15 January 2027, 8:00 UTC
    dump = ("utility", "dump")
    assert '"quarter":2000000' in run_as(config, *dump)
    assert '"quarter":2000000' in run_as(config, *dump, "--start", "2027-01-15T03:00", "--end", "2027-01-16")
    assert run_as(config, *dump, "--start", "2027-01-15T08:15Z") == ""


def test_a_time_beyond_what_the_protocol_can_say_is_refused(tmp_path: Path, database: Database) -> None:
    (tmp_path / "utility.toml").write_text("[utility]\n")
    words = ["command", "r001", "get", "first=1790000000", "last=99999999999"]
    done = CliRunner().invoke(app, [*words, "--config", str(tmp_path / "utility.toml")])
    assert (done.exit_code, "last" in done.stderr, "1970 and 2106" in done.stderr) == (2, True, True)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("schedule relay_s=900", "schedule relay 900 s, 1 microgrid"),
        ("schedule periods=file relay_s=30", "relay 30 s, meters' puts as installed"),
        ("schedule relay_s=file", "schedule relay as installed"),
        ("schedule meters=lossless", "schedule meters lossless"),
        ("aggregate at=meters mode=lossy for_s=600", "aggregate at meters, lossy, for 10 min"),
        ("sharing strategy=aces from=2027-02-01T00:00Z", "sharing aces, from 2027-02-01"),
        ("supply supply=LOW for_s=3600 import_limit_w=5000", "for 1 h, LOW, at most 5000 W"),
        ("get first=2027-01-15T08:00Z last=2027-01-15T08:45Z", "get 2027-01-15"),
    ],
)
def test_a_command_is_typed_with_its_fields(
    command: Callable[..., str], database: Database, words: str, says: str
) -> None:
    del database
    assert says in command("command", "r001", *words.split())


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("schedule", "schedule needs a period such as relay_s, meters, or periods=file"),
        ("schedule relay_s=soon", "a period such as relay_s"),
        ("schedule relay_s", "relay_s: fields are given as KEY=VALUE"),
        ("get", "get needs first, last"),
        ("deaggregate mode=lossy", "deaggregate does not take mode"),
        ("isolate state=on", "isolate needs for_s"),
        ("sharing strategy=aces from=soon", "from"),
        ("rates", "only the service sends this command"),
    ],
)
def test_a_wrong_field_of_a_command_is_named(
    command: Callable[..., str], database: Database, words: str, says: str
) -> None:
    del database
    assert says in command("command", "r001", *words.split(), code=2)


def test_a_folder_may_be_called_anything(tmp_path: Path) -> None:
    folder = tmp_path / "a%20b?c"
    folder.mkdir()
    (folder / "utility.toml").write_text("[utility]\n")
    assert CliRunner().invoke(app, ["migrate", "--config", str(folder / "utility.toml")]).exit_code == 0
    assert (folder / "utility.db").is_file()
    for words in (["backup", str(tmp_path / "kept")], ["restore", str(tmp_path / "kept")], ["recover"]):
        done = CliRunner().invoke(app, [*words, "--config", str(folder / "utility.toml")])
        assert done.exit_code == 0, done.output
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a%20b?c", "kept"]


STOPPED = Running(part="utility", config=Path("utility.toml"), answer=None, failure="", runs=False)


def of_database(url: str) -> list[Finding]:
    checks = {check.name: check for check in DOCTOR.checks(UtilitySettings(database=url), STOPPED)}
    return list(run_check(checks["database"]))


@pytest.mark.parametrize("kind", ["postgresql"])  # the tests' server is fast, not durable
def test_a_server_that_loses_what_it_acknowledged_in_a_power_cut_is_bad(url: str, database: Database) -> None:
    assert database.store_id
    (found,) = of_database(url)
    assert found.level is Level.BAD
    assert "runs with fsync=off, full_page_writes=off, synchronous_commit=off: a power cut loses" in found.found


@pytest.mark.parametrize("kind", ["sqlite"])  # a durable server passes in tests/integration/test_postgres.py
def test_a_database_passes_while_it_is_in_use(url: str, database: Database) -> None:
    assert database.store_id
    first, gateways = of_database(url)
    assert (first.level, "2 microgrids" in first.found) == (Level.GOOD, True)
    assert (gateways.level, "0 of 2 gateways heard lately" in gateways.found) == (Level.WARNING, True)


def test_a_database_that_is_missing_or_another_programs_is_bad(tmp_path: Path) -> None:
    (missing,) = of_database(f"sqlite:///{tmp_path / 'none.db'}")
    assert (missing.level, "there is no database" in missing.found) == (Level.BAD, True)
    (tmp_path / "junk.db").write_bytes(b"junk" * 2000)
    assert of_database(f"sqlite:///{tmp_path / 'junk.db'}")[0].level is Level.BAD


def test_a_server_that_does_not_answer_is_bad() -> None:
    (found,) = of_database("postgresql+psycopg://u@127.0.0.1:1/none")
    assert (found.level, "no connection to the server" in found.found) == (Level.BAD, True)


@pytest.mark.parametrize(
    ("changes", "level", "words"),
    [
        ({}, None, ""),
        ({"alarms": ["disk_full"]}, Level.BAD, "disk is full"),
        (
            {"alarms": ["database_away"], "database_away_since": 1_782_000_000, "totals": {}, "microgrids": {}},
            Level.BAD,
            "has not answered since 2026-06-21",
        ),
        ({"totals": {}, "microgrids": {}}, Level.BAD, "the database could not be read"),
        ({"alarms": ["store_damaged"], "totals": {}, "microgrids": {}}, Level.BAD, "damaged"),
        ({"microgrids": {}}, Level.WARNING, "no microgrid is registered"),
        ({"head_end_failure": "b:1: refused", "head_ends": {"a:1": True, "b:1": False}}, Level.WARNING, "b:1: refused"),
        ({"head_end_connected": False, "head_end_failure": "refused"}, Level.BAD, "no connection to head_end: refused"),
        ({"microgrids": {"r001": {"last_seen": 600}, "r002": {"last_seen": None}}}, Level.WARNING, "r002 (never)"),
    ],
)
def test_the_verdict(changes: dict[str, object], level: Level | None, words: str) -> None:
    well = {
        "time": 1000,
        "alarms": [],
        "head_end_connected": True,
        "head_end_failure": None,
        "head_ends": {"a:1": True},
        "totals": {"events": 0},
        "microgrids": {"r001": {"last_seen": 900}},
    }
    found = worst(DOCTOR.judge(well | changes))
    assert (None if found is None else found.level) is level
    assert found is None or words in found.found


def test_an_error_of_a_check_becomes_a_finding() -> None:
    def fail() -> list[Finding]:
        raise OSError(13, "Permission denied", "utility.pem")

    (found,) = run_check(Check("certificate", partial(fail)))
    assert (found.check, found.level, "utility.pem" in found.found) == ("certificate", Level.BAD, True)
