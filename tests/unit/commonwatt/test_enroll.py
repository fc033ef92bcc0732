"""``commonwatt enroll``, as a person uses it in a folder that a registration wrote."""

import json
import re
import shutil
import stat
from errno import ENOSPC
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from broker.mosquitto import rendered
from commonwatt.cli.enroll import app
from commonwatt.config.settings import BrokerSettings
from commonwatt.identity import authority
from commonwatt.identity.authority import Authority, WantedCertificate
from commonwatt.identity.certificates import Purpose, Signer, expires_at, revoked_serials
from commonwatt.identity.devices import broker_token, load_devices, load_tokens, mosquitto_digest
from commonwatt.model.exceptions import ConfigError
from commonwatt.runtime.files import write_private
from commonwatt.town.loading import load_town
from harness.care.certificates import DAY_S, certificate, now
from utility.registry.store.enrolment import enrol

TOWN = 'microgrid = [{id = "r", kind = "residential", count = 2, houses = 1}]\n'


@pytest.fixture
def out(tmp_path: Path) -> Path:
    (tmp_path / "town.toml").write_text(TOWN)
    enrol(load_town(tmp_path / "town.toml"), tmp_path / "out")
    return tmp_path / "out"


def run(out: Path, *words: str) -> Result:
    return CliRunner(env={"COLUMNS": "120"}).invoke(app, [*words, "--out", str(out)])


def good(out: Path, *words: str) -> str:
    done = run(out, *words)
    assert done.exit_code == 0, done.output
    return done.output


def listed(out: Path) -> list[dict[str, str]]:
    rows: list[dict[str, str]] = json.loads(good(out, "list", "--json"))
    return rows


def create(out: Path, *places: str) -> None:
    """Make the authority, and certificates of some brokers."""
    Authority.create(out, "test", now())
    for place in places:
        certificate(Authority.load(out), Purpose.BROKER, place, file=f"{place}/broker.pem")


def renewed(out: Path, within_s: int = 30 * DAY_S, without: tuple[str, ...] = ()) -> list[str]:
    return [entry.file for entry in Authority.load(out).renew(now(), within_s, without)]


def test_certificates_of_devices_and_meters_are_in_their_places(out: Path) -> None:
    create(out)
    meter = next(i for i, d in load_devices(out / "r001" / "devices.json").items() if d.role == "meter")
    good(out, "device", "r001", "utility", "plant", meter)
    files = {"r001/gateway.pem", "utility/utility.pem", "plant/plant.pem", f"r001/meter-certificates/{meter}.pem"}
    assert {row["file"] for row in listed(out)} == files
    ca = (out / "authority" / "ca.pem").read_bytes()
    for path in files:
        assert (out / path).with_name("ca.pem").read_bytes() == ca
    assert "utility/utility.pem" in good(out, "list")
    assert expires_at((out / "r001/meter-certificates" / f"{meter}.pem").read_bytes()) > now() + 3600 * DAY_S
    assert expires_at((out / "r001/gateway.pem").read_bytes()) == pytest.approx(now() + 90 * DAY_S, abs=60)


def test_nobody_else_reads_a_key_and_nothing_secret_is_printed(out: Path) -> None:
    create(out, "r001")
    printed = good(out, "device", "r001")
    printed += (
        good(out, "revoke", "r001", "--reason", "lost") + good(out, "readmit", "r001") + good(out, "list", "--json")
    )
    for path in out.rglob("*"):
        if path.is_file():
            assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0 or path.name == "authority.lock", path
    assert "PRIVATE" not in printed
    for path in out.glob("*/*-tokens.json"):
        for token in load_tokens(path).values():
            assert token not in printed


def test_what_expired_is_renewed_and_then_forgotten(out: Path) -> None:
    made = Authority.create(out, "test", now() - 10 * DAY_S)
    made.issue(
        [WantedCertificate(kind=Purpose.DEVICE, name="r001", file="r001/gateway.pem", lifetime_s=DAY_S)],
        now() - 9 * DAY_S,
    )
    assert [row["state"] for row in listed(out)] == ["expired"]
    renewed(out, 0)
    assert [row["state"] for row in listed(out)] == ["valid"]


