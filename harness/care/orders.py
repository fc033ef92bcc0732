"""Random orders of what office, utility, controllers and thieves do with labels and certificates, with invariants.

``python -m harness.care.orders`` plays 20 seeds. Office and utility are the real ones, at the level of requests; lists
of revocations reach a controller only when it joins, renews, or a person unpacks a bundle there.
"""

import base64
import json
import random
import shutil
import ssl
import tempfile
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from commonwatt.care.code import Code, CodeSecrets, signed_text, unseal
from commonwatt.care.connection import CareRefused
from commonwatt.identity.certificates import Purpose, details_of, listed_issuers
from commonwatt.identity.chains import check_issued, new_key_pem, request_of
from commonwatt.identity.devices import digest
from commonwatt.identity.renewing import CertificateFile
from commonwatt.model.exceptions import ConfigError
from commonwatt.network.tls import own
from commonwatt.runtime.files import write_private
from harness.care.certificates import ADDRESSES, DAY_S, DAYS, CareTown, certificate
from utility.care.api.listener import CareRefusal, CareRequest
from utility.care.api.routes import Joining
from utility.care.store import Use

T = 1_790_000_000
NAMES = ("r001", "r002", "r003")
FILES = {"gateway": Purpose.DEVICE, "broker": Purpose.BROKER}


class Machine:
    """A controller's machine, or a thief's: its keys, and the files that it got."""

    def __init__(self, folder: Path, name: str) -> None:
        folder.mkdir(parents=True)
        self.name, self.has = name, False
        self.keys = {kind: new_key_pem() for kind in FILES}
        ca, lists = folder / "ca.pem", folder / "revoked.pem"
        self.files = {kind: CertificateFile(folder / f"{kind}.pem", ca, name, lists) for kind in FILES}


