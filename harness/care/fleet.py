"""The files, machines and processes of a town of 84 controllers that join from their labels."""

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from commonwatt.care.words import Code, Invitation
from commonwatt.cli.status import ask
from commonwatt.config.files import load_settings
from commonwatt.config.utility import UtilitySettings
from commonwatt.doctor.running import ask_service, local_headers
from commonwatt.identity.devices import digest
from commonwatt.model.exceptions import CommonwattError
from harness.care.effort import Effort
from harness.network.waiting import ended, eventually
from harness.real.deploy import STATE as STATE_FOLDER
from harness.real.deploy import machine_root, words_of
from harness.takeover.real.namespaces import PREFIX, Machines

UTILITY, METERS, ELSEWHERE, FORGED = "utility", "meters", "elsewhere", "forged"
NAMES = tuple(f"r{number:03}" for number in range(1, 85))
HOSTS = {"host1": NAMES[:40], "host2": NAMES[40:80]}
ALONE = NAMES[80:]
BY_FILE = NAMES[::4]  # join by a file on the boot partition, the others by words
CARE = 8444  # port of the utility's care listener
STATE = f"root{STATE_FOLDER}"  # in the folder of a machine
SHOWN = ("release", "certificate_left_seconds")  # metrics of a heartbeat that the utility shows for each controller
_UP = "commonwatt_utility_gateway_{}"


