"""Certificates of a gateway and its meters have ended; they are renewed, and a Mosquitto reads its own anew."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from commonwatt.config.settings import GatewaySettings
from commonwatt.identity.authority import ENROLMENT_FILE, Authority
from commonwatt.identity.certificates import Purpose, details_of
from commonwatt.identity.devices import DeviceRole, load_devices
from commonwatt.identity.renewing import CertificateFile
from gateway.care import renewal
from gateway.care.renewal import LAST_RETRY_S
from harness.care.certificates import authority, certificate, now
from harness.network.waiting import eventually, free_port
from harness.real.brokers import listens, open_to_all
from harness.real.deploy import MOSQUITTO
from harness.real.site import Site

TOWN = '[[microgrid]]\nid = "r001"\nkind = "residential"\nhouses = 1\n'
OWN, UTILITY = ("r001 broker", "r001 gateway", "r001 meters"), ("head-end", "utility")
RENEWALS = 'commonwatt_gateway_renewals_total{{result="{}"}}'
EXPIRED = 'commonwatt_broker_refused_connects_total{reason="expired"}'


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """Yield a town whose office has care, and whose microgrid's broker requires certificates."""
    with Site(tmp_path / "site", TOWN, speed=1, plain_text=False) as site:
        care = f"127.0.0.1:{free_port()}"
        site.add_setting("utility", f'care = "{care}"\ncare_certificate = "../head-end/broker.pem"')
        site.add_setting("r001 gateway", f'care = "{care}"\nbroker_ca = "ca.pem"')
        site.add_setting("r001 broker", 'certificate = "broker.pem"\nclients_ca = "ca.pem"')
        site.add_setting("r001 broker", 'clients_revoked = "revoked.pem"\nclients_ended_days = 180')
        site.add_setting("r001 meters", 'broker_ca = "ca.pem"\ncertificates = "meter-certificates"')
        authority = Authority.load(site.folder)
        certificate(authority, Purpose.BROKER, "r001", file="r001/broker.pem", lifetime_s=86_400)
        end(site)
        authority = Authority.load(site.folder)
        for meter in meters(site):
            certificate(authority, Purpose.DEVICE, meter, lifetime_s=-60, file=f"r001/meter-certificates/{meter}.pem")
        authority.enrol({"r001": ("127.0.0.1", "localhost")}, now())
        shutil.copy(site.folder / "authority" / ENROLMENT_FILE, site.folder / "utility")
        yield site


def meters(site: Site) -> list[str]:
    devices = load_devices(site.folder / "r001" / "devices.json").values()
    return [device.identity for device in devices if device.role is DeviceRole.METER]


def end(site: Site) -> Authority:
    """Give the gateway a certificate that has ended."""
    authority = Authority.load(site.folder)
    certificate(authority, Purpose.DEVICE, "r001", lifetime_s=-60, file="r001/gateway.pem")
    return authority


def renewals(site: Site, result: str) -> float:
    return site.metric("r001 gateway", RENEWALS.format(result))


def left_days(site: Site, name: str) -> int:
    return (details_of((site.folder / "r001" / name).read_bytes())[0].ends - now()) // 86_400


def test_after_months_without_the_utility_meters_are_served_and_the_gateways_certificate_renews(site: Site) -> None:
    site.start(*OWN)
    eventually(lambda: int((site.status("r001 meters") or {}).get("acknowledged", 0)) > 0)
    assert site.metric("r001 broker", EXPIRED) == 0
    eventually(lambda: renewals(site, "unreachable") > 0)
    site.start(*UTILITY)
    eventually(lambda: renewals(site, "renewed") >= 1, LAST_RETRY_S)  # on a slow machine not at its first retry
    eventually(lambda: (site.status("r001 gateway") or {})["connected"]["head_end"])
    assert left_days(site, "gateway.pem") == 89
    assert {left_days(site, f"meter-certificates/{meter}.pem") < 0 for meter in meters(site)} == {True}
    site.stop(*reversed((*UTILITY, *OWN)))


def test_a_revoked_gateway_is_refused_and_the_utility_says_so(site: Site) -> None:
    end(site).revoke("r001", "stolen", now())
    site.start(*UTILITY, *OWN)
    eventually(lambda: renewals(site, "refused") >= 1)
    assert "not renewed: device r001" in site.log("r001 gateway")
    alarm = 'commonwatt_utility_alarms{alarm="RenewalRefused",severity="warning"}'
    eventually(lambda: site.metric("utility", alarm) == 1)
    site.stop(*reversed((*UTILITY, *OWN)))


@pytest.mark.real
def test_mosquitto_reads_a_renewed_certificate(tmp_path: Path) -> None:
    made = authority(tmp_path / "site")
    path = certificate(made, Purpose.BROKER, "r001", file="r001/broker.pem")
    port = free_port()
    open_to_all(path.parent / "mosquitto", "127.0.0.1", port)
    config = path.parent / "mosquitto" / "mosquitto.conf"
    with config.open("a") as file:
        file.write(f"certfile {path}\nkeyfile {path}\nuser root\n")
    settings = GatewaySettings(microgrid="r001", broker=f"127.0.0.1:{port}", broker_ca=path.with_name("ca.pem"))
    shown = CertificateFile(path, path.with_name("ca.pem"), "r001")
    running = subprocess.Popen([MOSQUITTO, "-c", str(config)])
    try:
        eventually(lambda: listens("127.0.0.1", port))
        assert renewal._serves(settings, shown)
        certificate(made, Purpose.BROKER, "r001", file="r001/broker.pem")
        assert not renewal._serves(settings, shown)
        eventually(lambda: renewal._serves(settings, shown))
        assert running.poll() is None
    finally:
        running.terminate()
        running.wait()


def test_no_other_program_gets_the_signal(tmp_path: Path) -> None:
    other = subprocess.Popen(["/bin/sleep", "60"])
    try:
        renewal._reload_mosquitto(tmp_path)
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()
