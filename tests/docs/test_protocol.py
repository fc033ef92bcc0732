"""docs/protocol.md against the code: examples of bytes and of JSON, names of messages, topics and tables."""

import json
import re
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from commonwatt.codec import dumps, packing
from commonwatt.demo.layout import BUILT_IN_TOWN
from commonwatt.device.records import average, consolidate
from commonwatt.device.store import open_store
from commonwatt.model.blocks import join, make_blocks
from commonwatt.model.exceptions import ProtocolError
from commonwatt.model.records import (
    EventRecord,
    HistoryRecord,
    RecordType,
    Rejection,
    State,
    unpack_event,
    unpack_history,
)
from commonwatt.model.units import SLOTS
from commonwatt.model.validation import Expected, judge_event, judge_history
from commonwatt.protocol import commands, topics
from commonwatt.protocol.batches import BatchFlag, BatchRefusal, unpack_batch, unpack_batch_ack
from commonwatt.protocol.commands import Command, Outcome
from commonwatt.protocol.controller_commands import HOSTED, Action, ControllerCommand, ControllerOutcome
from commonwatt.protocol.heartbeats import Heartbeat, LineByteCount
from commonwatt.protocol.json_messages import Message, unpack_json
from commonwatt.protocol.meter_messages import (
    MAX_LISTED,
    PURPOSE,
    RevokedList,
    unpack_level,
    unpack_put,
    unpack_put_ack,
)
from commonwatt.protocol.plant_messages import MAX_QUARTERS, PlantAction, PlantCommand, PlantOutcome, PlantReport
from commonwatt.town.loading import load_town
from gateway.store.store import Store
from harness.docs.marked import DOCS
from meter_sim.store import TRUTH
from utility.assembly.tables import metadata

