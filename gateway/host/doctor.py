"""The host's examination for ``commonwatt doctor``, and what its status shows for ``commonwatt status``."""

import json
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from commonwatt.config.settings import GatewaySettings, HostSettings
from commonwatt.doctor.checks import Check, Finding, Level, bad, clock_findings, good, run_check, warning, with_file
from commonwatt.doctor.running import Doctor, Running, ask_service, port_findings
from commonwatt.model.text import counted
from commonwatt.model.units import ControllerId
from commonwatt.network.addresses import Address
from gateway import doctor
from gateway.host.host import STATUS, file_of, hosted


def checks(settings: HostSettings, running: Running) -> Sequence[Check]:
    """Return the checks of a host: its own, then one for each controller."""
    files = hosted(running.config, settings)
    return (
        Check("clock", partial(clock_findings, settings.clock)),
        Check("port", partial(port_findings, settings, running)),
        Check("controllers", lambda: () if running.answer is None else judge(running.answer)),
        *(
            Check(name, partial(_controller, one, settings.http, running, file_of(running.config, name)))
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


def _controller(settings: GatewaySettings, address: Address | None, running: Running, path: Path) -> Iterator[Finding]:
    """Yield what is not good of a controller; one line if all is."""
    name = settings.controller
    if "http" not in settings.model_fields_set:
        settings = settings.model_copy(update={"http": None})  # A host serves no page at the default address.
    answer = _status(address, name) if address is not None and running.answer is not None else None
    own = Running(part="gateway", config=path, answer=answer, failure="", runs=running.runs)
    found = [finding for check in doctor.checks(settings, own) for finding in run_check(check)]
    wrong = [with_file(finding, path) for finding in found if finding.level is not Level.GOOD]
    for finding in wrong:
        yield (bad if finding.level is Level.BAD else warning)(
            f"{name}: {finding.check}", finding.found, finding.remedy
        )
    if not wrong:
        yield good(name, f"{counted(len(found), 'finding')}, all good")


def _status(address: Address, name: ControllerId) -> dict[str, Any] | None:
    """Return what a controller of a running host reports; ``None``: it is stopped."""
    code, body = ask_service(address, None, {}, "GET", f"{STATUS}/{name}")
    answer: dict[str, Any] | None = json.loads(body) if code == 200 else None
    return answer


DOCTOR = Doctor(checks=checks, judge=judge)
