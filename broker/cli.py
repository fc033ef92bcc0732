"""The command ``commonwatt broker``."""

import asyncio
import contextlib
import logging
import os
import resource
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from broker.embedded import EmbeddedBroker
from broker.metrics import BrokerMetrics
from broker.mosquitto import merged, rendered
from broker.tls import Files
from commonwatt.cli.options import Commands
from commonwatt.config.files import load_settings
from commonwatt.config.settings import BrokerSettings
from commonwatt.model.exceptions import ConfigError
from commonwatt.network.http_server import HttpServer
from commonwatt.runtime.files import write_private
from commonwatt.runtime.metric_families import register_process
from commonwatt.runtime.service import serve, start_log, wait_if_often
from commonwatt.runtime.watchdog import Watchdog

EXIT_CONFIG = 2
EXIT_START = 1

_log = logging.getLogger(__name__)

app = Commands(help="The MQTT broker that runs beside a gateway, or at the utility as its head-end.")


ConfigOption = Annotated[
    Path, typer.Option("--config", "-c", help="The broker's file (TOML); its one table is called broker.")
]


class Other(StrEnum):
    """Another MQTT broker that can run in place of ours."""

    MOSQUITTO = "mosquitto"


@app.callback()
def broker() -> None:
    """The MQTT broker that runs beside a gateway, or at the utility as its head-end."""


@app.command()
def run(config: ConfigOption) -> None:
    """Run a broker until SIGTERM or Ctrl-C.

    The devices file lists the devices that may connect. `commonwatt utility register` makes it; changes are read at
    once: a new meter needs no restart. A device connects with its identity as MQTT client id and its token as password,
    and may use its own topics only (docs/protocol.md). The user name is left out or repeats the client id.

    An example of the file: commonwatt config example broker
    """
    start_log()
    # The broker counts and logs clients' errors itself, throttled; amqtt warns about each packet.
    for name in ("amqtt", "transitions"):
        logging.getLogger(name).setLevel(logging.ERROR)
    wait_if_often(config)
    try:
        settings = load_settings(config, "broker", BrokerSettings)
        asyncio.run(serve(lambda stop, watchdog: _run(settings, stop, watchdog)))
    except ConfigError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(EXIT_CONFIG) from error
    except OSError as error:
        typer.echo(f"broker can't start: {error.strerror or error}", err=True)
        raise typer.Exit(EXIT_START) from error


@app.command()
def render(
    other: Annotated[Other, typer.Argument(help="Which broker: Eclipse Mosquitto, 2.0 or later.")],
    config: ConfigOption,
    out: Annotated[Path, typer.Option("--out", help="Folder for its files; made when missing.")],
    devices: Annotated[
        list[Path] | None,
        typer.Option("--devices", help="Devices files of several microgrids for one broker, in place of the config's."),
    ] = None,
) -> None:
    """Write the files with which another broker runs in place of this one, with the same devices and access rules.

    OUT/mosquitto.conf has the settings, OUT/access the topics of each device, OUT/passwords the digests of the
    tokens (not if certificates are required). Start it with: mosquitto -c OUT/mosquitto.conf

    Run it again whenever devices.json has changed (a device was registered, revoked or readmitted), as the user that
    Mosquitto runs as. Then restart Mosquitto, or send it SIGHUP: it reads devices, rules and certificates again.
    docs/security.md has all the steps, and the differences from this broker.

    One broker can serve several microgrids: give --devices once for the devices.json of each. Controllers that take
    over for each other need different brokers, since a client can be at one broker only once.
    """
    settings = load_settings(config, "broker", BrokerSettings)
    known = merged(devices or [settings.devices])
    files = rendered(settings, known, out.resolve())
    out.mkdir(mode=0o700, parents=True, exist_ok=True)
    _refuse_folder_of_others(out)
    for name, text in files.items():
        write_private(out / name, text)
    admitted = sum(not device.revoked for device in known.values())
    typer.echo(f"{', '.join(files)} for {other} in {out}: {admitted} devices, at {settings.listen}")


def _refuse_folder_of_others(out: Path) -> None:
    """Refuse a folder of another user: Mosquitto can't read our files there, and reloads without any access rules."""
    if out.stat().st_uid != os.geteuid():
        raise ConfigError(
            f"{out}: belongs to {out.owner()}, who could not read your files there; run this as that user: "
            f"sudo -u {out.owner()} commonwatt broker render ..."
        )


async def _run(settings: BrokerSettings, stop: asyncio.Event, watchdog: Watchdog) -> None:
    _raise_file_limit()
    metrics = BrokerMetrics()
    register_process(metrics.registry, "broker", watchdog)
    embedded = EmbeddedBroker(
        settings.listen, settings.devices, metrics, settings.packets_per_s, tls=_tls_files(settings)
    )
    async with contextlib.AsyncExitStack() as stack:
        try:
            await embedded.start()
        except OSError as error:
            reason = f"can't listen on {settings.listen}: {error.strerror}; is another broker running there?"
            raise OSError(error.errno, reason) from error
        stack.push_async_callback(embedded.stop)
        # Last, so that the broker is up when its status is.
        if settings.http is not None:
            http = HttpServer(settings.http, metrics.registry, embedded.status, settings.http_hosts)
            watchdog.thread("http", http.start())
            stack.callback(http.stop)
        watchdog.watch("passing_on", embedded.amqtt.passing_on)
        watchdog.watch("accepting", embedded.accepting)
        watchdog.watch("checking", embedded.checking)
        watchdog.ready(f"listening on {embedded.address}")
        typer.echo(f"broker listening on {embedded.address}, {len(embedded.devices.known)} devices")
        await stop.wait()
        _log.info("stopping")
    _log.info("stopped")


def _tls_files(settings: BrokerSettings) -> Files | None:
    if settings.certificate is None:
        return None
    ended_s = settings.clients_ended_days * 86_400
    return Files(settings.certificate, settings.clients_ca, settings.clients_revoked, ended_s)


def _raise_file_limit() -> None:
    """Raise the limit of open files to the hard limit: the usual soft limit of 1,024 is below a town's gateways."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
