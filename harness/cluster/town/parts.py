"""A town on a cluster: 24 microgrids, two utilities, two head-ends and three databases, on machines of their own."""

import json
import shutil
import sys
import tempfile
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from subprocess import DEVNULL, Popen, run
from types import TracebackType
from typing import Any, Self

import psycopg

from commonwatt.audit.folder import DATABASE
from commonwatt.demo.large.servers import mosquitto
from commonwatt.demo.layout import CLOCK_FILE, let_time_begin, prepare
from commonwatt.demo.parts import Part
from commonwatt.runtime.clock import save_clock
from harness.cluster.machines import DatabaseMachines
from harness.network.waiting import ended, eventually

UTILITIES = ("utility1", "utility2")
HEAD_ENDS = ("head-end1", "head-end2")
GATEWAYS = "gateways"
START_S = 120.0  # most seconds until all parts run
SPEED = 10  # town seconds in a real second
_STOP_WITHIN_S = 30.0
_ANSWER_S = 1.0  # longest wait for a part's figures
_ALARM = "commonwatt_utility_alarm{"
_STORED = 'commonwatt_utility_messages_total{result="stored"}'

_TOWN = '[[microgrid]]\nid = "r"\nkind = "residential"\ncount = {count}\nhouses = 2\n'


# Runs, settled versions, purchases and periods of jobs have keys that allow none twice.
_DOUBLED = (
    "SELECT microgrid, counter, rank, count(*) FROM handover GROUP BY 1, 2, 3 HAVING count(*) > 1",
    (
        "SELECT controller, created / 60, message::jsonb - 'id', count(*) FROM command "
        "GROUP BY 1, 2, 3 HAVING count(*) > 1"
    ),
)


