"""``commonwatt status`` and ``commonwatt doctor``: what a part reports, an examination, and remedies."""

import errno
import json
import os
import pwd
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from http.client import HTTPException
from pathlib import Path
from typing import Annotated, Any

import typer

from commonwatt.cli.options import JsonOption
from commonwatt.config.files import check_file, check_named_files, load_settings
from commonwatt.config.settings import command_of, settings_of
from commonwatt.doctor.checks import Finding, Level, bad, good, run_check, version_findings, with_file, worst
from commonwatt.doctor.running import doctor_of, fetch_status, local_headers, look, service_findings
from commonwatt.model.exceptions import CommonwattError, ConfigError, text_of
from commonwatt.model.text import counted, moment
from commonwatt.runtime.clock import machine_s
from commonwatt.runtime.service import EXIT_FAILED
from commonwatt.site.machine import PROGRAM

MAX_LINE = 200  # most characters of a line in the terminal; longer values are counted

_TIMES = ("time", "last_batch", "last_seen")


def status(
    config: Annotated[Path, typer.Option("--config", "-c", help="The part's file (TOML), of any part.")],
    as_json: JsonOption = False,
) -> None:
    """Print the status of a part that runs on this machine; exit code 1 if it does not answer.

    The first line is the verdict: working, or what is wrong and the first thing to do. All times are UTC. A broker and
    emulated meters answer if their file has `http`; Mosquitto does not. Long values are only counted: --json shows
    all that the part reports.
    """
    answer = ask(config)
    if as_json:
        typer.echo(json.dumps(answer, indent=1))
    else:
        typer.echo("\n".join([f"verdict: {verdict(config, answer)}", "times: UTC", *lines(answer)]))


def ask(config: Path) -> dict[str, Any]:
    """Return the status that the part of this file reports.

    Raises:
        ConfigError: The file is wrong, or has no ``http``.
        CommonwattError: The part does not answer.
    """
    part = check_file(config)
    settings = load_settings(config, part, settings_of(part))
    address: str | None = getattr(settings, "http", None)
    if address is None:
        raise ConfigError(f'{config}: has no http, where the {part} would answer; add http = "127.0.0.1:9100"')
    try:
        return fetch_status(address, getattr(settings, "http_certificate", None), local_headers(settings))
    except (OSError, HTTPException, ValueError) as error:
        what = text_of(error)
        raise CommonwattError(f"the {part} does not answer at {address}: {what}; does it run?") from error


def verdict(config: Path, answer: dict[str, Any]) -> str:
    """Return in one sentence whether the part works, or what is wrong and the first thing to do."""
    try:
        first = worst(doctor_of(check_file(config)).judge(answer))
    except (ModuleNotFoundError, LookupError):
        return "unknown: this release does not know the answer of the running part; restart it after an upgrade"
    if first is None:
        return "working"
    first = with_file(first, config)
    if first.level is Level.WARNING:
        return f"working, with a warning: {first.found}; {first.remedy}"
    return f"not working: {first.found}; {first.remedy}"


def lines(answer: dict[str, Any]) -> list[str]:
    """Return a line for each key; a value longer than MAX_LINE is shown as its number of entries."""
    told = {key: (_of(key, value), value) for key, value in _with_schedule(answer).items()}
    return [
        f"{key.replace('_', ' ')}: {len(value) if isinstance(value, dict | list) and len(text) > MAX_LINE else text}"
        for key, (text, value) in told.items()
    ]


def _with_schedule(answer: dict[str, Any]) -> dict[str, Any]:
    """Return the answer with a gateway's periods and their sources in one key."""
    if "periods" not in answer or "tuned" not in answer:
        return answer
    sources = {name: f"{seconds} s ({_set_by(name, answer)})" for name, seconds in answer["periods"].items()}
    told = {
        "schedule" if key == "periods" else key: value for key, value in answer.items() if key not in ("tuned", "saved")
    }
    return told | {"schedule": {name.removesuffix("_s"): source for name, source in sources.items()}}


def _set_by(name: str, answer: dict[str, Any]) -> str:
    if name in answer["tuned"]:
        return "tuned by the utility"
    return "to save bytes" if name in answer.get("saved", ()) else "file"


def _of(key: str, value: object) -> str:
    if key == "silent" and isinstance(value, dict):
        return _text({meter: moment(time) if time else "not heard yet" for meter, time in value.items()})
    return moment(value) if key in _TIMES and isinstance(value, int) else _text(value)


def _text(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_bracketed(_of(key, inner), inner)}" for key, inner in value.items()) or "none"
    if isinstance(value, list):
        return ", ".join(_bracketed(_text(inner), inner) for inner in value) or "none"
    if value is None:
        return "none"
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)


def _bracketed(text: str, value: object) -> str:
    return f"({text})" if isinstance(value, dict | list) and value else text


COLOURS = {Level.GOOD: typer.colors.GREEN, Level.WARNING: typer.colors.YELLOW, Level.BAD: typer.colors.RED}


