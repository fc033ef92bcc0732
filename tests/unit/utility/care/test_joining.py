"""Controllers join by the codes of their labels; thieves, guesses, old codes and forged utilities are refused.

Office, utility and controllers are folders; the listener is a real one.
"""

import base64
import hmac
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from unittest.mock import patch

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from typer.testing import CliRunner

from commonwatt.care import joining as client
from commonwatt.care.code import Code, CodeSecrets, Invitation, seal, signed_text
from commonwatt.care.connection import CareConnection, CareRefused, CareUnreachable
from commonwatt.care.joining import PATH, join
from commonwatt.care.labels import VALID_S, end_label, make_labels
from commonwatt.cli.main import make_app
from commonwatt.identity.certificates import Purpose, details_of
from commonwatt.identity.chains import check_issued, requested
from commonwatt.identity.devices import digest
from commonwatt.model.exceptions import ConfigError
from commonwatt.runtime.clock import machine_s
from commonwatt.site.bundle import read_bundle
from commonwatt.site.machine import Machine
from commonwatt.site.office import make_site
from commonwatt.site.unpack import prepare
from harness.care.certificates import DAY_S, authority, certificate
from harness.care.orders import STEPS, play
from harness.network.waiting import free_port
from harness.real import forks
from harness.real.deploy import machine_root
from tests.unit.commonwatt.test_enrolment_authority import key_and_request
from utility.alarms.conditions import UtilityFacts, conditions
from utility.care.api.listener import CareListener, CareRefusal, CareRequest, Handler
from utility.care.api.routes import AGAIN_S, Joining
from utility.care.store import use_code
from utility.database.database import open_database
from utility.database.migrate import empty_database

SITE = """[site]
utility = "127.0.0.1"
care = {port}
mosquitto = false
[town]
name = "Springfield"
[[microgrid]]
id = "r001"
kind = "residential"
houses = 2
address = "10.1.0.1"
[[microgrid]]
id = "r002"
kind = "residential"
houses = 1
address = "10.1.0.2"
"""
STATE = Path("var/lib/commonwatt")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int]:
    """Return an office's folder of a town with care, with labels of all controllers, and the utility's port."""
    folder, port = tmp_path_factory.mktemp("office"), free_port()
    forks.run([sys.executable, "-c", "pass"], check=True)
    with patch("commonwatt.site.office.subprocess.run", forks.run):
        (folder / "site").mkdir()
        (folder / "site/site.toml").write_text(SITE.format(port=port))
        make_site(folder / "site", machine_s())
    make_labels(folder / "site", (), machine_s())
    return folder, port


class Town:
    """An office, a utility with its care listener, and controllers' machines."""

    def __init__(self, office: Path, port: int, folder: Path) -> None:
        self.site, self.folder, self.port = office / "site", folder, port
        self.now, self.trusted = machine_s(), True
        (folder / "utility.db").write_bytes(empty_database())
        self.database = open_database(f"sqlite:///{folder}/utility.db", create=True)
        self.utility = self.unpack_utility()
        self.listener = self.listening(self.utility, self.site / "head-end/broker.pem")

    def unpack_utility(self) -> Path:
        """Return the utility's folder from its bundle."""
        office(self.folder, "site", "pack", "utility", "--site", str(self.site))
        folder = self.folder / "utility"
        folder.mkdir(exist_ok=True)
        for name, content in read_bundle(self.folder / "utility.bundle").files.items():
            if name.startswith("utility/"):
                (folder / name.removeprefix("utility/")).write_bytes(content)
        return folder

    def listening(self, folder: Path, own: Path) -> CareListener:
        joining = Joining(
            folder, lambda use: self.database.write(use_code, use), lambda: self.trusted, lambda: self.now
        )
        ca = (own.with_name("ca.pem")).read_bytes()
        made = CareListener(
            f"127.0.0.1:{self.port}", own, {("GET", "ca"): lambda _: ca, ("POST", PATH): joining.answer}
        )
        made.start()
        return made

    def label(self, place: str) -> Invitation:
        """Return what the QR code of a controller's label says."""
        codes = json.loads((self.site / "authority/codes.json").read_text())["codes"]
        fingerprint = digest((self.site / "authority/ca.pem").read_bytes())
        address = f"127.0.0.1:{self.port}"
        code = Code(bytes.fromhex(codes[place]["code"]))
        return Invitation(code=code, addresses=(address,), fingerprint=fingerprint)

    def machine(self, name: str) -> Machine:
        root = self.folder / name
        return Machine.at(root if root.exists() else machine_root(root))

    def join(self, invitation: Invitation, machine: Machine) -> str:
        """Return the place of a machine after it has joined."""
        unpacking = join(invitation, machine, "9.9.9", self.now)
        unpacking.install(lambda _: None)
        unpacking.finish()
        return unpacking.place

    def refused(self, invitation: Invitation, machine: Machine, why: str, *, alarms: bool = False) -> None:
        """Check that a join is refused, nothing is installed, and an alarm, if there is one, says what and whence."""
        with pytest.raises(CareRefused, match=why):
            join(invitation, machine, "9.9.9", self.now)
        assert not list(machine.state.glob("r0*"))
        said = [one.alarm.description for one in conditions(UtilityFacts(joins_refused=self.listener.refusals(PATH)))]
        assert [why in text and "(from 127.0.0.1)" in text for text in said] == [True] * alarms


