"""``commonwatt adapter``: makes meters of a microgrid from what foreign meters publish by MQTT."""

import asyncio
import json
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, closing
from itertools import islice
from pathlib import Path
from typing import Annotated

import typer

from adapters.discovery.announced import FILTERS, add_to, announced_in, plan_of, snippet
from adapters.discovery.listening import Listening
from adapters.doctor import words_of
from adapters.mapping.readers import readers_of
from adapters.messages import Arrived, RecordedMessage, line_of, messages_in
from adapters.metrics import adapter_metrics
from adapters.service import AdapterService, refuse_others, status_of
from adapters.source import REFUSED, Source
from adapters.store import CHANNELS
from adapters.trial import Trial
from commonwatt.cli.options import Commands, show
from commonwatt.config.adapter import AdapterSettings
from commonwatt.config.files import load_settings
from commonwatt.device.released import check_in_use
from commonwatt.device.store import open_checked
from commonwatt.identity.devices import load_tokens
from commonwatt.model.exceptions import CommonwattError, ConfigError
from commonwatt.model.text import counted, printable
from commonwatt.network.http_server import HttpRequest, HttpServer, Response
from commonwatt.runtime.clock import load_clock
from commonwatt.runtime.metric_families import register_process, registry_of
from commonwatt.runtime.service import EXIT_FAILED, only_one, run_service
from commonwatt.runtime.supervisor import handled
from commonwatt.runtime.watchdog import Watchdog

FIRST_S = 15.0  # seconds within which the broker must accept the connection
QUIET_S = 3.0  # seconds without a message after which a broker has sent what it keeps
MOST_KEPT = 100_000  # most messages that ``discover`` reads
MOST_REMARKS = 200  # most entities that it names as left out

_HELP = "Foreign meters: Tasmota, Shelly, zigbee2mqtt, DSMR and others, by MQTT topic."
_NOT_ANNOUNCED = (
    "no new meter is announced. Switch on the devices' discovery for Home Assistant, with retained messages, or find "
    "their topics, and name a preset or write a rule: commonwatt adapter record --topic '#' --config FILE"
)
app = Commands(help=_HELP)
ConfigOption = Annotated[
    Path,
    typer.Option("--config", "-c", help="The adapter's settings file (TOML): adapter, meters, rules.", dir_okay=False),
]
FileArgument = Annotated[
    Path | None, typer.Argument(help="Recorded messages: of adapter record, or of mosquitto_sub -v.", dir_okay=False)
]


def listen(settings: AdapterSettings, filters: Iterable[str], quiet_s: float | None = None) -> Iterator[Arrived]:
    """Yield the messages of these topics, retained ones too, until Ctrl-C or SIGTERM, or ``quiet_s`` without one.

    Raises:
        CommonwattError: There is no connection.
    """
    arrived, stopped = threading.Event(), threading.Event()

    def stop(*_: object) -> None:
        stopped.set()
        arrived.set()

    sources = [
        Source(
            settings=one,
            # A name of its own: the name of a running adapter would end its connection.
            client_id=f"commonwatt-listen-{os.getpid()}",
            filters=filters,
            now=load_clock(settings.clock).now,
            wake=arrived.set,
            keeps=False,
            retained=True,
        )
        for one in settings.source
    ]
    with handled(stop, signal.SIGINT, signal.SIGTERM), ExitStack() as ends:
        for source in sources:
            source.start()
            ends.callback(source.stop)
        end = time.monotonic() + FIRST_S
        while away := [source for source in sources if not source.connected]:
            if not arrived.wait(max(0.0, end - time.monotonic())):
                found = f"source {away[0].address}: {away[0].complaint}"
                raise CommonwattError(f"{found}; see its remedy: commonwatt doctor --config FILE")
            arrived.clear()
        for source in sources:
            print(f"listening to {source.address}; its limits: {words_of(source.limits)}", file=sys.stderr)
        while not stopped.is_set():
            arrived.clear()
            taken = [(source, source.take(1000)) for source in sources]
            for source, messages in taken:
                source.acknowledge(messages)
                yield from messages
            quiet = not any(messages for _, messages in taken) and not arrived.wait(quiet_s or 1.0)
            if quiet and quiet_s is not None:
                for source in sources:
                    if REFUSED in source.limits or not source.connected:
                        raise CommonwattError(f"source {source.address}: {source.limits.get(REFUSED, 'it ended')}")
                return


