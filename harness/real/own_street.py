"""``commonwatt street`` as a person runs it, before ten homes of ten makers; and its parts killed while they share.

``python -m harness.real.own_street --kills 20 --cuts 10`` sets the street up as its pages do, kills each part by
SIGKILL so often while batteries share, then takes all power away, and says how long each device acted on, whether a
device was told more than it should, and whether energy was lost or counted twice.
"""

import argparse
import hashlib
import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

from commonwatt.config.files import load_settings
from commonwatt.config.settings import settings_of
from commonwatt.doctor.running import fetch_status, local_headers
from commonwatt.model.records import RecordType
from commonwatt.model.units import SLOT_S
from commonwatt.runtime.files import write_private
from commonwatt.runtime.supervisor import STOP_WITHIN_S
from commonwatt.site.draft import SiteDraft
from commonwatt.street.folder import first_site
from harness.foreign.neighbours import Neighbours, place_of
from harness.network.waiting import PATIENCE_S, ended, eventually, free_port
from harness.real import brokers

COMMAND = [sys.executable, "-m", "commonwatt", "street", "--site"]
_STEADY_S = 120.0  # real seconds before the first kill and after the last one, in which all runs undisturbed
PARTS = {"utility", "head-end broker", "street broker", "street gateway", "street adapter"}


