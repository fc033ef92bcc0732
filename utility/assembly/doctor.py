"""The utility's examination for ``commonwatt doctor``, and what its status page shows for ``commonwatt status``."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from commonwatt.doctor.checks import (
    Check,
    Finding,
    bad,
    certificate_findings,
    clock_findings,
    disk_findings,
    good,
    revocation_findings,
    warning,
)
from commonwatt.doctor.connection import ReportedConnection, Target, connection_findings
from commonwatt.doctor.running import Doctor, Running, port_findings
from commonwatt.identity.devices import load_tokens
from commonwatt.model.exceptions import ConfigError, StoreError
from commonwatt.model.text import counted, moment
from commonwatt.model.units import EpochSeconds
from commonwatt.protocol.topics import UTILITY, all_gateways_up
from commonwatt.runtime.clock import load_clock
from utility.assembly.recovery import examined
from utility.database.database import sqlite_path
from utility.database.health import DATABASE_AWAY, DISK_FULL, NO_STANDBY, STORE_DAMAGED
from utility.readings.gaps import GATEWAY_SILENT_S
from utility.settings import UtilitySettings

SHOWN = 5  # most microgrids named in a line

_ALARMS = {
    STORE_DAMAGED: (
        "the database is damaged: nothing is accepted",
        "stop the service, then run commonwatt utility recover (SQLite), or restore a backup",
    ),
    DATABASE_AWAY: (
        "the database has not answered since {since}: nothing is accepted, the gateways keep everything",
        "see that its server runs and that the machine reaches it; the utility goes on by itself",
    ),
    NO_STANDBY: (
        "the database has no synchronous standby: no commit ends, the gateways keep everything",
        "start a standby of the database (docs/cluster.md); the utility goes on by itself",
    ),
    DISK_FULL: ("the disk is full: nothing is accepted", "free space on the database's disk"),
}


def checks(settings: UtilitySettings, running: Running) -> Sequence[Check]:
    """Return the checks of a utility."""
    path = sqlite_path(settings.database)
    clock = partial(clock_findings, settings.clock, gives_time=True, is_right=settings.clock_is_right)
    return (
        Check("clock", clock),
        *(() if path is None else (Check("disk", partial(disk_findings, path)),)),
        Check("database", partial(_database, settings, running)),
        Check("certificate", partial(_certificates, settings)),
        Check("token", partial(_has_token, settings)),
        Check("port", partial(port_findings, settings, running)),
        *(Check("head_end", partial(_connection, settings, running, address)) for address in settings.head_end),
    )


def judge(answer: dict[str, Any]) -> Iterator[Finding]:
    """Yield what a running utility's status shows."""
    if "stands_by" in answer:
        yield good("lease", f"stands by: {answer['stands_by']}")
        return
    away_since = moment(answer.get("database_away_since") or 0)
    for alarm in answer["alarms"]:
        text, remedy = _ALARMS[alarm]
        yield bad("database", text.format(since=away_since), remedy)
    why = answer["head_end_failure"] or "it connects at this moment"
    away = [address for address, connected in answer.get("head_ends", {}).items() if not connected]
    if answer["head_end_connected"] and away:
        text = f"no connection to one of two head-ends: {why}"
        yield warning("head_end", text, "gateways use the other one; see whether its machine runs, and its broker")
    elif answer["head_end_connected"]:
        yield good("head_end", "connected")
    else:
        yield bad("head_end", f"no connection to head_end: {why}", "see its remedy: commonwatt doctor --config FILE")
    if answer["totals"]:
        yield _gateways(answer["microgrids"], answer["time"])
        yield from _second_people(answer.get("second_people", {}), answer["time"])
    elif not answer["alarms"]:
        yield bad("database", "the database could not be read", "see the service's log for the reason, then ask again")


