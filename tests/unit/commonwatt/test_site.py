"""``commonwatt site``, as an office and a technician use it; machines are folders."""

import gzip
import io
import json
import os
import random
import re
import shutil
import stat
import sys
import tarfile
import tomllib
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, suppress
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any, cast
from unittest.mock import patch

import pytest
from cryptography import x509
from typer.testing import CliRunner, Result

from adapters.mapping.readers import readers_of
from adapters.service import AdapterService, status_of
from adapters.store import CHANNELS
from commonwatt.cli.enroll import app as enroll
from commonwatt.cli.main import config_app
from commonwatt.cli.site import app
from commonwatt.config.adapter import AdapterSettings
from commonwatt.config.files import load_settings
from commonwatt.config.settings import GatewaySettings
from commonwatt.device.store import open_store
from commonwatt.doctor.running import look
from commonwatt.identity.authority import Authority
from commonwatt.identity.devices import digest, load_tokens
from commonwatt.model.exceptions import ConfigError
from commonwatt.model.units import MADE
from commonwatt.runtime.clock import load_clock
from commonwatt.runtime.service import only_one
from commonwatt.site import unpack as unpack_module
from commonwatt.site.bundle import Bundle, pack, read_bundle, write_bundle
from commonwatt.site.machine import Machine
from commonwatt.site.places import SiteMicrogrid, SiteTable, _controller_files
from commonwatt.site.unpack import prepare
from commonwatt.town.registry import load_registry
from harness.care.certificates import now
from harness.real import forks
from harness.real.deploy import machine_root

SITE = """[site]
utility = "utility.example"
[town]
name = "Springfield"
[[microgrid]]
id = "r001"
kind = "residential"
houses = 1
address = "10.1.0.1"
[[microgrid]]
id = "r002"
kind = "residential"
houses = 1
"""
STATE = Path("var/lib/commonwatt")


@pytest.fixture(autouse=True, scope="module")
def _forked() -> Iterator[None]:
    # The process that forks the others must start in the project's folder.
    forks.run([sys.executable, "-c", "pass"], check=True)
    with patch("commonwatt.site.office.subprocess.run", forks.run):
        yield


def run(folder: Path, *words: str) -> Result:
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(folder)
        return CliRunner().invoke(app, words)


def stated(folder: Path, text: str) -> None:
    """Write a site file."""
    (folder / "site").mkdir(parents=True)
    (folder / "site/site.toml").write_text(text)


def good(folder: Path, *words: str) -> str:
    done = run(folder, *words)
    assert done.exit_code == 0, done.output
    return done.output


def refused(folder: Path, *words: str) -> str:
    done = run(folder, *words)
    assert done.exit_code == 2, done.output
    return done.output


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    stated(folder, SITE)
    good(folder, "init")
    good(folder, "pack", "utility", "r001", "r002")
    return folder


@pytest.fixture
def office(made: Path, tmp_path: Path) -> Path:
    """Return a folder with ``site`` and its bundles."""
    return shutil.copytree(made, tmp_path / "office")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return machine_root(tmp_path / "root")


def unpacked(office: Path, root: Path) -> str:
    """Unpack for the first time, with the authority's fingerprint from the office."""
    fingerprint = digest((office / "site/authority/ca.pem").read_bytes())
    return good(office, "unpack", "r001.bundle", "--root", str(root), "--authority", fingerprint)


def signed(bundle: Bundle, office: Path) -> None:
    write_bundle(bundle, office / "r001.bundle", Authority.load(office / "site"))


def contents(folder: Path) -> dict[str, bytes]:
    """Return the files in a folder, but the list of users with which a machine's root begins."""
    files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    return {name: path.read_bytes() for name, path in files.items() if name != "etc/passwd"}


def test_the_example_makes_a_town(tmp_path: Path) -> None:
    assert "commonwatt config example site" in refused(tmp_path, "init")
    stated(tmp_path, CliRunner().invoke(config_app, ["example", "site"]).output)
    assert "commonwatt site pack utility r001" in good(tmp_path, "init")
    gateway = tomllib.loads((tmp_path / "site/r001/gateway.toml").read_text())["gateway"]
    assert (gateway["head_end"], gateway["timezone"]) == ("utility.example:8883", "Europe/Berlin")
    broker = next(e for e in Authority.load(tmp_path / "site").current() if e.file == "r001/broker.pem")
    assert broker.addresses == ("10.1.0.1", "127.0.0.1")
    assert stat.S_IMODE((tmp_path / "site").stat().st_mode) == 0o700


