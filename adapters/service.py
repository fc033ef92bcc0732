"""The shell of an adapter: its loop takes messages of both brokers and commits; its ``/status``."""

import asyncio
import logging
import random
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from ipaddress import ip_address
from statistics import median

from adapters.commands import Armed, commands_of
from adapters.core import Adapter, Effects, Tally, foreign_meter
from adapters.mapping.readers import OWN_PRESET, Readers, replaced_by
from adapters.messages import Arrived
from adapters.metrics import AdapterFigures
from adapters.source import AT_ONCE, Source, Wills
from adapters.store import load_channels, load_handled
from commonwatt.config.adapter import AdapterMeter, AdapterSettings
from commonwatt.device.changes import new_meter, under_token
from commonwatt.device.meter import MeterCore, MeterLimits
from commonwatt.device.shell import DeviceShell
from commonwatt.device.store import DeviceStore
from commonwatt.identity.devices import digest
from commonwatt.model.effects import Publish
from commonwatt.model.exceptions import ConfigError
from commonwatt.model.records import state_names
from commonwatt.network.addresses import split_address
from commonwatt.network.http_server import HttpRequest, Response
from commonwatt.network.tls import meter_tls
from commonwatt.protocol.commands import Stage
from commonwatt.runtime.clock import Clock
from commonwatt.runtime.watchdog import WorkProgress
from commonwatt.town.town import WITHOUT

GATHER_S = 5.0
"""Most real seconds between the arrival of a message and its commit: one commit for many messages spares the disk."""

_log = logging.getLogger(__name__)


