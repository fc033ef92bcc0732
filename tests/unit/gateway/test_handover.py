"""A controller's store moves to the controller that replaces it: whole, once, and to nobody else."""

import gzip
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from commonwatt.identity.authority import Authority
from commonwatt.identity.certificates import Kind
from commonwatt.model.blocks import from_records
from commonwatt.model.exceptions import CommonwattError, ConfigError
from commonwatt.model.records import EventRecord, Log
from gateway.changes import DONE, OFFERED, ForgetRelayed, Part, Relayed, Setting
from gateway.cli import app
from gateway.relay.outbox import load
from gateway.store.handover import Trusted, check_not_released, release, take_over, undo
from gateway.store.recovery import open_checked
from gateway.store.store import Store
from harness.real.enrolled import authority, certificate, now
from harness.worlds.gateway import START, World, readings

MICROGRID = "r001"
METER = 1


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A store with two minutes of readings, of which the utility acknowledged one, and an event."""
    world = World(tmp_path / "old.db")
    for n in range(2):
        assert world.put(METER, n * 20 + 1, readings(METER, n * 20 + 1, 20, start=START + n * 300)).accepted
    event = EventRecord(previous_state=0, new_state=1, record_id=1, meter_id=METER, time=START)
    world.put(METER, 1, [event])
    first = next(iter(world.store.all_parts(unsent_only=True)))
    acknowledged = Relayed(done=(first.id,), averaged=(), events=(), dead_letters=(), slots=20)
    world.store.commit([acknowledged, Setting("utility_store", "u1"), Setting("starts", "7")])
    world.store.close()
    return tmp_path / "old.db"


@pytest.fixture
def handover(old: Path, tmp_path: Path) -> Path:
    release(old, MICROGRID, tmp_path / "r001.handover", START)
    return tmp_path / "r001.handover"


def content(path: Path) -> tuple[list[Part], int, list[tuple[int, int]], str | None, int]:
    store, recovery = open_checked(path, START)
    assert recovery is None
    found = (
        list(store.all_parts(unsent_only=False)),
        len(list(store.all_events(unsent_only=False))),
        store.coverage(METER, Log.HISTORY, 1),
        store.setting("starts"),
        store.store_id,
    )
    store.close()
    return found


def test_the_new_controller_has_all_that_the_old_had(old: Path, handover: Path, tmp_path: Path) -> None:
    taken = take_over(tmp_path / "new.db", MICROGRID, handover, START)
    assert taken.moved
    assert content(tmp_path / "new.db") == content(old)
    store = Store.open(tmp_path / "new.db")
    check_not_released(tmp_path / "new.db", store)
    store.close()


def test_a_new_controller_that_already_started_keeps_no_empty_store(handover: Path, tmp_path: Path) -> None:
    path = tmp_path / "new.db"
    Store.open(path).close()
    assert take_over(path, MICROGRID, handover, START).moved
    assert content(path)[3] == "7"
    assert [p.name.split("-")[0] for p in tmp_path.glob("new.db.*")] == ["new.db.replaced"]


def test_no_gateway_runs_on_a_released_store(old: Path, handover: Path) -> None:
    store = Store.open(old)
    with pytest.raises(ConfigError, match=r"handed over to a new controller .*release --undo"):
        check_not_released(old, store)
    store.close()


def test_a_released_store_is_used_again_if_the_new_controller_never_started(old: Path, handover: Path) -> None:
    undo(old, START)
    store = Store.open(old)
    check_not_released(old, store)
    store.close()
    with pytest.raises(ConfigError, match="was not released"):
        undo(old, START)


def test_a_handover_taken_over_twice_changes_nothing(handover: Path, tmp_path: Path) -> None:
    path = tmp_path / "new.db"
    take_over(path, MICROGRID, handover, START)
    before = content(path)
    assert take_over(path, MICROGRID, handover, START).again
    assert content(path) == before


def test_records_stored_before_the_handover_came_stay_beside_those_of_the_old_store(
    old: Path, handover: Path, tmp_path: Path
) -> None:
    path = tmp_path / "new.db"
    world = World(path)
    # The meter sends again what it got no answer for, and goes on.
    assert world.put(METER, 21, readings(METER, 21, 40, start=START + 300)).accepted
    world.store.commit([Setting("utility_store", "u1"), Setting("starts", "1")])
    world.store.close()
    taken = take_over(path, MICROGRID, handover, START)
    assert (taken.moved, taken.added) == (False, 3)
    parts, events, ranges, starts, _ = content(path)
    assert (events, ranges, starts) == (1, [(1, 60)], "1")
    sent = [readings(METER, 1, 20, start=START), readings(METER, 21, 40, start=START + 300)]
    expected, found = from_records([record for records in sent for record in records]), load(parts)
    assert (found.keys(), found.values.tolist()) == (expected.keys(), expected.values.tolist())
    assert sorted(p.relayed == DONE for p in parts).count(True) == 1
    assert take_over(path, MICROGRID, handover, START).again


def test_marks_of_another_store_of_the_utility_do_not_count(handover: Path, tmp_path: Path) -> None:
    path = tmp_path / "new.db"
    world = World(path)
    assert world.put(METER, 21, readings(METER, 21, 20, start=START + 300)).accepted
    world.store.commit([Setting("utility_store", "u2")])
    world.store.close()
    take_over(path, MICROGRID, handover, START)
    marks = [p.relayed for p in content(path)[0]]
    assert DONE not in marks
    assert OFFERED in marks


def test_marks_of_a_store_that_the_utility_lost_do_not_count_though_they_are_not_forgotten_yet(
    old: Path, tmp_path: Path
) -> None:
    """The old controller knew of the utility's new store, and stopped before it had forgotten the acknowledgements."""
    store = Store.open(old)
    event = Relayed(done=(), averaged=(), events=((METER, 1, 1),), dead_letters=(), slots=0)
    store.commit([event, Setting("utility_store", "u2"), ForgetRelayed()])
    store.close()
    release(old, MICROGRID, tmp_path / "r001.handover", START)
    path = tmp_path / "new.db"
    world = World(path)
    world.put(METER, 21, readings(METER, 21, 20, start=START + 300))
    world.store.commit([Setting("utility_store", "u2")])
    world.store.close()
    take_over(path, MICROGRID, tmp_path / "r001.handover", START)
    parts, events, *_ = content(path)
    assert (DONE in [part.relayed for part in parts], events) == (False, 1)
    store = Store.open(path)
    assert len(list(store.all_events(unsent_only=True))) == 1
    store.close()