class ClusterTown:
    """The town; nothing runs until it is set up.

    Args:
        folder: The folder of logs; made.
    """

    def __init__(self, folder: Path, microgrids: int = 24) -> None:
        self.machines = DatabaseMachines(folder)
        self.processes: dict[str, Popen[bytes]] = {}
        # PostgreSQL's user must reach it.
        self._data = Path(tempfile.mkdtemp(prefix="commonwatt-town-"))
        self._data.chmod(0o755)
        self._microgrids = microgrids
        self._commands: dict[str, tuple[str, Sequence[str], Path]] = {}

    def set_up(self) -> None:
        """Install the databases, register the town, and start everything."""
        self.machines.set_up()
        town_file = self._data / "town.toml"
        town_file.write_text(_TOWN.format(count=self._microgrids))
        data = self._data / "town"
        layout = let_time_begin(prepare(data, town_file, SPEED, None, plain_text=True))
        save_clock(data / CLOCK_FILE, layout.clock)
        self._layout = layout
        self._move_parts()
        url, words = self.machines.url(), ["utility", "register", "--town", str(data / "town.toml")]
        self._commonwatt("utility1", *words, "--database", url, "--out", str(data))
        self._commonwatt("utility1", "utility", "migrate", "--config", str(data / "utility/utility1.toml"))
        self.start(*self._commands)
        eventually(lambda: self.active() is not None, START_S)
        eventually(lambda: sum(self.stored_by(name) or 0 for name in UTILITIES) > self._microgrids, START_S)

    def _move_parts(self) -> None:
        """Put the parts of a demonstration on their machines."""
        data, parts = self._layout.data, {part.name: part for part in self._layout.parts}
        old = _value(parts["head-end"].config, "listen")
        port = self._port = old.rpartition(":")[2]
        lists = ", ".join(f'"{self.machines.addresses[name]}:{port}"' for name in HEAD_ENDS)
        for config in [part.config for part in self._layout.parts if part.kind in ("gateway", "meters", "utility")]:
            text = config.read_text()
            new = f"head_end = [{lists}]\nhead_end_plain_text = true"
            config.write_text(text.replace(f'head_end = "{old}"', new))
        for name in HEAD_ENDS:
            folder = data / name
            shutil.copytree(data / "head-end", folder)
            config = folder / "broker.toml"
            text = config.read_text().replace(old, f"0.0.0.0:{port}")
            config.write_text(text.replace("[broker]", "[broker]\nplain_text = true"))
            command = mosquitto(config, [data / "head-end" / "devices.json"])
            self._commands[name] = name, command, data / "logs" / f"{name}.log"
        utility = parts["utility"]
        self._http = utility.http
        self._move_beats(utility)
        text = utility.config.read_text().replace(_value(utility.config, "database"), self.machines.url())
        utility.config.write_text(text)
        # The town's own database, which the audit would use.
        shutil.rmtree(data / DATABASE)
        for name in UTILITIES:
            config = utility.config.with_name(f"{name}.toml")
            config.write_text(text.replace("[utility]", f'[utility]\nname_in_cluster = "{name}"'))
            self._commands[name] = name, _ours("utility", "run", "--config", str(config)), data / "logs" / f"{name}.log"
        for part in self._layout.processes:
            if part.name not in ("database", "head-end", "utility"):
                command = part.program or part.command
                self._commands[part.name] = GATEWAYS, command, part.log

    def _move_beats(self, utility: Part) -> None:
        """Let beats go from the machine of the gateways to those of the utilities, and back."""
        old = _value(utility.config, "beats")
        first, second = (self.machines.addresses[name] for name in UTILITIES)
        port = old.rpartition(":")[2]
        utility.config.write_text(utility.config.read_text().replace(f'beats = "{old}"', f'beats = "0.0.0.0:{port}"'))
        own = self.machines.addresses[GATEWAYS]
        for file in self._layout.data.glob("*/clique*.json"):
            text = file.read_text()
            text = text.replace(
                f'"address": "{old}"', f'"address": "{first}:{port}",\n    "further": ["{second}:{port}"]'
            )
            file.write_text(text.replace('"address": "127.0.0.1:', f'"address": "{own}:'))
        for part in self._layout.parts:
            if part.kind == "gateway":
                text = part.config.read_text()
                part.config.write_text(text.replace('beats = "127.0.0.1:', f'beats = "{own}:'))

    # Processes.

    def start(self, *names: str) -> None:
        """Start parts; they need not answer yet."""
        for name in names:
            machine, command, log = self._commands[name]
            words = self.machines.network_of(machine)
            with log.open("ab") as file:
                self.processes[name] = Popen([*words, *command], stdout=file, stderr=file, stdin=DEVNULL)

    def _commonwatt(self, machine: str, *words: str) -> str:
        done = run([*self.machines.network_of(machine), *_ours(*words)], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    # What they say.

    def metric(self, name: str, series: str) -> float | None:
        """Return a figure of a utility; ``None``: it does not answer, or has none."""

        return self._metrics(name, str(self._http)).get(series)

    def _metrics(self, machine: str, address: str) -> dict[str, float]:
        """Return all figures of a part; empty: it does not answer."""

        def ask() -> str:
            with urllib.request.urlopen(f"http://{address}/metrics", timeout=_ANSWER_S) as answer:
                return str(answer.read().decode())

        try:
            lines = self.machines.inside(machine, ask).splitlines()
        except OSError:
            return {}
        return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines if line[:1] not in ("#", "")}

    def alarms(self) -> list[str]:
        """Return the alarms of the database, as the utilities say them."""
        figures = [one for name in UTILITIES for one in self._metrics(name, str(self._http)).items()]
        return [name.split('"')[1] for name, value in figures if name.startswith(_ALARM) and value]

    def active(self) -> str | None:
        """Return the active utility; ``None``: there is none, or more than one."""
        found = [name for name in UTILITIES if self.metric(name, "commonwatt_utility_active")]
        return found[0] if len(found) == 1 else None

    def stands(self, name: str) -> bool:
        """Return whether a utility answers, active or not."""
        return self.metric(name, "commonwatt_utility_active") is not None

    def stored_by(self, name: str) -> float | None:
        """Return how many messages a utility has stored since its start; ``None``: it does not answer, or waits."""
        return self.metric(name, _STORED)

    # Faults.

    def kill(self, name: str) -> None:
        """Kill a part of the town by SIGKILL."""
        process = self.processes.pop(name)
        process.kill()
        process.wait()

    def restart(self, name: str) -> None:
        """Stop a part by SIGTERM, and start it again."""
        self._stop(name)
        self.start(name)

    def _stop(self, name: str) -> None:
        process = self.processes.pop(name)
        process.terminate()
        code = ended(process, _STOP_WITHIN_S)
        assert code == 0, f"{name} ended with {code}: {self.log(name)[-3000:]}"

    def log(self, name: str) -> str:
        """Return a part's output."""
        return self._commands[name][2].read_text()

    def signal(self, name: str, number: int) -> None:
        """Signal a part of the town."""
        self.processes[name].send_signal(number)

    def restart_ended(self) -> list[str]:
        """Start the parts that ended by themselves, as systemd would; return them."""
        gone = [name for name, process in self.processes.items() if process.poll() is not None]
        self.start(*gone)
        return gone

    def head_end(self) -> str:
        """Return the head-end to which most gateways are connected."""
        counts = {name: self._connections(name) for name in HEAD_ENDS}
        return max(counts, key=lambda name: counts[name])

    def _connections(self, name: str) -> int:
        words = ["ss", "-Htn", "state", "established", f"( sport = :{self._port} )"]
        done = run([*self.machines.network_of(name), *words], capture_output=True, text=True, check=True)
        return len(done.stdout.splitlines())

    # The end.

    def audit(self) -> str:
        """End the meters, wait until all is stored, and compare.

        Returns:
            The audit's table and verdict.

        Raises:
            AssertionError: Something was lost or doubled, or does not reach the utility.
        """
        for name in [name for name in self.processes if name.startswith(("fleet", "meters"))]:
            self._stop(name)
        eventually(lambda: self.backlog() == 0, 180)
        return self._commonwatt(UTILITIES[0], "audit", "--data", str(self._layout.data))

    def backlog(self) -> int:
        """Return what all gateways have that the utility has not acknowledged; at least 1 while one is silent."""
        hosts = [str(part.http) for part in self._layout.processes if part.kind == "host"]
        try:
            return self.machines.inside(GATEWAYS, lambda: sum(map(_backlog_of, hosts)))
        except OSError:
            return 1

    def doubled(self) -> list[str]:
        """Return what two utilities decided: an epoch granted twice, or the same command to a gateway at once."""

        def ask() -> list[str]:
            with psycopg.connect(self.machines.url().replace("+psycopg", "")) as connection:
                return [str(row) for statement in _DOUBLED for row in connection.execute(statement).fetchall()]

        return self.machines.inside(UTILITIES[0], ask)

    def close(self) -> None:
        """End all that was started."""
        for process in self.processes.values():
            process.kill()
            process.wait()
        self.machines.close()
        shutil.rmtree(self._data, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _backlog_of(host: str) -> int:
    """Return the backlog of all controllers of a host: parts, events and dead letters."""
    names = _status(f"http://{host}/status")["controllers"]
    return sum(sum(_status(f"http://{host}/status/{name}")["backlog"].values()) for name in names)


def _status(url: str) -> dict[str, Any]:
    with urllib.request.urlopen(url, timeout=_ANSWER_S) as answer:
        return dict(json.load(answer))


def _ours(*words: str) -> list[str]:
    return [sys.executable, "-m", "commonwatt", *words]


def _value(config: Path, key: str) -> str:
    line = next(line for line in config.read_text().splitlines() if line.startswith(f"{key} = "))
    return line.partition(" = ")[2].strip('"')
