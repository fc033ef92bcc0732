"""The flight recorder: a recording replays to the same hash on any machine, and names where a core does otherwise."""

import pickle
import random
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from commonwatt.codec.packing import unpack
from commonwatt.protocol.meter_messages import unpack_put
from gateway.changes import Part
from gateway.collect.collector import Collector
from gateway.control.epochs import Epochs
from gateway.control.manager import Manager
from gateway.control.requests import Requests
from gateway.controller import HEARTBEAT
from gateway.core import HostedMicrogrid
from gateway.events import FromMeter, FromUtility, Tick
from gateway.recorder.blanked import without_readings
from gateway.recorder.pickled import RecordingError, framed, loads, unframed
from gateway.recorder.recorder import MOST_BYTES, MOST_STATE_BYTES, STRETCH_S, Recorder
from gateway.recorder.recording import read_recording, write_recording
from gateway.recorder.replay import replay, replay_file
from gateway.recorder.tape import noted
from gateway.relay.relay import Relay
from gateway.store.store import Store
from gateway.timekeeper import Timekeeper
from harness.care.recordings import ABOUT, recorded, replayed
from harness.worlds.gateway import World

SEEDS = (1, 2, 5)


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("recordings")
    return [path for seed in SEEDS for path in recorded(seed, folder, hours=0.5)]


def test_every_recording_replays_to_the_same_hash(recordings: list[Path]) -> None:
    for path in recordings:
        last = replayed(path)
        assert last is not None
        assert (last.differs, last.number > 300) == ("", True), path


