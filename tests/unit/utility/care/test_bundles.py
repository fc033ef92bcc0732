"""What is placed for a controller elsewhere: which one is told, what gets its bundle, what its gateway does."""

import asyncio
import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from commonwatt.care.code import unseal
from commonwatt.care.connection import CareConnection, CareRefused, CareUnreachable
from commonwatt.care.placed import PURPOSE, RESULT
from commonwatt.config.settings import GatewaySettings
from commonwatt.identity.certificates import Purpose, Signer
from commonwatt.identity.chains import chain_of
from commonwatt.identity.devices import digest
from commonwatt.identity.renewing import CertificateFile, signed_content
from commonwatt.model.exceptions import ConfigError
from commonwatt.protocol.controller_commands import Action, ControllerCommand
from commonwatt.site.bundle import BUNDLES
from gateway.care import bundle as taking
from harness.care.certificates import DAY_S, CareTown
from tests.unit.utility.conftest import NOW
from utility.care.api.listener import CareRefusal, CareRequest
from utility.care.store import told_bundle, wanted_bundles
from utility.control.commands import FieldsError, checked_command
from utility.database.database import Database
from utility.outbox.changes import CloseCommand
from utility.outbox.store import open_commands, tell
from utility.readings.store.writer import Writer

T = 1_790_000_000
BUNDLE = b"the bundle of r001"


@pytest.fixture
def care(tmp_path: Path) -> CareTown:
    made = CareTown(tmp_path, ["r001", "r002"], T)
    folder = made.folder / "authority" / BUNDLES
    folder.mkdir()
    (folder / "r001.bundle").write_bytes(BUNDLE)
    return made


def request(
    file: CertificateFile, name: str = "r001", content: bytes = BUNDLE, purpose: str = PURPOSE
) -> dict[str, Any]:
    """Return what the holder of a certificate asks."""
    pair, sha256 = file.path.read_bytes(), digest(content)
    signature = Signer.load(pair, pair).signature(purpose, signed_content(name, sha256)).hex()
    return {"name": name, "request": sha256, "certificate": chain_of(pair), "signature": signature}


def answer(care: CareTown, content: dict[str, object]) -> dict[str, Any]:
    return care.renewals.renew(CareRequest(address="10.0.0.9", content=content), PURPOSE)


def test_a_controllers_own_key_alone_opens_its_bundle(care: CareTown) -> None:
    file, other = care.file("r001"), care.file("r002")
    sealed = base64.b64decode(answer(care, request(file))["sealed"])
    keys = [Signer.load(pair, pair).key for pair in (file.path.read_bytes(), other.path.read_bytes())]
    assert unseal(keys[0], sealed) == BUNDLE
    with pytest.raises(ConfigError):
        unseal(keys[1], sealed)


def another_controller(care: CareTown) -> dict[str, Any]:
    return request(care.file("r002"), "r002")


def in_its_name(care: CareTown) -> dict[str, Any]:
    return request(care.file("r002"))


def of_a_renewal(care: CareTown) -> dict[str, Any]:
    return request(care.file("r001"), purpose="renewal")


def of_its_broker(care: CareTown) -> dict[str, Any]:
    return request(care.file("r001", Purpose.BROKER))


def of_an_ended_certificate(care: CareTown) -> dict[str, Any]:
    file = care.file("r001", days=1)
    care.now += 2 * DAY_S
    return request(file)


def of_a_revoked_controller(care: CareTown) -> dict[str, Any]:
    file = care.file("r001")
    care.revoke_device("r001")
    return request(file)


def of_an_earlier_bundle(care: CareTown) -> dict[str, Any]:
    return request(care.file("r001"), content=b"an earlier one")


@pytest.mark.parametrize(
    ("asked", "result"),
    [
        (another_controller, "bundle"),
        (in_its_name, "name"),
        (of_a_renewal, "malformed"),
        (of_its_broker, "bundle"),
        (of_an_ended_certificate, "bundle"),
        (of_a_revoked_controller, "revoked"),
        (of_an_earlier_bundle, "bundle"),
    ],
)
def test_nothing_else_gets_a_bundle(care: CareTown, asked: Callable[[CareTown], dict[str, Any]], result: str) -> None:
    with pytest.raises(CareRefusal) as refusal:
        answer(care, asked(care))
    assert refusal.value.result == result


