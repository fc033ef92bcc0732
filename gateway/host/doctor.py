"""The host's examination for ``commonwatt doctor``, and what its status shows for ``commonwatt status``."""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from commonwatt.config.host import HostSettings
from commonwatt.config.settings import GatewaySettings
from commonwatt.doctor.doctors import Doctor
from commonwatt.doctor.findings import Check, Finding, Level, bad, good, run_check, warning, with_file
from commonwatt.doctor.machine import clock_findings
from commonwatt.doctor.running import Running, port_findings
from commonwatt.model.words import counted
from gateway import doctor
from gateway.host.files import file_of, hosted


def checks(settings: HostSettings, running: Running) -> Sequence[Check]:
    """Return the checks of a host: its own, then one for each controller."""
    files = hosted(running.config, settings)
    return (
        Check("clock", partial(clock_findings, settings.clock)),
        Check("port", partial(port_findings, settings, running)),
        Check("controllers", partial(_running, running.answer)),
        *(
            Check(name, partial(_controller, one, running, file_of(running.config, settings, name)))
            for name, one in files.items()
        ),
    )


def judge(answer: dict[str, Any]) -> Iterator[Finding]:
    """Yield what a running host's status shows."""
    stopped = [(name, one["why"]) for name, one in answer["controllers"].items() if one["state"] == "stopped"]
    slow = [(name, one["lag_s"]) for name, one in answer["controllers"].items() if one["state"] == "slow"]
    for name, why in stopped:
        yield bad(name, f"stopped: {why}", "it is tried again by itself; see: commonwatt doctor with its own file")
    for name, lag_s in slow:
        yield warning(name, f"its work is {lag_s:.0f} s late", "see whether its disk hangs: dmesg; iostat -x 5")
    if not stopped and not slow:
        yield good("controllers", f"{counted(len(answer['controllers']), 'controller')} run")


def _running(answer: dict[str, Any] | None) -> Iterator[Finding]:
    return iter(()) if answer is None else judge(answer)


def _controller(settings: GatewaySettings, running: Running, path: Path) -> Iterator[Finding]:
    """Yield what is not good of a controller; one line if all is."""
    name = settings.controller
    answer = None if running.answer is None else running.answer["controllers"].get(name, {}).get("status")
    own = Running(part="gateway", config=path, answer=answer, failure="", runs=running.runs)
    found = [finding for check in doctor.checks(settings, own) for finding in run_check(check)]
    wrong = [with_file(finding, path) for finding in found if finding.level is not Level.GOOD]
    for finding in wrong:
        yield (bad if finding.level is Level.BAD else warning)(
            f"{name}: {finding.check}", finding.found, finding.remedy
        )
    if not wrong:
        yield good(name, f"{counted(len(found), 'finding')}, all good")


DOCTOR = Doctor(checks=checks, judge=judge)