@app.callback()
def adapter() -> None:
    """Foreign meters: Tasmota, Shelly, zigbee2mqtt, DSMR and others, by MQTT topic."""


@app.command()
def run(config: ConfigOption) -> None:
    """Run an adapter until SIGTERM or Ctrl-C.

    It subscribes to the broker on which foreign meters publish, turns their messages into records of 15 s, and delivers
    these to the microgrid's gateway as each meter of ours does: a record is kept until the gateway has acknowledged it.
    The process may be killed and started again at any time.

    Try a file first: commonwatt adapter test --config FILE --live
    """
    run_service(lambda stop, watchdog: _run(config, stop, watchdog))


@app.command("test")
def dry_run(
    config: ConfigOption,
    file: FileArgument = None,
    live: Annotated[bool, typer.Option("--live", help="The messages that arrive now, until Ctrl-C.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only the summary, and values that are wrong.")] = False,
) -> None:
    """Explain what an adapter would do with each message; nothing is sent and nothing stored.

    For each message: the meter and record type of its rule, the value, the slots it completes, or why it is ignored. A
    summary follows. The exit code is 0 if every value was read and each rule counted something; else 1. Of a preset's
    rules for one record type, one is enough.

    Record messages to repeat a test: commonwatt adapter record --config FILE > messages.jsonl
    """
    if live == (file is not None):
        raise ConfigError("give either a file of recorded messages or --live")
    settings = load_settings(config, "adapter", AdapterSettings)
    trial = Trial(settings, readers_of(settings))
    if file is None:
        wrong = _explain(trial, _recorded(settings, readers_of(settings).filters), quiet=quiet)
    else:
        wrong = _explain(trial, messages_in(file), quiet=quiet)
    _summarise(trial, settings)
    for what in trial.silent:
        typer.echo(what, err=True)
    if wrong or trial.silent:
        raise SystemExit(EXIT_FAILED)


@app.command()
def record(
    config: ConfigOption,
    topic: Annotated[
        list[str] | None, typer.Option("--topic", "-t", help="What to record; without it, what the rules read.")
    ] = None,
) -> None:
    """Print the messages of the foreign meters' broker as JSON lines, until Ctrl-C.

    The lines repeat a test later: commonwatt adapter test --config FILE messages.jsonl
    """
    settings = load_settings(config, "adapter", AdapterSettings)
    for message in listen(settings, topic or readers_of(settings).filters):
        typer.echo(line_of(message))


@app.command()
def discover(
    config: ConfigOption,
    file: FileArgument = None,
    write: Annotated[bool, typer.Option("--write", help="Add the meters to the file, too.")] = False,
) -> None:
    """Print TOML for the meters that devices announce to Home Assistant (MQTT discovery).

    It reads the retained messages below homeassistant/ at the foreign meters' broker, or recorded ones. What the file
    reads already is not printed. A direction that nothing says is asked for on a terminal; else the meter is a comment
    that says what to fill in. What can't be used, such as a template of another kind, is named with the reason.

    Give each meter its id of the town file and its token, then try it: commonwatt adapter test --config FILE --live
    """
    settings = load_settings(config, "adapter", AdapterSettings)
    readers = readers_of(settings)
    messages = _recorded(settings, FILTERS, QUIET_S) if file is None else messages_in(file)
    entities, faults = announced_in(islice(messages, MOST_KEPT))
    read = {place for reader in readers.all for place in reader.places}
    read |= {(topic, path) for rule in settings.rule for topic in rule.topic for path in rule.path or ("",)}
    devices, refused = plan_of(entities, read)
    asked = [one for meters, *_ in devices for one in meters if not (one.direction or one.configured)]
    for quantity in asked if sys.stdin.isatty() else ():
        ask = f"direction of {printable(quantity.entity.title)}: incoming, outgoing, or Enter if unknown"
        answer = typer.prompt(ask, default="", show_default=False, err=True)
        quantity.direction = {"i": "incoming", "o": "outgoing"}.get(answer[:1].lower(), "")
    text = "".join(snippet(devices, settings))
    typer.echo(text, nl=False)
    refused += [f"{what} ({times:,} times)" if times > 1 else what for what, times in faults.items()]
    for line in refused[:MOST_REMARKS]:
        typer.echo(f"# left out: {printable(line)}")
    if len(refused) > MOST_REMARKS:
        typer.echo(f"# left out: {len(refused) - MOST_REMARKS:,} more")
    if not devices:
        typer.echo(f"{counted(len(entities), 'announcement')} read; {_NOT_ANNOUNCED}", err=True)
        raise SystemExit(EXIT_FAILED)
    if write:
        from commonwatt.site.places import HEADER  # Here: a running adapter has no use for it.

        add_to(config, text)
        typer.echo(f"added to {config}; give each new meter its id of the town file and its token", err=True)
        if config.read_text(encoding="utf-8").startswith(HEADER):
            typer.echo(
                f"{config} is made from the office's site.toml, and the next bundle replaces it: "
                "put these tables there, as [[microgrid.adapter.meter]] and so on",
                err=True,
            )


