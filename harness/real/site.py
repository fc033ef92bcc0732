"""A small town of real processes that a test starts, stops and kills one by one."""

import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from unittest.mock import patch

from commonwatt.audit.comparison import Audit
from commonwatt.audit.folder import audit_folder
from commonwatt.config.files import load_settings
from commonwatt.config.settings import settings_of
from commonwatt.demo.layout import CLOCK_FILE, DemoFolder, let_time_begin, prepare
from commonwatt.doctor.running import local_headers
from commonwatt.identity.devices import FIRST_LOGIN
from commonwatt.model.blocks import Blocks, concatenate, join
from commonwatt.model.units import MAX_EPOCH, QUARTER_S
from commonwatt.runtime.clock import save_clock
from harness.network.proxy import Judge, Proxy
from harness.network.waiting import PATIENCE_S, ended, eventually
from harness.real import forks
from harness.real.brokers import listens, render
from harness.real.failpoint import When
from utility.database.database import open_database
from utility.readings.store.reads import all_blocks
from utility.settings import UtilitySettings

STOP_WITHIN_S = 5.0  # seconds after SIGTERM within which a part ends, as documented for users
ANSWER_S = 30.0  # seconds for an answer of a part on a busy machine; a part that does not run refuses at once


def prepared(folder: Path, town_file: Path, speed: float = 60, *, plain_text: bool = True) -> DemoFolder:
    """Prepare a folder as the demonstration does; the command that registers the town is forked."""
    with patch("commonwatt.site.office.subprocess.run", forks.run):
        return prepare(folder, town_file, speed, None, plain_text=plain_text, apart=True)


def audited(folder: Path) -> Audit:
    """Audit a folder as the demonstration does; its dump commands are forked."""
    with patch("commonwatt.audit.folder._start", forks.start):
        return audit_folder(folder)


def sound(folder: Path) -> Audit:
    """Audit a folder in which nothing may be lost, doubled or invented."""
    audit = audited(folder)
    assert audit.good, audit
    return audit


