"""The gateway's core: takes an event and the time, returns what to do (docs/architecture.md).

It reads the store and decides; it never writes, sends, waits or looks at a clock. The shell commits what it asks
for and then publishes. The time it is handed (``raw``) only has to go on evenly; what time it really is, it finds out
itself (``gateway.time.timekeeper``).
"""

from dataclasses import asdict

from commonwatt.config.settings import GatewaySettings
from commonwatt.model.byte_count import ByteCount
from commonwatt.model.effects import Effect, Publish, Write
from commonwatt.model.exceptions import ProtocolError
from commonwatt.model.machine import Machine
from commonwatt.model.records import Log, Rejection
from commonwatt.model.trust import Now, Trust
from commonwatt.model.units import QUARTER_S, SLOT_S, EpochSeconds, MeterId
from commonwatt.model.validation import limits_of
from commonwatt.protocol.batches import BatchAck, unpack_batch_ack
from commonwatt.protocol.commands import PERIODS, ControllerCommand, Outcome
from commonwatt.protocol.dead_letters import MESSAGE_REASON, DeadLetterSource
from commonwatt.protocol.heartbeats import Heartbeat, LineByteCount
from commonwatt.protocol.json_messages import unpack_json
from commonwatt.protocol.meter_messages import Level, Refusal, judge_level, unpack_level
from commonwatt.protocol.topics import (
    ACKS,
    COMMANDS,
    EVENTS,
    LEVELS,
    RECORDS,
    STATUS,
    broker_up,
    gateway_down,
    gateway_up,
    parse_meter_up,
)
from commonwatt.town.registry import RegisteredMeter
from gateway.changes import RELAYED_SLOTS, Change, PeriodDone, Setting
from gateway.collect.collector import Collector
from gateway.control.manager import Manager
from gateway.events import (
    ClockJumped,
    Committed,
    Connected,
    Counted,
    Event,
    FromMeter,
    FromUtility,
    MachineRead,
    NotStored,
    Quiet,
    Tick,
)
from gateway.lte.line import METERS, line_of
from gateway.relay.relay import Relay
from gateway.relay.utility_commands import UtilityCommands
from gateway.stored import Stored
from gateway.time.timekeeper import Timekeeper
from gateway.upkeep import Upkeep

RETRY = "retry"
"""Ticks every ``RETRY_S``: what is not confirmed is sent again, urgent data goes at once."""

RETRY_S = 5

GOOD_TIME = "good_time"
"""The setting that keeps the last good time."""

HEARTBEAT = "heartbeat"
"""Ticks every ``HEARTBEAT_S``: tells the utility how the gateway is."""

HEARTBEAT_S = 60

PROBED_METERS = 3
"""So many meters are asked at a time when nothing is heard of any."""

FIRST_ID = 1
"""A log's first record has this id."""