def test_the_command_shows_each_input_with_its_effects_and_the_hash(
    recordings: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    replay_file(recordings[0], until=30, state=True)
    said = capsys.readouterr()
    assert "replayed by another release" in said.err
    assert "publish cw1/r001/" in said.out
    assert "the same hash: " in said.out
    assert "manager" in said.out


def test_a_store_that_failed_and_a_core_that_failed_replay_as_they_were(world: World, tmp_path: Path) -> None:
    recorder = Recorder(world.settings, world.store, world.meters)
    recorder.handle("r001", Tick("retry"), world.now)
    broken = patch.object(Store, "backlog", side_effect=sqlite3.OperationalError("disk I/O error"))
    with broken, pytest.raises(sqlite3.OperationalError):
        recorder.handle("r001", Tick(HEARTBEAT), world.now)
    with pytest.raises(KeyError):
        recorder.handle("r009", Tick("retry"), world.now)
    recorder.handle("r001", Tick(HEARTBEAT), world.now + 60)
    path = tmp_path / "failed.cwr"
    write_recording(path, ABOUT, recorder.frames())
    found = list(replay(read_recording(path)))
    assert found[1].effects == ("failed: StoreFailedError: disk I/O error",)
    assert [each.differs for each in found] == [""] * 4
    assert found[2].effects == ("failed: KeyError: 'r009'",)


def test_what_can_not_be_recorded_stops_the_recorder_and_not_the_gateway(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    recorder = Recorder(world.settings, world.store, world.meters)
    vars(recorder.controller.own.collector)["strange"] = lambda: None
    for _ in range(3):
        assert recorder.handle("r001", Tick("collect_s"), world.now) is not None
    assert recorder.frames() == []
    assert [record.message for record in caplog.records].count(
        "the core can't be recorded; it works without the flight recorder"
    ) == 1


def test_whatever_fails_in_the_recorder_the_core_goes_on(world: World, caplog: pytest.LogCaptureFixture) -> None:
    recorder = Recorder(world.settings, world.store, world.meters)
    expected = recorder.handle("r001", Tick(HEARTBEAT), world.now)
    for failing in ("gateway.recorder.recorder.told", "gateway.recorder.tape.dumps"):
        recorder = Recorder(world.settings, world.store, world.meters)
        with patch(failing, side_effect=MemoryError):
            assert len(recorder.handle("r001", Tick(HEARTBEAT), world.now)) == len(expected)
        assert recorder.frames() == []
    assert caplog.text.count("it works without the flight recorder") == 2


def test_a_state_that_is_too_large_and_an_event_that_reads_too_much_stay_within_the_bytes(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    rng = random.Random(1)
    recorder = Recorder(world.settings, world.store, world.meters)
    recorder.handle("r001", FromUtility("cw1/r001/d/strange", rng.randbytes(MOST_BYTES + 1)), world.now)
    assert recorder.size_bytes <= MOST_BYTES
    recorder.handle("r001", Tick("retry"), world.now)
    assert recorder.stretches[0].since == world.now
    recorder = Recorder(world.settings, world.store, world.meters)
    vars(recorder.controller.own)["strange"] = rng.randbytes(MOST_STATE_BYTES + 1)
    recorder.handle("r001", Tick("retry"), world.now)
    assert recorder.size_bytes == 0
    assert "its state takes" in caplog.text


def test_an_hour_is_kept_and_not_much_more(world: World) -> None:
    recorder = Recorder(world.settings, world.store, world.meters)
    for minute in range(200):
        recorder.handle("r001", Tick("retry"), world.now + 60 * minute)
    assert 3600 <= world.now + 60 * 199 - recorder.stretches[0].since <= 3600 + STRETCH_S


def test_the_bytes_in_memory_are_bounded_and_the_newest_events_are_kept(world: World) -> None:
    recorder = Recorder(world.settings, world.store, world.meters)
    rng = random.Random(1)
    for at in range(4000):
        recorder.handle("r001", FromUtility("cw1/r001/d/strange", rng.randbytes(2000)), world.now + at)
        assert recorder.size_bytes <= MOST_BYTES
    *_, last = [entry for frame in recorder.frames()[1:] for entry in unframed(frame)]
    assert loads(last)[0] == world.now + 3999


# Faults of a core, each by what it breaks; the right core has to name the first input at which the faulty one differs.
FAULTS = {
    "acknowledges one record less": (Collector, "put"),
    "sends no command again": (Manager, "resend"),
    "shares nothing": (Manager, "share"),
    "relays nothing": (Relay, "work"),
    "answers no outcome": (Manager, "outcome"),
    "takes every meter as fenced": (Epochs, "is_fenced"),
    "clock an hour ahead": (Timekeeper, "now"),
    "asks for no records": (Requests, "records"),
    "ignores acknowledgements": (Relay, "acknowledged"),
    "drops messages of one meter": (HostedMicrogrid, "from_meter"),
}


@contextmanager
def planted(fault: str) -> Iterator[None]:
    kind, name = FAULTS[fault]
    right = getattr(kind, name)
    calls = iter(range(1_000_000))

    def wrong(self: Any, *arguments: Any, **options: Any) -> Any:
        found = right(self, *arguments, **options)
        if fault == "clock an hour ahead":
            return found + 3600
        if fault == "takes every meter as fenced":
            return True
        if fault == "acknowledges one record less":
            return type(found)(effects=found.effects[:-1], **{k: v for k, v in vars(found).items() if k != "effects"})
        return [] if next(calls) % 3 == 2 else found  # Now and then, as real faults.

    with patch.object(kind, name, wrong):
        yield


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_of_the_core_is_found_from_a_recording_alone(fault: str, tmp_path: Path) -> None:
    with planted(fault):
        paths = recorded(3, tmp_path, hours=0.25, faulty=True)
    found = [last for path in paths if (last := replayed(path)) is not None and last.differs]
    assert found, "the right core did the same"
    print(f"{fault}: input {found[0].number}, {found[0].entry.event!r:.120}: {found[0].differs}")


def test_a_blanked_recording_has_no_readings_and_says_so(
    recordings: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frames = loads(recordings[0].read_bytes().split(b"\n", 2)[2])
    path = tmp_path / "blank.cwr"
    write_recording(path, ABOUT | {"blanked": True}, without_readings(frames))
    puts = levels = 0
    recording = read_recording(path)
    for entry in recording.entries:
        match entry.event:
            case FromMeter(topic, payload) if topic.endswith("/u/rec"):
                puts += 1
                assert not any(int.from_bytes(record[-8:], "big") for record in unpack_put(payload).records)
        for _, value in map(noted, entry.reads):
            for part in value if isinstance(value, list) else ():
                if isinstance(part, Part):
                    levels += 1
                    assert not unpack([part.key], [part.payload]).values.any()
    assert puts > 10
    assert levels > 10
    replay_file(path, until=None, state=False)
    assert "readings are blanked: no hash is compared" in capsys.readouterr().out


class Hostile:
    def __reduce__(self) -> Any:
        return print, ("this must not run",)


@pytest.mark.parametrize(
    "data",
    [
        pickle.dumps(Hostile()),
        b"\x80\x05cos\nsystem\n(S'true'\ntR.",
        b"\x80\x05cbuiltins\neval\n(S'1'\ntR.",
        b"\x80\x05cgateway.control.manager\nlogging\n.",
        b"\x80\x05cgateway.core\nHostedMicrogrid.handle\n.",
        b"\x80\x05cgateway.store.store\nStore\n.",
        b"\x80\x05cgateway.recorder.pickled\nnp\n.",
        b"not a pickle",
    ],
)
def test_a_hostile_file_runs_nothing(data: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RecordingError):
        loads(data)
    path = tmp_path / "hostile.cwr"
    write_recording(path, ABOUT, [framed([data])])
    with pytest.raises(RecordingError):
        read_recording(path)
    assert "must not run" not in capsys.readouterr().out


def test_a_damaged_file_is_refused_by_name(recordings: list[Path], tmp_path: Path) -> None:
    whole = recordings[0].read_bytes()
    for content in (b"", b"CWR1\n{}\n", b"CWR1\nx", whole[:-100], b"CWR2" + whole[4:]):
        path = tmp_path / "damaged.cwr"
        path.write_bytes(content)
        with pytest.raises(RecordingError, match=r"damaged\.cwr"):
            read_recording(path)
    with pytest.raises(RecordingError, match="a frame is"):
        unframed(b"\x28\xb5\x2f\xfd" + bytes(20))