@pytest.mark.parametrize("content", ["the previous certificate", "nothing", "nonsense"])
def test_what_an_interrupted_renewal_left_is_issued_by_the_next(
    out: Path, monkeypatch: pytest.MonkeyPatch, content: str
) -> None:
    made = Authority.create(out, "test", now() - 60 * DAY_S)
    wanted = [
        WantedCertificate(kind=Purpose.DEVICE, name=name, file=f"{name}/gateway.pem", lifetime_s=90 * DAY_S)
        for name in ("r001", "r002")
    ]
    made.issue(wanted, now() - 60 * DAY_S)

    def full(path: Path, text: str) -> None:
        if path == out / "r002" / "gateway.pem":
            raise OSError(ENOSPC, "No space left on device")
        write_private(path, text)

    with monkeypatch.context() as patch:
        patch.setattr(authority, "write_private", full)
        with pytest.raises(OSError, match="No space left"):
            made.renew(now(), 31 * DAY_S)
    left = out / "r002" / "gateway.pem"
    if content == "nothing":
        left.unlink()
    elif content == "nonsense":
        left.write_text("")
    started = shutil.copytree(out, out.with_name("started"))
    for again in (
        Authority.load(out).renew(now(), 31 * DAY_S),
        Authority.load(started).issue_missing(wanted, now()),
    ):
        assert [entry.name for entry in again] == ["r002"]
    assert expires_at(left.read_bytes()) == pytest.approx(now() + 90 * DAY_S, abs=60)
    assert Authority.load(out).renew(now(), 31 * DAY_S) == []


def test_who_was_revoked_is_refused_everywhere_until_taken_in_again(out: Path, tmp_path: Path) -> None:
    create(out, "head-end")
    good(out, "device", "r001")
    serial = int(next(row["number"] for row in listed(out) if row["name"] == "r001"), 16)
    token = load_tokens(out / "r001" / "gateway-tokens.json")["r001"]
    assert "1 certificates revoked, marked in 2 devices files" in good(out, "revoke", "r001", "--reason", "stolen")
    ca = (out / "authority" / "ca.pem").read_bytes()
    assert revoked_serials((out / "head-end" / "revoked.pem").read_bytes(), ca) == {serial}
    enrol(load_town(tmp_path / "town.toml"), out)  # Registering again does not take it in again.
    for place in ("head-end", "r001"):
        assert load_devices(out / place / "devices.json")["r001"].revoked == "stolen"
    refused = run(out, "device", "r001")
    assert refused.exit_code == 2
    assert "commonwatt enroll readmit r001" in refused.stderr
    assert renewed(out, 80 * DAY_S) == ["head-end/broker.pem"], "what was revoked is not renewed"
    good(out, "readmit", "r001")
    new = load_tokens(out / "r001" / "gateway-tokens.json")["r001"]
    for place in ("head-end", "r001"):
        device = load_devices(out / place / "devices.json")["r001"]
        assert not device.revoked
        assert device.owns(new.encode())
        assert not device.owns(token.encode())
        assert device.mosquitto == mosquitto_digest(new.encode())
    good(out, "device", "r001")
    assert revoked_serials((out / "head-end" / "revoked.pem").read_bytes(), ca) == {serial}


def test_what_expired_is_revoked_too_and_not_renewed(out: Path) -> None:
    made = Authority.create(out, "test", now() - 10 * DAY_S)
    made.issue(
        [WantedCertificate(kind=Purpose.DEVICE, name="r001", file="r001/gateway.pem", lifetime_s=DAY_S)],
        now() - 9 * DAY_S,
    )
    assert "1 certificates revoked" in good(out, "revoke", "r001", "--reason", "stolen")
    assert renewed(out) == []