def ca_of(site: Path) -> bytes:
    return (site / "authority/ca.pem").read_bytes()


def office(folder: Path, *words: str) -> str:
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(folder)
        done = CliRunner().invoke(make_app(words[0]), [*words])
    assert done.exit_code == 0, done.output
    return done.output


@pytest.fixture
def town(made: tuple[Path, int], tmp_path: Path) -> Iterator[Town]:
    shutil.copytree(made[0] / "site", tmp_path / "office/site")
    town = Town(tmp_path / "office", made[1], tmp_path)
    with closing(town.database):
        yield town
        town.listener.stop()


def test_two_controllers_join_by_words_and_by_file(town: Town) -> None:
    label, root = town.label("r001"), town.machine("first").root
    said = office(town.folder, "join", *label.code.words.split(), "--utility", label.addresses[0], "--root", str(root))
    assert "r001 has joined Springfield" in said
    assert f"what pages place for it later waits for: sudo commonwatt site unpack --root {root}" in said
    assert "State: sudo -u commonwatt commonwatt status --config /var/lib/commonwatt/r001/gateway.toml" in said
    boot = town.machine("second").root / "boot/firmware"
    boot.mkdir(parents=True)
    (boot / "commonwatt-join.txt").write_text(town.label("r002").text + "\n")
    assert "r002 has joined" in office(town.folder, "join", "--root", str(boot.parents[1]))
    assert not (boot / "commonwatt-join.txt").exists()
    for folder, place, address in (("first", "r001", "10.1.0.1"), ("second", "r002", "10.1.0.2")):
        there = town.folder / folder / STATE / place
        gateway, broker = (details_of((there / name).read_bytes()) for name in ("gateway.pem", "broker.pem"))
        assert gateway[0].names == (place,)
        assert set(broker[0].names) == {place, address, "127.0.0.1"}
        assert "KEY" not in (there.parent / "joining.json").read_text()
        assert f'care = "127.0.0.1:{town.port}"' in (there / "gateway.toml").read_text()
    with pytest.raises(ConfigError, match="already joined here, by this label"):
        join(label, town.machine("first"), "9.9.9", town.now)
    assert not town.listener.refusals(PATH)


def test_office_has_no_key_of_a_controller_and_the_utility_no_bundle(town: Town) -> None:
    assert not list(town.site.glob("r00*/*er.pem")) + list(town.site.glob("r00*/gateway.pem"))
    joins = (town.utility / "joins.json").read_text()
    assert town.label("r001").code.content.hex() not in joins
    tokens = json.loads((town.site / "r001/gateway-tokens.json").read_text())
    assert tokens["r001"] not in joins
    assert not (town.utility / "codes.json").exists()
    said = office(town.folder, "site", "pack", "r001", "--site", str(town.site))
    assert "r001.bundle" in said
    assert {"r001/gateway.pem", "r001/broker.pem"} <= read_bundle(town.folder / "r001.bundle").files.keys()


