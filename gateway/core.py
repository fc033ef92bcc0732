"""The core of one microgrid at its controller: a function of an event and the time that returns effects.

It reads the store and decides; it never writes, sends, waits or reads a clock. The shell commits the returned changes
and then publishes the returned messages (docs/architecture.md). The time argument ``raw`` only has to advance evenly;
``gateway.timekeeper`` computes the correct time from it. ``gateway.controller`` has what a machine has once.
"""

from commonwatt.config.settings import GatewaySettings
from commonwatt.model.control import PUBLIC_WEIGHT
from commonwatt.model.effects import Effect, Write
from commonwatt.model.exceptions import ProtocolError
from commonwatt.model.records import Log, Rejection
from commonwatt.model.time import Now, Trust
from commonwatt.model.units import QUARTER_S, SLOT_S, EpochSeconds, MeterId, MicrogridId
from commonwatt.model.validation import limits_of
from commonwatt.protocol.batches import BatchAck, unpack_batch_ack
from commonwatt.protocol.commands import Outcome
from commonwatt.protocol.controller_commands import PERIODS, ControllerCommand
from commonwatt.protocol.dead_letters import MESSAGE_REASON, DeadLetterSource
from commonwatt.protocol.json_messages import unpack_json
from commonwatt.protocol.meter_messages import LiveLevel, Refusal, judge_level, unpack_level
from commonwatt.protocol.topics import (
    ACKS,
    COMMANDS,
    EVENTS,
    LEVELS,
    RECORDS,
    gateway_down,
    parse_meter_up,
)
from commonwatt.town.registry import RegisteredMeter
from gateway.clique.member import Member
from gateway.collect import Collector, Departures
from gateway.control.islanding import may_close_at
from gateway.control.level_watch import LevelWatch
from gateway.control.manager import Manager
from gateway.control.meter_view import LEVEL_GOOD_FOR_S
from gateway.control.modes import Modes
from gateway.control.requests import MeterRequests
from gateway.events import Committed, Connected, FromUtility, Granted, MicrogridEvent, NotStored, Quiet, Tick
from gateway.household import Household
from gateway.relay.outbox import Turns
from gateway.relay.refill import RefillPace
from gateway.relay.relay import Relay
from gateway.relay.utility_commands import UtilityCommands
from gateway.shown.devices import DevicesTold
from gateway.store.changes import Change, PeriodDone, Stored, Upkeep
from gateway.timekeeper import Timekeeper

RETRY = "retry"  # the job of every ``RETRY_S`` seconds: resend unconfirmed commands, relay new events, check the store

RETRY_S = 5

_MOST_KEYS = 10_000  # most blocks that are looked at for the meters of an hour

# Least period of a job, seconds, whose last run is stored; a shorter one runs again after a restart.
STORED_PERIOD_S = 900
PROBED_METERS = 3  # meters that get a request at a time when no meter has sent anything for a while


