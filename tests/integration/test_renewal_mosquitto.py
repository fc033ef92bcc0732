"""A Mosquitto in place of our broker reads its renewed certificate without a restart, and goes on serving."""

import subprocess
from pathlib import Path

import pytest

from commonwatt.config.settings import GatewaySettings
from commonwatt.identity.certificates import Kind
from commonwatt.identity.renewing import CertificateFile
from gateway import renewal
from harness.network.waiting import eventually, free_port
from harness.real.deploy import MOSQUITTO
from harness.real.enrolled import authority, certificate
from harness.real.mosquitto import listens, open_to_all


@pytest.mark.real
def test_mosquitto_reads_a_renewed_certificate(tmp_path: Path) -> None:
    made = authority(tmp_path / "site")
    path = certificate(made, Kind.BROKER, "r001", file="r001/broker.pem")
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
        certificate(made, Kind.BROKER, "r001", file="r001/broker.pem")
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