def test_a_thief_of_the_utilitys_file_of_codes_joins_in_nobodys_place(town: Town) -> None:
    """Whatever of the file serves as a secret, for a MAC or a signature."""
    joining = Joining(town.utility, lambda use: use, lambda: True, lambda: town.now)
    known = json.loads((town.utility / "joins.json").read_text())
    lookup, fields = next((lookup, fields) for lookup, fields in known.items() if fields["place"] == "r001")
    asked = {one: key_and_request("r001")[1].decode() for one in ("gateway", "broker")} | {"code": lookup, "nonce": "0"}
    text = f"join request\n{json.dumps(asked, sort_keys=True)}".encode()
    for number, stolen in enumerate((lookup, *(value for value in fields.values() if len(str(value)) == 64))):
        secret = bytes.fromhex(stolen)
        signature = Ed25519PrivateKey.from_private_bytes(secret).sign(b"commonwatt " + text)
        for proof in ({"mac": hmac.digest(secret, text, "sha256").hex()}, {"signature": signature.hex()}):
            with pytest.raises(CareRefusal, match=r"wrong|no text"):
                joining.answer(CareRequest(address=f"10.9.9.{number}", content=asked | proof))


def test_a_lost_answer_is_asked_for_again_with_the_same_keys_and_a_stolen_code_is_refused(town: Town) -> None:
    first, thief = town.machine("first"), town.machine("thief")
    join(town.label("r001"), first, "9.9.9", town.now)  # The answer was lost: nothing is installed.
    town.refused(town.label("r001"), thief, "used code of r001, by another key", alarms=True)
    town.now += AGAIN_S
    assert town.join(town.label("r001"), first) == "r001"
    town.now += 1
    (first.state / "r001").rename(first.state / "away")
    with pytest.raises(CareRefused, match="used code of r001, by the same key, too late"):
        join(town.label("r001"), first, "9.9.9", town.now)
    assert town.listener.counts[PATH, "used_code"] == 2


def test_an_ended_code_is_refused(town: Town) -> None:
    town.now += VALID_S
    town.refused(town.label("r001"), town.machine("late"), "the code of r001 ended")
    town.now -= VALID_S
    end_label(town.site, "r002", town.now)
    town.unpack_utility()
    town.refused(town.label("r002"), town.machine("revoked"), "the code of r002 ended")


def test_a_code_that_a_newer_label_replaced_is_unknown(town: Town) -> None:
    old = town.label("r001")
    assert make_labels(town.site, ["r001"], town.now) == ["r001"]
    town.unpack_utility()
    town.refused(old, town.machine("old"), "unknown code")
    assert town.join(town.label("r001"), town.machine("new")) == "r001"


def test_guesses_are_limited_and_a_right_code_is_no_guess(town: Town) -> None:
    old = town.label("r001")
    make_labels(town.site, ["r001"], town.now)
    town.unpack_utility()
    for _ in range(20):  # A code that is right costs nothing.
        join(town.label("r001"), town.machine("right"), "9.9.9", town.now)
    for _ in range(10):
        town.refused(old, town.machine("guesser"), "unknown code")
    town.refused(old, town.machine("guesser"), "too many wrong codes", alarms=True)
    town.now += 60
    assert town.join(town.label("r001"), town.machine("right")) == "r001"


