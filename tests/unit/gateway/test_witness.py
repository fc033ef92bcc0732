"""A controller signs one list of bills a month, and never another; what it signed is durable first (U2)."""

import asyncio
import json
from functools import partial
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from commonwatt.config.settings import GatewaySettings
from commonwatt.identity.certificates import Purpose, check_signed
from commonwatt.identity.chains import chain_of
from commonwatt.model.effects import Publish
from commonwatt.model.exceptions import ConfigError
from commonwatt.protocol.controller_commands import WITNESS_PURPOSE, ControllerCommand, witness_key_text, witnessed_text
from commonwatt.runtime.clock import load_clock
from gateway.alarms import alarms
from gateway.care import witness as module
from gateway.care.witness import Witness
from gateway.events import FromUtility
from gateway.shell import Shell
from harness.care.certificates import authority, certificate
from harness.network.waiting import become
from harness.surroundings.gateway import end_work
from tests.unit.gateway.test_report import changed, outcomes
from tests.unit.gateway.test_report import settings as _settings_of

settings = _settings_of

MONTH, ONE, OTHER = "2026-11", "1" * 64, "2" * 64


@pytest.fixture(name="own", scope="module")
def _own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return certificate(authority(tmp_path_factory.mktemp("office")), Purpose.DEVICE, "r001")


@pytest.fixture(name="witness")
def _witness(tmp_path: Path, own: Path) -> Witness:
    return Witness(tmp_path, "r001", own)


def key_of(said: dict[str, str]) -> str:
    return said["signed"][:64]


def test_a_code_is_signed_for_everybody_to_verify_and_again_when_asked_again(witness: Witness) -> None:
    said = witness.sign(MONTH, ONE, None)
    key, signature = bytes.fromhex(said["signed"][:64]), bytes.fromhex(said["signed"][64:])
    Ed25519PublicKey.from_public_bytes(key).verify(signature, witnessed_text("r001", MONTH, ONE, None))
    assert witness.sign(MONTH, ONE, None)["signed"] == said["signed"]
    assert key_of(witness.sign("2026-12", OTHER, None)) == key_of(said)


def test_the_controllers_certificate_signs_the_witness_key(witness: Witness, own: Path, tmp_path: Path) -> None:
    said = witness.sign(MONTH, ONE, None)
    chain = said["certificate"].encode()
    assert "PRIVATE" not in said["certificate"]
    assert chain == chain_of(own.read_bytes()).encode()
    check_signed(chain, WITNESS_PURPOSE, witness_key_text("r001", key_of(said)), bytes.fromhex(said["bound"]))
    missing = tmp_path / "without.pem"
    for path, why in ((None, "no certificate to sign"), (missing, "without.pem")):
        with pytest.raises((ConfigError, FileNotFoundError), match=why):
            Witness(tmp_path, "r002", path).sign(MONTH, ONE, None)
    assert not (tmp_path / "witness-r002.json").exists(), "it has signed nothing"


def test_a_second_list_of_a_month_is_never_signed_and_is_the_loudest_alarm(witness: Witness) -> None:
    witness.sign(MONTH, ONE, None)
    for replaces in (None, OTHER, "3" * 64):
        said = witness.sign(MONTH, OTHER, replaces)
        assert said == {"result": "refused", "reason": f"another list of {MONTH} was signed here: {ONE}"}
    (alarm,) = alarms(changed(witness=witness.view()))
    assert (alarm.alert, alarm.severity) == ("TwoLists", "critical")
    assert MONTH in alarm.title
    assert "11111111 11111111" in alarm.remedy
    assert "22222222 22222222" in alarm.remedy
    assert "signed" in witness.sign(MONTH, ONE, None), "the first one is still its own"


def test_a_code_that_replaces_the_signed_one_of_a_cancelled_run_is_signed_once(witness: Witness) -> None:
    witness.sign(MONTH, ONE, None)
    assert "signed" in witness.sign(MONTH, OTHER, ONE)
    assert witness.sign(MONTH, "3" * 64, ONE)["result"] == "refused", "only the last one is replaced"
    assert witness.sign(MONTH, ONE, OTHER)["result"] == "refused", "none comes back"
    assert witness.view()["codes"] == {MONTH: [ONE, OTHER]}


