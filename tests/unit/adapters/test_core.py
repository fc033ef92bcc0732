"""An adapter's core: messages of foreign meters become records, over crashes; commands reach devices."""

import json
import random
import shutil
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from adapters.cli import app as adapter_app
from adapters.commands import DeviceWish, commands_of
from adapters.core import Adapter, foreign_meter
from adapters.mapping.readers import Readers, readers_of
from adapters.messages import Arrived
from adapters.store import CHANNELS, load_channels, load_handled
from commonwatt.config.adapter import AdapterSettings
from commonwatt.device.changes import DesiredStates, MeterState, NewRecords, StoredMeter
from commonwatt.device.meter import MeterCore, MeterLimits
from commonwatt.device.released import check_in_use
from commonwatt.device.store import DeviceStore, damage_of, open_checked, open_store
from commonwatt.model.effects import Publish, Write
from commonwatt.model.exceptions import ConfigError
from commonwatt.model.records import HistoryRecord, Log, RecordType, unpack_history
from commonwatt.model.validation import Expected, judge_history
from commonwatt.protocol.commands import Command, Outcome
from commonwatt.protocol.meter_messages import unpack_level
from commonwatt.protocol.topics import COMMANDS
from gateway.cli import app as gateway_app
from gateway.store.store import Store
from harness.foreign import payloads
from harness.surroundings.databases import opened

T = 1_790_000_100
RULES = [
    {"preset": "mine", "topic": "{device}/energy", "path": "kwh", "kind": "register", "unit": "kWh", "time": "t"},
    {"preset": "mine", "topic": "{device}/energy", "path": "soc", "kind": "level", "unit": "%"},
    {"preset": "power", "topic": "+/power", "format": "plain", "kind": "power", "unit": "W", "sign": "positive"},
    {"preset": "both", "topic": "a", "format": "plain", "kind": "register", "unit": "Wh"},
    {"preset": "both", "topic": "b", "format": "plain", "kind": "register", "unit": "Wh"},
    {"preset": "sum", "topic": ["t1", "t2"], "format": "plain", "kind": "register", "unit": "kWh"},
    {"preset": "pulses", "topic": "p", "format": "plain", "kind": "interval", "unit": "Wh"},
    {"preset": "timed", "topic": "i", "path": "wh", "kind": "interval", "unit": "Wh", "time": "t"},
    {"preset": "json-sum", "topic": ["v/a", "v/b"], "path": "value", "kind": "register", "unit": "kWh"},
    {
        "preset": "words",
        "topic": ["w/hi", "w/lo"],
        "format": "plain",
        "factors": [65536, 1],
        "kind": "register",
        "unit": "Wh",
    },
    {
        "preset": "one-topic",
        "topic": ["w", "w"],
        "path": ["hi", "lo"],
        "factors": [65536, 1],
        "kind": "register",
        "unit": "Wh",
    },
    {"preset": "two", "topic": ["l1", "l2"], "format": "plain", "kind": "level", "unit": "Wh"},
]
SHARE, REDUCE = (
    {"preset": "mine", "kind": kind, "topic": "cmd/{device}", "on": "give", "off": "stop"}
    for kind in ("share", "reduce")
)
OBEYS: dict[str, Any] = {"preset": "mine", "capacity_wh": 10_000, "accept_unsafe": True}


