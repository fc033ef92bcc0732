"""The page of a real gateway, as a phone in the household's network gets it: by HTTPS, with a password."""

import json
import re
import ssl
from http.client import HTTPSConnection
from pathlib import Path
from urllib.parse import urlencode

from typer.testing import CliRunner

from commonwatt.cli.main import make_app
from commonwatt.identity.certificates import Kind
from gateway.cli import app
from harness.network.waiting import eventually
from harness.real import forks
from harness.real.enrolled import authority, certificate
from harness.real.mosquitto import listens
from harness.real.site import Site

TOWN = '[[microgrid]]\nid = "r001"\nkind = "residential"\nhouses = 2\n'
PASSWORD = "seven small lanterns"


class Phone:
    """A browser without scripts."""

    def __init__(self, port: int, ca: Path) -> None:
        self.port = port
        self.cookie = ""  # what the server set
        self._trust = ssl.create_default_context(cafile=str(ca))

    def ask(
        self, path: str = "/", form: dict[str, str] | None = None, host: str | None = None, origin: str | None = None
    ) -> tuple[int, str]:
        """Ask for a page or send a form; return the status and the page, after following a redirect."""
        own = f"127.0.0.1:{self.port}"
        headers = {"Host": host or own, "Cookie": self.cookie}
        body = None
        if form is not None:
            body = urlencode(form)
            headers |= {"Origin": origin or f"https://{own}", "Content-Type": "application/x-www-form-urlencoded"}
        connection = HTTPSConnection("127.0.0.1", self.port, timeout=30, context=self._trust)
        try:
            connection.request("GET" if form is None else "POST", path, body, headers)
            answer = connection.getresponse()
            text = answer.read().decode()
        finally:
            connection.close()
        if made := answer.headers["Set-Cookie"]:
            assert {"HttpOnly", "Secure", "SameSite=Strict"} <= set(made.split("; "))
            self.cookie = made.partition(";")[0]
        if answer.status == 303:
            return self.ask(answer.headers["Location"])
        return answer.status, text


def serve_beyond(site: Site) -> Path:
    """Let the gateway serve its page on every address by HTTPS; return the authority's certificate."""
    config = site.layout.part("r001 gateway").config
    made = authority(site.folder.with_name("authority"))
    pem = certificate(made, Kind.BROKER, "r001")
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
        for path in ("/", "/meters", "/batteries", "/status"):
            status, text = bystander.ask(path)
            assert "house" not in text.lower()
            assert (status, "Log in" in text) == {"/": (200, True), "/status": (401, False)}.get(path, (401, True))
        assert bystander.ask("/metrics")[0] == 200
        assert "house" not in bystander.ask("/metrics")[1]
        assert bystander.ask("/health") == (200, "ok\n")
        assert bystander.ask("/", host="evil.example")[0] == 421
        assert bystander.ask("/login", {"password": PASSWORD}, origin="https://evil.example")[0] == 403
        assert bystander.ask("/login", {"password": "wrong"})[0] == 401
        assert bystander.cookie == ""

        phone = Phone(port, ca)
        status, text = phone.ask("/login", {"password": PASSWORD})
        assert (status, "Controller r001" in text) == (200, True)
        eventually(lambda: " s ago" in phone.ask("/meters")[1])
        eventually(lambda: "introduce itself" in phone.ask()[1])
        text = phone.ask()[1]
        for said in ("Sharing", "minimum", "LTE line", "Clock", "Connections", "connected", "Last commands"):
            assert said in text
        assert "r001" in json.loads(phone.ask("/status")[1])["microgrid"]
        # A program on the controller that can read the password's file needs no session.
        told = CliRunner().invoke(make_app("status"), ["status", *config, "--json"])
        assert json.loads(told.stdout)["microgrid"] == "r001"

        session = phone.cookie
        assert "Log in" in phone.ask("/logout", {})[1]
        phone.cookie = session
        assert "Log in" in phone.ask()[1], "the session has ended, not only the cookie"
        site.stop("r001 meters", "r001 gateway", "r001 broker")