PAGE = (Path(__file__).parents[2] / "docs" / "protocol.md").read_text(encoding="utf-8")
FENCE = re.compile(r"^```(\w*)[ \t]*([\w-]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)

START, METER, ACCOUNT, QUARTER = 1_790_000_100, 77, 12, 1_988_889


def hex_blocks() -> dict[str, list[bytes]]:
    blocks: dict[str, list[bytes]] = {}
    for language, _, content in FENCE.findall(PAGE):
        if language == "hex":
            name, data = content.split(maxsplit=1)
            blocks.setdefault(name, []).append(bytes.fromhex(data))
    return blocks


def json_blocks() -> dict[str, list[str]]:
    blocks: dict[str, list[str]] = {}
    for language, name, content in FENCE.findall(PAGE):
        if language == "json":
            blocks.setdefault(name, []).append(content.strip())
    return blocks


def section(title: str) -> str:
    """The text under one heading, up to the next of the same or a higher level."""
    found = re.search(rf"^(#+) {re.escape(title)}\n(.*?)(?=^#{{1,2}} |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    assert found, title
    return found[2]


def rows(text: str) -> list[list[str]]:
    """Every row of the tables in a text, as cells."""
    return [
        [cell.strip().strip("`") for cell in line.strip("|").split("|")]
        for line in text.splitlines()
        if line.startswith("|") and not line.startswith("|---")
    ]


HEX, JSON = hex_blocks(), json_blocks()


def test_every_example_on_the_page_is_checked_here() -> None:
    assert {name: len(found) for name, found in HEX.items()} == {
        "history-record": 1,
        "event-record": 1,
        "put": 1,
        "ack": 2,
        "level": 1,
        "batch": 1,
        "batch-ack": 1,
        "block-payload": 2,
    }
    assert {name: len(found) for name, found in JSON.items()} == dict.fromkeys([*MODELS, "block-line", "event-line"], 1)
    assert {language for language, *_ in FENCE.findall(PAGE)} == {"hex", "json", "sh", "toml"}


def test_the_town_entry_of_the_page_suits_the_example_meter(tmp_path: Path) -> None:
    (entry,) = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    town = tmp_path / "town.toml"
    town.write_text(BUILT_IN_TOWN.read_text() + entry)
    (meter,) = [meter for meter in load_town(town).meters if meter.id == 77]
    assert (meter.microgrid, meter.account, meter.record_types) == ("r001", 12, (RecordType.STORED, RecordType.THROUGH))
    assert meter.battery is not None


def test_what_the_page_runs_is_in_the_environment_or_said_to_be_needed() -> None:
    lines = [line for language, _, content in FENCE.findall(PAGE) if language == "sh" for line in content.splitlines()]
    programs = {command.split()[0] for line in lines for command in line.split("|")}
    assert programs == {".venv/bin/commonwatt", ".venv/bin/python", "jq"}
    assert "apt-get install jq" in PAGE


# Records


def test_history_record_is_what_the_text_says_of_it() -> None:  # req: M2
    record = HistoryRecord(
        record_type=RecordType.THROUGH,
        lossy=0,
        record_id=1,
        meter_id=METER,
        account=ACCOUNT,
        start=START,
        end=START + 15,
        reading=5_000,
    )
    assert HEX["history-record"][0] == record.pack()
    assert unpack_history(HEX["history-record"][0]) == record
    expected = Expected(meter_id=METER, record_types=(RecordType.THROUGH,), now=START + 20)
    assert judge_history(record, expected) is None


def test_event_record_is_what_the_text_says_of_it() -> None:  # req: M3
    event = EventRecord(
        previous_state=State.INITIALIZED,
        new_state=State.INITIALIZED | State.SHARING,
        record_id=1,
        meter_id=METER,
        time=START + 20,
    )
    assert HEX["event-record"][0] == event.pack()
    assert unpack_event(HEX["event-record"][0]) == event
    assert judge_event(event, Expected(meter_id=METER, record_types=(), now=None)) is None


# Messages of a meter


def test_put_holds_the_records_the_text_says() -> None:
    put = unpack_put(HEX["put"][0])
    assert put.pack() == HEX["put"][0]
    assert (put.generation, put.first_id, put.last_id) == (1, 1, 2)
    assert put.records[0] == HEX["history-record"][0]
    assert [(r.record_id, r.start, r.reading) for r in put.history()] == [(1, START, 5_000), (2, START + 15, 5_100)]


@pytest.mark.parametrize(
    ("number", "accepted", "rejected"), [(0, ((3, 2),), ()), (1, ((3, 1),), ((2, Rejection.UNALIGNED),))]
)
def test_acknowledgement_confirms_the_put_above_it(
    number: int, accepted: tuple[tuple[int, int], ...], rejected: tuple[tuple[int, Rejection], ...]
) -> None:  # req: M6
    ack = unpack_put_ack(HEX["ack"][number])
    assert ack.pack() == HEX["ack"][number]
    assert (ack.accepted, ack.rejected) == (accepted, rejected)
    assert ack.confirms(unpack_put(HEX["put"][0]))


def test_level_is_read_as_its_table_says() -> None:
    level = unpack_level(HEX["level"][0])
    assert level.pack() == HEX["level"][0]
    assert (level.state, level.time, level.level) == (State.INITIALIZED, START + 30, 14_400_000)


# Messages of a gateway


def test_batch_carries_the_block_and_the_event_of_the_page() -> None:
    sent = HEX["batch"][0]
    batch = unpack_batch(sent)
    assert (batch.owner, batch.flags) == ("r001", BatchFlag.COMPRESSED)
    assert (list(batch.keys), list(batch.payloads)) == ([(METER, 3, QUARTER)], HEX["block-payload"][:1])
    assert [(generation, event.pack()) for generation, event in batch.events] == [(1, HEX["event-record"][0])]
    assert batch.dead_letters == []
    # The compressed body may differ between versions of zstandard; the head may not.
    head = 44 + len(batch.owner)
    assert batch.pack()[:head] == sent[:head]
    assert unpack_batch(batch.pack()) == batch


def test_batch_acknowledgement_answers_the_batch_above_it() -> None:
    sent, batch = HEX["batch-ack"][0], unpack_batch(HEX["batch"][0])
    ack = unpack_batch_ack(sent)
    assert ack.pack() == sent
    assert (ack.status, ack.store, ack.sequence) == (BatchRefusal.NONE, batch.store, batch.sequence)
    assert (ack.blocks, ack.events, ack.dead_letters) == (1, 1, 0)
    assert f"({len(sent)} bytes): magic `CWA1`" in PAGE


def test_block_payload_is_the_join_of_the_put_above() -> None:
    key, payload = (METER, 3, QUARTER), HEX["block-payload"][0]
    block = packing.unpack([key], [payload])
    assert block.values[0, :2].tolist() == [5_000, 5_100]
    assert block.quality[0].tolist() == [2, 2] + [0] * 58
    assert packing.pack(join([block, block])) == [payload]


def test_divided_block_payload_is_of_the_slots_the_text_names() -> None:
    key, payload = (METER, 3, QUARTER), HEX["block-payload"][1]
    block = packing.unpack([key], [payload])
    assert block.values[0, :4].tolist() == [5_000, 6_250, 5_000, 7_500]
    assert block.quality[0].tolist() == [2] * 4 + [0] * 56
    assert packing.pack(block) == [payload]


# JSON

MODELS: dict[str, type[Message]] = {
    "command": Command,
    "limit-command": Command,
    "outcome": Outcome,
    "boundary-outcome": Outcome,
    "question": Command,
    "initialize-with-brokers": Command,
    "revoked-command": Command,
    "answer": Outcome,
    "controller-command": ControllerCommand,
    "controller-outcome": ControllerOutcome,
    "heartbeat": Heartbeat,
    "lte-use": LineByteCount,
    "plant-command": PlantCommand,
    "plant-outcome": PlantOutcome,
    "plant-report": PlantReport,
}


@pytest.mark.parametrize("name", MODELS)
def test_json_example_is_what_the_code_sends(name: str) -> None:
    text = JSON[name][0]
    message = unpack_json(MODELS[name], text.encode())
    # Key by key: an example may state what is a default, and leave out what may be absent.
    sent = json.loads(message.pack())
    stated = json.loads(text)
    assert {key: sent[key] for key in stated} == stated
    assert unpack_json(MODELS[name], message.pack()) == message


def test_the_list_of_revoked_controllers_is_signed_by_the_key_of_the_page() -> None:
    stated = json.loads(JSON["revoked-command"][0])
    point = re.findall(r"compressed point `([0-9a-f]{66})`", PAGE)[0]
    key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), bytes.fromhex(point))
    line = f"commonwatt {PURPOSE}\n{stated['revoked']}".encode()
    key.verify(bytes.fromhex(stated["signature"]), line, ec.ECDSA(hashes.SHA256()))
    assert f"`commonwatt`, a space, `{PURPOSE}`, a line feed" in PAGE
    assert RevokedList.read(stated["revoked"]) == RevokedList(1_790_000_000, {"r002": 2, "r007": 7})
    assert f"at most {MAX_LISTED}" in section("Several brokers")