class Controller:
    """A gateway whose utility is a function, and root's unit beside it."""

    def __init__(self, care: CareTown, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.unit = folder / "upgrade", dict[str, str]()  # root's answer at the next look
        self.asked: list[str] = []
        own = care.file("r001")
        self.settings = GatewaySettings(
            microgrid="r001", store=folder / "gateway.db", care="127.0.0.1:1", head_end_ca=own.ca, certificate=own.path
        )
        self.answered: Callable[[dict[str, Any]], dict[str, Any]] = lambda content: answer(care, content)
        monkeypatch.setattr(CareConnection, "post", lambda _, path, content: self._post(path, content))
        monkeypatch.setattr("gateway.care.bundle.asyncio.sleep", self._slept)

    def _post(self, path: str, content: dict[str, Any]) -> dict[str, Any]:
        self.asked.append(path)
        try:
            return self.answered(content)
        except CareRefusal as error:
            raise CareRefused(str(error)) from error

    async def _slept(self, _: float) -> None:
        if self.unit:
            (self.folder / RESULT).write_text(json.dumps(self.unit))

    def takes(self, name: str = "unpack-1", content: bytes = BUNDLE) -> dict[str, str]:
        """Return how a command ends."""
        command = ControllerCommand(id=name, cmd=Action.UNPACK, until=T, sha256=digest(content))
        return asyncio.run(taking.unpacked(self.settings, command))


@pytest.fixture
def controller(care: CareTown, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Controller:
    return Controller(care, tmp_path, monkeypatch)


def test_a_bundle_is_fetched_once_and_left_for_root_whose_result_is_the_answer(controller: Controller) -> None:
    controller.unit = {"id": "unpack-1", "result": "refused", "reason": "packed by a newer version"}
    assert controller.takes() == {"result": "refused", "reason": "packed by a newer version"}
    order = json.loads((controller.folder / "unpack.json").read_text())
    assert (order["id"], base64.b64decode(order["bundle"])) == ("unpack-1", BUNDLE)
    assert controller.asked == ["/bundle"]
    # A restart in between: the same command comes again.
    assert controller.takes()["result"] == "refused"
    assert controller.asked == ["/bundle"]
    controller.unit = {"id": "unpack-2", "result": "done"}
    assert controller.takes("unpack-2") == {"result": "done"}


def test_it_says_why_it_has_no_bundle(controller: Controller) -> None:
    assert "the unit unpack-commonwatt does not run" in controller.takes()["reason"]
    assert "has another bundle by now" in controller.takes("unpack-2", b"an earlier one")["reason"]

    def unreachable(_: dict[str, Any]) -> dict[str, Any]:
        raise CareUnreachable("127.0.0.1:1: timed out")

    controller.answered = unreachable
    assert "listener can't be reached: 127.0.0.1:1: timed out" in controller.takes("unpack-3")["reason"]


def test_another_bundle_than_the_named_one_is_not_left_for_root(care: CareTown, controller: Controller) -> None:
    honest = controller.answered
    (care.folder / "authority" / BUNDLES / "r001.bundle").write_bytes(b"forged")
    controller.answered = lambda _: honest(request(care.file("r001"), content=b"forged"))
    assert controller.takes()["result"] == "refused"
    assert not (controller.folder / "unpack.json").exists()


def test_each_registered_controller_is_told_of_its_newest_bundle_alone(database: Database, tmp_path: Path) -> None:
    for name in ("r001", "r009"):
        (tmp_path / f"{name}.bundle").write_bytes(b"first")

    def told(now: int) -> None:
        database.write(lambda connection: tell(connection, wanted_bundles(connection, tmp_path, now), now))

    assert database.read(told_bundle, tmp_path, "r001") is None
    told(NOW)
    told(NOW + 60)
    (first,) = database.read(open_commands)
    assert (first.controller, json.loads(first.message)["sha256"]) == ("r001", digest(b"first"))
    (tmp_path / "r001.bundle").write_bytes(b"second")
    assert database.read(told_bundle, tmp_path, "r001") is None, "of the newest one nothing is told yet"
    told(NOW + 120)
    (second,) = database.read(open_commands)
    assert json.loads(second.message)["sha256"] == digest(b"second")
    outcome = {"v": 1, "id": second.id, "cmd": "unpack", "result": "refused", "time": NOW + 130, "reason": "too old"}
    Writer(database).commit([CloseCommand(id=second.id, controller="r001", state="done", outcome=json.dumps(outcome))])
    found = database.read(told_bundle, tmp_path, "r001")
    assert found is not None
    assert (found.time, found.result, found.outcome["reason"]) == (NOW + 120, "refused", "too old")
    told(NOW + 180)
    assert not database.read(open_commands), "it is asked again a day later"
    told(NOW + 120 + 86_400)
    assert len(database.read(open_commands)) == 1


def test_no_person_sends_the_command() -> None:
    with pytest.raises(FieldsError):
        checked_command(Action.UNPACK, {"sha256": digest(BUNDLE)}, NOW + 60, "x")
