"""One attempt to connect to a broker as a service does it, with the remedy for the kind of its error.

A broker ends a session when its client id connects again. So a running service's own report takes the attempt's place.
Nothing gets lost by an attempt: a message that arrives meanwhile is not acknowledged, so its sender sends it again.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.reasoncodes import ReasonCode

from commonwatt.doctor.checks import Finding, bad, good
from commonwatt.network.addresses import split_address
from commonwatt.network.packets import BoundedClient, Oversize
from commonwatt.network.tls import ClientTls

ANSWER_S = 5  # real seconds to connect, again for the TLS handshake, and again for the broker's answers


@dataclass(frozen=True, kw_only=True)
class Target:
    """A broker, and how a service connects to it."""

    setting: str  # the setting with its address
    address: str  # HOST:PORT
    ca: Path | None  # the authority of its certificate; ``None``: plain text
    certificate: Path | None  # the service's certificate
    revoked: Path | None  # the authority's revocation list
    identity: str  # the service's client id
    token: Callable[[], str]  # returns its token
    subscribe: str  # the filter it subscribes to
    user: str | None = None  # its user name, if that is not its client id; empty: it has none
    is_one_of_two: bool = False  # whether the setting has another address, too


@dataclass(frozen=True, kw_only=True)
class ReportedConnection:
    """What a running service reports of its connection."""

    connected: bool | None  # whether it is connected; ``None``: the service runs, or may run, but does not report
    complaint: str = ""  # why it is not


def connection_findings(target: Target, reported: ReportedConnection | None) -> Iterator[Finding]:
    """Yield whether a service is connected with a broker, or could be.

    Args:
        reported: What the running service reports; ``None``: it does not run, so its client id may be used.

    Raises:
        ConfigError: The token, or a file for TLS, can't be used.
    """
    name = f"{target.setting} {target.address}" if target.is_one_of_two else target.setting
    if reported is None:
        why = _refusal(target)
        if not why:
            yield good(name, f"{target.address} accepts {target.identity}")
            return
    elif reported.connected:
        yield good(name, f"connected to {target.address}, as the running service reports")
        return
    elif reported.connected is None:
        yield good(name, "not tried: that would end the session of the service, which seems to run")
        return
    else:
        why = reported.complaint or "it connects at this moment"
    who = target.user or target.identity
    yield bad(name, f"no connection of {who} to {target.address}: {why}", _remedy(target, why))


def _refusal(target: Target) -> str:
    """Connect, subscribe and disconnect; return why that fails, empty if it does not."""
    client = BoundedClient(
        Oversize("doctor"),
        CallbackAPIVersion.VERSION2,
        target.identity,
        clean_session=True,
        reconnect_on_failure=False,
    )
    if target.user != "":
        client.username_pw_set(target.user or target.identity, target.token())
    if target.ca is not None:
        client.tls_set_context(ClientTls(target.ca, target.certificate, target.revoked).context())
    client.connect_timeout = ANSWER_S
    answers: list[str] = []
    refused = f"the broker does not allow it to subscribe to {target.subscribe}"

    def connected(_: object, __: object, ___: object, reason: ReasonCode, ____: object) -> None:
        if reason.is_failure:
            answers.append(f"the broker refused it: {reason}")
        else:
            client.subscribe(target.subscribe, qos=1)

    client.on_connect = connected
    client.on_subscribe = lambda _, __, ___, reasons, ____: answers.append(
        refused if any(reason.is_failure for reason in reasons) else ""
    )
    # In TLS 1.3 a broker refuses the client's certificate after the handshake; paho only logs it.
    client.on_log = lambda _, __, level, text: answers.append(text) if level == paho.MQTT_LOG_ERR else None
    try:
        client.connect(*split_address(target.address), keepalive=ANSWER_S)
        ends = time.monotonic() + ANSWER_S
        while not answers and time.monotonic() < ends and client.loop(0.2) == paho.MQTT_ERR_SUCCESS:
            pass
        client.disconnect()
    except (OSError, UnicodeError) as error:
        return str(error)
    return answers[0] if answers else "the broker ended it without an answer"


def _remedy(target: Target, why: str) -> str:
    """Return what to do about an error of an attempt, or of a running service's own; its text shows the kind."""
    host, port = split_address(target.address)
    table = target.setting.rpartition(".")[0]  # a household's own broker, which is no service of ours, has one
    ca, log = f"{table}.ca" if table else f"{target.setting}_ca", "journalctl -u 'commonwatt-*' on its machine"
    broker = "the devices' broker there" if table else "the broker there (systemctl status 'commonwatt-*')"
    refused = (
        f"correct {table}.user and {table}.password; they are known to the person who runs that broker"
        if table
        else f"register {target.identity}; copy the folders of this machine and of the broker from the office again, as"
        f" they are made together; see the lines `certificate` and `registry`; if it is revoked: docs/security.md"
    )
    kinds = {
        ("[errno -", "'idna' codec"): f"correct {target.setting}, or see whether DNS answers: getent hosts {host}",
        ("connection refused",): f"start {broker}, or correct the port of {target.setting}",
        ("timed out", "in time", "unreachable", "no route"): "see whether the line is up: ip address, ip route; whether"
        f" the broker's machine is on; and whether a firewall lets port {port} through",
        ("ssl",): f"compare the clock, {target.setting} and {ca} with the dates, address and authority of the broker's"
        " certificate; see the line `certificate`; renew at the office: commonwatt site init",
        ("without an answer",): f"see the broker's log: {log}; if it requires TLS, set {ca} to its authority (ca.pem)",
        ("identifier", "user name", "authorized"): refused,
        ("subscribe",): "with Mosquitto as broker, write its access file anew: restart commonwatt-mosquitto; otherwise"
        f" this address is of another microgrid's broker: correct {target.setting}",
    }
    text = why.lower()
    found = (remedy for signs, remedy in kinds.items() if any(sign in text for sign in signs))
    return next(found, f"see the broker's log at this moment: {log}")