class HostedMicrogrid:
    """One microgrid that a controller hosts, with a store of its own."""

    def __init__(
        self,
        settings: GatewaySettings,
        microgrid: MicrogridId,
        store: Stored,
        meters: dict[MeterId, RegisteredMeter],
        time: Timekeeper,
        turns: Turns,
        pace: RefillPace,
        member: Member | None = None,
    ) -> None:
        self.time = time  # the controller's time and its trust
        self.now = Now(0, Trust.NONE)  # the time of the last event
        self.collector = Collector(microgrid, store)  # accepts the meters' messages
        self.manager = Manager(settings, microgrid, store, meters, member)  # keeps the meters in their desired states
        self.level_watch = LevelWatch(store, self.manager, meters)  # judges the stored levels
        # Makes the requests to the meters that set no state.
        self.requests = MeterRequests(self.manager)
        # Keeps the microgrid in its operating modes.
        self.modes = Modes(settings, microgrid, store, self.manager, self.requests, meters)
        self._departures = Departures()  # the meters that are to send to the manager instead
        self._turns = turns
        turns.join(microgrid)
        self.relay = Relay(settings.controller, microgrid, store, turns, pace)  # relays data to the utility
        self.upkeep = Upkeep(store, settings.backup_bytes)  # checks the store and limits its size
        periods: dict[str, int] = {name: getattr(settings, name) for name in PERIODS}
        # Carries out the utility's commands.
        commands = UtilityCommands(settings.controller, microgrid, store, self.relay, self.modes, periods)
        self.utility_commands = commands
        # What is published of one place.
        self.household = Household(settings, microgrid, store, meters, self.modes, commands.rates)
        self.devices_told = DevicesTold()  # what the utility was told of foreign devices
        self.controller = settings.controller  # the controller
        self.microgrid = microgrid  # the microgrid
        self.store = store  # its store
        self.meters = meters  # its registered meters, by id
        self._urgent = False
        self._done: dict[str, int] = {}
        self._shifted: list[Effect[Change]] = []
        self._shifted_s = time.stepped_s
        self._weigh()

    def register(self, meters: dict[MeterId, RegisteredMeter]) -> None:
        """Replace the registry by a changed one."""
        self.meters = meters
        self.manager.register(meters)
        self.level_watch.register(meters)
        self.modes.register(meters)
        self.household.register(meters)
        self._weigh()

    def _weigh(self) -> None:
        self.relay.refill.is_public = self.modes.is_public
        self._turns.weigh(self.microgrid, PUBLIC_WEIGHT if self.modes.is_public else 1.0)

    def handle(self, event: MicrogridEvent, raw: EpochSeconds) -> list[Effect[Change]]:
        """Handle one event at the time ``raw``, other than a meter's message (``from_meter``); return its effects."""
        match event:
            case FromUtility(topic, payload):
                return self.from_utility(topic, payload, raw)
            case Connected():
                return self.connected(raw)
            case Granted():
                return self.manager.begin(self.tell(raw))
            case Committed(_):
                return self.committed(raw)
            case Quiet(link):
                return self.probe(link, raw)
            case NotStored(topic, payload):
                return self.busy(topic, payload, raw)
            case Tick(job):
                return self.tick(job, raw)

    def limit_bytes(self, relay: str, late_s: int, *, meters: bool, put_s: int | None) -> None:
        """Set how the controller saves bytes by itself (``gateway.line.saving``), where the utility sets nothing.

        Args:
            relay: How relayed data is aggregated.
            late_s: Seconds by which a finished quarter-hour is relayed later than it could be.
            meters: Whether all meters aggregate without loss.
            put_s: Seconds between the puts of meters that accept a period; ``None``: as set.
        """
        self.relay.limit_bytes("none" if "relay_s" in self.utility_commands.tuned else relay, late_s)
        self.modes.meters_mode.saves = meters
        self.utility_commands.limit_bytes(put_s)

    # Messages

    def from_meter(self, topic: str, payload: bytes, raw: EpochSeconds) -> list[Effect[Change]]:
        """Handle a message from the microgrid's broker."""
        now = self.tell(raw)
        parsed = parse_meter_up(topic)
        if parsed is None or parsed.microgrid != self.microgrid:
            return self.junk(DeadLetterSource.UNKNOWN, payload, Refusal.MALFORMED, now)
        meter = self.meters.get(parsed.meter)
        if (view := self.manager.meters.get(parsed.meter)) is not None:
            view.hear(now)
        if parsed.leaf in (RECORDS, EVENTS):
            return self._accept(parsed.meter, meter, Log.HISTORY if parsed.leaf == RECORDS else Log.EVENT, payload, now)
        source = DeadLetterSource.LEVEL if parsed.leaf == LEVELS else DeadLetterSource.OUTCOME
        if meter is None:
            reason = MESSAGE_REASON + Refusal.NOT_REGISTERED
            return self.collector.junk(source, parsed.meter, payload, reason, now, stranger=True)
        try:
            if parsed.leaf == LEVELS:
                return self._level(meter, unpack_level(payload), payload, raw, now)
            outcome = unpack_json(Outcome, payload)
            self.time.meter(raw, parsed.meter, outcome.time)
            effects = self.manager.outcome(parsed.meter, outcome, now) + self._reconcile(parsed.meter, outcome)
            good = may_close_at(outcome.voltage_permille, outcome.frequency_millihertz)
            return effects + self.modes.sensed(parsed.meter, outcome.time, now, outcome.id, good=good)
        except ProtocolError as error:
            return self.collector.junk(source, parsed.meter, payload, MESSAGE_REASON + error.code, now)

    def junk(self, source: DeadLetterSource, payload: bytes, code: int, now: Now) -> list[Effect[Change]]:
        """Keep the start of an unacceptable message that is not from a meter, as a dead letter."""
        return self.collector.junk(source, 0, payload, MESSAGE_REASON + code, now)

    def _level(
        self, meter: RegisteredMeter, level: LiveLevel, payload: bytes, raw: EpochSeconds, now: Now
    ) -> list[Effect[Change]]:
        """Handle a live level; an implausible level becomes a dead letter and does not affect sharing."""
        unregistered = Rejection.TYPE_NOT_REGISTERED if meter.battery_capacity_mwh is None else None
        why = judge_level(level, limits_of(meter.service_amps, meter.battery_capacity_mwh)) or unregistered
        if why is not None:
            return self.collector.junk(DeadLetterSource.LEVEL, meter.id, payload, why, now)
        self.time.meter_slot(raw, meter.id, level.time)
        self.manager.state(meter.id, level.state, level.time, now)
        self.manager.level(meter.id, level.time, level.level, now)
        return []

    def _accept(
        self, meter_id: MeterId, meter: RegisteredMeter | None, log: Log, payload: bytes, now: Now
    ) -> list[Effect[Change]]:
        self._departures.look(now, deposed=self.manager.epochs.is_deposed)
        if self._departures.awaits(meter_id, now):
            return []
        taken = self.collector.accept(meter_id, meter, log, payload, now)
        # A meter that was cut off sends old records first: their levels say nothing about the present.
        if taken.level is not None and (now.trust is Trust.NONE or now - taken.level[0] <= LEVEL_GOOD_FOR_S):
            self.manager.level(meter_id, *taken.level, now)
        if not taken.events:
            return taken.effects
        self._urgent = True
        effects = taken.effects
        # Each by itself: a put may hold a loss of voltage and its return.
        for event in taken.events:
            self.manager.state(meter_id, event.new_state, event.time, now)
            effects += self.modes.sensed(meter_id, event.time, now)
        return effects

    def _reconcile(self, meter: MeterId, outcome: Outcome) -> list[Effect[Change]]:
        """Compare a meter's ids with the store's (docs/stores.md): request the records it has, count lost ids."""
        if outcome.cmd != "initialize" or meter not in self.meters:
            return []
        effects: list[Effect[Change]] = []
        for log, ids, what in ((Log.HISTORY, outcome.history, "records"), (Log.EVENT, outcome.events, "events")):
            if ids is None:
                continue
            self.collector.count_gone(meter, log, ids)
            if ids.next > ids.first and not self.manager.epochs.is_fenced(meter):
                effects.append(self.manager.command(meter, "get", what=what))
        return effects

    def from_utility(self, topic: str, payload: bytes, raw: EpochSeconds) -> list[Effect[Change]]:
        """Handle a message from the head-end."""
        now = self.tell(raw)
        try:
            if topic == gateway_down(self.controller, ACKS):
                ack = unpack_batch_ack(payload)
                self.modes.answered(now)
                return self._acknowledged(ack, raw, now)
            if topic == gateway_down(self.controller, COMMANDS):
                command = unpack_json(ControllerCommand, payload)
                self.modes.answered(now)
                return self.utility_commands.do(command, now)
        except ProtocolError as error:
            source = (
                DeadLetterSource.BATCH_ACK if topic == gateway_down(self.controller, ACKS) else DeadLetterSource.COMMAND
            )
            return self.junk(source, payload, error.code, now)
        return self.junk(DeadLetterSource.UNKNOWN, payload, Refusal.MALFORMED, now)

    def _acknowledged(self, ack: BatchAck, raw: EpochSeconds, now: Now) -> list[Effect[Change]]:
        """Handle a batch's acknowledgement, and the time in it."""
        # The time is used only for a batch in flight: the network may have delayed any other acknowledgement.
        batch = self.relay.in_flight.get(ack.sequence)
        if ack.store == self.store.store_id and batch is not None and ack.trust is Trust.NETWORK:
            self.time.network(raw, ack.time, now - batch.sent)
        return self.relay.acknowledged(ack, now) + self.household.store_totals(acknowledged=True)

    def connected(self, raw: EpochSeconds) -> list[Effect[Change]]:
        """Handle a new connection to the head-end: resend unacknowledged batches and request the utility's store id."""
        self.tell(raw)
        self.relay.connected()
        return []

    def reopened(self, raw: EpochSeconds) -> None:
        """Continue after a failure of the store: relay and compact again, as a period may be marked done too early."""
        self.relay.due(self.tell(raw))
        self.relay.compacting = True

    def committed(self, raw: EpochSeconds) -> list[Effect[Change]]:
        """Do the work that reads committed data: relay and compact, decide about sharing, delete damaged rows."""
        now = self.tell(raw)
        shifted, self._shifted = self._shifted, []
        share: list[Effect[Change]] = []
        if self.manager.epochs.commands:
            self.level_watch.look(now)
            share = self.manager.share_if_changed(now)
        return shifted + self.relay.work(now) + share + self.upkeep.clear(now)

    def probe(self, link: str, raw: EpochSeconds) -> list[Effect[Change]]:
        """Test a quiet connection: send requests to some meters, or an empty batch to the utility."""
        now = self.tell(raw)
        return self.requests.probe(PROBED_METERS) if link == "meters" else self.relay.hello(now)

    def disk_space(self, free_bytes: int) -> bool:
        """Set the free bytes on the disk; return whether the gateway began or ceased to refuse records."""
        changed = self.upkeep.disk_space(free_bytes)
        self.collector.refusing = self.upkeep.short
        return changed

    def busy(self, topic: str, payload: bytes, raw: EpochSeconds) -> list[Effect[Change]]:
        """Refuse a put that could not be stored, as BUSY."""
        now = self.tell(raw)
        parsed = parse_meter_up(topic)
        if parsed is None or parsed.leaf not in (RECORDS, EVENTS):
            return []
        log = Log.HISTORY if parsed.leaf == RECORDS else Log.EVENT
        return [self.collector.refusal(parsed.meter, log, payload, Refusal.BUSY, now)]

    # Time

    def tell(self, raw: EpochSeconds) -> Now:
        """Return the time; if it was set, shift all deadlines with it, so that durations stay the same."""
        self.now = self.time.tell(raw)
        if by_s := self.time.stepped_s - self._shifted_s:
            self._shifted_s += by_s
            self._shifted += self.relay.shift(by_s, self.now) + self.manager.shift(by_s, self.now)
            self._shifted += self.modes.shift(by_s, self.now)
        return self.now

    def tick(self, job: str, raw: EpochSeconds) -> list[Effect[Change]]:
        """Run a job; collecting, relaying and compacting run once a period, long ones also after a restart."""
        now = self.tell(raw)
        if job == RETRY:
            return self._retry(now)
        if job == "levels_s" and not self.manager.epochs.commands:
            return []
        if job == "levels_s":
            return self.manager.share(now) + self.requests.levels(now, self.utility_commands.periods[job])
        every_s = self.utility_commands.periods[job]
        period = now // every_s
        if period == self._done.get(job) or period == self.store.period(job):
            return []
        self._done[job] = period
        done: list[Effect[Change]] = [Write(PeriodDone(job, period))] if every_s >= STORED_PERIOD_S else []
        if job == "collect_s":
            return done + self.requests.records(list(self.meters))
        if job == "relay_s":
            self.relay.due(now)
        else:
            self.relay.compacting = True
        return done

    def tick_every_s(self, job: str) -> int:
        """Return the period of ``tick(job)``, seconds; levels have one slot, for batteries near their minimum."""
        fixed = {RETRY: RETRY_S, "levels_s": SLOT_S}
        return fixed.get(job) or self.utility_commands.periods[job]

    def _retry(self, now: Now) -> list[Effect[Change]]:
        self._departures.look(now, deposed=self.manager.epochs.is_deposed)
        if self._urgent:
            self._urgent = False
            self.relay.sending = self.relay.urgent = True
        periods = self.utility_commands.periods
        self.modes.relay_s, self.manager.put_s = periods["relay_s"], periods["put_s"]
        self.collector.last_minute.put_s = periods["put_s"]
        commands = []
        if self.manager.epochs.commands:
            modes = self.modes.keep(now) + self.modes.ask(now)
            commands = self.manager.resend(now) + modes
        return commands + self.upkeep.turn() + self.household.store_totals(acknowledged=False)

    def served_in_hour(self, raw: EpochSeconds) -> int:
        """Return how many meters have readings in the store of the last hour."""
        quarter = raw // QUARTER_S
        keys = self.store.keys_between(quarter - 4, quarter, _MOST_KEYS)
        return len({meter for meter, _, _ in keys} & self.meters.keys())

    def served_since(self, part: int) -> int:
        """Return how many meters have readings in the store that came after a part."""
        keys = self.store.new_keys(part, self.store.newest_part(), self.meters)
        return len({meter for meter, _, _ in keys})

    def backlog_age_s(self, now: Now) -> int:
        """Return the seconds since the oldest quarter with unacknowledged parts ended; 0: a refill alone has any."""
        since = self.store.backlog_since(self.relay.refill.before)
        return 0 if since is None else max(0, now - (since + 1) * QUARTER_S)