@pytest.mark.parametrize(
    ("before", "after", "fault"),
    [
        ("utility.example", "a b", "is no host name"),
        ('name = "Springfield"', 'timezone = "Mars"', "must be a time zone"),
        ("houses", "cats", "microgrid.0.cats: unknown key"),
        ("houses = 1\naddress", "count = 2\naddress", "count makes several"),
        ('"r002"', '"r001"', "r001 is there twice"),
        ('"r001"', '"utility"', "microgrid utility has the name of a folder of the utility; give it another id"),
    ],
)
def test_a_wrong_site_file_is_refused_and_no_file_is_made(tmp_path: Path, before: str, after: str, fault: str) -> None:
    stated(tmp_path, SITE.replace(before, after))
    assert fault in " ".join(refused(tmp_path, "init").split())
    assert contents(tmp_path).keys() == {"site/site.toml"}


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("", "is empty"),
        ("*.utility.example", "wildcard"),
        ("10.1.0.999", "is no IP address"),
        ("10.1.0", "is no IP address"),
        ("utility.example:8883", "without its port"),
        ("[fd00::1]:8883", "without its port"),
        ("[fd00::1]", "without brackets"),
        ("https://x.example", "is a URL"),
        ("utility.example.", "is no host name"),
        ("-x.example", "is no host name"),
        ("stra\N{LATIN SMALL LETTER SHARP S}e.example", "is no host name"),
        ("a" * 64 + ".example", "is no host name"),
        (".".join(["a" * 60] * 5), "is no host name"),
        ("fe80::1%eth0", "is no host name"),
    ],
)
def test_what_nobody_can_dial_is_no_address(address: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        SiteTable(utility=address)


def test_what_can_be_dialled_is_in_the_certificate(office: Path) -> None:
    file, names = office / "site/site.toml", ["utility.example", "X-1.local", "gateway", "xn--strae-oqa.example"]
    lines = json.dumps([*names, "fd00::1"])
    file.write_text(file.read_text().replace('address = "10.1.0.1"', f'address = "10.1.0.1"\nlines = {lines}'))
    good(office, "init")
    made = x509.load_pem_x509_certificate((office / "site/r001/broker.pem").read_bytes())
    named = made.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert named.get_values_for_type(x509.DNSName) == names
    assert {str(address) for address in named.get_values_for_type(x509.IPAddress)} >= {"10.1.0.1", "fd00::1"}


def test_what_expires_soon_is_renewed_but_no_meters_and_nothing_revoked(
    office: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = office / "site"
    meter = min(load_tokens(folder / "r001/meter-tokens.json"))
    for words in (
        ["device", meter],
        ["revoke", "r002", "--reason", "x"],
        ["revoke", "r002", "--broker", "--reason", "x"],
    ):
        assert CliRunner().invoke(enroll, [*words, "--out", str(folder)]).exit_code == 0
    (folder / f"r001/meter-certificates/{meter}.pem").unlink()  # It is on the meter alone.
    before = {entry.file: entry.serial for entry in Authority.load(folder).current()}
    monkeypatch.setattr("commonwatt.cli.site.machine_s", lambda: now() + 61 * 86_400)
    assert "3 new certificates" in good(office, "init")
    after = {entry.file: entry.serial for entry in Authority.load(folder).current()}
    changed = {file for file, serial in after.items() if before.get(file) != serial}
    assert changed == {"r001/gateway.pem", "utility/utility.pem", "r002/broker.pem"}
    assert "r002/gateway.pem" not in after


def test_a_further_microgrid_changes_nothing_of_the_others(office: Path) -> None:
    before = contents(office / "site")
    with (office / "site/site.toml").open("a") as file:
        file.write('[[microgrid]]\nid = "r003"\nkind = "public"\n')
    said = good(office, "init")
    after = contents(office / "site")
    changed = {name for name in before if before[name] != after[name]}
    # The public microgrid has the two others as backups.
    others = {f"{name}/{file}" for name in ("r001", "r002") for file in ("devices.json", "clique.json")}
    others |= {"site.toml", "town.toml", "head-end/devices.json", "authority/issued.json", "utility/clique.json"}
    assert changed == others
    assert "2 new certificates" in said
    assert load_registry(office / "site/r003/registry.json").controller.number == 3
    new = after.keys() - before.keys() - {"r001/registry-r003.json", "r002/registry-r003.json"}
    assert {name.partition("/")[0] for name in new} == {"r003"}
    # And once more: nothing.
    good(office, "init")
    assert contents(office / "site") == after


def test_a_revoked_device_stays_revoked_and_a_moved_controller_gets_another_certificate(office: Path) -> None:
    assert CliRunner().invoke(enroll, ["revoke", "r002", "--reason", "x", "--out", f"{office}/site"]).exit_code == 0
    file = office / "site/site.toml"
    file.write_text(file.read_text().replace("10.1.0.1", "10.9.0.1"))
    before = contents(office / "site")
    good(office, "init")
    after = contents(office / "site")
    assert {name for name in before if before[name] != after[name]} == {
        "r001/broker.pem",
        "authority/issued.json",
        "r001/clique.json",
        "r002/clique.json",
        "utility/clique.json",
    }
    current = {entry.file: entry for entry in Authority.load(office / "site").current()}
    assert current["r001/broker.pem"].addresses == ("10.9.0.1", "127.0.0.1")
    assert "r002/gateway.pem" not in current
    assert "r001/revoked-controllers.json" in pack(office / "site", "r001", now()).files, "for the meters"


def test_what_would_renumber_meters_or_replace_a_persons_file_is_refused(office: Path) -> None:
    file = office / "site/site.toml"
    good_text = file.read_text()
    before = contents(office / "site")
    file.write_text(good_text.replace("[[microgrid]]", '[[microgrid]]\nid = "a"\nkind = "public"\n\n[[microgrid]]', 1))
    assert "could not be registered" in refused(office, "init")
    file.write_text(good_text + "gateway = {relay_s = 1}\n")
    assert "site.toml: line" in (said := refused(office, "init"))
    assert "microgrid.1.gateway.relay_s" in said
    file.write_text(good_text)
    assert contents(office / "site") == before
    (office / "site/r001/gateway.toml").write_text('[gateway]\nmicrogrid = "r001"\n')
    assert "was not written by `commonwatt site init`" in refused(office, "init")


def test_own_keys_of_a_settings_file_stand_in_the_site_file(office: Path) -> None:
    file = office / "site/site.toml"
    own = 'gateway = {lte_interface = "wwan0", relay_s = 900}\nbroker = {listen = "0.0.0.0:1884"}\n'
    file.write_text(file.read_text() + own)
    good(office, "init")
    gateway = tomllib.loads((office / "site/r002/gateway.toml").read_text())["gateway"]
    assert (gateway["lte_interface"], gateway["relay_s"]) == ("wwan0", 900)
    assert gateway["broker"] == "127.0.0.1:1884"


def test_a_second_head_end_and_utility_have_a_bundle_of_their_own(office: Path, root: Path) -> None:
    folder = office / "site"
    first = contents(folder)
    file = folder / "site.toml"
    file.write_text(file.read_text().replace("[site]\n", '[site]\nsecond = "10.0.0.2"\n'))
    said = good(office, "init")
    assert "the machine of utility-2 must have the address 10.0.0.2" in said
    both = ["utility.example:8883", "10.0.0.2:8883"]
    for name, part in (("r001/gateway.toml", "gateway"), ("utility/utility.toml", "utility")):
        assert tomllib.loads((folder / name).read_text())[part]["head_end"] == both
    (utility,) = [o for o in json.loads((folder / "r001/clique.json").read_text())["groups"][0]["others"]
                  if o["name"] == "utility"]  # fmt: skip
    assert (utility["address"], utility["further"]) == ("utility.example:8885", ["10.0.0.2:8885"])

    enrolled = CliRunner().invoke(enroll, ["revoke", "r002", "--reason", "stolen", "--out", str(folder)])
    assert enrolled.exit_code == 0, enrolled.output
    good(office, "init")
    one, other = pack(folder, "utility", now()), pack(folder, "utility-2", now())
    assert one.files.keys() == other.files.keys()
    assert {n for n in one.files if one.files[n] != other.files[n]} == {"head-end/broker.pem"}
    assert json.loads(other.files["head-end/devices.json"]) == json.loads(
        (folder / "head-end/devices.json").read_text()
    )
    assert b"stolen" in other.files["head-end/devices.json"]
    authority = x509.load_pem_x509_certificate(other.files["head-end/ca.pem"])
    assert authority.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    for bundle, host in ((one, "utility.example"), (other, "10.0.0.2")):
        made = x509.load_pem_x509_certificate(bundle.files["head-end/broker.pem"])
        made.verify_directly_issued_by(authority)
        names = made.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert [str(name.value) for name in names] == [host, "127.0.0.1"]

    good(office, "pack", "utility-2")
    fingerprint = digest((folder / "authority/ca.pem").read_bytes())
    good(office, "unpack", "utility-2.bundle", "--root", str(root), "--authority", fingerprint)
    assert (root / STATE / "head-end/broker.pem").read_bytes() == (folder / "head-end-2/broker.pem").read_bytes()
    assert first["head-end/broker.pem"] == (folder / "head-end/broker.pem").read_bytes()


def test_without_a_second_machine_there_is_no_bundle_of_it(office: Path) -> None:
    assert "has no utility-2; there are utility, r001, r002" in refused(office, "pack", "utility-2")
    assert not (office / "site/head-end-2").exists()


def test_a_controller_with_lines_of_its_own_is_reached_at_each_and_has_their_plans(office: Path) -> None:
    folder = office / "site"
    text = (folder / "site.toml").read_text()
    assert 'address = "10.1.0.1"' in text
    text = text.replace('address = "10.1.0.1"', 'address = "10.1.0.1"\nlines = ["10.1.0.2", "10.1.0.3"]')
    (folder / "site.toml").write_text(text + '\n[[collectors]]\nmicrogrid = "r001"\ncontrollers = ["r002"]\n')
    good(office, "init")
    shown = x509.load_pem_x509_certificate((folder / "r001/broker.pem").read_bytes())
    names = shown.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    reached = {str(address) for address in names.get_values_for_type(x509.IPAddress)}
    assert reached >= {"10.1.0.1", "10.1.0.2", "10.1.0.3"}
    own, other = (tomllib.loads((folder / name / "gateway.toml").read_text())["gateway"] for name in ("r001", "r002"))
    assert own["lte_allowance_bytes"] == 3 * 2_000_000_000
    assert other["collects"] == ["r001"]
    assert (folder / "r002/registry-r001.json").exists()


def test_a_bundle_has_what_its_machine_needs_and_says_that_it_is_secret(office: Path) -> None:
    (office / "r001.bundle").unlink()
    assert "contains secrets of r001 (mode 0600)" in good(office, "pack", "r001")
    assert stat.S_IMODE((office / "r001.bundle").stat().st_mode) == 0o600
    bundle = read_bundle(office / "r001.bundle")
    names = {"broker.toml", "gateway.toml", "devices.json", "registry.json", "gateway-tokens.json"}
    names |= {"ca.pem", "revoked.pem", "broker.pem", "gateway.pem", "clique.json", "registry-r002.json"}
    assert bundle.files.keys() == {f"r001/{name}" for name in names}
    assert "there are utility, r001, r002" in refused(office, "pack", "r009")
    (office / "site/r001/broker.pem").unlink()
    assert "broker.pem" in refused(office, "pack", "r001")


def test_a_bundle_is_installed_and_again_only_what_changed(office: Path, root: Path) -> None:
    said = unpacked(office, root)
    assert "systemctl enable commonwatt-broker@r001.service commonwatt-gateway@r001.service" in said
    state = root / STATE
    bundle = read_bundle(office / "r001.bundle")
    assert {name: (state / name).read_bytes() for name in bundle.files} == dict(bundle.files)
    for path in (state, state / "r001"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
    assert {stat.S_IMODE((state / name).stat().st_mode) for name in bundle.files} == {0o600}
    assert stat.S_IMODE((root / "etc/systemd/system/commonwatt-gateway@.service").stat().st_mode) == 0o644
    (state / "r001/gateway.db").write_bytes(b"store")
    before = contents(root)
    assert "of them changed: 0" in (said := good(office, "unpack", "r001.bundle", "--root", str(root)))
    assert "restart" not in said
    assert contents(root) == before
    # A newer bundle, with another key for the gateway; the broker goes on.
    file = office / "site/site.toml"
    file.write_text(file.read_text().replace('"10.1.0.1"\n', '"10.1.0.1"\ngateway = {relay_s = 900}\n'))
    good(office, "init")
    good(office, "pack", "r001")
    said = good(office, "unpack", "r001.bundle", "--root", str(root))
    assert "systemctl restart commonwatt-gateway@r001.service\n" in said
    assert "systemctl start commonwatt-broker@r001.service\n" in said
    after = contents(root)
    assert {name for name in before if before[name] != after[name]} == {
        f"{STATE}/installed.json",
        f"{STATE}/r001/gateway.toml",
    }


def test_what_was_changed_on_the_machine_is_kept_beside(office: Path, root: Path) -> None:
    unpacked(office, root)
    file = root / STATE / "r001/gateway.toml"
    file.write_text(file.read_text() + "relay_s = 900\n")
    assert "was changed on this machine" in good(office, "unpack", "r001.bundle", "--root", str(root))
    assert "relay_s" not in file.read_text()
    assert "relay_s" in file.with_name("gateway.toml.before").read_text()


def test_a_link_in_a_services_folder_gives_the_service_no_other_file(office: Path, root: Path, tmp_path: Path) -> None:
    unpacked(office, root)
    secret = tmp_path / "shadow"
    secret.write_text("of root")
    file = root / STATE / "r001" / "gateway.toml"
    file.unlink()
    file.symlink_to(secret)
    good(office, "unpack", "r001.bundle", "--root", str(root))
    assert not file.is_symlink()
    assert not file.with_name("gateway.toml.before").exists()
    assert secret.read_text() == "of root"


def exchanged(folder: Path, other: Path) -> None:
    """Put a link to ``other`` in a folder's place, as a service that was broken into may do at any moment."""
    folder.rename(folder.with_name("aside"))
    folder.symlink_to(other)


def test_a_link_put_in_place_of_a_folder_while_root_unpacks_is_not_followed(
    office: Path, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = tmp_path / "etc"
    secret.mkdir(mode=0o755)

    def exchanging(path: Path, what: str) -> AbstractContextManager[None]:
        exchanged(root / STATE / "r001", secret)
        return only_one(path, what)

    monkeypatch.setattr(unpack_module, "only_one", exchanging)
    unpacked(office, root)
    assert not list(secret.iterdir())
    assert (root / STATE / "aside/gateway.toml").exists(), "it was written into the folder that was checked"


@pytest.mark.parametrize("act", ["mkdir", "fchmod"])
def test_root_gives_nothing_to_the_service_by_a_link_put_in_place_of_a_new_folder(
    act: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret, folder = tmp_path / "secret", tmp_path / "state" / "r001"
    secret.mkdir(mode=0o755)
    folder.parent.mkdir()
    real, owner = getattr(os, act), (os.geteuid() + 1, os.getegid() + 1)

    def then_exchanged(*given: Any, **more: Any) -> None:
        real(*given, **more)
        exchanged(folder, secret)

    monkeypatch.setattr(os, act, then_exchanged)
    with suppress(ConfigError, PermissionError), Machine(root=tmp_path, runs=False).folder(folder, owner):
        pass
    found = secret.stat()
    assert (stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid) == (0o755, os.geteuid(), os.getegid())


def test_a_bundle_for_another_machine_town_or_time_is_refused(office: Path, root: Path, tmp_path: Path) -> None:
    unpacked(office, root)
    before = contents(root)
    assert "is of r002, but this machine is of r001" in refused(office, "unpack", "r002.bundle", "--root", str(root))
    assert "is of utility, but" in refused(office, "unpack", "utility.bundle", "--root", str(root))
    bundle = read_bundle(office / "r001.bundle")
    signed(changed(bundle, made=bundle.manifest.made - 1), office)
    assert "may admit revoked devices" in refused(office, "unpack", "r001.bundle", "--root", str(root))
    other = tmp_path / "other"
    other.mkdir()
    stated(other, SITE)
    good(other, "init")
    good(other, "pack", "r001")
    assert "of another town" in refused(other, "unpack", "r001.bundle", "--root", str(root))
    assert contents(root) == before


def changed(bundle: Bundle, **fields: object) -> Bundle:
    return replace(bundle, manifest=bundle.manifest.model_copy(update=fields))


def test_the_first_bundle_needs_the_fingerprint_of_its_authority_later_ones_the_installed_authority(
    office: Path, root: Path
) -> None:
    fingerprint = digest((office / "site/authority/ca.pem").read_bytes())
    assert f"--authority {fingerprint}" in good(office, "pack", "r001")
    said = " ".join(refused(office, "unpack", "r001.bundle", "--root", str(root)).split())
    assert "this machine has no authority yet" in said
    assert f"fingerprint {fingerprint}. Compare it" in said
    words = ("unpack", "r001.bundle", "--root", str(root), "--authority")
    assert "signed by another authority" in refused(office, *words, "0" * 64)
    assert not contents(root)
    good(office, *words, fingerprint.upper())
    good(office, "unpack", "r001.bundle", "--root", str(root))


def test_a_bundle_that_its_authority_did_not_sign_is_refused(office: Path, root: Path, tmp_path: Path) -> None:
    """Its checksums are right, and the authority's certificate in it is the town's."""
    unpacked(office, root)
    bundle = read_bundle(office / "r001.bundle")
    name, text = "r001/gateway.toml", bundle.files["r001/gateway.toml"] + b"relay_s = 900\n"
    forged = replace(
        changed(bundle, files={**bundle.manifest.files, name: digest(text)}), files={**bundle.files, name: text}
    )
    before = contents(root)
    write_bundle(forged, office / "r001.bundle", Authority.create(tmp_path / "forger", "Springfield", now()))
    words = ("unpack", "r001.bundle", "--root", str(root))
    assert "its authority did not sign it" in refused(office, *words)
    members = {"manifest.json": forged.manifest.model_dump_json().encode(), **forged.files}
    archive(office / "r001.bundle", [(tarfile.TarInfo(name), content) for name, content in members.items()])
    assert "it is not signed" in refused(office, *words)
    assert contents(root) == before
    # The authority itself may sign the same.
    signed(forged, office)
    good(office, *words)


def test_a_bundle_of_tomorrow_is_refused_unless_the_clock_is_before_the_release(office: Path, root: Path) -> None:
    bundle, machine = read_bundle(office / "r001.bundle"), Machine(root=root, runs=False)
    made, authority = bundle.manifest.made, bundle.manifest.authority
    with pytest.raises(ConfigError, match="but this machine's clock says"):
        prepare(bundle, machine, "0.2.0", made - 86_401, authority=authority)
    for time in (made - 86_400, made + 10 * 86_400, MADE - 1, 0):
        prepare(bundle, machine, "0.2.0", time, authority=authority)


def test_a_bundle_of_a_newer_version_is_refused(office: Path, root: Path) -> None:
    signed(changed(read_bundle(office / "r001.bundle"), version="99.0.0"), office)
    said = refused(office, "unpack", "r001.bundle", "--root", str(root))
    assert "packed by version 99.0.0, newer than" in said
    assert not contents(root)


def archive(path: Path, members: list[tuple[tarfile.TarInfo, bytes]]) -> None:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for member, content in members:
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    path.write_bytes(gzip.compress(packed.getvalue()))


@pytest.mark.parametrize("name", ["../../etc/cron.d/x.toml", "/etc/passwd.toml", "r001/../../x.toml", "r002/x.toml"])
def test_a_bundle_with_a_file_elsewhere_is_refused(office: Path, root: Path, name: str) -> None:
    bundle = read_bundle(office / "r001.bundle")
    evil = Bundle(
        manifest=bundle.manifest.model_copy(update={"files": {**bundle.manifest.files, name: "0" * 64}}),
        files={**bundle.files, name: b"x"},
    )
    signed(evil, office)
    assert "refused: it has the file" in refused(office, "unpack", "r001.bundle", "--root", str(root))
    assert not contents(root)


def test_a_bundle_with_a_link_or_too_much_is_refused(office: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = office / "r001.bundle"
    for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.DIRTYPE, tarfile.GNUTYPE_SPARSE):
        member = tarfile.TarInfo("r001/ca.pem")
        member.type, member.linkname = kind, "/etc/shadow"
        archive(path, [(member, b"")])
        assert "is no plain file" in refused(office, "unpack", path.name, "--root", str(root))
    monkeypatch.setattr("commonwatt.site.bundle.MAX_BYTES", 100)
    assert "more than 100 bytes" in refused(office, "unpack", path.name, "--root", str(root))
    assert not contents(root)


def test_a_damaged_or_cut_bundle_is_refused_or_the_same(office: Path, tmp_path: Path) -> None:
    whole = (office / "r001.bundle").read_bytes()
    files = read_bundle(office / "r001.bundle").files
    seeded = random.Random(1)
    path = tmp_path / "bad.bundle"
    for _ in range(300):
        at = seeded.randrange(len(whole))
        bad = whole[:at] if seeded.random() < 0.3 else whole[:at] + bytes([seeded.randrange(256)]) + whole[at + 1 :]
        path.write_bytes(bad)
        with suppress(ConfigError):
            assert read_bundle(path).files == files
    for bad in (b"", b"no bundle", gzip.compress(b""), gzip.compress(b"no archive")):
        path.write_bytes(bad)
        with pytest.raises(ConfigError, match="damaged, incomplete or no bundle"):
            read_bundle(path)
    manifest = tarfile.TarInfo("manifest.json")
    for content in (b"[]", b"{}", b"1", b'{"version": "0.1"}', json.dumps({"version": 1}).encode(), b"\xff"):
        archive(path, [(manifest, content)])
        with pytest.raises(ConfigError, match="damaged"):
            read_bundle(path)


def test_a_bundle_whose_settings_are_wrong_is_refused_before_the_first_write(office: Path, root: Path) -> None:
    bundle = pack(office / "site", "r001", now())
    files = {name: content for name, content in bundle.files.items() if name != "r001/registry.json"}
    with pytest.raises(ConfigError, match=r"registry\.json: No such file"):
        prepare(
            replace(bundle, files=files),
            Machine(root=root, runs=False),
            "0.2.0",
            now(),
            authority=bundle.manifest.authority,
        )
    assert not contents(root)


def test_on_a_machine_that_systemd_runs(office: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What would run there, from a first installation through an interruption to another broker."""
    machine = Machine(root=root, runs=True)
    bundle = read_bundle(office / "r001.bundle")
    authority = bundle.manifest.authority
    with pytest.raises(ConfigError, match="the units start /opt/commonwatt/current/bin/commonwatt"):
        prepare(bundle, machine, "0.2.0", now(), authority=authority)
    (root / "opt/commonwatt/0.2.0/bin").mkdir(parents=True)
    monkeypatch.setattr(sys, "prefix", "/opt/commonwatt/0.2.0")
    units = ["commonwatt-broker@r001.service", "commonwatt-gateway@r001.service"]
    first = prepare(bundle, machine, "0.2.0", now(), authority=authority).install(lambda _: None)
    assert first == [["systemctl", "daemon-reload"], ["systemctl", "enable", *units], ["systemctl", "restart", *units]]
    assert (root / "opt/commonwatt/current").readlink() == Path("0.2.0")
    assert (root / "usr/local/bin/commonwatt").readlink() == Path("/opt/commonwatt/current/bin/commonwatt")
    # A command failed before `finish`: all is done again.
    again = prepare(bundle, machine, "0.2.0", now(), authority=authority)
    assert again.install(lambda _: None) == first
    again.finish()
    assert prepare(bundle, machine, "0.2.0", now(), authority=authority).install(lambda _: None)[-1] == [
        "systemctl",
        "start",
        *units,
    ]
    # Another version of the program restarts all.
    monkeypatch.setattr(sys, "prefix", "/opt/commonwatt/0.3.0")
    assert prepare(bundle, machine, "0.3.0", now(), authority=authority).install(lambda _: None)[-1] == [
        "systemctl",
        "restart",
        *units,
    ]
    assert (root / "opt/commonwatt/current").readlink() == Path("0.3.0")
    # Mosquitto in place of our broker.
    mosquitto = changed(bundle, mosquitto=True)
    monkeypatch.setattr(unpack_module, "missing_program", lambda _: True)
    with pytest.raises(ConfigError, match="apt-get install mosquitto"):
        prepare(mosquitto, machine, "0.3.0", now(), authority=authority)
    monkeypatch.setattr(unpack_module, "missing_program", lambda _: False)
    wants = root / "etc/systemd/system/multi-user.target.wants"
    wants.mkdir()
    (wants / units[0]).symlink_to(f"../{units[0]}")
    lines = prepare(mosquitto, machine, "0.3.0", now(), authority=authority).install(lambda _: None)
    assert ["systemctl", "disable", "--now", units[0]] in lines
    assert ["systemctl", "enable", "commonwatt-mosquitto@r001.service", units[1]] in lines


def test_the_utilitys_nightly_backup_is_of_an_sqlite_file_only(office: Path, root: Path) -> None:
    timer = "commonwatt-backup.timer"
    wants = root / "etc/systemd/system/timers.target.wants"
    wants.mkdir(parents=True)
    (wants / timer).symlink_to(f"../{timer}")
    fingerprint = digest((office / "site/authority/ca.pem").read_bytes())
    words = ("unpack", "utility.bundle", "--root", str(root), "--authority", fingerprint)
    said = good(office, *words)
    assert f"  systemctl disable --now {timer}\n" in said
    assert "systemctl enable commonwatt-mosquitto@head-end.service commonwatt-utility.service\n" in said
    with (office / "site/site.toml").open("a") as file:
        file.write('[utility]\ndatabase = "sqlite:///utility.db"\n')
    good(office, "init")
    good(office, "pack", "utility")
    said = good(office, *words)
    assert "disable" not in said
    assert f"systemctl enable commonwatt-mosquitto@head-end.service commonwatt-utility.service {timer}\n" in said


def test_units_of_a_package_of_the_system_are_not_hidden_by_copies(office: Path, root: Path) -> None:
    packaged = root / "usr/lib/systemd/system/commonwatt-gateway@.service"
    packaged.parent.mkdir(parents=True)
    packaged.write_text("[Unit]\n")
    unpacked(office, root)
    assert not (root / "etc/systemd").exists()


ADAPTER = """
[microgrid.adapter]
zone = "Europe/Berlin"

[[microgrid.adapter.source]]
name = "cellar"
address = "127.0.0.1:1884"
user = "adapter"
password = "source-cellar.password"

[[microgrid.adapter.source]]
name = "attic"
address = "127.0.0.1:1885"

[[microgrid.adapter.meter]]
id = 77001
at = "cellar"
preset = "tasmota"
source = "kitchen"

[[microgrid.adapter.meter]]
id = 77002
at = "attic"
preset = "own"
source = "plug"
obeys = "reduce"

[[microgrid.adapter.rule]]
preset = "own"
topic = "{device}/energy"
path = "total"
kind = "register"
unit = "kWh"
scale = 0.001

[[microgrid.adapter.command]]
preset = "own"
kind = "reduce"
topic = "{device}/set"
on = "off"
off = "on"
"""
METERS = "".join(f'\n[[meter]]\nmicrogrid = "r002"\nid = {meter}\nadapter = true\n' for meter in (77001, 77002))
UNIT = "commonwatt-adapter@r002.service"


def with_adapter(office: Path, adapter: str = ADAPTER, meters: str = METERS) -> None:
    file = office / "site/site.toml"
    file.write_text(file.read_text() + adapter + meters)
    (office / "site/r002/source-cellar.password").write_text("secret\n")


def test_an_adapter_of_the_site_file_runs_with_the_files_that_were_made(
    office: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_adapter(office)
    good(office, "init")
    path = office / "site/r002/adapter.toml"
    checked = CliRunner().invoke(config_app, ["check", str(path)])
    assert checked.exit_code == 0, checked.output
    settings = load_settings(path, "adapter", AdapterSettings)
    assert (settings.microgrid, settings.broker, settings.zone) == ("r002", "127.0.0.1:8883", "Europe/Berlin")
    assert settings.broker_ca == path.with_name("ca.pem")
    assert [source.name for source in settings.source] == ["cellar", "attic"]
    assert (settings.rule[0].scale, settings.command[0].off) == (Decimal("0.001"), "on")
    everything = load_tokens(path.with_name("meter-tokens.json"))
    assert settings.tokens is not None
    tokens = load_tokens(settings.tokens)
    assert tokens == {meter: everything[meter] for meter in ("77001", "77002")}
    clock = load_clock(None)
    with closing(open_store(path.with_name("adapter.db"), CHANNELS)) as store:
        service = AdapterService(
            settings=settings,
            readers=readers_of(settings),
            tokens=tokens,
            clock=clock,
            store=store,
            rng=random.Random(1),
        )
        assert service.core.meters.keys() == {77001, 77002}
        # The doctor knows it by its status.
        monkeypatch.setattr("commonwatt.doctor.running.fetch_status", lambda *_: status_of(service, settings))
        running = look(path, "adapter", settings)
        assert (running.answer is not None, running.failure) == (True, "")
    before = contents(office / "site")
    good(office, "init")
    assert contents(office / "site") == before


def test_a_microgrid_may_have_an_adapter_before_it_has_a_meter_and_a_broker_of_devices(tmp_path: Path) -> None:
    stated(
        tmp_path,
        '[site]\nutility = "127.0.0.1"\n[[microgrid]]\nid = "street"\nkind = "residential"\nhouses = 0\n'
        'boundary = false\n[microgrid.adapter]\nsource = []\nhttp = "127.0.0.1:9202"\n',
    )
    assert "1 microgrid, 0 meters" in good(tmp_path, "init")
    path = tmp_path / "site/street/adapter.toml"
    checked = CliRunner().invoke(config_app, ["check", str(path)])
    assert checked.exit_code == 0, checked.output
    settings = load_settings(path, "adapter", AdapterSettings)
    assert settings.source == (), "not the default, 127.0.0.1:1883: a person has chosen no broker yet"
    assert load_settings(path.with_name("gateway.toml"), "gateway", GatewaySettings).adapter == settings.http
    with closing(open_store(path.with_name("adapter.db"), CHANNELS)) as store:
        service = AdapterService(
            settings=settings,
            readers=readers_of(settings),
            tokens={},
            clock=load_clock(None),
            store=store,
            rng=random.Random(1),
        )
        assert status_of(service, settings)["sources"] == []
    path.write_text(path.read_text() + '[[meter]]\nid = 7\npreset = "shelly-pm"\n')
    with pytest.raises(ConfigError, match=r"the meters need a \[\[source\]\]"):
        load_settings(path, "adapter", AdapterSettings)


def test_an_adapters_meter_has_the_account_and_the_direction_of_the_town(office: Path) -> None:
    # Otherwise the gateway refuses its records.
    known = METERS.replace("adapter = true", 'account = 12\ndirection = "outgoing"\nadapter = true', 1)
    with_adapter(office, meters=known)
    good(office, "init")
    settings = load_settings(office / "site/r002/adapter.toml", "adapter", AdapterSettings)
    assert [(meter.account, meter.direction) for meter in settings.meter] == [(12, "outgoing"), (0, "incoming")]


@pytest.mark.parametrize(
    ("keys", "town", "fault"),
    [
        ("account = 7", "account = 12", "account: is 7, but [[meter]] 77001 of the town has 12; leave it out here"),
        ('direction = "outgoing"', "", "direction: is outgoing, but [[meter]] 77001 of the town has incoming;"),
        ("capacity_wh = 9000", "", "capacity_wh: [[meter]] 77001 of the town has no battery; give it battery_capacity"),
        (
            "capacity_wh = 9000",
            "battery_capacity_mwh = 8000000",
            "has another battery; give it battery_capacity_mwh = 9000000,",
        ),
        ("capacity_wh = 9000", "battery_capacity_mwh = 9000000", 'has a battery; add "stored" to its record_types'),
    ],
)
def test_an_adapters_meter_that_is_another_one_in_the_town_is_refused(
    office: Path, keys: str, town: str, fault: str
) -> None:
    adapter = ADAPTER.replace("id = 77001", f"id = 77001\n{keys}")
    with_adapter(office, adapter, METERS.replace("adapter = true", f"{town}\nadapter = true", 1))
    said = " ".join(refused(office, "init").split())
    assert fault in said
    number = int(re.search(r"site\.toml: line (\d+): ", said)[1])  # type: ignore[index]
    assert (office / "site/site.toml").read_text().splitlines()[number - 1] == keys


@pytest.mark.parametrize(
    ("found", "instead", "fault"),
    [
        ('preset = "tasmota"', 'preset = "tasmotta"', "adapter.meter.0.preset: [[meter]] 77001: no preset 'tasmotta'"),
        ('obeys = "reduce"', 'obeys = "share"', "adapter.meter.1: "),
        ('at = "attic"', 'at = "roof"', "adapter: meter 77002: no [[source]] is called 'roof'"),
        ('unit = "kWh"', 'unit = "W"', "adapter.rule.0: kind register has one of the units"),
        ('zone = "Europe/Berlin"', "zones = 1", "adapter.zones: unknown key"),
        ('off = "on"', 'of = "on"', "adapter.command.0.of"),
        ("id = 77002", "id = 77003", "adapter.meter.1.id: r002 has no meter 77003 behind an adapter; add [[meter]]"),
    ],
)  # fmt: skip
def test_a_fault_of_an_adapter_is_named_by_its_line_in_the_site_file(
    office: Path, found: str, instead: str, fault: str
) -> None:
    assert ADAPTER.count(found) == 1
    # Another microgrid's adapter before it, with as many tables.
    file = office / "site/site.toml"
    first, second = file.read_text().rsplit("[[microgrid]]", 1)
    other = ADAPTER.replace("7700", "6600").replace("source-cellar.password", "ca.pem")
    file.write_text(f"{first}{other}\n[[microgrid]]{second}")
    wrong = ADAPTER.replace(found, instead)
    meters = METERS + METERS.replace("7700", "6600").replace("r002", "r001")
    with_adapter(office, wrong, meters)
    before = contents(office / "site")
    said = " ".join(refused(office, "init").split())
    number = int(re.search(r"site\.toml: line (\d+): ", said)[1])  # type: ignore[index]
    assert f"line {number}: microgrid.1.{fault}" in said
    assert contents(office / "site") == before
    line = file.read_text().splitlines()[number - 1]
    assert line in (
        instead.split("\n")[0],
        "[microgrid.adapter]",
        f"[[microgrid.{fault.split('.0')[0].split('.1')[0]}]]",
    )
    assert number > file.read_text().count("\n", 0, file.read_text().rindex("[[microgrid]]"))


def test_an_adapter_is_packed_without_the_secrets_of_other_meters_and_started_after_the_gateway(
    office: Path, root: Path
) -> None:
    with_adapter(office)
    good(office, "init")
    good(office, "pack", "r002")
    files = read_bundle(office / "r002.bundle").files
    adapters = {name for name in files if "adapter" in name or "password" in name}
    assert adapters == {"r002/adapter.toml", "r002/adapter-tokens.json", "r002/source-cellar.password"}
    assert json.loads(files["r002/adapter-tokens.json"]).keys() == {"77001", "77002"}
    fingerprint = digest((office / "site/authority/ca.pem").read_bytes())
    said = good(office, "unpack", "r002.bundle", "--root", str(root), "--authority", fingerprint)
    units = f"commonwatt-broker@r002.service commonwatt-gateway@r002.service {UNIT}"
    assert f"systemctl enable {units}\n" in said
    assert "status --config /var/lib/commonwatt/r002/adapter.toml" in said
    assert (
        f"Without systemd, as the files' owner: commonwatt adapter run --config {root / STATE}/r002/adapter.toml"
        in said
    )
    assert stat.S_IMODE((root / STATE / "r002/source-cellar.password").stat().st_mode) == 0o600
    assert "restart" not in good(office, "unpack", "r002.bundle", "--root", str(root))
    # Each file of it restarts it alone.
    (office / "site/r002/source-cellar.password").write_text("other\n")
    good(office, "pack", "r002")
    assert f"systemctl restart {UNIT}\n" in good(office, "unpack", "r002.bundle", "--root", str(root))
    file = office / "site/site.toml"
    file.write_text(file.read_text().replace("Europe/Berlin", "Europe/Paris"))
    good(office, "init")
    good(office, "pack", "r002")
    assert f"systemctl restart {UNIT}\n" in good(office, "unpack", "r002.bundle", "--root", str(root))
    # Without it in the site file its unit is disabled, and nothing of it is carried.
    file.write_text(file.read_text().replace(ADAPTER.replace("Berlin", "Paris"), ""))
    good(office, "init")
    good(office, "pack", "r002")
    assert not [name for name in read_bundle(office / "r002.bundle").files if "adapter" in name or "password" in name]
    wants = root / "etc/systemd/system/multi-user.target.wants"
    wants.mkdir()
    (wants / UNIT).symlink_to(f"../{UNIT}")
    assert f"systemctl disable --now {UNIT}\n" in good(office, "unpack", "r002.bundle", "--root", str(root))
    # One that a person set up on the machine is left alone.
    (root / STATE / "r002/adapter.toml").write_text('[adapter]\nmicrogrid = "r002"\n')
    assert "disable" not in good(office, "unpack", "r002.bundle", "--root", str(root))


def test_a_password_that_no_bundle_has_is_named_before_it_is_packed(office: Path) -> None:
    with_adapter(office, ADAPTER.replace("source-cellar.password", "cellar.txt"))
    (office / "site/r002/cellar.txt").write_text("secret\n")
    good(office, "init")
    said = " ".join(refused(office, "pack", "r002").split())
    assert "source.0.password: a bundle has no cellar.txt; name a password's file source-NAME.password" in said
    with_adapter(office, "", "")
    (office / "site/r002/cellar.txt").unlink()
    assert "cellar.txt: No such file or directory" in refused(office, "init")


CERTIFICATES = {"clients_ca": "ca.pem", "clients_revoked": "revoked.pem"}


@pytest.mark.parametrize(
    ("broker", "days"),
    [({}, None), (CERTIFICATES, 180), (CERTIFICATES | {"clients_ended_days": 0}, 0)],
)
def test_site_init_lets_a_microgrid_go_on_without_the_utility(broker: dict[str, Any], days: int | None) -> None:
    table = SiteMicrogrid.model_construct(id="r", kind="residential", broker=broker, gateway={}, lines=(), adapter=None)
    file, _ = _controller_files("r001", table, 0, {}, cast("Any", None))
    assert (file.part, file.keys.get("clients_ended_days")) == ("broker", days)