def test_a_device_that_was_revoked_before_it_had_a_certificate_of_this_authority_is_not_renewed(out: Path) -> None:
    good(out, "revoke", "r001", "--reason", "stolen")
    made = Authority.create(out, "test", now())
    made.issue([WantedCertificate(kind=Purpose.DEVICE, name="r001", file="r001/gateway.pem", lifetime_s=DAY_S)], now())
    made.issue([WantedCertificate(kind=Purpose.BROKER, name="r001", file="r001/broker.pem", lifetime_s=DAY_S)], now())
    assert renewed(out, without=("r001",)) == ["r001/broker.pem"]


def test_gateway_and_broker_of_one_name_are_revoked_one_by_one_and_every_broker_gets_the_list(out: Path) -> None:
    create(out, "head-end", "r001")
    good(out, "device", "r001")
    lists = [str(out / place / "revoked.pem") for place in ("head-end", "r001")]
    told = good(out, "revoke", "r001", "--reason", "stolen")
    assert [row["kind"] for row in listed(out) if row["state"] == "revoked"] == ["device"]
    assert all(path in told.replace("\n", "") for path in lists), "what is to be carried is named"
    good(out, "readmit", "r001")
    good(out, "revoke", "r001", "--broker", "--reason", "stolen")
    assert [row["state"] for row in listed(out) if row["name"] == "r001"] == ["revoked", "revoked"]
    assert not load_devices(out / "r001" / "devices.json")["r001"].revoked
    ca = (out / "authority" / "ca.pem").read_bytes()
    assert [len(revoked_serials(Path(path).read_bytes(), ca)) for path in lists] == [2, 2]


def test_who_connects_to_a_revoked_broker_gets_the_list_and_it_stays_as_it_is_otherwise(out: Path) -> None:
    create(out, "head-end")
    good(out, "device", "r001", "r002", "utility")
    lists = {place: out / place / "revoked.pem" for place in ("head-end", "r001", "r002", "utility")}
    before = {place: path.stat().st_ino for place, path in lists.items()}
    renewed(out, 80 * DAY_S)
    assert {place: path.stat().st_ino for place, path in lists.items()} == before, "nothing was revoked"
    told = good(out, "revoke", "head-end", "--broker", "--reason", "stolen").replace("\n", "")
    ca = (out / "authority" / "ca.pem").read_bytes()
    for path in lists.values():
        assert str(path) in told
        assert len(revoked_serials(path.read_bytes(), ca)) == 2, "the one, and the one it replaced"


def test_with_a_controller_its_meters_are_revoked_and_taken_in_again(out: Path) -> None:
    meters = set(load_tokens(out / "r001" / "meter-tokens.json"))
    before = load_tokens(out / "r001" / "meter-tokens.json")
    good(out, "revoke", "r001", "--with-meters", "--reason", "stolen")
    devices = load_devices(out / "r001" / "devices.json")
    assert {name for name, device in devices.items() if device.revoked} == {"r001", *meters}
    others = load_devices(out / "r002" / "devices.json")
    assert {name for name, device in others.items() if device.revoked} == meters, "r002 may manage them"
    good(out, "readmit", "r001", "--with-meters")
    tokens = load_tokens(out / "r001" / "meter-tokens.json")
    secrets, others = load_tokens(out / "r001" / "meter-secrets.json"), load_devices(out / "r002" / "devices.json")
    devices = load_devices(out / "r001" / "devices.json")
    assert not any(device.revoked for device in (*devices.values(), *others.values()))
    for name in meters:
        assert devices[name].owns(tokens[name].encode())
        assert tokens[name] != before[name]
        assert others[name].owns(broker_token(secrets[name], "r002").encode())


def test_a_revoked_meter_is_admitted_by_no_broker_that_hears_of_it_later_nor_by_mosquitto(
    out: Path, tmp_path: Path
) -> None:
    meter = min(load_tokens(out / "r001" / "meter-tokens.json"))
    good(out, "revoke", meter, "--reason", "stolen")
    (out / "r002" / "devices.json").unlink()  # As before microgrids had cliques.
    for path in out.glob("r002/*-tokens.json"):
        path.unlink()
    enrol(load_town(tmp_path / "town.toml"), out)
    for place in ("r001", "r002"):
        known = load_devices(out / place / "devices.json")
        assert known[meter].revoked == "stolen"
        files = rendered(BrokerSettings(), known, out)
        assert not re.search(rf"^{meter}:", files["passwords"], re.MULTILINE)
        assert f"user {meter}\n" not in files["access"]