def test_who_asks_in_anothers_name_or_without_the_code_is_refused(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    asks = town.machine("asks")
    with monkeypatch.context() as patched:
        patched.setattr(client, "request_of", lambda _: key_and_request("r002")[1].decode())
        why = "another's name: 'r002' was asked for with the code of r001"
        town.refused(town.label("r001"), asks, why, alarms=True)
    with monkeypatch.context() as patched:
        patched.setattr(client, "signed_text", lambda _: b"another request")
        town.refused(town.label("r001"), asks, "wrong signature", alarms=True)
    said = town.listener.refusals(PATH)
    with monkeypatch.context() as patched:
        patched.setattr(client, "request_of", lambda _: "nonsense")
        with pytest.raises(CareRefused, match="no certificates for r001: no request for a certificate"):
            join(town.label("r001"), asks, "9.9.9", town.now)
    with monkeypatch.context() as patched:
        patched.setattr(client, "request_of", lambda _: 7)
        with pytest.raises(CareRefused, match="the request has no text gateway"):
            join(town.label("r001"), asks, "9.9.9", town.now)
    assert town.listener.refusals(PATH) == said, "garbage is no alarm"
    assert town.join(town.label("r001"), asks) == "r001", "nothing of it used the code up"


def test_a_forged_utility_is_refused_by_its_fingerprint(town: Town, tmp_path: Path) -> None:
    town.listener.stop()
    forged = certificate(authority(tmp_path / "forged"), Purpose.BROKER, "head-end")
    town.listener = town.listening(town.utility, forged)
    label = town.label("r001")
    for invitation in (label, Invitation(code=label.code, addresses=label.addresses)):
        with pytest.raises(ConfigError, match=r"refused: at .* is not your town's utility"):
            join(invitation, town.machine("victim"), "9.9.9", town.now)
    assert not town.listener.counts[PATH, "done"], "it learned nothing of the code"


def test_a_forged_utility_with_the_towns_own_certificate_is_refused_by_the_code(town: Town) -> None:
    town.listener.stop()
    ca = (town.site / "head-end/ca.pem").read_bytes()
    answers: list[Callable[[CareRequest], dict[str, object]]] = []
    routes: dict[tuple[str, str], Handler] = {
        ("GET", "ca"): lambda _: ca,
        ("POST", PATH): lambda asked: answers[-1](asked),
    }
    town.listener = CareListener(f"127.0.0.1:{town.port}", town.site / "head-end/broker.pem", routes)
    town.listener.start()
    made = json.dumps({"bundle": base64.b64encode(bytes(99)).decode(), "gateway": "", "broker": ""}).encode()

    def sealed(asked: CareRequest) -> dict[str, object]:
        return {"sealed": base64.b64encode(seal(requested(asked.content["gateway"].encode())[1], made)).decode()}

    answers += [lambda _: {"sealed": ""}, sealed]
    while answers:
        with pytest.raises(ConfigError, match="refused: the answer is not of your town's utility"):
            join(town.label("r001"), town.machine("victim"), "9.9.9", town.now)
        answers.pop()
    assert not list(town.machine("victim").state.glob("r0*"))


def test_a_utility_that_is_away_is_named_and_the_keys_stay(town: Town) -> None:
    town.listener.stop()
    first = town.machine("first")
    with pytest.raises(CareUnreachable, match=f"127.0.0.1:{town.port}: .*refused"):
        join(town.label("r001"), first, "9.9.9", town.now)
    keys = (first.state / "joining.json").read_bytes()
    town.listener.start()
    assert town.join(town.label("r001"), first) == "r001"
    assert (first.state / "joining.json").read_bytes() == keys


def test_a_joined_controllers_own_certificates_stay_when_a_bundle_is_unpacked(town: Town) -> None:
    first = town.machine("first")
    town.join(town.label("r001"), first)
    own = (first.state / "r001/gateway.pem").read_bytes()
    office(town.folder, "site", "pack", "r001", "--site", str(town.site))
    bundle = read_bundle(town.folder / "r001.bundle")
    unpacking = prepare(bundle, first, "9.9.9", machine_s())
    assert not [name for name in unpacking.changed() if name.endswith(".pem")]
    assert unpacking.bundle.files["r001/gateway.pem"] == own
    # A clock of 1970 judges no certificate's end, the bundle's time does.
    assert prepare(bundle, first, "9.9.9", 0).bundle.files["r001/gateway.pem"] == own
    old = replace(bundle, manifest=bundle.manifest.model_copy(update={"made": machine_s() + 91 * DAY_S}))
    assert prepare(old, first, "9.9.9", 0).bundle.files["r001/gateway.pem"] == bundle.files["r001/gateway.pem"]
    office(town.folder, "enroll", "revoke", "r001", "--reason", "stolen", "--out", str(town.site))
    office(town.folder, "enroll", "readmit", "r001", "--out", str(town.site))
    (town.folder / "r001.bundle").unlink()
    files = {**bundle.files, "r001/revoked.pem": (town.site / "r001/revoked.pem").read_bytes()}
    revoked = prepare(replace(bundle, files=files), first, "9.9.9", machine_s())
    assert revoked.bundle.files["r001/gateway.pem"] == bundle.files["r001/gateway.pem"] != own
    (first.state / "r001/gateway.pem.before").write_bytes(own)  # On trial, when the person came.
    revoked.install(lambda _: None)
    assert not (first.state / "r001/gateway.pem.before").exists(), "the revoked one does not come back"


def test_a_bundle_with_another_address_of_the_broker_replaces_its_own_certificate(town: Town) -> None:
    first = town.machine("first")
    town.join(town.label("r001"), first)
    file = town.site / "site.toml"
    file.write_text(file.read_text().replace("10.1.0.1", "10.1.0.9"))
    with patch("commonwatt.site.office.subprocess.run", forks.run):
        make_site(town.site, machine_s())
    office(town.folder, "site", "pack", "r001", "--site", str(town.site))
    unpacking = prepare(read_bundle(town.folder / "r001.bundle"), first, "9.9.9", machine_s())
    assert "10.1.0.9" in details_of(unpacking.bundle.files["r001/broker.pem"])[0].names
    assert unpacking.bundle.files["r001/gateway.pem"] == (first.state / "r001/gateway.pem").read_bytes()


class Sheet(HTMLParser):
    """The texts of a page, and whether it names anything outside."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.outside: list[str] = []
        self.feed(page)

    def handle_data(self, data: str) -> None:
        self.texts += [data.strip()] if data.strip() else []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.outside += [f"{tag} {key}" for key, _ in attrs if key in ("src", "href")]


def test_the_sheet_has_a_label_for_each_controller_and_its_meters(town: Town) -> None:
    page = Sheet((town.site / "labels.html").read_text())
    assert not page.outside
    text = "\n".join(page.texts)
    for place, broker in (("r001", "10.1.0.1:8883"), ("r002", "10.1.0.2:8883")):
        label = town.label(place)
        assert label.code.words in page.texts
        assert label.fingerprint in text
        for meter, token in json.loads((town.site / place / "meter-tokens.json").read_text()).items():
            at = page.texts.index(meter)
            assert page.texts[at : at + 3] == [meter, token, broker]
    assert (town.site / "labels.html").stat().st_mode & 0o077 == 0
    assert make_labels(town.site, (), town.now) == [], "each has had its label"
    said = office(town.folder, "site", "labels", "--revoke", "r002", "--site", str(town.site))
    assert "r002: its code has ended" in said
    assert town.label("r002").code.words not in (town.site / "labels.html").read_text()


def test_guesses_of_many_addresses_keep_no_installer_out(town: Town) -> None:
    joining = Joining(town.utility, lambda use: use, lambda: True, lambda: town.now)
    asked = dict.fromkeys(("code", "signature", "gateway", "broker"), "00")
    for number in range(300):
        with pytest.raises(CareRefusal, match="unknown code"):
            joining.answer(CareRequest(address=f"10.0.{number // 250}.{number % 250}", content=asked))
    own = CodeSecrets.of(town.label("r001").code, town.label("r001").fingerprint)
    good = asked | {one: key_and_request("r001")[1].decode() for one in ("gateway", "broker")} | {"code": own.lookup}
    for signature in ("\u00e4", "\ud800", "00", "00" * 64):
        with pytest.raises(CareRefusal, match="wrong signature"):
            joining.answer(CareRequest(address="10.9.9.9", content=good | {"signature": signature}))
    right = good | {"signature": own.signer.sign(signed_text(good)).hex()}
    assert joining.answer(CareRequest(address="10.9.9.9", content=right))


def test_without_a_synchronized_clock_no_code_is_used(town: Town) -> None:
    town.trusted = False
    town.refused(town.label("r001"), town.machine("first"), "clock is not synchronized")
    town.trusted = True
    assert town.join(town.label("r001"), town.machine("first")) == "r001"


def test_a_thiefs_use_stays_in_the_alarm_whatever_else_is_asked(town: Town) -> None:
    town.join(town.label("r001"), town.machine("thief"))
    town.refused(town.label("r001"), town.machine("installer"), "used code of r001, by another key", alarms=True)
    garbage = CareConnection((f"127.0.0.1:{town.port}",), town.site / "authority/ca.pem")
    asked: list[dict[str, object]] = [{}, dict.fromkeys(("code", "signature", "gateway", "broker"), "0")]
    for number in range(100):
        with pytest.raises(CareRefused):
            garbage.post("/join", asked[number % 2])
    used, many = town.listener.refusals(PATH)
    assert "used code of r001" in used
    assert "too many wrong codes" in many


def test_a_revoked_enrolment_authority_issues_nothing_and_init_makes_another(town: Town) -> None:
    first = town.machine("first")
    town.join(town.label("r001"), first)
    said = office(town.folder, "enroll", "revoke", "enrolment", "--reason", "broken into", "--out", str(town.site))
    assert "enrolment: 2 certificates revoked" in said
    assert str(town.site / "head-end/revoked.pem") in said
    assert not (town.site / "authority/enrolment.pem").exists()
    own = (first.state / "r001/gateway.pem").read_bytes()
    with pytest.raises(ConfigError, match="its certificate was revoked"):
        check_issued(own, ca_of(town.site), (town.site / "r001/revoked.pem").read_bytes(), "r001")
    with pytest.raises(ConfigError, match="first put care = 8444"):
        make_labels(town.site, ["r001"], machine_s())
    with patch("commonwatt.site.office.subprocess.run", forks.run):
        assert make_site(town.site, machine_s())[1] == 2


def test_the_label_of_a_revoked_controller_ends_for_good_and_one_of_a_removed_one_hinders_no_bundle(town: Town) -> None:
    stolen = town.label("r002")
    office(town.folder, "enroll", "revoke", "r002", "--reason", "label lost", "--out", str(town.site))
    office(town.folder, "enroll", "readmit", "r002", "--out", str(town.site))
    file = town.site / "site.toml"
    file.write_text(file.read_text().replace('id = "r001"', 'id = "r003"'))
    town.unpack_utility()
    town.now = machine_s()
    for label, why in ((stolen, "the code of r002 ended"), (town.label("r001"), "the code of r001 ended")):
        town.refused(label, town.machine("thief"), why)


def test_labels_of_unknown_or_revoked_controllers_are_refused(town: Town) -> None:
    with pytest.raises(ConfigError, match="has no microgrid r009"):
        make_labels(town.site, ["r009"], machine_s())
    with pytest.raises(ConfigError, match=r"r009: has no label; there are r001, r002"):
        end_label(town.site, "r009", machine_s())
    office(town.folder, "enroll", "revoke", "r002", "--reason", "stolen", "--out", str(town.site))
    with pytest.raises(ConfigError, match=r"r002 was revoked \(stolen\)"):
        make_labels(town.site, ["r002"], machine_s())


ORDERS = int(os.environ.get("ORDERS", "1"))  # random orders; ``make soak`` has more


@pytest.mark.parametrize("seed", range(ORDERS))
def test_whatever_the_order_is_pairs_work_and_names_and_codes_are_of_one_controller(tmp_path: Path, seed: int) -> None:
    assert {step.__name__ for step in STEPS} <= play(tmp_path, seed, 150).keys()