def doctor(
    config: Annotated[Path, typer.Option("--config", "-c", help="The part's file (TOML), of any part.")],
    as_json: JsonOption = False,
) -> None:
    """Examine a part on its own machine: what works, what is wrong, and what to do; exit code 1 if something is bad.

    It checks the settings, the clock, the disk and its speed, the store, certificates, the registry, ports, and each
    connection by one attempt. It works whether the part runs or not, and does not disturb a running part. Each line is
    good, warning or bad; a line that is not good is followed by what to do. Begin with the first bad line: the later
    ones may be its effects.

    As root it continues as the owner of the file, so that it has the rights of the service.
    """
    _continue_as_owner(config)
    findings: list[Finding] = []
    if not as_json:
        typer.echo(f"examining {config} at {moment(machine_s())}; all times are UTC\n")
    for finding in examine(config):
        findings.append(with_file(finding, config))
        if not as_json:
            _show(findings[-1])
    first = worst(findings)
    failed = first is not None and first.level is Level.BAD
    if as_json:
        content = {"config": str(config), "time": machine_s(), "good": not failed}
        typer.echo(json.dumps(content | {"findings": [asdict(finding) for finding in findings]}, indent=1))
    else:
        typer.echo(f"\n{_summary(findings, first)}")
    if failed:
        raise SystemExit(EXIT_FAILED)


def examine(config: Path) -> Iterator[Finding]:
    """Yield the findings about the part of a file, causes before effects."""
    try:
        part = check_file(config)
        settings = load_settings(config, part, settings_of(part))
    except ConfigError as error:
        yield from _faults("settings", error)
        return
    yield good("settings", f"every key is right, for: {command_of(part).removesuffix(' run')}")
    try:
        check_named_files(config, part)
    except ConfigError as error:
        yield from _faults("files", error)
    else:
        yield good("files", "all files that it names can be read, and are of this part")
    running = look(config, part, settings)
    yield from service_findings(running)
    try:
        checks = doctor_of(part).checks(settings, running)
    except ModuleNotFoundError as error:
        extra = "sim" if part == "meters" else part
        yield bad("program", f"{error.name} is not installed", f"install it: pip install 'commonwatt[{extra}]'")
        return
    for check in checks:
        yield from run_check(check)
    yield from version_findings()


def _faults(check: str, error: ConfigError) -> Iterator[Finding]:
    """Yield a finding for each line of an error about a file."""
    for line in str(error).splitlines():
        remedy = "correct the file; docs/reference/settings.md has every key"
        if check == "files" and os.strerror(errno.EACCES) in line:
            remedy = "give it to the service's user: sudo chown commonwatt:commonwatt, and the name of that file"
        elif check == "files":
            remedy = "copy this place's folder from the office again, or correct the path in the file"
        elif line.endswith(os.strerror(errno.ENOENT)):
            remedy = "give the path of the part's file, such as /var/lib/commonwatt/r001/gateway.toml"
        elif line.endswith(os.strerror(errno.EACCES)):
            remedy = "run this command as the service's user, or as root: sudo commonwatt doctor ..."
        yield bad(check, line, remedy)


def _show(finding: Finding) -> None:
    level = typer.style(f"{finding.level:<8}", fg=COLOURS[finding.level], bold=finding.level is Level.BAD)
    typer.echo(f"{level} {finding.check}: {finding.found}")
    if finding.remedy:
        typer.echo(f"         -> {finding.remedy}")


def _summary(findings: list[Finding], first: Finding | None) -> str:
    counts = Counter(finding.level for finding in findings)
    text = f"{counts[Level.BAD]} bad, {counted(counts[Level.WARNING], 'warning')}, {counts[Level.GOOD]} good"
    if first is None:
        return f"{text}: all is good"
    if first.level is Level.BAD:
        return f"{text}. First, {first.check}: {first.remedy}"
    return f"{text}: it can work; see what the warnings say"


def _continue_as_owner(config: Path) -> None:
    """Continue with the rights of the file's owner instead of root's.

    Root can read and write everything, which would hide wrong rights, and leave lock files that the service can't open.

    Raises:
        ConfigError: The owner can't read this program, of which more modules are to be loaded.
    """
    if os.geteuid() == 0 and config.exists() and (owner := config.stat()).st_uid != 0:
        try:
            os.initgroups(pwd.getpwuid(owner.st_uid).pw_name, owner.st_gid)
        except KeyError:
            os.setgroups([])  # The folder is of another machine, whose users have no names here.
        os.setgid(owner.st_gid)
        os.setuid(owner.st_uid)
        if unreadable := [path for path in (os.__file__, typer.__file__, __file__) if not os.access(path, os.R_OK)]:
            raise ConfigError(
                f"the owner of {config} (user id {owner.st_uid}) can't read this program ({unreadable[0]}); start the "
                f"installed one: sudo {PROGRAM} doctor --config {config}"
            )
