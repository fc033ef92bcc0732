"""The report of a controller, for a person far away: what the doctor finds, versions, the machine, the log."""

import json
import logging
import os
import platform
import resource
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from commonwatt.config.settings import GatewaySettings
from commonwatt.doctor.checks import Check, run_check, version_findings
from commonwatt.doctor.running import Running
from commonwatt.model.text import moment
from commonwatt.protocol.controller_commands import MAX_REPORT_BYTES
from commonwatt.protocol.reports import compressed, report_of
from commonwatt.runtime.service import KEPT_LINES, LAST_LINES, without_secrets
from gateway import doctor

SAVING_BYTES = 8_192  # most bytes of a report while the line's plan is used up, or will be before the month's end
LOG_WITHIN_S = 10.0  # seconds within which the system's log has to give the lines of a unit
STATUS_BYTES = 100_000  # most characters of the status in a report

log = logging.getLogger(__name__)

_UNITS = ("gateway", "broker", "mosquitto", "adapter")
_STATE = Path("/var/lib/commonwatt")
_DEVICES = Path("/sys/block")


def make_report(settings: GatewaySettings, status: dict[str, Any], now: int) -> str:
    """Return a report, compressed and in base 85; it may take half a minute: for another thread than the loop's.

    Args:
        status: What /status shows.
        now: The gateway's time.
    """
    status = json.loads(json.dumps(status))  # As over HTTP: keys are text.
    sections = {
        "alarms": _alarms(status),
        "doctor": _findings(settings, status),
        "versions": (found.found for found in version_findings()),
        "machine": _machine(),
        "wear": _wear(),
        "files": (f"{path}, {path.stat().st_size} bytes" for path in sorted(settings.store.parent.glob("*"))),
        "status": iter([json.dumps(status)[:STATUS_BYTES]]),
    }
    parts = [f"== report of {settings.controller} at {moment(now)}"]
    for name, lines in sections.items():
        parts += [f"== {name}", *_tried(name, lines)]
    short = status.get("lte", {}).get("level") in ("at_risk", "exceeded")
    logs = dict(_logs(settings.store.parent))
    return report_of(fitted("\n".join(parts), logs, SAVING_BYTES if short else MAX_REPORT_BYTES))


def fitted(text: str, logs: Mapping[str, str], most_bytes: int) -> bytes:
    """Return a text and logs, compressed: the oldest lines of the logs, then the text's end go until it fits."""
    # Before lines go: a key is found by its first line.
    text, ends = without_secrets(text), {name: without_secrets(lines).splitlines() for name, lines in logs.items()}
    kept = KEPT_LINES
    while True:
        lines = [line for name, each in ends.items() for line in (f"== log of {name}", *each[-kept:])]
        packed = compressed("\n".join([text, *(lines if kept else ["== the logs are left out"])]))
        if len(packed) <= most_bytes:
            return packed
        text, kept = text if kept else text[: len(text) * 3 // 4], kept * 3 // 4


def _tried(name: str, lines: Iterator[str]) -> Iterator[str]:
    """Yield lines; an error becomes the last one, so that the rest of the report is made."""
    try:
        yield from lines
    except Exception as error:
        log.exception("the report's part %s failed", name)
        yield f"failed: {error!r}"


def _alarms(status: dict[str, Any]) -> Iterator[str]:
    if not status:
        yield "not known: the store does not answer"
        return
    for each in status["alarms"]:
        name = f"{each['severity']} {each['alert']}".rstrip()  # some have no alert
        yield f"{name}: {each['title']} {each['remedy']}"


def _findings(settings: GatewaySettings, status: dict[str, Any]) -> Iterator[str]:
    running = Running(
        part="gateway", config=settings.store.parent / "gateway.toml", answer=status or None, failure="", runs=True
    )
    for check in doctor.checks(settings, running):
        yield from _tried(check.name, _found(check))


def _found(check: Check) -> Iterator[str]:
    for found in run_check(check):
        yield f"{found.level} {found.check}: {found.found}" + (f" -> {found.remedy}" if found.remedy else "")


def _machine() -> Iterator[str]:
    names = platform.freedesktop_os_release() if Path("/etc/os-release").exists() else {}
    yield f"{names.get('PRETTY_NAME', platform.system())}, Linux {platform.release()}, {os.cpu_count()} cores"
    yield f"processor: load {os.getloadavg()[0]:.2f}"
    memory = [line for line in Path("/proc/meminfo").read_text().splitlines() if line.startswith(("MemT", "MemA"))]
    own_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield f"memory: {', '.join(' '.join(line.split()) for line in memory)}; most of this process: {own_kb} kB"


def _wear() -> Iterator[str]:
    for path in sorted(_DEVICES.glob("mmcblk*/device/life_time")):
        worn = [10 * int(text, 16) for text in path.read_text().split()]  # eMMC tells tenths, from 1 to 11.
        yield f"wear of {path.parts[-3]}: at most {max(worn)} % of its life"


def _logs(place: Path) -> Iterator[tuple[str, str]]:
    """Yield the last lines of each unit of a place; without systemd, and if it gives none, those of this process."""
    for unit in _UNITS if place.parent == _STATE else ():
        name = f"commonwatt-{unit}@{place.name}"
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
            yield name, f"can't be read: {error}"
        else:
            if said.stdout:
                yield name, said.stdout.decode(errors="replace")
    yield "this process", "\n".join(LAST_LINES.lines)