class World:
    """A town; each method with a name of ``STEPS`` is one step."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.rng, self.folder, self.done = random.Random(seed), folder, Counter[str]()
        self.town = CareTown(folder / "town", NAMES, T)
        certificate(self.town.office, Purpose.DEVICE, "utility", at=T, lifetime_s=9 * 365 * DAY_S)
        self.machines = {name: Machine(folder / name, name) for name in NAMES}
        self.revoked: set[str] = set()
        self.gone: list[Machine] = []  # machines that were revoked or replaced
        self.codes: dict[str, list[Code]] = {name: [] for name in NAMES}
        self.joins: dict[str, dict[str, object]] = {}
        self.uses: dict[str, Use] = {}
        self.got: dict[str, str] = {}  # the keys that got an answer, by code
        self.authority = self.town.folder / "authority"
        self.fingerprint = digest((self.authority / "ca.pem").read_bytes())
        self.joining = Joining(self.authority, self._use, lambda: self.town.trusted, lambda: self.town.now)

    def _use(self, use: Use) -> Use:
        return self.uses.setdefault(use.lookup, use)

    def label(self, name: str) -> None:
        if name not in self.revoked:
            code = Code.new(self.fingerprint)
            secret, ends = CodeSecrets.of(code, self.fingerprint), self.town.now + 30 * DAY_S
            self.codes[name] = [*self.codes[name][-1:], code]
            public_key = secret.signer.public_key().public_bytes_raw().hex()
            fields = {"place": name, "public_key": public_key, "ends": ends, "bundle": "x"}
            self._keep_joins(name, {secret.lookup: fields})

    def _keep_joins(self, name: str, new: dict[str, dict[str, object]]) -> None:
        self.joins = {key: value for key, value in self.joins.items() if value["place"] != name} | new
        write_private(self.authority / "joins.json", json.dumps(self.joins))

    def _joined(self, name: str, machine: Machine, *, lost: bool = False) -> bool:
        """Join by any label of a controller; return whether there was an answer."""
        if not self.codes[name]:
            return False
        secret = CodeSecrets.of(self.rng.choice(self.codes[name]), self.fingerprint)
        asked: dict[str, object] = {kind: request_of(key) for kind, key in machine.keys.items()}
        asked["code"] = secret.lookup
        try:
            content = asked | {"signature": secret.signer.sign(signed_text(asked)).hex()}
            answer = self.joining.answer(CareRequest(address=str(self.rng.random()), content=content))
        except CareRefusal as error:
            self.done[error.result] += 1
            return False
        assert self.got.setdefault(secret.lookup, machine.keys["gateway"]) == machine.keys["gateway"], "one key a code"
        key = serialization.load_pem_private_key(machine.keys["gateway"].encode(), None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        found = json.loads(unseal(key, base64.b64decode(str(answer["sealed"]))))
        for kind, file in machine.files.items():
            assert details_of(found[kind].encode())[0].names[0] == name, "no certificate to another name"
            if not lost:
                file.forget()
                write_private(file.path, machine.keys[kind] + found[kind])
        if not lost:
            self._carry(machine)
        return True

    def _carry(self, machine: Machine) -> None:
        """Bring a machine the files of its bundle."""
        for file in ("ca.pem", "revoked.pem"):
            shutil.copy(self.town.folder / machine.name / file, machine.files["gateway"].ca.with_name(file))
        machine.has = True

    def join(self, name: str) -> None:
        self._joined(name, self.machines[name])

    def lose_the_answer(self, name: str) -> None:
        self._joined(name, self.machines[name], lost=True)

    def steal_the_label(self, name: str) -> None:
        thief = Machine(self.folder / f"thief-{len(self.gone)}-{self.rng.random()}", name)
        if self._joined(name, thief):
            self.gone.append(thief)

    def renew(self, name: str) -> None:
        if self.machines[name].has:
            self._renewed(self.rng.choice([*self.machines[name].files.values()]), is_revoked=name in self.revoked)

    def _renewed(self, file: CertificateFile, *, is_revoked: bool) -> None:
        file.settle()
        try:
            answer = self.town.post("/renew", file.request())
        except CareRefused:
            self.done["renewal refused"] += 1
            return
        assert not is_revoked, f"{file.path}: what is revoked gets nothing"
        assert details_of(str(answer["certificate"]).encode())[0].names[0] == file.name, (
            "no certificate to another name"
        )
        fate = self.rng.choice(["lost", "taken", "taken", "back"])
        if fate != "lost":
            file.take(answer)
            if fate == "taken" or not file.go_back(self.town.now):
                file.confirm()

    def revoke(self, name: str) -> None:
        if name not in self.revoked and len(self.revoked) < len(NAMES) - 1:
            for kind in (Purpose.DEVICE, Purpose.BROKER, Purpose.ENROLMENT):
                self.town.office.revoke(name, "stolen", self.town.now, kind)
            self.town.revoke_device(name)
            self.revoked.add(name)
            self.codes[name] = []
            self._keep_joins(name, {})
            self._replace(name)

    def _replace(self, name: str) -> None:
        self.gone.append(self.machines[name])
        self.machines[name] = Machine(self.folder / f"{name}-{self.rng.random()}", name)

    def readmit(self, name: str) -> None:
        if name in self.revoked:
            self.town.revoke_device(name, "")
            self.revoked.discard(name)
            self.site_init(name)

    def unpack(self, name: str) -> None:
        """A person brings a bundle, with certificates of the authority itself."""
        if name not in self.revoked:
            for kind, file in self.machines[name].files.items():
                lifetime_s, path = DAYS[FILES[kind]] * DAY_S, f"{name}/{kind}.pem"
                office, at = self.town.office, self.town.now
                made = certificate(office, FILES[kind], name, lifetime_s=lifetime_s, file=path, at=at)
                file.forget()
                shutil.copy(made, file.path)
            self._carry(self.machines[name])

    def swap(self, name: str) -> None:
        """Another machine comes in its place; all that the old one has is revoked."""
        if name not in self.revoked and self.machines[name].has:
            old = {entry.serial for entry in self.town.office.issued if entry.name == name and entry.revoked is None}
            self._replace(name)
            self.town.office.revoke_these(old, "replaced", self.town.now)
            self.site_init(name)
            self.unpack(name)

    def site_init(self, _: str) -> None:
        more = f"10.1.0.{self.rng.randrange(1, 4)}"
        self.town.enrol({name: (*ADDRESSES, more) for name in NAMES if name not in self.revoked})

    def leap(self, _: str) -> None:
        self.town.trusted = self.rng.random() < 0.8
        if self.town.trusted:
            self.town.now += self.rng.randrange(60, 40 * DAY_S)

    def check(self) -> None:
        """Check that each controller has a pair that it and the head-end believe, and that thieves get nothing."""
        ca, lists = ((self.authority / name).read_bytes() for name in ("ca.pem", "revoked.pem"))
        head_end = listed_issuers((self.town.folder / "device-utility/revoked.pem").read_bytes())
        for name, machine in self.machines.items():
            for file in machine.files.values() if machine.has else ():
                own(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), file.path)
                content = file.path.read_bytes()
                leaf, *issuers = details_of(content)
                assert file.revoked is not None
                check_issued(content, ca, lists, name)
                issuer = issuers[0].names[0] if issuers else "test"
                if leaf.ends > self.town.now:
                    assert issuer in listed_issuers(file.revoked.read_bytes()), f"{name} refuses its own {file.path}"
                    assert issuer in head_end, f"the head-end refuses {name}"
        for machine in self.gone[-3:]:
            for file in machine.files.values():
                if file.path.exists():
                    with suppress(ConfigError):
                        check_issued(file.path.read_bytes(), ca, lists, machine.name)
                        continue  # A thief's by a label, which nothing has revoked yet.
                    self._renewed(file, is_revoked=True)


STEPS: dict[Callable[[World, str], None], int] = dict.fromkeys((World.steal_the_label, World.revoke, World.swap), 1)
STEPS |= dict.fromkeys((World.lose_the_answer, World.unpack, World.site_init), 2)
STEPS |= dict.fromkeys((World.label, World.readmit), 3) | {World.join: 4, World.leap: 4, World.renew: 9}


def play(folder: Path, seed: int, steps: int) -> Counter[str]:
    """Play a seed; return how often each step was done."""
    world = World(folder, seed)
    for _ in range(steps):
        (step,) = world.rng.choices([*STEPS], [*STEPS.values()])
        step(world, world.rng.choice(NAMES))
        world.done[step.__name__] += 1
        world.check()
    return world.done


def main() -> None:
    """Play 20 seeds, and print what was done."""
    done: Counter[str] = Counter()
    for seed in range(20):
        with tempfile.TemporaryDirectory() as folder:
            done += play(Path(folder), seed, 300)
    print(dict(done))


if __name__ == "__main__":
    main()