class AdapterService:
    """An adapter with its connections."""

    def __init__(
        self,
        *,
        settings: AdapterSettings,
        readers: Readers,
        tokens: Mapping[str, str],
        clock: Clock,
        store: DeviceStore,
        rng: random.Random,
    ) -> None:
        self.tally: Tally = Counter()
        self._settings = settings
        self._clock = clock
        self._waits_since: float | None = None
        self._connects: dict[str, int] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._shell = DeviceShell(settings.microgrid, store, self.tally, self._to_device)
        for name in replaced_by(settings):
            _log.warning(OWN_PRESET, name)
        commands = commands_of(settings)
        self._descriptions = {
            meter.id: foreign_meter(settings.microgrid, meter, readers, commands) for meter in settings.meter
        }
        digests = {}
        for meter in settings.meter:
            token = _token_of(meter, tokens, settings)
            digests[meter.id] = digest(token.encode())
            tls = meter_tls(settings.broker_ca, settings.certificates, meter.id, settings.broker_revoked)
            self._shell.add(meter.id, broker=settings.broker, token=token, tls=tls, rng=rng)
        # The core; set when ``run`` has loaded the store.
        self.core = Adapter(
            settings=settings.meter,
            readers=readers,
            meters={},
            channels=load_channels(store),
            handled=load_handled(store, next((source.name for source in settings.source), "")),
            tally=self.tally,
            commands=commands,
        )
        # The connections to the foreign meters' brokers by the sources' names, and those for wills.
        self.sources: dict[str, Source] = {}
        self._wills: dict[str, Wills] = {}
        for source in settings.source:
            client_id = source.client_id or f"commonwatt-{settings.microgrid}"
            self.sources[source.name] = Source(
                settings=source,
                client_id=client_id,
                filters=readers.of(source.name).filters,
                states=self.core.commands.topics(source.name),
                now=clock.now,
                wake=self._woken,
            )
            self._wills[source.name] = Wills(source, client_id, self._woken)
        for description in self._descriptions.values():
            stored = store.load(description.id) or new_meter(description.id, clock.now())
            stored = under_token(stored, digests[description.id])
            limits = MeterLimits(resolution=1, log_records=settings.log_records)
            self.core.meters[description.id] = MeterCore(description, limits, stored, self.tally)

    @property
    def writing(self) -> WorkProgress:
        """The commit in progress, for the watchdog."""
        return self._shell.writing

    async def run(self, stop: asyncio.Event) -> None:
        """Run until ``stop`` is set."""
        self._loop = asyncio.get_running_loop()
        async with self._shell.running(stop):
            await self._shell.perform(self.core.boot(self._clock.now()))
            for source in self.sources.values():
                source.start()
            try:
                while not stop.is_set():
                    await self._turn()
                    await self._shell.rest(self._wait_s())
                await self._take_all()
            finally:
                for source, wills in zip(self.sources.values(), self._wills.values(), strict=True):
                    await asyncio.to_thread(source.stop)
                    await asyncio.to_thread(wills.stop)

    def figures(self) -> AdapterFigures:
        """Return the present figures; safe in any thread, since it only reads single values."""
        meters = list(self.core.meters.values())
        states = [list(meter.deferred.states.values()) for meter in meters]
        links = [link for each in self._shell.links.values() for link in each.values()]
        return AdapterFigures(
            source_connected=all(source.connected for source in self.sources.values()),
            source_dropped=sum(source.dropped for source in self.sources.values()),
            source_oversize=sum(source.oversize.count for source in self.sources.values()),
            meters=len(links),
            connected=sum(link.connected for link in links),
            made=sum(meter.state.made for meter in meters),
            acknowledged=sum(meter.state.acknowledged for meter in meters),
            disobeying=sum(any(each.stage is Stage.DISOBEYS for each in device) for device in states),
            unsafe=sum(any(each.is_unsafe for each in device) for device in states),
            unconfirmed=sum(any(each.stage is Stage.UNCONFIRMED for each in device) for device in states),
            gaps=sum(meter.state.gaps for meter in meters),
            dropped=self._shell.dropped + sum(link.dropped for link in links),
        )

    async def _turn(self) -> None:
        """Handle what has arrived from the gateway at once, and what has arrived from meters, gathered."""
        now = self._clock.now()
        effects: Effects = []
        for arrived in self._shell.take():
            effects += self.core.receive(arrived.meter, arrived.leaf, arrived.payload, now)
        for name, source in self.sources.items():
            if source.connects != self._connects.get(name, 0):
                self._connects[name] = source.connects
                effects += self.core.reconnected(name, source.sessions, now)
        commands = self.core.commands
        commands.reached = frozenset(name for name, source in self.sources.items() if source.connected)
        commands.armed = frozenset[Armed]().union(*(wills.armed for wills in self._wills.values()))
        effects += self.core.tick(now)
        taken = self._gathered()
        effects += self._messages(taken)
        await self._shell.perform(effects)
        # A will goes after the message that ends its state.
        for name, wills in self._wills.items():
            wills.keep(commands.wills(name))
        self._acknowledge(taken)

    async def _take_all(self) -> None:
        """Commit what has arrived before the stop."""
        while taken := self._take():
            await self._shell.perform(self._messages(taken))
            self._acknowledge(taken)

    def _take(self) -> list[Arrived]:
        return [
            message._replace(source=name) for name, source in self.sources.items() for message in source.take(AT_ONCE)
        ]

    def _acknowledge(self, messages: list[Arrived]) -> None:
        for name, source in self.sources.items():
            source.acknowledge(message for message in messages if message.source == name)

    def _gathered(self) -> list[Arrived]:
        """Return waiting messages if they are many or have waited long enough."""
        if not any(source.waiting for source in self.sources.values()):
            self._waits_since = None
            return []
        since = self._waits_since = self._waits_since or self._real_now()
        is_awaited = self.core.commands.is_awaited(self._clock.now())
        are_many = any(source.are_many for source in self.sources.values())
        if not are_many and not is_awaited and self._real_now() - since < GATHER_S:
            return []
        self._waits_since = None
        return self._take()

    def _messages(self, messages: list[Arrived]) -> Effects:
        correction_ms = int(self._offset_s() * 1000)
        return [effect for message in messages for effect in self.core.message(message, correction_ms)]

    def _offset_s(self) -> float:
        """Return how far this machine's clock is behind the gateway's time: the median of the meters' offsets."""
        told = [meter.state.offset_s for meter in self.core.meters.values() if meter.state.trust]
        return median(told) if told else 0.0

    def _wait_s(self) -> float | None:
        waits = [] if self.core.wake_at is None else [self._clock.real_s_until(self.core.wake_at)]
        if self._waits_since is not None:
            waits.append(max(0.0, self._waits_since + GATHER_S - self._real_now()))
        return min(waits, default=None)

    def _real_now(self) -> float:
        return asyncio.get_running_loop().time()

    def _woken(self) -> None:
        """Wake the loop from paho's thread."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._shell.wake)

    def _to_device(self, message: Publish) -> None:
        if not self.sources[message.via].publish(message):
            _log.warning("command to %s not sent: no connection to the source %s", message.topic, message.via)


def _token_of(meter: AdapterMeter, tokens: Mapping[str, str], settings: AdapterSettings) -> str:
    token = meter.token or tokens.get(str(meter.id))
    if token is None:
        raise ConfigError(
            f"meter {meter.id} has no token, here or in {settings.tokens}; the utility makes one: "
            "commonwatt utility register"
        )
    return token


NOT_SERVED = "this shows whether people are at home: ask on its own machine: commonwatt status --config FILE\n"


def status_of(service: AdapterService, settings: AdapterSettings) -> dict[str, object]:
    """Return the present status as JSON values; safe in any thread."""
    now = service.figures()
    channels = dict(service.core.channels)
    meters: dict[str, object] = {}
    for meter in settings.meter:
        core = service.core.meters[meter.id]
        meters[str(meter.id)] = {
            "source": meter.source,
            "preset": meter.preset,
            "state": state_names(core.state.bits),
            "not_acknowledged": core.state.made - core.state.acknowledged,
            "device": None if (device := core.deferred.device) is None else device.model_dump(exclude_none=True),
            "commandable": sorted(kind.value for kind in core.description.commandable),
            "without": list(WITHOUT),
            "values": {
                kind.name.lower(): {
                    "at": _time(channel.at),
                    "counted_mwh": channel.counter.total,
                    "register_mwh": channel.counter.raw if channel.counter.at else None,
                    "held_back": len(channel.counter.held),
                    "other_unit": channel.counter.other_unit,
                }
                for (owner, kind), channel in sorted(channels.items())
                if owner == meter.id
            },
        }
    return {
        "microgrid": settings.microgrid,
        "sources": [
            {
                "name": one.name,
                "address": one.address,
                "connected": (source := service.sources[one.name]).connected,
                "complaint": source.complaint,
                "limits": dict(source.limits),
            }
            for one in settings.source
        ],
        "connected": now.connected,
        "held": now.made - now.acknowledged,
        "counts": {f"{kind} {what}": count for (kind, what), count in sorted(service.tally.copy().items())},
        "unreadable": [
            {
                "at": _time(one.at),
                "topic": one.topic,
                "payload": one.payload.decode(errors="backslashreplace"),
                "fault": one.fault,
            }
            for one in list(service.core.wrong)
        ],
        "meters": meters,
    }


def refuse_others(settings: AdapterSettings, request: HttpRequest) -> Response | None:
    """Refuse what has the meters' values beyond this machine; ``None``: the request is allowed."""
    if request.method != "GET":
        return Response(status=405, body="nothing can be sent here\n")
    own = split_address(settings.http or "")[0]
    is_private = request.path in ("/status", "/discovered")
    if not is_private or request.address == own or ip_address(request.address.partition("%")[0]).is_loopback:
        return None
    return Response(status=403, body=NOT_SERVED)


def _time(ms: int) -> str | None:
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="seconds") if ms else None