class Fleet:
    """The town: its files, machines and processes."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.site = folder, folder / "office" / "site"
        self.machines = Machines((UTILITY, *HOSTS, *ALONE, METERS, ELSEWHERE, FORGED))
        self.processes: list[subprocess.Popen[bytes]] = []
        self.machine_of = {name: host for host, names in HOSTS.items() for name in names} | {n: n for n in ALONE}
        own = {name: f"{PREFIX}{100 + number}" for number, name in enumerate(NAMES[:80], 1)}
        self.address_of = own | {name: self.machines.addresses[name] for name in ALONE}
        self.utility_file = folder / UTILITY / STATE / "utility/utility.toml"
        self.effort: list[Effort] = []  # what the person typed
        for name, address in own.items():  # Each controller has its static address, also in a host.
            self.on(self.machine_of[name], ["ip", "addr", "add", f"{address}/24", "dev", "eth0"])

    def on(self, machine: str, words: Sequence[str], folder: Path | None = None) -> subprocess.CompletedProcess[str]:
        """Run a command on a machine."""
        words = [*self.machines.network_of(machine), *words]
        return subprocess.run(words, cwd=folder, text=True, capture_output=True, check=False)

    def type(self, machine: str, place: str, words: Sequence[str]) -> str:
        """Type a command of ours as the person does at a place; count it; return what it prints."""
        began = time.monotonic()
        done = self.on(machine, [sys.executable, "-m", "commonwatt", *words], self.folder / place)
        assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
        self.effort.append(Effort(place=place, words=tuple(words), took_s=time.monotonic() - began))
        return done.stdout

    def joins(self, machine: str, folder: Path, words: Sequence[str]) -> str:
        """Join on a machine; return why it was refused, empty: it has joined."""
        self.root_of(folder)
        command = [sys.executable, "-m", "commonwatt", "join", *words, "--root", str(folder / "root")]
        done = self.on(machine, command, folder)
        return done.stdout + done.stderr if done.returncode else ""

    @staticmethod
    def root_of(folder: Path) -> Path:
        """Make the folder of a machine, unless it is there; return its root."""
        return folder / "root" if (folder / "root").exists() else machine_root(folder / "root")

    def invitation(self, name: str) -> Invitation:
        """Return what the label of a controller says now."""
        code = json.loads((self.site / "authority/codes.json").read_text())["codes"][name]["code"]
        fingerprint = digest((self.site / "authority/ca.pem").read_bytes())
        at = f"{self.machines.addresses[UTILITY]}:{CARE}"
        return Invitation(code=Code(bytes.fromhex(code)), addresses=(at,), fingerprint=fingerprint)

    def start(self, machine: str, words: Sequence[str], name: str) -> None:
        """Start a service on a machine."""
        self.processes.append(self.machines.start(machine, words, self.folder / "logs" / f"{name}.log"))

    def site_file(self) -> str:
        """Return the site file; a controller alone has nothing but its address, in a host ports must differ."""
        utility = self.machines.addresses[UTILITY]
        lines = [f'[site]\nutility = "{utility}"\ncare = {CARE}\nmosquitto = false']
        lines.append('[utility]\ndatabase = "sqlite:///utility.db"\nclock_is_right = true')
        for number, name in enumerate(NAMES):
            at = self.address_of[name]
            lines.append(f'[[microgrid]]\nid = "{name}"\nkind = "residential"\nhouses = 1\naddress = "{at}"')
            if name not in ALONE:
                lines.append(f'broker = {{listen = "{at}:8883", http = "127.0.0.1:{9000 + number}"}}')
                own = f'broker = "{at}:8883", http = "127.0.0.1:{8100 + number}", beats = "{at}:8885"'
                lines.append(f"gateway = {{{own}}}")
        return "\n".join(lines) + "\n"

    def set_up_utility(self) -> None:
        """Make the town and the labels at the office; install the utility by its bundle, and start it."""
        self.site.mkdir(parents=True)
        (self.folder / "logs").mkdir()
        (self.site / "site.toml").write_text(self.site_file())
        self.type(UTILITY, "office", ["site", "init"])
        self.type(UTILITY, "office", ["site", "labels"])
        said = self.carry_to_utility(["--authority", digest((self.site / "authority/ca.pem").read_bytes())])
        state = str(self.folder / UTILITY / STATE)
        for line in map(str.strip, said.splitlines()):
            if line.startswith("runuser"):
                words = words_of(line.partition("-- ")[2]) or []
                self.type(UTILITY, UTILITY, [word.replace(STATE_FOLDER, state) for word in words])
        folder = self.utility_file.parent.parent
        self.start(UTILITY, ["broker", "run", "--config", str(folder / "head-end/broker.toml")], "head-end")
        self.start(UTILITY, ["utility", "run", "--config", str(self.utility_file)], "utility")
        eventually(self.status)

    def carry_to_utility(self, words: Sequence[str] = ()) -> str:
        """Pack the utility's bundle, carry it there and unpack it."""
        self.type(UTILITY, "office", ["site", "pack", "utility"])
        root = self.root_of(self.folder / UTILITY)
        shutil.copy(self.folder / "office/utility.bundle", self.folder / UTILITY)
        unpack = ["site", "unpack", "utility.bundle", *words, "--root", str(root)]
        said = self.type(UTILITY, "utility", unpack)
        self.own(root)
        return said

    def own(self, root: Path) -> None:
        """Give the services' files to this user, as which they run here."""
        subprocess.run(["chown", "-R", "0:0", str(root / "var")], check=True)

    def join(self, name: str) -> int:
        """Let a controller join; return the bytes of its machine's line meanwhile."""
        folder, label = self.folder / name, self.invitation(name)
        root, before = self.root_of(folder), self.line_bytes(self.machine_of[name])
        words = [*label.code.words.split(), "--utility", self.machines.addresses[UTILITY]]
        if name in BY_FILE:
            (root / "boot/firmware").mkdir(parents=True)
            (root / "boot/firmware/commonwatt-join.txt").write_text(label.text)
            words = []
        self.type(self.machine_of[name], name, ["join", *words, "--root", str(root)])
        self.own(root)
        return self.line_bytes(self.machine_of[name]) - before

    def line_bytes(self, machine: str) -> int:
        """Return the IP bytes of a machine's line so far, both ways."""
        lines = self.machines.inside(machine, Path("/proc/thread-self/net/dev").read_text).splitlines()
        (words,) = (line.split() for line in lines if line.strip().startswith("eth0:"))
        return sum(int(words[at]) - 14 * int(words[at + 1]) for at in (1, 9))

    def start_all(self) -> None:
        """Start brokers, meters and gateways."""
        for name, machine in self.machine_of.items():
            own = self.folder / name / STATE / name
            self.start(machine, ["broker", "run", "--config", str(own / "broker.toml")], f"{name}-broker")
            path = self.folder / METERS / name / "meters.toml"
            path.parent.mkdir(parents=True)
            made = self.site / name
            path.write_text(
                f'[meters]\nmicrogrid = "{name}"\ntown = "{self.site}/town.toml"\ntokens = "{made}/meter-tokens.json"\n'
                f'broker = "{self.address_of[name]}:8883"\nbroker_ca = "{made}/ca.pem"\n'
            )
            if name in ALONE:
                self.start(machine, ["gateway", "run", "--config", str(own / "gateway.toml")], name)
        for host, names in HOSTS.items():
            path = self.folder / host / "host.toml"
            path.parent.mkdir()
            files = f"../{{controller}}/{STATE}/{{controller}}/gateway.toml"
            path.write_text(f'[host]\ncontrollers = {json.dumps(names)}\nfiles = "{files}"\nhttp = "127.0.0.1:8070"\n')
            self.start(host, ["gateway", "host", "--config", str(path)], host)
        path = self.folder / METERS / "meters.toml"
        lines = [
            f"microgrids = {json.dumps(NAMES)}",
            'files = "{microgrid}/meters.toml"',
            f'town = "{self.site}/town.toml"',
        ]
        path.write_text("\n".join(["[meters]", *lines, 'http = "127.0.0.1:8090"\n']))
        self.start(METERS, ["meters", "run", "--config", str(path)], METERS)

    def status(self) -> dict[str, Any]:
        """Return the utility's status; empty while it does not answer."""
        assert not (dead := [process.args for process in self.processes if process.poll() is not None]), dead
        try:
            return self.machines.inside(UTILITY, partial(ask, self.utility_file))
        except CommonwattError:
            return {}

    def get(self, path: str) -> bytes:
        """Return an answer of the utility's API to a program of its machine."""
        settings = load_settings(self.utility_file, "utility", UtilitySettings)
        assert settings.http is not None
        do = partial(ask_service, settings.http, None, local_headers(settings), "GET", path)
        code, body = self.machines.inside(UTILITY, do)
        assert code == 200, body
        return body

    def board(self, alarm: str) -> str:
        """Return the text of an alarm on the utility's board; empty: it does not stand there."""
        found = [one["description"] for one in json.loads(self.get("/alarms"))["alarms"] if one["name"] == alarm]
        return "; ".join(found)

    def seen(self) -> dict[str, int]:
        """Return of how many controllers the utility has readings, and the release and certificate in a heartbeat."""
        metrics = self.get("/metrics").decode().splitlines()
        count = {key: sum(line.startswith(f"{_UP.format(key)}{{") for line in metrics) for key in SHOWN}
        microgrids = self.status().get("microgrids", {})
        return {"readings": sum(one["received_slots"] > 0 for one in microgrids.values()), **count}

    def close(self) -> None:
        """End all processes and machines."""
        for process in reversed(self.processes):
            process.terminate()
        for process in self.processes:
            ended(process, 30)
        self.machines.close()
