"""The report of a controller, for a person far away: what the doctor finds, versions, the machine, the ends of logs."""

import json
import os
import platform
import resource
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from commonwatt.config.settings import GatewaySettings
from commonwatt.doctor.findings import run_check
from commonwatt.doctor.machine import version_findings
from commonwatt.doctor.running import Running
from commonwatt.model.words import moment
from commonwatt.protocol.controller_commands import MAX_REPORT_BYTES
from commonwatt.protocol.reports import compressed, report_of
from commonwatt.runtime.logs import KEPT_LINES, LAST_LINES, without_secrets
from gateway import doctor
from gateway.page.alarms import alarms

SAVING_BYTES = 8_192  # most bytes of a report while the line's plan is used up, or will be before the month's end
LOG_WITHIN_S = 10.0  # seconds within which the system's log has to give the lines of a unit
STATUS_BYTES = 100_000  # most characters of the status in a report

_UNITS = ("gateway", "broker", "mosquitto", "adapter")
_STATE = Path("/var/lib/commonwatt")
_DEVICES = Path("/sys/block")


def make_report(settings: GatewaySettings, status: dict[str, Any], now: int, recorded: str) -> str:
    """Return a report, compressed and in base 85; it may take half a minute: for another thread than the loop's.

    Args:
        status: What /status shows.
        now: The gateway's time.
        recorded: What became of the recording that was asked for; empty: none was.
    """
    status = json.loads(json.dumps(status))  # As over HTTP: keys are text.
    sections = {
        f"report of {settings.controller} at {moment(now)}": [recorded] if recorded else [],
        "alarms": ["not known: the store does not answer"]
        if not status
        else [f"{each.severity} {each.alert}: {each.title} {each.remedy}" for each in alarms(status)],
        "doctor": list(_findings(settings, status)),
        "machine": list(_machine(settings.store)),
        "status": [json.dumps(status)[:STATUS_BYTES]],
    }
    short = status.get("lte", {}).get("level") in ("at_risk", "exceeded")
    return report_of(fitted(sections, _logs(settings.store), SAVING_BYTES if short else MAX_REPORT_BYTES))


def fitted(sections: Mapping[str, list[str]], logs: Mapping[str, list[str]], most_bytes: int) -> bytes:
    """Return a text of sections, compressed; the oldest lines of the logs are left out until it fits."""
    kept = KEPT_LINES
    while True:
        ends = {name: lines[-kept:] if kept else ["left out"] for name, lines in logs.items()}
        parts = [line for name, lines in {**sections, **ends}.items() for line in (f"== {name}", *lines)]
        if not kept:  # Without logs the status goes, too.
            parts = [line[:1000] for line in parts]
        packed = compressed(without_secrets("\n".join(parts)))
        if len(packed) <= most_bytes or not kept:
            return packed
        kept = kept * 3 // 4


def _findings(settings: GatewaySettings, status: dict[str, Any]) -> Iterator[str]:
    running = Running(
        part="gateway", config=settings.store.parent / "gateway.toml", answer=status or None, failure="", runs=True
    )
    for check in doctor.checks(settings, running):
        for found in run_check(check):
            yield f"{found.level} {found.check}: {found.found}" + (f" -> {found.remedy}" if found.remedy else "")
    yield from (f"{found.check}: {found.found}" for found in version_findings())


def _machine(store: Path) -> Iterator[str]:
    """Yield what the machine is, its memory, and the wear of its cards where they tell."""
    names = platform.freedesktop_os_release() if Path("/etc/os-release").exists() else {}
    yield f"{names.get('PRETTY_NAME', platform.system())}, Linux {platform.release()}, {os.cpu_count()} cores"
    yield f"processor: load {os.getloadavg()[0]:.2f}"
    memory = [line for line in Path("/proc/meminfo").read_text().splitlines() if line.startswith(("MemT", "MemA"))]
    own_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield f"memory: {', '.join(' '.join(line.split()) for line in memory)}; most of this process: {own_kb} kB"
    for path in sorted(_DEVICES.glob("mmcblk*/device/life_time")):
        worn = [10 * int(text, 16) for text in path.read_text().split()]  # eMMC tells tenths, from 1 to 11.
        yield f"wear of {path.parts[-3]}: at most {max(worn)} % of its life"
    yield from (
        f"beside the store: {path.name}, {path.stat().st_size} bytes" for path in sorted(store.parent.glob("*"))
    )


def _logs(store: Path) -> dict[str, list[str]]:
    """Return the last lines of each unit of this place; without systemd those of this process."""
    logs = {}
    for unit in _UNITS if store.parent.parent == _STATE else ():
        name = f"commonwatt-{unit}@{store.parent.name}"
        command = [
            "journalctl",
            "--quiet",
            "--no-pager",
            "--output=short-iso",
            f"--lines={KEPT_LINES}",
            f"--unit={name}",
        ]
        try:
            said = subprocess.run(command, capture_output=True, timeout=LOG_WITHIN_S, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            logs[name] = [f"can't be read: {error}"]
            continue
        if lines := said.stdout.decode(errors="replace").splitlines():
            logs[name] = lines
    return logs | {"log of this process": list(LAST_LINES.lines)}