class Site:
    """A prepared town; nothing runs until it is started.

    Args:
        town: The town file's text.
        speed: Town seconds in a real second; at 1 the town begins at the machine's time.
        plain_text: Without TLS at the head-end, for tests that inspect its messages; the demonstration uses TLS.
    """

    def __init__(self, folder: Path, town: str, *, speed: float = 60, plain_text: bool = True) -> None:
        self.folder = folder
        folder.mkdir()
        self.town_file = folder.with_suffix(".toml")
        self.town_file.write_text(town)
        self.layout = let_time_begin(prepared(folder, self.town_file, speed, plain_text=plain_text))
        # No supervisor raises the clock's ceiling here.
        save_clock(folder / CLOCK_FILE, self.layout.clock)
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.commands: dict[str, Sequence[str]] = {}
        self.environments: dict[str, dict[str, str]] = {}
        self.strangers: set[str] = set()
        self.proxies: list[Proxy] = []

    def start(self, *names: str) -> None:
        """Start parts, by their own commands unless ``commands`` has another, and wait until each answers."""
        for name in names:
            part = self.layout.part(name)
            command = self.commands.get(name, part.command)
            if name in self.environments:
                environment = os.environ | self.environments[name]
                with part.log.open("ab") as log:
                    self.processes[name] = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
            else:
                self.processes[name] = forks.start(command, part.log)
        for name in names:
            eventually(partial(self._answers, name))

    def run_until_it_dies(self, name: str, when: When, nth: int = 1) -> None:
        """Run a part that kills itself before, or after, its ``nth`` commit that counts (see ``failpoint``)."""
        part = self.layout.part(name)
        fail = "from harness.real.failpoint import main; main()"
        process = self.processes[name] = forks.start(
            [sys.executable, "-c", fail, part.kind, when, str(nth), *part.command[4:]], part.log
        )
        assert process.wait(PATIENCE_S) == -signal.SIGKILL, self.log(name)
        del self.processes[name]

    def _answers(self, name: str) -> bool:
        assert self.processes[name].poll() is None, f"{name} ended: {self.log(name)}"
        if name in self.strangers:
            return listens(*self.address(name))
        return self.status(name) is not None

    def add_setting(self, name: str, line: str) -> None:
        """Add a line to a part's file."""
        with self.layout.part(name).config.open("a") as config:
            config.write(f"{line}\n")

    def put_mosquitto(self, name: str) -> None:
        """Use a Mosquitto, with rendered files, in place of a broker."""
        config = self.layout.part(name).config
        self.commands[name] = render(config, config.parent / "mosquitto")
        self.strangers.add(name)

    def stop(self, *names: str) -> None:
        """Stop parts by SIGTERM; each must exit cleanly, and in time."""
        for name in names:
            process = self.processes[name]
            process.terminate()
            code = ended(process, STOP_WITHIN_S)
            del self.processes[name]
            assert code == 0, self.log(name)

    def kill(self, name: str) -> None:
        """Kill a part by SIGKILL."""
        process = self.processes.pop(name)
        process.kill()
        process.wait()

    def status(self, name: str) -> dict[str, Any] | None:
        """Return a part's /status; ``None`` while it does not answer."""
        try:
            return self.ask(name, "/status", ANSWER_S)
        except OSError:
            return None

    def drained(self) -> None:
        """Wait until the gateway of ``r001`` has nothing for the utility, as it saw after this call.

        What a gateway shows may be a second old: older than what it acknowledged to a meter just now.
        """
        since = self.layout.clock.now()

        def is_drained() -> bool:
            view = self.status("r001 gateway")
            return view is not None and view["time"] > since and view["backlog"]["parts"] == 0

        eventually(is_drained)

    def ask(self, name: str, path: str, within_s: float = 30) -> dict[str, Any]:
        """Return a part's answer to a program of its machine; raise ``OSError`` if there is none."""
        part = self.layout.part(name)
        headers = local_headers(load_settings(part.config, part.kind, settings_of(part.kind)))
        request = urllib.request.Request(f"http://{part.http}{path}", headers=headers)
        with urllib.request.urlopen(request, timeout=within_s) as answer:
            found: dict[str, Any] = json.load(answer)
            return found

    def first_login(self) -> str:
        """Return the link of the first administrator, which the utility writes to a file before it answers."""
        return self.layout.part("utility").config.with_name(FIRST_LOGIN).read_text().strip()

    def metric(self, name: str, series: str) -> float:
        """Return a value of a part's /metrics, by its name and labels as shown there; 0 while there is none."""
        try:
            with urllib.request.urlopen(f"http://{self.layout.part(name).http}/metrics", timeout=ANSWER_S) as answer:
                lines = answer.read().decode().splitlines()
        except OSError:
            return 0.0
        return next((float(line.rpartition(" ")[2]) for line in lines if line.rpartition(" ")[0] == series), 0.0)

    def dump(self) -> Blocks:
        """Return every block that the utility stores."""
        settings = load_settings(self.layout.part("utility").config, "utility", UtilitySettings)
        with closing(open_database(settings.database, create=False)) as database:
            return join([concatenate([*all_blocks(database, 0, MAX_EPOCH // QUARTER_S)])])

    def register(self, database: str) -> None:
        """Register the town in another database."""
        command = [sys.executable, "-m", "commonwatt", "utility", "register", "--town", str(self.town_file)]
        forks.run([*command, "--database", database, "--out", str(self.folder)], check=True)

    def log(self, name: str) -> str:
        """Return a part's output."""
        return self.layout.part(name).log.read_text()

    def address(self, name: str, key: str = "listen") -> tuple[str, int]:
        """Return the address under ``key`` in a part's file."""
        line = next(x for x in self.layout.part(name).config.read_text().splitlines() if x.startswith(key))
        host, _, port = json.loads(line.partition("= ")[2]).rpartition(":")
        return host, int(port)

    def proxy(self, name: str, key: str, judge: Judge | None = None) -> Proxy:
        """Put a proxy before the address under ``key`` in a part's file; call it before the part starts."""
        config = self.layout.part(name).config
        host, port = self.address(name, key)
        proxy = Proxy((host, port), judge).start()
        self.proxies.append(proxy)
        config.write_text(config.read_text().replace(f'{key} = "{host}:{port}"', f'{key} = "{proxy.address}"'))
        return proxy

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self.processes.values():
            process.kill()
            process.wait()
        for proxy in self.proxies:
            proxy.close()
