"""The page of a real gateway, as a phone in the household's network gets it: by HTTPS, with a password."""

import json
import re
import ssl
from base64 import b64encode
from http.client import HTTPSConnection
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from commonwatt.cli.main import make_app
from commonwatt.identity.certificates import Purpose
from gateway.cli import app
from gateway.page import PAGE
from harness.care.certificates import authority, certificate
from harness.network.waiting import eventually
from harness.real import forks
from harness.real.brokers import listens
from harness.real.site import Site

TOWN = '[[microgrid]]\nid = "r001"\nkind = "residential"\nhouses = 2\n'
PASSWORD = "seven small lanterns"


class Phone:
    """A browser, with a password or without one."""

    def __init__(self, port: int, ca: Path, password: str = "") -> None:
        self.port, self.password = port, password
        self._trust = ssl.create_default_context(cafile=str(ca))

    def ask(self, path: str = "/status", method: str = "GET", host: str | None = None) -> tuple[int, str]:
        """Ask for a page; return the status and the content."""
        login = {"Authorization": f"Basic {b64encode(f':{self.password}'.encode()).decode()}"} if self.password else {}
        connection = HTTPSConnection("127.0.0.1", self.port, timeout=30, context=self._trust)
        try:
            connection.request(method, path, headers={"Host": host or f"127.0.0.1:{self.port}", **login})
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    def status(self) -> dict[str, Any]:
        """Return the status."""
        found: dict[str, Any] = json.loads(self.ask()[1])
        return found


def serve_beyond(site: Site) -> Path:
    """Let the gateway serve its page on every address by HTTPS; return the authority's certificate."""
    config = site.layout.part("r001 gateway").config
    made = authority(site.folder.with_name("authority"))
    pem = certificate(made, Purpose.BROKER, "r001")
    port = str(site.layout.part("r001 gateway").http).rpartition(":")[2]
    text = re.sub(r"(?m)^http = .*$", f'http = "0.0.0.0:{port}"', config.read_text())
    config.write_text(f'{text}http_certificate = "{pem}"\nhttp_password = "page-password.json"\n')
    typed = f"{PASSWORD}\n{PASSWORD}\n"
    assert CliRunner().invoke(app, ["password", "--config", str(config)], input=typed).exit_code == 0
    return pem.with_name("ca.pem")


def test_a_technician_reads_the_page_by_phone_and_a_bystander_reads_nothing(tmp_path: Path) -> None:
    with Site(tmp_path / "site", TOWN) as site:
        ca = serve_beyond(site)
        gateway = site.layout.part("r001 gateway")
        port = int(str(gateway.http).rpartition(":")[2])
        config = ["--config", str(gateway.config)]
        assert CliRunner().invoke(make_app("config"), ["config", "check", str(gateway.config)]).exit_code == 0
        site.start("r001 broker", "r001 meters")
        site.processes["r001 gateway"] = forks.start(gateway.command, gateway.log)
        eventually(lambda: listens("127.0.0.1", port))

        bystander = Phone(port, ca)
        for path in ("/", "/status", "/power"):
            status, text = bystander.ask(path)
            assert (status, "house" in text.lower()) == (401, False)
        assert bystander.ask("/metrics")[0] == 200
        assert "house" not in bystander.ask("/metrics")[1]
        assert bystander.ask("/health") == (200, "ok\n")
        assert bystander.ask("/", host="evil.example")[0] == 421
        assert Phone(port, ca, "wrong").ask()[0] == 401

        phone = Phone(port, ca, PASSWORD)
        assert phone.ask("/") == (200, PAGE)
        assert phone.ask("/", "POST")[0] == 405, "nothing can be sent"
        eventually(lambda: any(state["heard"] for state in phone.status()["meter_states"].values()))
        eventually(lambda: any(note["cmd"] == "initialize" for note in phone.status()["last_commands"]))
        assert phone.status()["microgrid"] == "r001"
        # A program on the controller that can read the password's file needs no password.
        told = CliRunner().invoke(make_app("status"), ["status", *config, "--json"])
        assert json.loads(told.stdout)["microgrid"] == "r001"
        site.stop("r001 meters", "r001 gateway", "r001 broker")