@pytest.mark.parametrize("kept", [0, 1, 100, -1])
def test_a_damaged_handover_is_refused_and_nothing_is_changed(handover: Path, tmp_path: Path, kept: int) -> None:
    path = tmp_path / "new.db"
    Store.open(path).close()
    before = content(path)
    handover.write_bytes(handover.read_bytes()[:kept])
    with pytest.raises(ConfigError, match=r"r001.handover: damaged, incomplete or no handover"):
        take_over(path, MICROGRID, handover, START)
    assert content(path) == before
    assert {p.name for p in tmp_path.glob("new.db*")} <= {"new.db", "new.db-wal", "new.db-shm"}


def test_a_flipped_bit_in_a_handover_never_becomes_a_wrong_value(old: Path, handover: Path, tmp_path: Path) -> None:
    whole, path, refused = handover.read_bytes(), tmp_path / "new.db", 0
    for at in range(10, len(whole), max(1, len(whole) // 50)):
        handover.write_bytes(whole[:at] + bytes([whole[at] ^ 0x10]) + whole[at + 1 :])
        try:
            take_over(path, MICROGRID, handover, START)
        except CommonwattError:
            refused += 1
            assert not path.exists()
        else:
            # Some bits of the compressed form mean nothing.
            assert content(path) == content(old)
            path.unlink()
    assert refused >= 45


def test_a_handover_of_another_microgrid_is_refused(handover: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is of r001, but this controller is of r002"):
        take_over(tmp_path / "new.db", "r002", handover, START)


def test_another_file_is_no_handover(tmp_path: Path) -> None:
    file = tmp_path / "x"
    file.write_bytes(gzip.compress(b'{"format": 2}\n'))
    with pytest.raises(ConfigError, match="no handover that this version reads"):
        take_over(tmp_path / "new.db", MICROGRID, file, START)


def test_an_old_controller_without_a_store_has_nothing_to_hand_over(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nothing can be handed over"):
        release(tmp_path / "none.db", MICROGRID, tmp_path / "out", START)


def test_a_release_of_a_store_that_is_not_there_is_not_undone_and_makes_no_store(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no store there"):
        undo(tmp_path / "gateway.db", START)
    assert not list(tmp_path.iterdir())


@pytest.fixture
def town(tmp_path: Path) -> Authority:
    return authority(tmp_path / "town")


def trusted_by(town: Authority) -> Trusted:
    folder = town.out / "authority"
    return Trusted(authority=(folder / "ca.pem").read_bytes(), revocations=(folder / "revoked.pem").read_bytes())


def signed(old: Path, by: Path) -> Path:
    release(old, MICROGRID, old.with_name("signed.handover"), START, by.read_bytes())
    return old.with_name("signed.handover")


def test_a_handover_is_taken_over_if_a_controller_of_the_authority_signed_it(
    old: Path, town: Authority, tmp_path: Path
) -> None:
    # Its certificate expired long ago: the controller lay in a drawer.
    file = signed(old, certificate(town, Kind.DEVICE, MICROGRID, at=now() - 30 * 86_400))
    assert take_over(tmp_path / "new.db", MICROGRID, file, START, trusted_by(town)).moved
    assert content(tmp_path / "new.db") == content(old)


def test_a_handover_that_no_controller_of_the_microgrid_signed_is_refused(
    old: Path, handover: Path, town: Authority, tmp_path: Path
) -> None:
    def why(file: Path) -> str:
        with pytest.raises(ConfigError, match="refused: ") as refused:
            take_over(tmp_path / "new.db", MICROGRID, file, START, trusted_by(town))
        assert not (tmp_path / "new.db").exists()
        return str(refused.value)

    own = certificate(town, Kind.DEVICE, MICROGRID)
    assert "it is not signed" in why(handover)
    assert "its certificate is not of r001" in why(signed(old, certificate(town, Kind.DEVICE, "r002")))
    forger = certificate(authority(tmp_path / "forger"), Kind.DEVICE, MICROGRID)
    assert "authority did not issue its certificate" in why(signed(old, forger))
    header, signature, database = gzip.decompress(signed(old, own).read_bytes()).split(b"\n", 2)
    handover.write_bytes(
        gzip.compress(header.replace(b'"released":', b'"released":1') + b"\n" + signature + b"\n" + database)
    )
    assert "the signature does not fit" in why(handover)
    file = signed(old, own)
    town.revoke(MICROGRID, "stolen", now())
    assert "its certificate was revoked" in why(file)


def test_the_handover_of_a_stolen_controller_is_refused_also_when_its_certificate_has_expired(
    old: Path, town: Authority, tmp_path: Path
) -> None:
    file = signed(old, certificate(town, Kind.DEVICE, MICROGRID, at=now() - 30 * 86_400))
    town.revoke(MICROGRID, "stolen", now())
    certificate(town, Kind.DEVICE, MICROGRID)
    with pytest.raises(ConfigError, match="its certificate was revoked"):
        take_over(tmp_path / "new.db", MICROGRID, file, START, trusted_by(town))


@pytest.mark.parametrize("has_certificate", [True, False])
def test_a_controller_asks_for_a_signature_if_controllers_have_certificates(
    old: Path, handover: Path, town: Authority, tmp_path: Path, *, has_certificate: bool
) -> None:
    """Where gateways use tokens over TLS, no controller could have signed."""
    folder = tmp_path / "new"
    shutil.copytree(town.out / "authority", folder)
    shutil.copy(certificate(town, Kind.DEVICE, MICROGRID), folder / "gateway.pem")
    own = 'certificate = "gateway.pem"\n' if has_certificate else ""
    (folder / "gateway.toml").write_text(f'[gateway]\nmicrogrid = "{MICROGRID}"\nhead_end_ca = "ca.pem"\n{own}')
    done = CliRunner().invoke(app, ["take-over", str(handover), "--config", str(folder / "gateway.toml")])
    assert done.exit_code == (2 if has_certificate else 0), done.stderr
    assert ("it is not signed" in done.stderr) is has_certificate
    assert (folder / "gateway.db").exists() is not has_certificate


def test_a_signed_handover_with_another_database_is_refused(old: Path, town: Authority, tmp_path: Path) -> None:
    file = signed(old, certificate(town, Kind.DEVICE, MICROGRID))
    whole = bytearray(gzip.decompress(file.read_bytes()))
    whole[-1] ^= 1
    file.write_bytes(gzip.compress(bytes(whole)))
    with pytest.raises(ConfigError, match="not the database that it states"):
        take_over(tmp_path / "new.db", MICROGRID, file, START, trusted_by(town))