def _second_people(free_from: Mapping[str, EpochSeconds], now: EpochSeconds) -> Iterator[Finding]:
    """Yield from when on a person may approve, if there are people for that and none may now."""
    if free_from and min(free_from.values()) > now:
        dates = ", ".join(f"{name} from {moment(free)}" for name, free in list(free_from.items())[:SHOWN])
        yield warning(
            "second_person",
            f"nobody may be the second of two people now: {dates}",
            "wait: another person changed their link, roles or second factor (second_person_wait_days)",
        )


def _gateways(microgrids: Mapping[str, Mapping[str, Any]], now: EpochSeconds) -> Finding:
    """Return which gateways were heard lately."""
    if not microgrids:
        return warning("gateways", "no microgrid is registered", "run commonwatt utility register")
    silent = {
        name: told["last_seen"]
        for name, told in microgrids.items()
        if told["last_seen"] is None or now - told["last_seen"] > GATEWAY_SILENT_S
    }
    heard = f"{len(microgrids) - len(silent)} of {counted(len(microgrids), 'gateway')} heard lately"
    if not silent:
        return good("gateways", heard)
    shown = [f"{name} ({'never' if seen is None else moment(seen)})" for name, seen in list(silent.items())[:SHOWN]]
    more = f" and {len(silent) - SHOWN} more" if len(silent) > SHOWN else ""
    return warning(
        "gateways",
        f"{heard}; silent: {', '.join(shown)}{more}",
        "run commonwatt doctor on these controllers; in the first two minutes this is normal",
    )


def _database(settings: UtilitySettings, running: Running) -> Iterator[Finding]:
    try:
        microgrids = examined(settings.database, runs=running.runs)
    except (ConfigError, StoreError) as error:
        yield bad("database", str(error), "do what this line names; then run this command again")
        return
    yield good("database", f"passes its check; {counted(len(microgrids), 'microgrid')} registered")
    if running.answer is not None:
        for alarm in running.answer.get("alarms", ()):
            if alarm != DATABASE_AWAY:  # It has just answered this examination.
                yield bad("database", *_ALARMS[alarm])
    yield _gateways(microgrids, int(load_clock(settings.clock).now()))


def _certificates(settings: UtilitySettings) -> Iterator[Finding]:
    yield from certificate_findings("certificate", settings.certificate, named=UTILITY)
    yield from certificate_findings("http_certificate", settings.http_certificate)
    yield from certificate_findings("head_end_ca", settings.head_end_ca)
    yield from revocation_findings(
        "head_end_revoked", settings.head_end_revoked, settings.head_end_ca, settings.certificate
    )


def _has_token(settings: UtilitySettings) -> Iterator[Finding]:
    token_of(settings)
    yield good("token", f"{settings.tokens}: has a token of {UTILITY}")


def token_of(settings: UtilitySettings) -> str:
    """Return the utility's token.

    Raises:
        ConfigError: The file of tokens has none of it.
    """
    tokens = load_tokens(settings.tokens)
    if UTILITY not in tokens:
        raise ConfigError(f"{settings.tokens}: has no token of {UTILITY}; make one with: commonwatt utility register")
    return tokens[UTILITY]


def _connection(settings: UtilitySettings, running: Running, address: str) -> Iterator[Finding]:
    target = Target(
        setting="head_end",
        address=address,
        is_one_of_two=len(settings.head_end) > 1,
        ca=settings.head_end_ca,
        certificate=settings.certificate,
        revoked=settings.head_end_revoked,
        identity=UTILITY,
        token=partial(token_of, settings),
        subscribe=all_gateways_up(),
    )
    reported = ReportedConnection(connected=None) if running.runs else None
    if running.answer is not None:
        answer = running.answer
        # One that stands by has no connection: another one would end that of the active utility.
        is_connected = answer.get("head_end_connected")
        is_connected = is_connected and answer.get("head_ends", {}).get(address, True)
        reported = ReportedConnection(connected=is_connected, complaint=answer.get("head_end_failure") or "")
    return connection_findings(target, reported)


DOCTOR = Doctor(checks=checks, judge=judge)