class Bench:
    """An adapter on a real store, without connections."""

    def __init__(self, store: DeviceStore, *, command: Sequence[object] = (), **meter: object) -> None:
        of_meter = [{"id": 77, "source": "house"} | meter]
        self.settings = AdapterSettings.model_validate(
            {"microgrid": "r001", "meter": of_meter, "rule": RULES, "command": command}
        )
        self.store = store
        self.records: list[HistoryRecord] = []
        self.published: list[Publish] = []
        self.start()

    def start(self, at: float = T) -> None:
        """Build the adapter from its store, as after a crash."""
        readers: Readers = readers_of(self.settings)
        stored = self.store.load(77) or StoredMeter(
            state=MeterState(meter=77, generation=1), desired_states=DesiredStates(77, (0, 0), {})
        )
        commands = commands_of(self.settings)
        description = foreign_meter("r001", self.settings.meter[0], readers, commands)
        meter = MeterCore(description, MeterLimits(resolution=1), stored, Counter())
        self.adapter = Adapter(
            settings=self.settings.meter,
            readers=readers,
            meters={77: meter},
            channels=load_channels(self.store),
            handled=load_handled(self.store),
            tally=Counter(),
            commands=commands,
        )
        self.adapter.commands.reached = frozenset({""})
        self.do(self.adapter.boot(at))

    def do(self, effects: Iterable[object]) -> None:
        effects = list(effects)
        changes = [effect.change for effect in effects if isinstance(effect, Write)]
        self.store.commit(changes)
        made = [change for change in changes if isinstance(change, NewRecords) and change.log is Log.HISTORY]
        self.records += [unpack_history(row.data) for one in made for row in one.rows]
        self.published += [effect for effect in effects if isinstance(effect, Publish)]

    def hear(
        self, topic: str, payload: object, at: float, *, retained: bool = False, number: int = 0, dup: bool = False
    ) -> None:
        """Handle a message; of QoS 1 if it has a packet id."""
        text = payload if isinstance(payload, str) else json.dumps(payload)
        arrived = Arrived(topic, text.encode(), retained, int(at * 1000), qos=int(number > 0), number=number, dup=dup)
        self.do(self.adapter.message(arrived))

    def command(self, cmd: str, now: int, **fields: object) -> None:
        content = {"v": 1, "id": "1", "cmd": cmd, "issuer": "r001", "epoch": [1, 0]} | fields
        payload = Command.model_validate(content).pack()
        self.do(self.adapter.receive(77, COMMANDS, payload, now))
        self.do(self.adapter.tick(now))

    def to_devices(self) -> list[tuple[str, bytes]]:
        found = [(message.topic, message.payload) for message in self.published if message.topic.startswith("cmd/")]
        self.published.clear()
        return found

    def sum(self, kind: RecordType) -> int:
        return sum(r.reading * ((r.end - r.start) // 15) for r in self.records if r.record_type == kind)


def opened_store(path: Path) -> DeviceStore:
    """Open a store that is closed after the test."""
    store = open_store(path, CHANNELS)
    opened.append(store.connection.close)
    return store


@pytest.fixture
def store(tmp_path: Path) -> DeviceStore:
    return opened_store(tmp_path / "adapter.db")


def test_a_register_and_a_level_become_records_of_three_types(store: DeviceStore) -> None:  # req: K5
    bench = Bench(store, preset="mine", capacity_wh=10_000)
    for n in range(12):
        bench.hear("house/energy", {"kwh": 100 + n * 0.001, "soc": 40 + n, "t": T + n * 15 + 3}, T + n * 15 + 4)
    assert {r.record_type for r in bench.records} == {RecordType.STORED, RecordType.THROUGH, RecordType.REGISTER}
    through = [r for r in bench.records if r.record_type == RecordType.THROUGH]
    assert [(r.start, r.reading, r.lossy) for r in through[:2]] == [(T, 800, 0), (T + 15, 1000, 0)]
    registers = [r for r in bench.records if r.record_type == RecordType.REGISTER]
    assert registers[-1].reading == 100_010_000, "the last sample at or before the end of the slot"
    levels = [r for r in bench.records if r.record_type == RecordType.STORED]
    assert levels[0].reading == 4_000_000
    bench.command("get", T + 200, what="levels")
    assert "cw1/r001/77/u/lvl" in [message.topic for message in bench.published]


def test_a_level_below_the_minimum_is_sent_when_the_device_tells_it(store: DeviceStore) -> None:
    bench = Bench(store, preset="mine", capacity_wh=10_000, minimum_percent=40)
    for at, soc in ((T + 3, 41), (T + 5, 39.5), (T + 6, 39.2)):
        bench.hear("house/energy", {"kwh": 100, "soc": soc, "t": at}, at)
    (message,) = [message for message in bench.published if message.topic == "cw1/r001/77/u/lvl"]
    level = unpack_level(message.payload)
    assert (level.time, level.level) == (T + 5, 3_950_000)


def test_crashes_between_any_two_messages_change_nothing(tmp_path: Path) -> None:
    rng = random.Random(5)
    messages, counter, at = [], 100_000_000, float(T)
    for _ in range(150):
        at += rng.choice((5.0, 15.0, 15.0, 200.0, 900.0))
        counter += rng.randrange(30_000)
        messages.append(({"kwh": counter / 1e6, "t": at - rng.random()}, at))
    benches = [Bench(opened_store(tmp_path / f"{n}.db"), preset="mine") for n in range(2)]
    for content, when in messages:
        for bench in benches:
            bench.hear("house/energy", content, when)
        if rng.random() < 0.4:
            benches[1].start()
            # The broker sends again what the adapter had not acknowledged.
            benches[1].hear("house/energy", content, when + 1)
    assert benches[0].records == benches[1].records
    assert len(benches[0].records) > 100


def value_of(preset: str, n: int) -> str:
    """Return the n-th payload of a device: a register that rises by 20 Wh, 20 Wh each, or a power that changes."""
    match preset:
        case "mine":
            return json.dumps({"kwh": 1 + n * 0.02, "soc": 20 + n, "t": T + n * 15})
        case "both":
            return f"{1000 + n * 20}"
        case "pulses":
            return "20"
        case _:
            return f"{100 + n % 7}"


@pytest.mark.parametrize(
    ("preset", "topic"), [("mine", "house/energy"), ("both", "a"), ("pulses", "p"), ("power", "k/power")]
)
def test_messages_that_a_broker_sends_again_after_a_crash_count_once(tmp_path: Path, preset: str, topic: str) -> None:
    crashing, steady = (
        Bench(opened_store(tmp_path / name), preset=preset, capacity_wh=10_000) for name in ("1.db", "2.db")
    )
    for n in range(20):
        for bench in (crashing, steady):
            bench.hear(topic, value_of(preset, n), T + n * 15, number=n + 1)
    crashing.start()
    # All were committed; the broker had no acknowledgement of the last ten, and sends them again.
    for n in range(10, 20):
        crashing.hear(topic, value_of(preset, n), T + 310, number=n + 1, dup=True)
    for n in range(20, 40):
        for bench in (crashing, steady):
            # It had sent five more before the crash, too; they were not committed.
            bench.hear(topic, value_of(preset, n), T + 20 + n * 15, number=n + 1, dup=n < 25)
    assert crashing.records == steady.records
    assert crashing.adapter.channels == steady.adapter.channels
    assert crashing.adapter.tally["message", "sent_again"] == 10
    assert crashing.adapter.tally["value", "duplicate"] == 0
    if preset != "power":
        assert crashing.adapter.channels[77, RecordType.THROUGH].counter.total == 39 * 20_000


def test_an_adapter_of_an_exchanged_controller_goes_on_as_if_nothing_had_happened(tmp_path: Path) -> None:
    """Its store moves with the gateway's: what waits in it is delivered, and no energy is lost or counted twice."""
    old, new = tmp_path / "old", tmp_path / "new"
    for folder in (old, new):
        folder.mkdir()
        for part in ("gateway", "adapter"):
            (folder / f"{part}.toml").write_text(f'[{part}]\nmicrogrid = "r001"\n')
    Store.open(old / "gateway.db").close()
    steady = Bench(opened_store(tmp_path / "steady.db"), preset="mine")
    exchanged = Bench(opened_store(tmp_path / "killed.db"), preset="mine")
    for n in range(10):
        for bench in (steady, exchanged):
            bench.hear("house/energy", value_of("mine", n), T + n * 15, number=n + 1)
    # The old adapter was killed: its newest records are in the log beside its store.
    for end in ("", "-wal"):
        shutil.copy(tmp_path / f"killed.db{end}", old / f"adapter.db{end}")
    assert (old / "adapter.db-wal").stat().st_size

    def gateway(command: str, folder: Path, *words: str) -> str:
        files = ["--config", str(folder / "gateway.toml"), "--adapter", str(folder / "adapter.toml")]
        done = CliRunner().invoke(gateway_app, [command, *files, *words])
        assert done.exit_code == 0, done.output
        return done.output

    gateway("release", old)
    gateway("release", old, "--copy", str(new))
    with pytest.raises(ConfigError, match=r"adapter.db: was released"):
        check_in_use(old / "adapter.db", opened_store(old / "adapter.db").connection)
    store = opened_store(new / "adapter.db")
    check_in_use(new / "adapter.db", store.connection)
    exchanged.store = store
    exchanged.start()
    # The household's broker sends again what was not acknowledged, then what it kept meanwhile.
    exchanged.hear("house/energy", value_of("mine", 9), T + 300, number=10, dup=True)
    for n in range(10, 30):
        for bench in (steady, exchanged):
            bench.hear("house/energy", value_of("mine", n), T + n * 15, number=n + 1)
    assert exchanged.records == steady.records
    waiting = [store.connection.execute("SELECT data FROM record ORDER BY log, first_id").fetchall()
               for store in (steady.store, exchanged.store)]  # fmt: skip
    assert waiting[0] == waiting[1]
    assert len(waiting[0]) > 20


def test_the_adapter_of_a_controller_that_is_used_again_may_run_again(tmp_path: Path) -> None:
    for part in ("gateway", "adapter"):
        (tmp_path / f"{part}.toml").write_text(f'[{part}]\nmicrogrid = "r001"\ntokens = "tokens.json"\n')
    (tmp_path / "tokens.json").write_text("{}")
    Store.open(tmp_path / "gateway.db").close()
    open_store(tmp_path / "adapter.db", CHANNELS).close()
    files = ["--config", str(tmp_path / "gateway.toml"), "--adapter", str(tmp_path / "adapter.toml")]
    released = CliRunner().invoke(gateway_app, ["release", *files])
    assert released.exit_code == 0, released.output
    done = CliRunner().invoke(adapter_app, ["run", "--config", str(tmp_path / "adapter.toml")])
    assert (done.exit_code, "gateway release --undo --config FILE --adapter FILE" in done.output) == (2, True)
    assert CliRunner().invoke(gateway_app, ["release", "--undo", *files]).exit_code == 0
    check_in_use(tmp_path / "adapter.db", opened_store(tmp_path / "adapter.db").connection)
    # A damaged store stops the release, before anything is released.
    (tmp_path / "adapter.db").write_bytes(b"no database" * 1000)
    done = CliRunner().invoke(gateway_app, ["release", *files])
    assert "adapter.db: is damaged" in done.output
    assert CliRunner().invoke(gateway_app, ["release", "--undo", *files]).exit_code == 2, "was not released"


def test_the_same_energy_in_two_messages_counts_twice(store: DeviceStore) -> None:
    bench = Bench(store, preset="pulses")
    bench.hear("p", "20", T, number=1)
    bench.hear("p", "20", T + 15, number=1)  # The broker has the acknowledgement, and uses the packet id again.
    bench.start()
    bench.hear("p", "20", T + 30, number=2, dup=True)  # It was sent before the crash, and never committed.
    assert bench.adapter.channels[77, RecordType.THROUGH].counter.total == 40_000


def test_a_broker_that_lost_the_session_begins_again_with_its_packet_ids(store: DeviceStore) -> None:
    bench = Bench(store, preset="pulses")
    for number in (1, 2):
        bench.hear("p", "20", T + number, number=number)
    bench.do(bench.adapter.reconnected("", 1, T))
    bench.start()
    bench.hear("p", "20", T + 30, number=2, dup=True)
    assert bench.adapter.channels[77, RecordType.THROUGH].counter.total == 40_000


@pytest.mark.parametrize("big", [False, True])
def test_a_store_of_an_earlier_release_is_sound_and_remembers_messages_from_now_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, big: bool
) -> None:
    store = open_store(tmp_path / "adapter.db", CHANNELS)
    Bench(store, preset="pulses").hear("p", "20", T, number=1)
    store.connection.execute("DROP TABLE handled")  # Earlier releases did not have it.
    store.close()
    if big:
        monkeypatch.setattr("commonwatt.sqlite.SMALL_BYTES", 0)
    assert damage_of(tmp_path / "adapter.db", CHANNELS) is None
    store = open_checked(tmp_path / "adapter.db", T, CHANNELS)
    opened.append(store.connection.close)
    bench = Bench(store, preset="pulses")
    assert bench.adapter.channels
    bench.hear("p", "20", T + 15, number=2)
    bench.start()
    bench.hear("p", "20", T + 30, number=2, dup=True)
    assert bench.adapter.channels[77, RecordType.THROUGH].counter.total == 20_000


def test_a_retained_message_is_never_a_sample(store: DeviceStore) -> None:
    bench = Bench(store, preset="mine")
    for n in range(5):
        bench.hear("house/energy", {"kwh": 5 + n, "t": T + n}, T + n, retained=True)
    assert not bench.adapter.channels
    assert bench.adapter.tally["message", "retained"] == 5


def test_power_is_integrated_and_carried_below_a_milliwatt_hour(store: DeviceStore) -> None:
    bench = Bench(store, preset="power")
    for n in range(0, 301, 10):
        bench.hear("kitchen/power", "100" if n % 20 else "200", T + n)
    bench.hear("kitchen/power", "-500", T + 310)
    assert bench.sum(RecordType.THROUGH) == 150 * 300 * 1000 // 3600
    assert not any(r.record_type == RecordType.REGISTER for r in bench.records)


def test_the_second_topic_counts_only_while_the_first_is_silent(store: DeviceStore) -> None:
    bench = Bench(store, preset="both")
    for n in range(40):
        bench.hear("a", f"{1000 + n}", T + n * 15)
        bench.hear("b", f"{1000 + n}.5", T + n * 15 + 1)
    assert bench.adapter.tally["value", "not_preferred"] == 40
    for n in range(40, 120):
        bench.hear("b", f"{1000 + n}", T + n * 15)
    assert bench.adapter.channels[77, RecordType.THROUGH].rank == 1
    assert bench.sum(RecordType.THROUGH) <= 119_000
    assert bench.adapter.channels[77, RecordType.THROUGH].counter.total == 119_000


def test_a_register_of_both_directions_never_counts_alone_after_their_difference(store: DeviceStore) -> None:
    bench = Bench(store, preset="shelly-pm", source="s")
    used = returned = 0
    for minute in range(0, 2 * 1440, 2):
        by_day = 480 <= minute % 1440 < 960
        used, returned = (used, returned + 10) if by_day else (used + 2, returned)
        switch = {"id": 0, "aenergy": {"total": 20_000 + used + returned}}
        if by_day or not minute:  # It tells what changes.
            switch["ret_aenergy"] = {"total": 6_000 + returned}
        bench.hear("s/events/rpc", {"params": {"ts": T + minute * 60, "switch:0": switch}}, T + minute * 60)
        assert bench.adapter.channels[77, RecordType.THROUGH].counter.total <= used * 1000
    assert bench.adapter.channels[77, RecordType.THROUGH].counter.total > 1400 * 1000


def test_registers_on_several_topics_are_added_up(store: DeviceStore) -> None:
    bench = Bench(store, preset="sum")
    for n in range(30):
        bench.hear("t1", f"{200 + n / 1000:.3f}", T + n * 10)
        bench.hear("t2", "300.000", T + n * 10 + 1)
    assert bench.adapter.channels[77, RecordType.THROUGH].counter.raw == 500_029_000
    assert bench.adapter.tally["value", "incomplete"] == 30, "the sum is made when both were heard"
    for n in range(30, 60):
        bench.hear("t1", f"{200 + n / 1000:.3f}", T + n * 10)  # t2 does not change, and is not sent
    assert bench.adapter.channels[77, RecordType.THROUGH].counter.raw == 500_059_000


def test_json_values_of_several_topics_are_added_up_over_a_restart_between_them(store: DeviceStore) -> None:
    bench = Bench(store, preset="json-sum")
    for n in range(31):
        bench.hear("v/a", {"value": round(200 + n / 1000, 3)}, T + n * 10)
        bench.start()  # half of a sum waits in the store
        bench.hear("v/b", {"value": None} if n == 9 else {"value": round(300 + n / 500, 3)}, T + n * 10)
    assert bench.sum(RecordType.THROUGH) == 30 * 3_000
    assert bench.adapter.channels[77, RecordType.THROUGH].counter.total == 30 * 3_000


@pytest.mark.parametrize("preset", ["words", "one-topic"])
@pytest.mark.parametrize("habit", ["high first", "low first", "torn, high first", "torn, low first", "changes only"])
def test_a_counter_in_two_messages_counts_no_half_of_a_carry(tmp_path: Path, preset: str, habit: str) -> None:
    """The words are read one after the other while the counter goes on; the adapter is killed now and then."""
    bench, rng = Bench(opened_store(tmp_path / "adapter.db"), preset=preset, rated_w=100_000_000), random.Random(3)
    sent, step, counter, tally = {"hi": -1, "lo": -1}, 5_003, 7 * 65_536 + 100, Counter[tuple[str, str]]()
    for n in range(80):
        order = ("lo", "hi") if "low" in habit else ("hi", "lo")
        for place, word in enumerate(order):
            reading = counter + (step // 2 if "torn" in habit and place else 0)
            value = reading >> 16 if word == "hi" else reading & 0xFFFF
            if habit != "changes only" or value != sent[word]:
                sent[word] = value
                topic, payload = (f"w/{word}", f"{value}") if preset == "words" else ("w", {word: value})
                bench.hear(topic, payload, T + n * 15 + place)
            if rng.random() < 0.2:
                tally += bench.adapter.tally
                bench.start()
        counter += step
    tally += bench.adapter.tally
    found = bench.adapter.channels[77, RecordType.THROUGH].counter
    assert 77 * step <= found.total // 1000 <= 80 * step
    assert found.raw == max(found.raw, (counter - 2 * step) * 1000)
    assert {what for kind, what in tally if kind == "value"} <= {"held_back", "started", "counted", "incomplete"}
    assert tally["value", "held_back"] == tally["value", "started"] == 1
    assert tally["value", "counted"] <= 80, "a word that does not change is no reading"


def test_energy_of_intervals_adds_up(store: DeviceStore) -> None:
    bench = Bench(store, preset="pulses")
    for n in range(31):
        bench.hear("p", "10", T + n * 10)
    assert bench.sum(RecordType.THROUGH) == 300_000


@pytest.mark.parametrize("ahead_s", [-2, 0, 2])
def test_a_message_that_comes_twice_counts_once_whatever_the_device_clock(store: DeviceStore, ahead_s: int) -> None:
    bench = Bench(store, preset="timed")
    for n in range(31):
        for again in (0, 0.4):
            bench.hear("i", {"wh": 10, "t": T + n * 10 + ahead_s}, T + n * 10 + again)
    assert bench.adapter.channels[77, RecordType.THROUGH].counter.total == 300_000
    assert bench.adapter.tally["value", "duplicate"] == 31
    assert max(r.end for r in bench.records) <= T + 301, "no energy is later than its message"


@pytest.mark.parametrize(
    ("preset", "topic"),
    [("pulses", "p"), ("both", "a")],
)
def test_energy_of_messages_that_waited_at_the_broker_is_of_the_whole_absence(
    store: DeviceStore, preset: str, topic: str
) -> None:
    bench = Bench(store, preset=preset)
    n = 0

    def hear(at: float) -> None:
        nonlocal n
        n += 1
        values = {"pulses": "400", "both": f"{1000 + n * 400}"}
        bench.hear(topic, values[preset], T + at, number=n)

    for at in range(0, 900, 300):
        hear(at)  # 400 Wh each: 4.8 kW.
    for i in range(96):  # Eight hours: the broker sends 20 at a time, and each time waits for a commit.
        hear(8 * 3600 + 600 + i * 0.002 + i // 20 * 0.5)
        if i % 30 == 29:
            bench.start()  # A crash changes nothing.
    for at in range(8 * 3600 + 900, 8 * 3600 + 3000, 300):
        hear(at)
    through = [r for r in bench.records if r.record_type == RecordType.THROUGH]
    assert bench.adapter.channels[77, RecordType.THROUGH].counter.total == (n - 1) * 400_000
    assert bench.sum(RecordType.THROUGH) > (n - 3) * 400_000
    assert max(r.reading for r in through) < 250_000, "the gateway quarantines more than its meter's service carries"
    assert bench.adapter.tally["value", "impossible"] == 0


@pytest.mark.parametrize(("gap_s", "counted_wh"), [(300, 50), (301, 0), (20 * 3600, 0)])
def test_power_counts_nothing_in_a_gap_of_more_than_300_seconds(
    store: DeviceStore, gap_s: int, counted_wh: int
) -> None:
    """20 hours without a message, between 600 W and 600 W, counted 12 kWh."""
    bench = Bench(store, preset="power")
    for at in (0, 300, 300 + gap_s, 300 + gap_s + 0.01, 600 + gap_s):
        bench.hear("kitchen/power", "600", T + at)
    counted = bench.adapter.channels[77, RecordType.THROUGH].counter.total
    assert counted // 1000 == 100 + counted_wh
    assert bench.sum(RecordType.THROUGH) <= counted
    missing = [r for r in bench.records if gap_s > 300 and T + 300 < r.start < T + 285 + gap_s]
    assert not missing


def test_a_time_in_milliseconds_after_the_devices_start_is_a_wrong_clock(store: DeviceStore) -> None:
    bench = Bench(store, preset="mine")
    for n in range(12):
        bench.hear("house/energy", {"kwh": 1 + n * 0.01, "t": 5_000 + n * 15_000}, T + n * 15)
    assert bench.adapter.channels[77, RecordType.THROUGH].counter.total == 110_000
    assert bench.adapter.tally["value", "clock_wrong"] == 12


def test_intervals_count_no_more_than_the_rated_power_allows_since_an_absence(store: DeviceStore) -> None:
    bench = Bench(store, preset="pulses", rated_w=3600)
    bench.hear("p", "1", T)
    for i in range(100):
        bench.hear("p", "200", T + 3600 + i * 0.01)  # 20 kWh in an hour, where 3.6 kWh are possible.
    assert bench.adapter.channels[77, RecordType.THROUGH].counter.total == 3_600_000
    assert bench.adapter.tally["value", "impossible"] == 82
    bench.hear("p", "100", T + 7200)
    for n in range(1, 20):
        bench.hear("p", "50", T + 7200 + n * 60)
    bench.hear("p", "200", T + 8400)
    assert bench.adapter.tally["value", "impossible"] == 83, "what was not used an hour ago allows nothing now"


def test_a_gap_is_averaged_up_to_its_longest_and_missing_beyond(store: DeviceStore) -> None:
    bench = Bench(store, preset="mine", longest_gap_s=3600)
    for at, kwh in ((0, 1.0), (10, 1.001), (3610, 1.5), (10_000, 3.0), (10_010, 3.001), (10_200, 3.01)):
        bench.hear("house/energy", {"kwh": kwh, "t": T + at}, T + at)
    through = [r for r in bench.records if r.record_type == RecordType.THROUGH]
    assert sum((r.end - r.start) for r in through if r.end <= T + 3600) == 3600
    assert not [r for r in through if T + 3615 < r.start < T + 9990]
    assert bench.adapter.tally["value", "after_gap"] == 1


def test_records_of_a_gap_longer_than_a_day_are_valid(store: DeviceStore) -> None:
    bench = Bench(store, preset="mine", capacity_wh=10_000, longest_gap_s=3 * 86_400)
    for at, kwh in ((0, 100), (15, 100.01), (2 * 86_400 + 1000, 105), (2 * 86_400 + 1015, 105.01)):
        bench.hear("house/energy", {"kwh": kwh, "soc": 50, "t": T + at}, T + at)
    expected = Expected(meter_id=77, record_types=tuple(RecordType), now=None)
    assert not [r for r in bench.records if judge_history(r, expected) is not None]
    slots = Counter((r.record_type, at) for r in bench.records for at in range(r.start, r.end, 15))
    assert set(slots.values()) == {1}
    assert {at for kind, at in slots if kind == RecordType.REGISTER} == set(range(T, T + 2 * 86_400 + 1005, 15))


@pytest.mark.parametrize(
    "payload",
    ["", "{", "[]", "5", '{"kwh": {}}', '{"kwh": "1e999999999"}', '{"kwh": -5}', '{"kwh": 1e30}', '{"kwh": true}'],
)
def test_unreadable_messages_are_counted_and_kept_and_disturb_nothing(store: DeviceStore, payload: str) -> None:
    bench = Bench(store, preset="mine")
    for n in range(12):
        bench.hear("house/energy", {"kwh": 1 + n * 0.001, "t": T + n * 15}, T + n * 15)
        bench.hear("house/energy", payload, T + n * 15 + 1)
    assert bench.sum(RecordType.THROUGH) == 10_000
    if payload not in ("", "[]", "5"):  # a partial message is no error, and an empty one means that the device is gone
        assert bench.adapter.tally["message", "unreadable"] == 12
        assert bench.adapter.wrong[0].topic == "house/energy"


def test_share_commands_reach_the_device_again_and_again_until_they_end(store: DeviceStore) -> None:  # req: M8
    bench = Bench(store, command=[SHARE], obeys="share", **OBEYS)
    bench.command("share_power_on", T, seq=1, for_s=900)
    assert bench.to_devices() == [("cmd/house", b"give")]
    bench.do(bench.adapter.tick(T + 10))
    assert not bench.to_devices()
    bench.adapter.commands.heard_at = T + 290
    bench.do(bench.adapter.tick(T + 300))
    assert bench.to_devices() == [("cmd/house", b"give")]
    bench.do(bench.adapter.reconnected("", 0, T + 300))
    bench.do(bench.adapter.tick(T + 301))
    assert not bench.to_devices(), "it was told a second ago: at_most_each_s"
    bench.do(bench.adapter.tick(T + 305))
    assert bench.to_devices() == [("cmd/house", b"give")]
    bench.do(bench.adapter.tick(T + 901))
    assert bench.to_devices() == [("cmd/house", b"stop")]


def test_a_share_that_ended_while_nobody_could_say_so_is_ended_at_the_next_connection(store: DeviceStore) -> None:
    bench = Bench(store, command=[SHARE, REDUCE], obeys=["share", "reduce"], **OBEYS)
    bench.command("share_power_on", T, seq=1, for_s=900)
    assert bench.to_devices() == [("cmd/house", b"give")]
    bench.start()  # A crash; it starts again after the end.
    bench.adapter.commands.reached = frozenset()
    bench.do(bench.adapter.tick(T + 1000))
    assert not bench.to_devices(), "there was no connection yet"
    bench.adapter.commands.reached = frozenset({""})
    bench.do(bench.adapter.reconnected("", 0, T + 1000))
    bench.do(bench.adapter.tick(T + 1001))
    assert bench.to_devices() == [("cmd/house", b"stop")], "and nothing for reduce, which was never commanded"


def test_a_foreign_meter_refuses_what_our_meters_refuse_over_restarts_too(store: DeviceStore) -> None:
    bench = Bench(store, command=[REDUCE], obeys="reduce", **OBEYS)

    def answered(counter: int, rank: int, now: int) -> tuple[str, list[int]]:
        bench.published.clear()
        bench.command("initialize", now, epoch=[counter, rank])
        (outcome,) = [json.loads(m.payload) for m in bench.published if m.topic.endswith("/out")]
        return outcome["result"], outcome["epoch"]

    assert answered(5, 2, T) == ("done", [5, 2])
    assert answered(5 + 65_537, 3, T) == ("refused", [5, 2])
    for n in range(100):
        assert answered(6 + n, 3, T)[0] == "done"
    bench.start()
    assert answered(200, 3, T + 10) == ("refused", [105, 3])
    assert answered(104, 3, T + 10) == ("fenced", [105, 3])
    assert answered(200, 2, T + 10) == ("done", [200, 2])


@pytest.mark.parametrize("meter", [2**63 - 1, 2**63, 2**64 - 1])
def test_a_meter_may_have_any_id_of_64_bits(store: DeviceStore, meter: int) -> None:
    settings = AdapterSettings.model_validate(
        {"microgrid": "r001", "meter": [{"id": meter, "preset": "both"}], "rule": RULES}
    )
    readers = readers_of(settings)

    def started() -> Adapter:
        new = StoredMeter(state=MeterState(meter=meter, generation=1), desired_states=DesiredStates(meter, (0, 0), {}))
        stored = store.load(meter) or new
        description = foreign_meter("r001", settings.meter[0], readers)
        return Adapter(
            settings=settings.meter,
            readers=readers,
            meters={meter: MeterCore(description, MeterLimits(resolution=1), stored, Counter())},
            channels=load_channels(store),
            handled=load_handled(store),
            tally=Counter(),
        )

    adapter = started()
    for n in range(60):
        effects = [
            *adapter.tick(T + n * 15),
            *adapter.message(Arrived("a", b"%d" % (1000 + n), False, (T + n * 15) * 1000)),
        ]
        store.commit([effect.change for effect in effects if isinstance(effect, Write)])
    again = started()
    assert again.meters[meter].state == adapter.meters[meter].state
    assert again.meters[meter].history.rows == adapter.meters[meter].history.rows
    assert again.channels == adapter.channels
    assert {record.meter_id for records in store.held_records() for record in records} == {meter}


def test_a_full_battery_may_report_more_than_its_nominal_capacity(store: DeviceStore) -> None:
    bench = Bench(store, preset="mine", capacity_wh=10_000)
    for n, percent in enumerate((99, 101, 124, 127)):
        bench.hear("house/energy", {"soc": percent, "t": T + n * 15}, T + n * 15)
    assert bench.adapter.meters[77].state.level == 12_400_000
    assert bench.adapter.tally["value", "impossible"] == 1


def test_the_level_of_two_batteries_is_their_sum(store: DeviceStore) -> None:
    bench = Bench(store, preset="two", capacity_wh=20_000)
    for n, (topic, level) in enumerate((("l1", "3000"), ("l2", "4000"), ("l1", "3000"), ("l2", "5000"))):
        bench.hear(topic, level, T + n)
    assert bench.adapter.meters[77].state.level == 8_000_000


def test_a_command_without_a_rule_is_refused(store: DeviceStore) -> None:
    bench = Bench(store, preset="mine", capacity_wh=10_000)
    for cmd in ("share_power_on", "reduce_power_on", "isolate"):
        bench.command(cmd, T, seq=1, for_s=900, **({"state": "on"} if cmd == "isolate" else {}))
        outcome = Outcome.model_validate_json(bench.published[-1].payload)
        assert outcome.result == "refused"
        assert "can't be commanded here" in str(outcome.reason)
    assert not bench.to_devices()


@pytest.mark.parametrize("ahead_s", [3600, 9000, 10 * 365 * 86_400])
def test_a_clock_that_was_ahead_stops_no_meter_for_long(store: DeviceStore, ahead_s: int) -> None:
    bench = Bench(store, preset="both")
    for n in range(20):
        bench.hear("a", f"{1000 + n}", T + ahead_s + n * 15)
    before = len(bench.records)
    for n in range(20, 300):
        bench.hear("a", f"{1000 + n}", T + n * 15)
    bench.start()
    for n in range(300, 320):
        bench.hear("a", f"{1000 + n}", T + n * 15)
    now = [r for r in bench.records[before:] if r.record_type == RecordType.THROUGH]
    assert now[-1].end == T + 310 * 15
    assert bench.adapter.meters[77].state.last_slot == T + 319 * 15
    counted = bench.adapter.channels[77, RecordType.THROUGH].counter.total
    assert counted == (319_000 if ahead_s == 3600 else 318_000), "up to two hours it waits, and counts all"


def test_an_exchanged_device_begins_anew_without_energy(store: DeviceStore) -> None:
    bench = Bench(store, preset="mine", exchanged="2026-09-21T14:25:00Z")  # T + 600
    for n in range(80):
        kwh = 100 + n * 0.001 if n < 40 else 7 + n * 0.001
        bench.hear("house/energy", {"kwh": kwh, "t": T + n * 15}, T + n * 15)
    assert bench.adapter.channels[77, RecordType.THROUGH].counter.total == 39_000 + 39_000
    assert not bench.adapter.tally["value", "rewind"]


@pytest.mark.parametrize(
    ("meter", "fault"),
    [
        ({"preset": "toaster"}, "no preset 'toaster'; there are: both"),
        ({"preset": "tasmota-only-outgoing"}, "no preset"),
    ],
)
def test_a_wrong_mapping_is_refused_with_what_is_possible(meter: dict[str, str], fault: str) -> None:
    settings = AdapterSettings.model_validate({"microgrid": "r001", "meter": [{"id": 1} | meter], "rule": RULES})
    with pytest.raises(ConfigError, match=fault):
        readers_of(settings)


def test_broken_messages_of_every_maker_disturb_no_other_meter() -> None:  # more by: python -m harness.foreign.payloads
    energy, tally = payloads.run(1500, seed=7)
    assert energy == 1_500_000
    assert tally["message", "unreadable"] > 500


def test_the_same_topic_and_packet_on_two_brokers_are_two_messages(store: DeviceStore) -> None:
    meters = [{"id": n, "preset": "pulses", "at": at} for n, at in ((77, "house"), (78, "shed"))]
    settings = AdapterSettings.model_validate(
        {"microgrid": "r001", "source": [{"name": "house"}, {"name": "shed"}], "meter": meters, "rule": RULES}
    )
    readers = readers_of(settings)

    def begin() -> Adapter:
        kept = {
            meter.id: store.load(meter.id)
            or StoredMeter(
                state=MeterState(meter=meter.id, generation=1), desired_states=DesiredStates(meter.id, (0, 0), {})
            )
            for meter in settings.meter
        }
        return Adapter(
            settings=settings.meter,
            readers=readers,
            meters={
                meter.id: MeterCore(
                    foreign_meter("r001", meter, readers), MeterLimits(resolution=1), kept[meter.id], Counter()
                )
                for meter in settings.meter
            },
            channels=load_channels(store),
            handled=load_handled(store),
            tally=Counter(),
        )

    adapter = begin()
    adapter.boot(T)
    for at, number, dup in ((T, 4, False), (T + 15, 5, False), (T + 30, 5, True)):
        for source in ("house", "shed"):
            arrived = Arrived("p", b"20", False, at * 1000, qos=1, number=number, dup=dup, source=source)
            effects = adapter.message(arrived)
            store.commit([effect.change for effect in effects if isinstance(effect, Write)])
        adapter = begin()
    assert {key[0]: channel.counter.total for key, channel in adapter.channels.items()} == {77: 20_000, 78: 20_000}


def test_a_place_whose_sun_battery_and_grid_meter_are_three_devices_has_one_meter() -> None:
    sun = {"preset": "sum-of-sun", "source": "roof", "counts": "generation", "obeys": []}
    battery = {"preset": "mine", "source": "cellar", "counts": "level", "obeys": "share"}
    settings = AdapterSettings.model_validate(
        {
            "microgrid": "r001",
            "meter": [
                {"id": 77, "preset": "both", "capacity_wh": 10_000, "also": [sun, battery]},
                {"id": 78, "preset": "sum", "counts": "register"},
            ],
            "rule": [
                *RULES,
                {"preset": "sum-of-sun", "topic": "{device}", "format": "plain", "kind": "register", "unit": "Wh"},
            ],
            "command": [SHARE | {"failsafe": "watchdog", "failsafe_s": 60, "repeat_s": 20}],
        }
    )
    readers, commands = readers_of(settings), commands_of(settings)
    home, load = (foreign_meter("r001", meter, readers, commands) for meter in settings.meter)
    assert home.record_types == (
        RecordType.GENERATION,
        RecordType.STORED,
        RecordType.THROUGH,
        RecordType.REGISTER,
    )
    assert load.record_types == (RecordType.REGISTER,)
    assert {(reader.topics[0], reader.record_type) for reader in readers.all if reader.meter == 77} == {
        ("a", RecordType.THROUGH),
        ("b", RecordType.THROUGH),
        ("roof", RecordType.GENERATION),
        ("cellar/energy", RecordType.STORED),
    }
    assert [command.message(DeviceWish(), 0, None).topic for command in commands] == ["cmd/cellar"]


def test_of_a_device_that_another_meter_measures_too_the_register_alone_is_recorded(store: DeviceStore) -> None:
    bench = Bench(store, preset="both", counts="register")
    for minute in range(4):
        bench.hear("a", str(1000 + minute), T + 60 * minute)
    assert {record.record_type for record in bench.records} == {RecordType.REGISTER}