class OwnStreet:
    """A street of a folder.

    Args:
        command: What starts it, before its folder.
    """

    def __init__(self, folder: Path, command: Sequence[str] = COMMAND) -> None:
        self.folder = folder
        self._command = command
        self.said = folder.with_name("said")
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *options: str, typed: str = "") -> str:
        """Start it, and return the link that it prints."""
        words = [*self._command, str(self.folder), *options]
        if not options and not (self.folder / "site.toml").exists():
            # Streets of several tests at once would each take the first free port, also one whose utility was killed.
            self.folder.mkdir()
            # The host keeps this machine's clock, and its kernel does not say so.
            text = first_site(free_port(), lan=False).replace("[utility]\n", "[utility]\nclock_is_right = true\n")
            write_private(self.folder / "site.toml", text)
        with self.said.open("wb") as out, tempfile.TemporaryFile() as answers:
            answers.write(typed.encode())
            answers.seek(0)
            # Without a terminal, the answers are read there.
            self.process = subprocess.Popen(
                words, stdin=answers, stdout=out, stderr=subprocess.STDOUT, start_new_session=True
            )
        eventually(lambda: self._link() or not self.runs())
        assert self.runs(), self.said.read_text()
        return self._link()

    def _link(self) -> str:
        return next(iter(re.findall(r"http://\S+", self.said.read_text())), "")

    def runs(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def stop(self) -> None:
        assert self.process is not None
        self.process.terminate()
        assert ended(self.process, 4 * STOP_WITHIN_S) == 0, self.said.read_text()

    def pids(self) -> dict[str, int]:
        found: dict[str, int] = json.loads((self.folder / "processes.json").read_text())
        return found

    def is_again(self, name: str, before: int) -> bool:
        """Return whether a part has another process than before."""
        return self.pids().get(name, before) != before

    def answers(self, place: str, part: str) -> bool:
        """Return whether a part answers on its own address."""
        config = self.folder / place / f"{part}.toml"
        settings = load_settings(config, part, settings_of(part))
        with suppress(OSError):
            return bool(fetch_status(getattr(settings, "http"), None, local_headers(settings)))  # noqa: B009
        return False

    def is_well(self) -> bool:
        others = [("utility", "utility"), ("street", "broker"), ("street", "gateway"), ("street", "adapter")]
        return all(self.answers(*other) for other in others)

    def takes(self, text: str) -> str:
        """Change the site file, wait until it is taken or refused, and return why it is refused."""
        (self.folder / "site.toml").write_text(text)
        wanted = hashlib.sha256(text.encode()).hexdigest()

        def applied() -> dict[str, str]:
            found: dict[str, str] = json.loads((self.folder / "applied.json").read_text())
            return found

        eventually(lambda: applied()["sha256"] == wanted)
        return applied()["fault"]


def lives(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False


class SetUpStreet(OwnStreet):
    """A street with the ten homes' devices placed, as a person does in the pages."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder / "site")
        self.port = free_port()
        self._mosquitto = brokers.open_to_all(folder / "mosquitto", "127.0.0.1", self.port)
        self._log = folder / "mosquitto.log"
        self.broker: brokers.Mosquitto | None = self._run_broker()
        self.player = Neighbours(self.port)

    def _run_broker(self) -> brokers.Mosquitto:
        return brokers.Mosquitto(self._mosquitto, ("127.0.0.1", self.port), self._log)

    def close(self) -> None:
        """End everything."""
        self.player.close()
        self.power_off()

    def power_off(self) -> None:
        """Kill every process, as without power; the devices live on."""
        if self.broker is not None:  # first: a machine without power publishes no will
            self.broker.kill()
            self.broker = None
        if self.process is not None and self.runs():
            pids = self.pids().values()
            for pid in (self.process.pid, *pids):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self.process.wait()
            eventually(lambda: not any(map(lives, pids)))

    def power_on(self) -> None:
        """Start everything again."""
        self.broker = self._run_broker()
        self.start()

    def found(self) -> dict[str, Any]:
        """Return what the adapter discovers, asked as the gateway asks it."""
        config = self.folder / "street" / "adapter.toml"
        settings: Any = load_settings(config, "adapter", settings_of("adapter"))
        with suppress(OSError), urllib.request.urlopen(f"http://{settings.http}/discovered") as answer:
            found: dict[str, Any] = json.loads(answer.read())
            return found
        return {"cards": []}

    def changed(self, change: Any) -> None:
        """Change the site file as a page does, and wait until it is taken."""
        draft = SiteDraft(self.folder)
        change(draft)
        draft.save()
        wanted = hashlib.sha256((self.folder / "site.toml").read_bytes()).hexdigest()

        def taken() -> bool:
            found = json.loads((self.folder / "applied.json").read_text())
            assert not found["fault"], found["fault"]
            return bool(found["sha256"] == wanted)

        eventually(taken)

    def place_all(self) -> None:
        """Choose the broker, place every device that belongs to a home, and let the batteries share."""
        self.changed(lambda draft: draft.use_broker("street", address=f"127.0.0.1:{self.port}"))
        places = self._cards()
        self.changed(lambda draft: _place(draft, places))

    def _cards(self) -> dict[tuple[str, str], dict[str, Any]]:
        """Return the devices that belong to a home, by home and role, when all are heard."""
        found: dict[tuple[str, str], dict[str, Any]] = {}

        def complete() -> bool:
            for card in self.found()["cards"]:
                at = place_of(card)
                if at is not None and (at[1] != "battery" or card["share"]):
                    found[at] = card
            return len(found) == self.player.devices

        eventually(complete, 2 * PATIENCE_S)
        return found

    def givers(self) -> set[str]:
        """Return the presets of the batteries that give by a command."""
        return {home.key[0] for home in self.player.homes if home.is_battery and home.device.value}


def _place(draft: SiteDraft, places: dict[tuple[str, str], dict[str, Any]]) -> None:
    for (home, role), card in sorted(places.items()):
        kind = {"battery": "share", "load": "reduce"}.get(role, "")
        capacity_wh = 10_000 if role == "battery" else None
        draft.place("street", card, home=home, role=role, capacity_wh=capacity_wh, told=(kind,) if kind else ())
    draft.share("street", on=True)


@contextmanager
def set_up(folder: Path) -> Iterator[SetUpStreet]:
    """Start a street in a folder, and place the ten homes' devices."""
    made = SetUpStreet(folder)
    try:
        made.start()
        eventually(made.is_well)
        made.place_all()
        yield made
    finally:
        made.close()


def all_give(street: SetUpStreet) -> None:
    """Wait until the three batteries above their minimum give."""
    eventually(lambda: len(street.givers()) == 3, 6 * PATIENCE_S)


def memory_kb(street: SetUpStreet) -> dict[str, int]:
    """Return the proportional memory of each process, and of all, kilobytes."""
    assert street.process is not None
    pids = {"supervisor": street.process.pid, **street.pids()}
    text = {name: Path(f"/proc/{pid}/smaps_rollup").read_text() for name, pid in pids.items()}
    found = {name: int(re.findall(r"^Pss:\s+(\d+)", each, re.MULTILINE)[0]) for name, each in text.items()}
    return found | {"all": sum(found.values())}


def processor_s(street: SetUpStreet) -> float:
    """Return the processor seconds of all processes since their start."""
    assert street.process is not None
    ticks = 0
    for pid in (street.process.pid, *street.pids().values()):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Set a street up, kill its parts, take its power away, and compare what was counted."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=0)
    parser.add_argument("--cuts", type=int, default=0)
    given, rng = parser.parse_args(), random.Random(69)
    with tempfile.TemporaryDirectory() as name, set_up(Path(name)) as street:
        all_give(street)
        print("three batteries give to the one below its minimum", flush=True)
        time.sleep(_STEADY_S)
        begin = int(time.time()) // SLOT_S
        for part in street.pids() if given.kills else ():
            back_s = list[float]()
            for _ in range(given.kills):
                street.player.refill()
                all_give(street)
                time.sleep(rng.uniform(0, 2))
                before_pid, began = street.pids()[part], time.monotonic()
                os.kill(before_pid, signal.SIGKILL)
                eventually(partial(street.is_again, part, before_pid))
                back_s.append(time.monotonic() - began)
                eventually(street.is_well)
            print(f"{part}: killed {given.kills} times, started again within {max(back_s):.1f} s", flush=True)
        ends = defaultdict[str, list[float | None]](list)
        for _ in range(given.cuts):
            street.player.refill()
            all_give(street)
            time.sleep(rng.uniform(0, 2))
            street.power_off()
            for preset, seconds in _until_off(street).items():
                ends[preset].append(seconds)
            street.power_on()
        for preset, times in ends.items():
            off = [one for one in times if one is not None]
            print(
                f"power cut: {preset}: off by itself in {len(off)} of {len(times)}, {max(off, default=0):.0f} s at most"
            )
        street.player.refill()
        all_give(street)
        time.sleep(_STEADY_S)
        for meter, (stored, risen, missing) in sorted(compared(street, begin, int(time.time()) // SLOT_S).items()):
            print(f"meter {meter}: {stored:,} mWh stored, its register rose {risen:,} mWh, {missing} slots missing")


def _until_off(street: SetUpStreet) -> dict[str, float | None]:
    """Return the seconds until each battery that gave is off by itself; ``None``: not within four minutes."""
    began, found = time.monotonic(), dict[str, float | None]()
    gave = {home.key[0]: home for home in street.player.homes if home.key[0] in street.givers()}
    while len(found) < len(gave) and time.monotonic() - began < 240:
        found |= {
            preset: time.monotonic() - began
            for preset, home in gave.items()
            if preset not in found and not home.device.value
        }
        time.sleep(0.1)
    return dict.fromkeys(gave) | found


def compared(street: SetUpStreet, begin: int, until: int) -> dict[int, tuple[int, int, int]]:
    """Return of each meter the stored energy, its register's rise over the same slots, mWh, and the missing slots.

    A register moves in steps, and its last value of a slot is seconds old: the two differ by about a slot's energy.

    Args:
        begin: The slot, 15 s since the epoch, from whose end on they are compared.
        until: The last slot that is compared: it is waited for.
    """
    values = _stored(street)
    while min(max(of) for of in values.values()) < until:
        time.sleep(30)
        values = _stored(street)
    found = {}
    for (meter, kind), registers in values.items():
        flow = values.get((meter, RecordType.THROUGH), {})
        if kind == RecordType.REGISTER and flow:
            slots = [at for at in flow if begin < at <= until]
            stored = sum(flow[at] for at in slots)
            found[meter] = (stored, registers[until] - registers[begin], until - begin - len(slots))
    return found


def _stored(street: SetUpStreet) -> dict[tuple[int, int], dict[int, int]]:
    """Return what the utility has of each meter and record type, by slot."""
    config = street.folder / "utility" / "utility.toml"
    command = [sys.executable, "-m", "commonwatt", "utility", "dump", "--config", str(config)]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    values = defaultdict[tuple[int, int], dict[int, int]](dict)
    for block in (each for line in lines if (each := json.loads(line))["kind"] == "block"):
        for slot, value in enumerate(block["values"]):
            if value is not None:
                values[int(block["meter"]), block["type"]][block["quarter"] * 60 + slot] = value
    return values


if __name__ == "__main__":
    main()