def test_nobody_is_taken_in_with_a_token_that_nobody_has(out: Path) -> None:
    good(out, "revoke", "r001", "--reason", "lost")
    (out / "r001" / "gateway-tokens.json").unlink()
    done = run(out, "readmit", "r001")
    assert (done.exit_code, "commonwatt utility register" in done.stderr) == (2, True)
    assert load_devices(out / "r001" / "devices.json")["r001"].revoked == "lost"


def test_no_authority_is_made_in_the_folder_of_a_microgrid(out: Path) -> None:
    (out / "r001").rename(out / "authority")
    with pytest.raises(ConfigError, match="another id"):
        create(out)
    assert not list((out / "authority").glob("*key*"))


def test_an_authority_that_expired_says_so(out: Path) -> None:
    Authority.create(out, "test", now() - 10 * DAY_S, lifetime_s=DAY_S)
    done = run(out, "device", "r001")
    assert (done.exit_code, "the authority has expired" in done.stderr) == (2, True)


def test_a_device_without_a_certificate_is_revoked_by_its_mark_alone(out: Path) -> None:
    assert "0 certificates revoked, marked in 2 devices files" in good(out, "revoke", "r002", "--reason", "lost")
    assert not load_devices(out / "head-end" / "devices.json")["r001"].revoked


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("device", "r001"), "commonwatt site init"),
        (("revoke", "r009", "--broker", "--reason", "x"), "there are head-end, r001, r002"),
        (("revoke", "../out/r001", "--broker", "--reason", "x"), "there are head-end, r001, r002"),
        (("revoke", "r009", "--reason", "x"), "r009 is no device"),
        (("revoke", "head-end", "--reason", "x"), "--broker"),
        (("readmit", "r001"), "r001 is not revoked"),
    ],
)
def test_what_can_not_be_done_is_told_with_what_can(out: Path, words: tuple[str, ...], told: str) -> None:
    done = run(out, *words)
    assert done.exit_code == 2
    assert told in done.stderr


def test_an_unknown_name_is_told_and_nothing_is_issued(out: Path) -> None:
    create(out)
    done = run(out, "device", "r001", "r009")
    assert (done.exit_code, "r009" in done.stderr, listed(out)) == (2, True, [])


def test_there_is_one_authority(out: Path) -> None:
    create(out)
    before = (out / "authority" / "ca.pem").read_bytes()
    with pytest.raises(ConfigError, match="there is an authority"):
        create(out)
    assert (out / "authority" / "ca.pem").read_bytes() == before
    assert "no such folder" in run(out / "nowhere", "device", "r001").stderr


def test_a_certificate_never_outlives_its_authority(out: Path) -> None:
    made = Authority.create(out, "test", now(), lifetime_s=10 * DAY_S)
    (issued,) = made.issue(
        [WantedCertificate(kind=Purpose.DEVICE, name="r001", file="x/d.pem", lifetime_s=90 * DAY_S)], now()
    )
    assert issued.expires == made.expires == expires_at((out / "x" / "d.pem").read_bytes())


def test_an_authority_that_is_damaged_is_named(out: Path) -> None:
    create(out)
    key = out / "authority" / "ca-key.pem"
    other = Signer.new("other", now(), DAY_S).key_pem()
    for path, content in ((key, "nonsense"), (key, other), (out / "authority" / "issued.json", "[{}]")):
        kept = path.read_text()
        path.write_text(content)
        with pytest.raises(ConfigError, match="authority: the authority can't be read"):
            Authority.load(out)
        path.write_text(kept)
    assert Authority.load(out).issued == []