def _recorded(
    settings: AdapterSettings, filters: Iterable[str], quiet_s: float | None = None
) -> Iterator[RecordedMessage]:
    for number, message in enumerate(listen(settings, filters, quiet_s), 1):
        yield RecordedMessage(number, message.topic, message.payload, message.at, message.retained)


def _explain(trial: Trial, messages: Iterable[RecordedMessage], *, quiet: bool) -> int:
    """Print a line for each value; return how many are wrong."""
    wrong = 0
    for message in messages:
        for line in trial.take(message):
            wrong += not line.good
            if not (quiet and line.good):
                meter = "" if line.meter is None else f"meter {line.meter} {line.quantity}: "
                value = f"{line.value}: " if line.value else ""
                mark = "" if line.good else "WRONG: "
                typer.echo(f"{line.number}: {mark}{line.topic}: {meter}{value}{line.words}")
    return wrong


def _summarise(trial: Trial, settings: AdapterSettings) -> None:
    rows: list[dict[str, object]] = [
        {
            "meter": str(meter),
            "source": next(one.source for one in settings.meter if one.id == meter),
            "record type": kind.name.lower(),
            "exact": total.exact,
            "averaged": total.averaged,
            "energy": f"{total.sum_mwh / 1e6:,.6f} kWh" if kind.is_flow else "",
        }
        for (meter, kind), total in sorted(trial.totals.items())
    ]
    show("slots", rows, ("meter", "source", "record type", "exact", "averaged", "energy"))
    typer.echo(f"{trial.used:,} values used")
    for why, count in trial.unused.most_common():
        typer.echo(f"{count:,} {why}")
    if trial.clock_wrong:
        typer.echo(
            f"{trial.clock_wrong:,} device times not used, more than 5 minutes from the arrival: see the device's"
            f" clock, and zone (for times without their own: {settings.zone})"
        )


async def _run(config: Path, stop: asyncio.Event, watchdog: Watchdog) -> None:
    settings = load_settings(config, "adapter", AdapterSettings)
    readers = readers_of(settings)
    tokens = {} if settings.tokens is None or not settings.meter else load_tokens(settings.tokens)
    clock = load_clock(settings.clock)
    with (
        only_one(settings.store, "another adapter"),
        closing(open_checked(settings.store, int(clock.now()), CHANNELS)) as store,
    ):
        check_in_use(settings.store, store.connection)
        service = AdapterService(
            settings=settings,
            readers=readers,
            tokens=tokens,
            clock=clock,
            store=store,
            rng=random.Random(),  # noqa: S311 - spreads reconnections
        )
        watchdog.watch("writer", service.writing.mark)
        http, listening = None, Listening(settings, clock.now)

        def pages(request: HttpRequest) -> Response | None:
            refused = refuse_others(settings, request)
            if refused is not None or request.path != "/discovered":
                return refused
            return Response(body=json.dumps(listening.answer()), content_type="application/json")

        if settings.http is not None:
            registry = registry_of(lambda: adapter_metrics(service.figures(), service.tally))
            register_process(registry, "adapter", watchdog)
            http = HttpServer(
                settings.http,
                registry,
                lambda: status_of(service, settings),
                settings.http_hosts,
                pages=pages,
            )
            watchdog.thread("http", http.start())
        watchdog.ready(f"{len(settings.meter)} foreign meters of {settings.microgrid}")
        try:
            await service.run(stop)
        finally:
            if http is not None:
                http.stop()
            await asyncio.to_thread(listening.stop)