class Gateway:
    """One microgrid's controller.

    Attributes:
        collector: Takes in what meters send.
        manager: Keeps meters in the states they should be in.
        relay: Sends to the utility.
        utility_commands: Does what the utility asks.
        upkeep: Keeps the store in order.
        line: Keeps account of the LTE line.
        time: Keeps the time.
        now: The time of the last event.
        gone: By meter and log, how many ids the meter gave up that are not in this store: acknowledged to another
            store, or lost.
    """

    def __init__(self, settings: GatewaySettings, store: Stored, meters: dict[MeterId, RegisteredMeter]) -> None:
        self.gone: dict[tuple[MeterId, Log], int] = {}
        self.time = Timekeeper(store.setting(GOOD_TIME))
        self.now = Now(0, Trust.NONE)
        self.collector = Collector(settings.microgrid, store)
        self.manager = Manager(settings, store, meters)
        self.relay = Relay(settings.microgrid, store)
        self.upkeep = Upkeep(store, settings.backup_bytes)
        self.line = line_of(settings, store)
        periods: dict[str, int] = {name: getattr(settings, name) for name in PERIODS}
        self.utility_commands = UtilityCommands(settings.microgrid, store, self.relay, self.manager, periods)
        self._microgrid = settings.microgrid
        self._store = store
        self._meters = meters
        self._urgent = False
        self._shifted: list[Effect[Change]] = []
        self._commands_topic = gateway_down(self._microgrid, COMMANDS)
        self._broker_topic = broker_up(self._microgrid)
        self._acks_topic = gateway_down(self._microgrid, ACKS)

    def register(self, meters: dict[MeterId, RegisteredMeter]) -> None:
        """Take over a registry that has changed."""
        self._meters = meters
        self.manager.register(meters)
        self.time.forget(set(meters))

    def handle(self, event: Event, raw: EpochSeconds) -> list[Effect[Change]]:
        """Handle one event at the time ``raw``; return what to do."""
        match event:
            case FromMeter(topic, payload):
                return self.from_meter(topic, payload, raw)
            case FromUtility(topic, payload):
                return self.from_utility(topic, payload, raw)
            case Connected():
                return self.connected(raw)
            case Committed():
                return self.committed(raw)
            case Counted(side, run, sums):
                return self.line.look(side, run, sums, self._tell(raw))
            case Quiet(link):
                return self.probe(link, raw)
            case NotStored(topic, payload):
                return self.busy(topic, payload, raw)
            case MachineRead(machine):
                return self.machine(machine, raw)
            case ClockJumped():
                return self.jumped(raw)
            case Tick(job):
                return self.tick(job, raw)

    # Messages

    def from_meter(self, topic: str, payload: bytes, raw: EpochSeconds) -> list[Effect[Change]]:
        """Take in a message from the microgrid's broker."""
        now = self._tell(raw)
        if topic == self._broker_topic:
            return self._told(payload, now)
        parsed = parse_meter_up(topic)
        if parsed is None or parsed.microgrid != self._microgrid:
            return self._junk(DeadLetterSource.UNKNOWN, payload, Refusal.MALFORMED, now)
        meter = self._meters.get(parsed.meter)
        if parsed.leaf in (RECORDS, EVENTS):
            return self._put(parsed.meter, meter, Log.HISTORY if parsed.leaf == RECORDS else Log.EVENT, payload, now)
        source = DeadLetterSource.LEVEL if parsed.leaf == LEVELS else DeadLetterSource.OUTCOME
        if meter is None:
            reason = MESSAGE_REASON + Refusal.NOT_REGISTERED
            return self.collector.junk(source, parsed.meter, payload, reason, now, stranger=True)
        try:
            if parsed.leaf == LEVELS:
                return self._level(meter, unpack_level(payload), payload, raw, now)
            outcome = unpack_json(Outcome, payload)
            self.time.meter(raw, parsed.meter, outcome.time)
            return self.manager.outcome(parsed.meter, outcome, now) + self._reconcile(parsed.meter, outcome)
        except ProtocolError as error:
            return self.collector.junk(source, parsed.meter, payload, MESSAGE_REASON + error.code, now)

    def _told(self, payload: bytes, now: Now) -> list[Effect[Change]]:
        """Take in what the broker says of its meters' connections."""
        try:
            byte_count = unpack_json(LineByteCount, payload)
        except ProtocolError as error:
            return self._junk(DeadLetterSource.UNKNOWN, payload, error.code, now)
        return self.line.look(METERS, str(byte_count.run), ByteCount(byte_count.sent, byte_count.received), now)

    def _junk(self, source: DeadLetterSource, payload: bytes, code: int, now: Now) -> list[Effect[Change]]:
        """Keep the start of what came in where no meter speaks."""
        return self.collector.junk(source, 0, payload, MESSAGE_REASON + code, now)

    def _level(
        self, meter: RegisteredMeter, level: Level, payload: bytes, raw: EpochSeconds, now: Now
    ) -> list[Effect[Change]]:
        """Take in a live level; one that its battery can't have decides nothing."""
        why = judge_level(level, limits_of(meter.service_amps, meter.battery_capacity_mwh))
        if why is None and meter.battery_capacity_mwh is None:
            why = Rejection.TYPE_NOT_REGISTERED
        if why is not None:
            return self.collector.junk(DeadLetterSource.LEVEL, meter.id, payload, why, now)
        self.time.meter_slot(raw, meter.id, level.time)
        self.manager.state(meter.id, level.state)
        self.manager.level(meter.id, level.time, level.level, now)
        return []

    def _put(
        self, meter_id: MeterId, meter: RegisteredMeter | None, log: Log, payload: bytes, now: Now
    ) -> list[Effect[Change]]:
        taken = self.collector.put(meter_id, meter, log, payload, now)
        if taken.level is not None:
            self.manager.level(meter_id, *taken.level, now)
        if taken.events:
            self._urgent = True
            for event in taken.events:
                self.manager.state(meter_id, event.new_state)
        return taken.effects

    def _reconcile(self, meter: MeterId, outcome: Outcome) -> list[Effect[Change]]:
        """Compare a meter's ids with those in the store (docs/stores.md): ask for what it has, count what is lost."""
        if outcome.cmd != "initialize" or meter not in self._meters:
            return []
        effects: list[Effect[Change]] = []
        for log, ids, what in ((Log.HISTORY, outcome.history, "records"), (Log.EVENT, outcome.events, "events")):
            if ids is None:
                continue
            covered = sum(
                max(0, min(last, ids.first - 1) - first + 1)
                for first, last in self._store.coverage(meter, log, ids.generation)
            )
            self.gone[meter, log] = ids.first - FIRST_ID - covered
            if ids.next > ids.first and meter not in self.manager.epochs.fenced:
                effects.append(self.manager.command(meter, "get", what=what))
        return effects

    def from_utility(self, topic: str, payload: bytes, raw: EpochSeconds) -> list[Effect[Change]]:
        """Take in a message from the head-end."""
        now = self._tell(raw)
        try:
            if topic == self._acks_topic:
                return self._acknowledged(unpack_batch_ack(payload), raw, now)
            if topic == self._commands_topic:
                return self.utility_commands.do(unpack_json(ControllerCommand, payload), now)
        except ProtocolError as error:
            source = DeadLetterSource.BATCH_ACK if topic == self._acks_topic else DeadLetterSource.COMMAND
            return self._junk(source, payload, error.code, now)
        return self._junk(DeadLetterSource.UNKNOWN, payload, Refusal.MALFORMED, now)

    def _acknowledged(self, ack: BatchAck, raw: EpochSeconds, now: Now) -> list[Effect[Change]]:
        """Take in a batch's acknowledgement, and the time in it."""
        # Not the time in an answer to something long ago, which the network may have held.
        batch = self.relay.in_flight.get(ack.sequence)
        if ack.store == self._store.store_id and batch is not None and ack.trust is Trust.NETWORK:
            self.time.network(raw, ack.time, now - batch.sent)
        return self.relay.acknowledged(ack, now)

    def connected(self, raw: EpochSeconds) -> list[Effect[Change]]:
        """Greet the utility: send what waits, and learn whether its store is still the one that has our backup."""
        self._tell(raw)
        self.relay.connected()
        return []

    def reopened(self, raw: EpochSeconds) -> None:
        """Go on after the store failed: what was due then may be marked as done already, and have got no further."""
        self.relay.due(self._tell(raw))
        self.relay.compacting = True

    def committed(self, raw: EpochSeconds) -> list[Effect[Change]]:
        """Do what needs to see everything committed: choose what to relay, compact; and share as the levels now are."""
        now = self._tell(raw)
        shifted, self._shifted = self._shifted, []
        return shifted + self.relay.work(now) + self.manager.share_if_changed(now) + self.upkeep.clear(now)

    def probe(self, link: str, raw: EpochSeconds) -> list[Effect[Change]]:
        """Ask some meters how they are, or the utility, since nothing was heard of them: is it they, or the link?"""
        now = self._tell(raw)
        return self.manager.probe(PROBED_METERS) if link == "meters" else self.relay.hello(now)

    def disk_space(self, free_bytes: int) -> bool:
        """Take in how much is free on the disk; return whether that changed what is taken in."""
        changed = self.upkeep.disk_space(free_bytes)
        self.collector.refusing = self.upkeep.short
        return changed

    def busy(self, topic: str, payload: bytes, raw: EpochSeconds) -> list[Effect[Change]]:
        """Tell a meter that its put could not be stored."""
        now = self._tell(raw)
        parsed = parse_meter_up(topic)
        if parsed is None or parsed.leaf not in (RECORDS, EVENTS):
            return []
        log = Log.HISTORY if parsed.leaf == RECORDS else Log.EVENT
        return [self.collector.refusal(parsed.meter, log, payload, Refusal.BUSY, now)]

    # Time

    def _tell(self, raw: EpochSeconds) -> Now:
        """Return the time. If it was set, what waits for a time of its own, or lasts, does so as long as before."""
        self.now = Now(self.time.now(raw), self.time.trust(raw))
        if by_s := self.time.take_step():
            self._shifted += self.relay.shift(by_s, self.now) + self.manager.shift(by_s, self.now)
            self.line.shift(by_s)
        return self.now

    def machine(self, machine: Machine, raw: EpochSeconds) -> list[Effect[Change]]:
        """Take in what the machine's clocks say."""
        self.time.machine(machine)
        self._tell(raw)
        kept = self.time.keep()
        return [] if kept is None else [Write(Setting(GOOD_TIME, kept))]

    def jumped(self, raw: EpochSeconds) -> list[Effect[Change]]:
        """Take in that the machine's clock has jumped: ask the utility for the time."""
        self.time.jumped()
        self._tell(raw)
        self.relay.greet = True
        return []

    def tick(self, job: str, raw: EpochSeconds) -> list[Effect[Change]]:
        """Do a job whose period has come; a period that is done is not done again, whatever the ticker does."""
        now = self._tell(raw)
        if job == RETRY:
            return self._retry(now)
        if job == HEARTBEAT:
            return [self._status(now)]
        if job == "levels_s":
            return self.manager.share(now) + self.manager.ask_levels(now, self.utility_commands.periods[job])
        period = now // self.utility_commands.periods[job]
        if self._store.period(job) == period:
            return []
        done: list[Effect[Change]] = [Write(PeriodDone(job, period))]
        if job == "collect_s":
            return done + self.manager.ask_records(list(self._meters))
        if job == "relay_s":
            self.relay.due(now)
        else:
            self.relay.compacting = True
        return done

    def tick_every_s(self, job: str) -> int:
        """Return how often ``tick(job)`` is due, in seconds; batteries near their minimum are asked every slot."""
        return {RETRY: RETRY_S, HEARTBEAT: HEARTBEAT_S, "levels_s": SLOT_S}.get(job) or self.utility_commands.periods[
            job
        ]

    def _retry(self, now: Now) -> list[Effect[Change]]:
        effects = self.manager.resend(now) + self.upkeep.turn()
        if self._urgent:
            self._urgent = False
            self.relay.sending = self.relay.urgent = True
        return effects

    def _status(self, now: Now) -> Publish:
        parts, events, dead_letters = self._store.backlog()
        heartbeat = Heartbeat.model_validate(
            {
                "time": now,
                "store": self._store.store_id,
                "backlog_parts": parts,
                "backlog_events": events,
                "backlog_letters": dead_letters,
                "backlog_age_s": self._backlog_age_s(now),
                "aggregation": self.relay.mode.name,
                "periods": self.utility_commands.periods,
                "tuned": sorted(self.utility_commands.tuned),
                "minima": self.manager.minima(),
                "trust": now.trust,
                "offset_s": int(self.time.offset_s),
                "fenced": len(self.manager.epochs.fenced),
                "lte": self.line.month(now),
            }
        )
        return Publish(gateway_up(self._microgrid, STATUS), heartbeat.pack(), qos=0)

    def backlog_age_s(self, raw: EpochSeconds) -> int:
        """Return for how long the oldest quarter is over of which the utility has not acknowledged every part."""
        return self._backlog_age_s(self._tell(raw))

    def _backlog_age_s(self, now: Now) -> int:
        since = self._store.backlog_since()
        return 0 if since is None else max(0, now - (since + 1) * QUARTER_S)

    def view(self, raw: EpochSeconds) -> dict[str, object]:
        """Return what a person wants to see of this gateway now, as JSON."""
        now = self._tell(raw)
        parts, events, dead_letters = self._store.backlog()
        decision = self.manager.decision
        return {
            "microgrid": self._microgrid,
            "time": now,
            "trust": now.trust.name.lower(),
            "offset_s": int(self.time.offset_s),
            "time_contested": self.time.contested,
            "backlog": {"parts": parts, "events": events, "dead_letters": dead_letters},
            "records": dict(self.collector.counts.records),
            "relayed_slots": int(self._store.setting(RELAYED_SLOTS) or "0"),
            "aggregation": self.relay.mode.name,
            "periods": self.utility_commands.periods,
            "tuned": sorted(self.utility_commands.tuned),
            "lte": self.line.view(now),
            "batteries": {str(meter): asdict(state) for meter, state in self.manager.batteries(now).items()},
            "donors": sorted(map(str, decision.donors)),
            "receivers": sorted(map(str, decision.receivers)),
            "last_commands": [{**asdict(note), "meter": str(note.meter)} for note in self.manager.notes],
            "meters": {
                "registered": len(self._meters),
                "answered": sum(view.answered for view in self.manager.meters.values()),
                "fenced": {str(meter): list(epoch) for meter, epoch in self.manager.epochs.fenced.items()},
            },
        }