def test_block_line_is_what_dumps_write() -> None:
    stated = json.loads(JSON["block-line"][0])
    values = [value or 0 for value in stated["values"]] + [0] * (SLOTS - len(stated["values"]))
    quality = [int(q) for q in stated["quality"]] + [0] * (SLOTS - len(stated["quality"]))
    block = make_blocks([(int(stated["meter"]), stated["type"], stated["quarter"])], [values], [quality])
    (line,) = dumps.block_lines(block)
    written = json.loads(line)
    assert list(written) == list(stated)
    # The page shows the first slots of sixty.
    shown = len(stated["values"])
    assert written | {"values": written["values"][:shown], "quality": written["quality"][:shown]} == stated


def test_event_line_is_what_dumps_write() -> None:
    (line,) = dumps.event_lines([(1, unpack_event(HEX["event-record"][0]))])
    assert line == JSON["event-line"][0]


@pytest.mark.parametrize(
    ("model", "title", "elsewhere"),
    [(Command, "Commands", set()), (Outcome, "Outcomes", {"v", "id", "cmd"})],
)
def test_keys_of_messages_are_those_of_the_page(model: type[Message], title: str, elsewhere: set[str]) -> None:
    table = rows(section(title))
    named = {key.strip("` ") for row in table for key in row[0].split(",")}
    assert set(model.model_fields) - elsewhere <= named


def test_commands_of_the_page_are_those_of_the_code() -> None:  # req: M5
    table = rows(section("Commands").split("| cmd | kind of state |")[1])
    kinds = {name: row[1] for row in table if len(row) == 3 for name in re.split(r"`? / `?", row[0])}
    assert set(kinds) - {""} == set(get_args(commands.Name))
    for name, kind in kinds.items():
        command = Command(id="x", cmd=name, issuer="x", epoch=(0, 0))
        desired = command.desired()
        assert kind == ("" if desired is None else desired[0]), name


def test_controller_commands_of_the_page_are_those_of_the_code() -> None:  # req: C7
    table = rows(section("Commands and outcomes").split("The specification's messages")[0])[1:]
    assert [row[0] for row in table] == [*Action, HOSTED]
    text = " ".join(row[1] for row in table)
    for key in set(ControllerCommand.model_fields) - {"v", "id", "cmd", "until"}:
        assert re.search(rf"\b{key}\b", text), key


def test_plant_commands_of_the_page_are_those_of_the_code() -> None:  # req: C3
    text = section("The plant")
    table = rows(text)[1:]
    assert [row[0] for row in table] == list(PlantAction)
    for model in (PlantCommand, PlantOutcome, PlantReport):
        for key in set(model.model_fields) - {"v", "id", "reason"}:
            assert re.search(rf"\b{key}\b", text), key
    assert f"at most {MAX_QUARTERS} rows" in text


def test_results_of_the_page_are_those_of_the_code() -> None:
    text = section("Outcomes") + section("Commands and outcomes")
    for result in get_args(commands.Result):
        assert f"`{result}`" in text, result