def test_a_list_that_replaced_another_is_not_signed_without_saying_so(witness: Witness) -> None:
    """Both receipts would pass, each with a list of its own, by one key."""
    witness.sign(MONTH, ONE, None)
    said = witness.sign(MONTH, OTHER, ONE)
    assert witness.sign(MONTH, OTHER, None)["result"] == "refused"
    assert witness.view()["others"] == {MONTH: [OTHER, OTHER]}, "an alarm"
    assert witness.sign(MONTH, OTHER, ONE)["signed"] == said["signed"]
    assert witness.sign("2026-12", ONE, OTHER)["signed"]
    assert witness.sign("2026-12", ONE, None)["result"] == "refused"


def test_what_is_signed_is_durable_before_the_signature(witness: Witness, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(path: Path, text: str) -> None:
        raise OSError("no space left")

    with monkeypatch.context() as patch:
        patch.setattr(module, "write_private", fails)
        with pytest.raises(OSError, match="no space"):
            witness.sign(MONTH, ONE, None)
    assert "signed" in witness.sign(MONTH, OTHER, None), "nothing was signed before"


def test_a_controller_that_lost_its_memory_has_another_key_and_a_damaged_memory_signs_nothing(
    witness: Witness, tmp_path: Path
) -> None:
    first = witness.sign(MONTH, ONE, None)
    (file,) = tmp_path.iterdir()
    kept = file.read_text()
    file.unlink()
    assert key_of(witness.sign(MONTH, OTHER, None)) != key_of(first)
    wrong: tuple[dict[str, object], ...] = (
        {"seed": "x" * 64},
        {"signed": {MONTH: []}},
        {"signed": {MONTH: ["1"]}},
        {"others": {"2026-10": []}},
    )
    damaged = [json.dumps(json.loads(kept) | each) for each in wrong]
    for text in ("", "{}", kept.replace("seed", "sood"), "[]", *damaged):
        file.write_text(text)
        with pytest.raises(ConfigError, match="keep the file"):
            witness.sign(MONTH, ONE, None)
        assert "keep the file" in str(witness.view()["unreadable"])


def test_the_street_reads_the_code_on_the_page_without_the_utility(witness: Witness) -> None:
    assert witness.view()["codes"] == {}
    for month in range(1, 6):
        witness.sign(f"2026-0{month}", f"{month}" * 64, None)
    assert witness.view()["codes"] == {f"2026-0{month}": [f"{month}" * 64] for month in (3, 4, 5)}
    assert witness.view()["key"]


def test_a_running_gateway_signs_what_the_utility_tells_it(settings: GatewaySettings, own: Path) -> None:
    shell = Shell.open(settings.model_copy(update={"certificate": own}), load_clock(None))
    sent: list[Publish] = []
    shell._work._publish = sent.append
    commands = [
        ControllerCommand(id=f"w{n}", cmd="witness", until=2**32 - 1, month=MONTH, code=code, replaces=before)
        for n, (code, before) in enumerate([(ONE, None), (ONE, None), (OTHER, None), (OTHER, ONE)])
    ]

    def is_answered(number: int) -> bool:
        return len({each.id for each in outcomes(sent)}) == number

    async def play() -> None:
        shell.shown._loop = asyncio.get_running_loop()
        work = asyncio.create_task(shell._work.run(shell._reload_registries, shell._schedule))
        for number, command in enumerate(commands, 1):
            shell._inbox.queue(FromUtility("cw1/r001/d/cmd", command.pack()))
            await become(partial(is_answered, number))
        await end_work(shell._work, work)

    asyncio.run(play())
    shell._work.own.store.close()
    first, again, other, after = {each.id: each for each in outcomes(sent)}.values()
    assert first.signed == again.signed
    assert (other.result, other.signed) == ("refused", None)
    assert after.result == "done", "of a cancelled run"
    assert OTHER in json.dumps(shell.shown._witness.view())