def test_topics_of_the_page_are_those_of_the_code() -> None:
    table = [row for row in rows(section("Topics")) if row[1].startswith(topics.ROOT)]
    built = {
        *(topics.meter_up("<microgrid>", 0, leaf) for leaf in ("rec", "ev", "lvl", "out")),
        topics.broker_up("<microgrid>"),
        *(topics.meter_down("<microgrid>", 0, leaf) for leaf in (topics.ACKS, topics.COMMANDS)),
        *(topics.gateway_up("<controller>", leaf) for leaf in ("batch", "stat", "out")),
        *(topics.gateway_down("<controller>", leaf) for leaf in (topics.ACKS, topics.COMMANDS)),
        *(topics.gateway_up(topics.PLANT, leaf) for leaf in ("stat", "out")),
        topics.gateway_down(topics.PLANT, topics.COMMANDS),
    }
    own = topics.broker_up("<microgrid>")
    assert {row[1] for row in table} == {t if t == own else t.replace("/0/", "/<meter>/") for t in built}
    assert f"match `{topics.MICROGRID_PATTERN}`" in PAGE
    for _, topic, *_ in table:
        filled = topic.replace("<microgrid>", "r001").replace("<controller>", "r001").replace("<meter>", "77")
        parsed = topics.parse_meter_up(filled) or topics.parse_gateway_up(filled)
        assert (parsed is not None) == ("/u/" in filled and topic != own)


def test_sections_named_in_the_contents_are_there() -> None:
    slugs = {
        re.sub(r"[^a-z0-9 -]", "", heading.lower()).replace(" ", "-")
        for heading in re.findall(r"^#+ (.*)$", PAGE, re.MULTILINE)
    }
    links = set(re.findall(r"\(#([a-z0-9-]+)\)", PAGE))
    assert links
    assert links <= slugs


Check = Callable[[bytes], object]


@pytest.mark.parametrize(
    ("name", "unpack"),
    [("put", unpack_put), ("ack", unpack_put_ack), ("level", unpack_level), ("batch", unpack_batch)],
)
def test_reader_who_mistypes_a_digit_of_an_example_is_told(name: str, unpack: Check) -> None:
    for data in HEX[name]:
        wrong = bytes([*data[:-5], data[-5] ^ 1, *data[-4:]])
        with pytest.raises(ProtocolError, match="checksum"):
            unpack(wrong)


def test_averages_round_half_up_and_keep_the_first_id_as_the_page_says() -> None:
    assert "halves up" in PAGE
    group = [
        HistoryRecord(
            record_type=3,
            lossy=0,
            record_id=7 + n,
            meter_id=77,
            account=12,
            start=15 * n,
            end=15 * n + 15,
            reading=int(n < 5),
        )
        for n in range(10)
    ]
    one, both = average(group), consolidate([record._replace(reading=4) for record in group])
    assert [(r.record_id, r.reading) for r in (*one, *both)] == [(7, 1), (7, 4)]


Tables = dict[str, list[str]]


def tables_of(path: Path) -> Tables:
    connection = sqlite3.connect(path)
    names = [name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
    found = {
        name: [row[1] for row in connection.execute(f"PRAGMA table_info({name})")]
        for name in names
        if not name.startswith("sqlite_")
    }
    connection.close()
    return found


def gateway_tables(folder: Path) -> Tables:
    Store.open(folder / "gateway.db").close()
    return tables_of(folder / "gateway.db")


def meters_tables(folder: Path) -> Tables:
    open_store(folder / "meters.db", TRUTH).close()
    return tables_of(folder / "meters.db")


def utility_tables(folder: Path) -> Tables:
    del folder
    return {table.name: [column.name for column in table.columns] for table in metadata.sorted_tables}


def documented(heading: str) -> Tables:
    """The tables in the section under ``heading``: rows of | `table` | `column`, `column` ... | what for |."""
    _, _, section = (DOCS / "stores.md").read_text().partition(f"\n### {heading}\n")
    section = re.split(r"^#{2,3} ", section, flags=re.MULTILINE)[0]
    rows = re.findall(r"^\| `(\w+)` \| (.+?) \| .+ \|$", section, flags=re.MULTILINE)
    return {name: re.findall(r"`(\w+)`", columns) for name, columns in rows}


@pytest.mark.parametrize(
    ("heading", "tables"),
    [("Tables of a gateway", gateway_tables), ("Tables of the meters", meters_tables),
     ("Tables of the utility", utility_tables)],
)  # fmt: skip
def test_every_table_and_column_is_described(heading: str, tables: object, tmp_path: Path) -> None:
    assert callable(tables)
    assert documented(heading) == tables(tmp_path), "describe it in docs/stores.md, section Tables"
