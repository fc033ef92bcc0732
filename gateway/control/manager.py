"""Commands to the meters as desired states, and the decisions about sharing (C2, M5, M8, docs/control.md).

A desired state is stored, sent, and sent again until the meter reports its (epoch, sequence), or its end has passed.
A gateway that lost its store reads the pairs from the meters' answers and continues with higher ones.
"""

from collections import deque
from collections.abc import Mapping, Set
from dataclasses import replace

from commonwatt.config.settings import GatewaySettings
from commonwatt.energy.strategies import BAND_PERMILLE, COMPARING
from commonwatt.look.sharing_words import RoleReason
from commonwatt.model.effects import Effect, Publish, Write
from commonwatt.model.records import KNOWN_STATES, State
from commonwatt.model.time import Now, Trust
from commonwatt.model.units import SLOT_S, ControllerId, EpochSeconds, MeterId, MicrogridId, MilliwattHours
from commonwatt.protocol.commands import KINDS, Command, ForeignDevice, HeldState, Kind, Outcome, verb
from commonwatt.protocol.controller_commands import Strategy
from commonwatt.protocol.topics import COMMANDS, meter_down
from commonwatt.town.registry import RegisteredMeter
from gateway.clique.member import Member
from gateway.control.epochs import MAX_COUNTER, epochs_of
from gateway.control.meter_view import (
    INITIALIZE_AGAIN_S,
    LIFETIMES,
    MANY_TIMES,
    UNKNOWN,
    BrokerOrders,
    CommandNote,
    Disobeying,
    MeterCounts,
    MeterView,
    resend_after_s,
)
from gateway.control.plausibility import Doubt, RecordedBattery
from gateway.control.sharing import RENEWED_S, REWEIGH, BatteryState, SharingDecision, decide, reasons
from gateway.store.changes import Change, Desired, ForgetDesired, MeterInfo, Stored

# Seconds until share_power_on ends unless renewed, and the seconds left at which it is renewed.
SHARE_FOR_S, RENEW_S = LIFETIMES[Kind.SHARING].for_s, LIFETIMES[Kind.SHARING].renew_s
HIGHEST_SEQ = 2**52  # highest sequence number; a meter that reports it or a higher one is commanded in a new epoch

_UNKNOWN = Desired(meter=0, kind=Kind.SHARING, value=UNKNOWN, epoch=(0, 0), seq=0, until=None, confirmed=True)
_UNRECORDED = RecordedBattery()
_UP_OR_ISOLATED = int(State.INITIALIZED | State.ISOLATED)


class Manager:
    """Keeps the meters in their desired states.

    Attributes:
        meters: The present state of each registered meter.
        epochs: The epoch for each meter, and the meters that are not commanded.
        orders: The orders of brokers that the utility assigned.
        decision: The donors and the receivers.
        strategy: How batteries share.
        alone: Whether the microgrid decides alone, without the utility.
        island: Whether the microgrid is an island.
        waits: Whether sharing stays as it is, since it is not known whether the microgrid is an island.
        no_permit: Boundary meters that are not sent an earlier permit to close again, since the boundary is unknown.
        recorded: What the stored readings say of each battery.
        weights: Share of a donor's discharge relative to others, by meter; 1 if absent.
        put_s: Seconds between the puts of meters that accept a period.
        levels_s: Seconds between two requests for a level; two such periods without one exclude a battery.
        notes: The last commands and their outcomes.
    """

    def __init__(
        self,
        settings: GatewaySettings,
        microgrid: MicrogridId,
        store: Stored,
        registry: dict[MeterId, RegisteredMeter],
        member: Member | None = None,
    ) -> None:
        self.counts = MeterCounts()
        self.notes: deque[CommandNote] = deque(maxlen=20)
        self._controller = settings.controller
        self._microgrid = microgrid
        self.strategy: Strategy = settings.sharing
        self.alone = self.island = self.waits = False
        self.no_permit: Set[MeterId] = frozenset()
        self.stopped: Set[MeterId] = frozenset()
        self.recorded: Mapping[MeterId, RecordedBattery] = {}
        self.weights: Mapping[MeterId, int] = {}
        self._changed = False
        self._desired = {(d.meter, d.kind): d for d in store.desired()}
        self._sent: dict[tuple[MeterId, Kind], tuple[EpochSeconds, int]] = {}
        self._number = 0
        self.epochs = epochs_of(settings, microgrid, store, registry, member)
        self.orders = BrokerOrders(microgrid, store)
        self._disobeying = Disobeying()
        self._registry = registry
        said = {info.meter: info for info in store.meters()}
        self.meters = {meter: MeterView(info=said.get(meter)) for meter in registry}
        self.decision = SharingDecision()
        self._decided: tuple[object, SharingDecision] = None, self.decision
        self._terms: tuple[object, ...] | None = None
        self.levels_s, self.put_s = settings.levels_s, settings.put_s
        self._began: EpochSeconds | None = None

    def register(self, registry: dict[MeterId, RegisteredMeter]) -> None:
        """Replace the registry by a changed one."""
        self._registry = registry
        self.meters = {meter: self.meters.get(meter, MeterView()) for meter in registry}

    # Reports of meters

    def level(self, meter: MeterId, time: EpochSeconds, level: MilliwattHours, now: Now) -> None:
        """Set a battery's level; ``share_if_changed`` then decides about sharing."""
        view = self.meters.get(meter)
        if view is not None and view.take_level(time, level, now):
            self._changed = True

    def state(self, meter: MeterId, bits: int, time: EpochSeconds, now: Now) -> None:
        """Set a meter's state bits, unless they are older than those known; unknown bits are counted and ignored."""
        self.counts.unknown_states += bool(bits & ~KNOWN_STATES)
        view = self.meters.get(meter)
        if view is not None:
            view.take_bits(bits & KNOWN_STATES, time, now)

    def outcome(self, meter: MeterId, outcome: Outcome, now: Now) -> list[Effect[Change]]:
        """Handle the outcome of a command, with the meter's state and the pairs of its desired states."""
        view = self.meters.get(meter)
        if view is None:
            return []
        self.counts.outcomes[outcome.result] += 1
        self.state(meter, outcome.bits, outcome.time, now)
        if outcome.cmd not in ("get", "revoked"):  # they come often, or from all meters, and would displace all others
            self.notes.append(CommandNote(time=now, meter=meter, cmd=outcome.cmd, result=outcome.result))
        if outcome.result in ("refused", "unsupported") and outcome.cmd in KINDS:
            # It is not repeated soon, but a meter that is exchanged or upgraded gets it.
            self._sent[meter, KINDS[outcome.cmd]] = (now, MANY_TIMES)
        effects: list[Effect[Change]] = []
        # With a date of an untrusted clock it could remain the newest for ever.
        dated = now if now.trust >= Trust.HARDWARE else 0
        info = MeterInfo(
            meter=meter,
            push=outcome.push,
            minimum_percent=outcome.minimum_percent,
            capacity=outcome.capacity_mwh,
            time=dated,
        )
        if view.info is None or replace(view.info, time=dated) != info or (dated and not view.info.time):
            effects.append(Write(info))
        view.info, view.put_s, view.device = info, outcome.put_s, outcome.device
        self._changed = self._disobeying.take(meter, outcome, now) or self._changed
        view.answered = view.answered or outcome.cmd == ("stop" if meter in self.stopped else "initialize")
        raised = self.epochs.reported(meter, max([outcome.epoch, *(held.epoch for held in outcome.held.values())]))
        if self.epochs.is_fenced(meter):
            return effects
        effects += raised
        if raised:
            effects += self._order_again(meter, now)
        for kind, held in outcome.held.items():
            effects += self._compare(meter, kind, held, now)
        if view.needs_time(outcome.time, now) and now.trust > Trust.NONE:
            view.told = now
            effects.append(self.command(meter, "put", time=now, trust=now.trust))
        return effects

    def _compare(self, meter: MeterId, kind: Kind, held: HeldState, now: Now) -> list[Effect[Change]]:
        """Confirm a desired state, or renumber it above a higher pair that the meter reports."""
        desired = self._desired.get((meter, kind))
        if desired is None:
            # A pair from before this store was lost: store it as confirmed, so that the next command goes above it.
            # What is on goes on as the meter holds it: the levels alone do not say that help has begun.
            known = replace(_UNKNOWN, meter=meter, kind=kind, epoch=held.epoch, seq=min(held.seq, HIGHEST_SEQ))
            if held.value == "on":
                known = replace(known, value="on", until=held.until or 0, weight=held.weight)
            return self._set(known)
        pair = (held.epoch, held.seq)
        ended = desired.until is not None and desired.until <= now
        if pair == (desired.epoch, desired.seq) and (held.value == desired.value or ended):
            return [] if desired.confirmed else self._set(replace(desired, confirmed=True))
        if pair >= (desired.epoch, desired.seq):
            # The pair is of a command that is not in this store, such as one from before the store was lost. The state
            # is sent again with a higher pair when it is due, not at once: the meter's report may be wrong.
            epoch = self.epochs.of(meter)
            if held.seq < HIGHEST_SEQ or epoch[0] == MAX_COUNTER:
                seq = min(held.seq, HIGHEST_SEQ) + 1
                return self._set(replace(desired, epoch=epoch, seq=seq, confirmed=ended))
            return [*self.epochs.above(meter, epoch), *self._order_again(meter, now)]
        return []

    def _order_again(self, meter: MeterId, now: Now) -> list[Effect[Change]]:
        """Renumber all desired states of a meter under its new epoch; ``resend`` sends them."""
        effects: list[Effect[Change]] = []
        for desired in [d for (of, _), d in self._desired.items() if of == meter and d.value != UNKNOWN]:
            ended = desired.until is not None and desired.until <= now
            effects += self._set(replace(desired, epoch=self.epochs.of(meter), seq=1, confirmed=ended))
        return effects

    def begin(self, now: Now) -> list[Effect[Change]]:
        """Begin under a new grant: what the meters hold is the truth, and what was once desired here is forgotten."""
        self._desired, self._sent = {}, {}
        self._began = None
        self.epochs.fenced = {meter: of for meter, of in self.epochs.fenced.items() if of > self.epochs.own}
        for view in self.meters.values():
            view.answered, view.asked = False, None
        return [Write(ForgetDesired()), *self.resend(now)]

    # Desired states

    def share_if_changed(self, now: Now) -> list[Effect[Change]]:
        """Decide which batteries share, if a level came since the last decision."""
        return self.share(now) if self._changed else []

    def share(self, now: Now) -> list[Effect[Change]]:
        """Decide which batteries share, from the present levels and the states that the meters hold."""
        self._changed = False
        for view in self.meters.values():
            view.forget_if_ahead(now)
        batteries = self.batteries(now)
        terms, before = (self.strategy, self.weights, self.island), self._terms
        if before not in (None, terms):  # What an island or a command ends is not delayed.
            batteries = {meter: replace(battery, recent=False) for meter, battery in batteries.items()}
        self._terms = terms
        given = batteries, self.strategy, self.alone, self.island
        if given != self._decided[0]:  # Most often no level came since the last decision.
            self._decided = given, decide(batteries, self.strategy, BAND_PERMILLE, alone=self.alone, island=self.island)
        self.decision = self._decided[1]
        if self.waits or self._keeps_sharing(now):
            going_on = [meter for meter, each in batteries.items() if each.sharing and each.level > each.minimum]
            donors = {meter: self._desired[meter, Kind.SHARING].weight or 1 for meter in going_on}
            self.decision = SharingDecision(donors, self.decision.receivers)
        return [effect for meter in sorted(batteries) for effect in self._share(meter, batteries[meter], now)]

    def _share(self, meter: MeterId, battery: BatteryState, now: Now) -> list[Effect[Change]]:
        """Start, renew or stop a battery's sharing by the decision."""
        weight = self.decision.donors.get(meter)
        if weight is None:
            return self.order(meter, Kind.SHARING, "off", None, now) if battery.sharing else []
        desired = self._desired.get((meter, Kind.SHARING))
        left_s, for_s = self._left_s(desired, now), SHARE_FOR_S
        if desired is not None and 0 < left_s <= SHARE_FOR_S:
            # Without a receiver a weight means nothing.
            same = abs(weight - (desired.weight or 1)) <= REWEIGH or (battery.recent and not self.decision.receivers)
            if left_s > RENEW_S and same:
                return []
            for_s = left_s if battery.recent else RENEWED_S
        return self.order(meter, Kind.SHARING, "on", now + for_s, now, None if weight == 1 else weight)

    def _keeps_sharing(self, now: Now) -> bool:
        """Return whether no sharing changes while levels are awaited: any may need it, or surpluses are compared."""
        found = self.strategy in COMPARING or any(self.holds(meter, Kind.SHARING, now) for meter in self.meters)
        return self.awaits_levels(now) and found

    def awaits_levels(self, now: Now) -> bool:
        """Return whether levels are missing after this gateway's start; after two periods it decides without them."""
        self._began = now if self._began is None else self._began
        if not 0 <= now - self._began <= self._level_good_for_s:
            return False
        known = self.batteries(now).keys()
        return any(
            registered.battery_capacity_mwh is not None and not registered.replaced and not self.epochs.is_fenced(meter)
            for meter, registered in self._registry.items()
            if meter not in known
        )

    @property
    def _level_good_for_s(self) -> int:
        """Seconds after which a level is too old for its battery to take part: two periods."""
        return 2 * max(self.levels_s, SLOT_S)

    def holds(self, meter: MeterId, kind: Kind, now: Now) -> bool:
        """Return whether a state is on by a command that is in force at a meter, or on its way there."""
        return self._left_s(self._desired.get((meter, kind)), now) > 0

    @staticmethod
    def _left_s(desired: Desired | None, now: Now) -> int:
        """Return the seconds until a state that is on ends; 0: it is not on."""
        return 0 if desired is None or desired.value != "on" else max(0, (desired.until or 0) - now)

    def reasons(self, now: Now) -> dict[MeterId, RoleReason]:
        """Return why each battery whose minimum and level are known shares, receives or rests."""
        return reasons(self.batteries(now), self.strategy, BAND_PERMILLE, alone=self.alone, island=self.island)

    def order(
        self,
        meter: MeterId,
        kind: Kind,
        value: str,
        until: EpochSeconds | None,
        now: Now,
        weight: int | None = None,
    ) -> list[Effect[Change]]:
        """Set a desired state of a meter, with the next sequence number of its kind, and send the command."""
        before = self._desired.get((meter, kind))
        seq = 1 if before is None else before.seq + 1
        for_s = until is not None and now.trust < Trust.HARDWARE
        desired = Desired(
            meter=meter,
            kind=kind,
            value=value,
            epoch=self.epochs.of(meter),
            seq=seq,
            until=until,
            weight=weight,
            for_s=for_s,
        )
        self._sent.pop((meter, kind), None)
        return [*self._set(desired), *self._send(desired, now)]

    def keep(
        self, meter: MeterId, kind: Kind, on: bool | str, now: Now, *, explicit: bool = False
    ) -> list[Effect[Change]]:
        """Keep a state on (a text: at this value) or end it; ``explicit``: also one that ended by itself, once."""
        desired, life = self._desired.get((meter, kind)), LIFETIMES[kind]
        if on and self._disobeying.waits(meter, kind, now):
            return []
        end = 0 if desired is None else desired.until or 0
        held = UNKNOWN if desired is None or end <= now else desired.value
        value = on if isinstance(on, str) else life.on
        if on and value is not None and (held != value or life.is_due(end, now)):
            self.counts.lapses += desired is not None and desired.value == value and 0 < end <= now
            return self.order(meter, kind, value, now + life.for_s, now)
        if not on and (life.is_on(held) or (explicit and (desired is None or desired.value != life.off))):
            return self.order(meter, kind, life.off, None, now)
        return []

    def desired(self, meter: MeterId, kind: Kind) -> Desired | None:
        """Return the desired state of a meter; ``None``: no state was ever commanded."""
        return self._desired.get((meter, kind))

    def sent(self, meter: MeterId, kind: Kind) -> EpochSeconds | None:
        """Return when a desired state was last sent; ``None``: not since the start."""
        return self._sent[meter, kind][0] if (meter, kind) in self._sent else None

    def batteries(self, now: Now) -> dict[MeterId, BatteryState]:
        """Return the batteries whose minimum and level are known."""
        states: dict[MeterId, BatteryState] = {}
        if not self.epochs.commands:
            return states
        for meter, view in self.meters.items():
            info = view.info
            if meter in self.epochs.fenced:
                continue
            if info is None or info.minimum_percent is None or info.capacity is None or view.level is None:
                continue
            up = view.bits & _UP_OR_ISOLATED == State.INITIALIZED
            left_s = self._left_s(self._desired.get((meter, Kind.SHARING)), now)
            disobeys = self._disobeying.waits(meter, Kind.SHARING, now)
            recorded = self.recorded.get(meter, _UNRECORDED)
            doubt = Doubt.DISOBEYS if disobeys else recorded.judge(view.level, view.level_time)
            states[meter] = BatteryState(
                level=view.level,
                capacity=info.capacity,
                # Rounded up: a battery at its minimum is never a fraction below it.
                minimum=-(-info.capacity * info.minimum_percent // 100),
                available=up and doubt is None and not self.level_is_old(view, now),
                shares=self._registry[meter].shares,
                sharing=left_s > 0,
                recent=RENEWED_S < left_s <= SHARE_FOR_S,
                weight=self.weights.get(meter, 1),
                doubt=doubt,
            )
        return states

    def level_is_old(self, view: MeterView, now: Now) -> bool:
        """Return whether a battery's level is too old for sharing: two periods passed without one."""
        return now - view.level_heard > self._level_good_for_s

    def foreign(self) -> dict[MeterId, ForeignDevice]:
        """Return the foreign devices, by their meter."""
        return {meter: view.device for meter, view in self.meters.items() if view.device is not None}

    def minima(self) -> dict[MeterId, tuple[int, EpochSeconds]]:
        """Return each battery's sharing minimum, in percent, and the time of its report (T6), by meter id."""
        infos = [view.info for view in self.meters.values() if view.info is not None]
        return {i.meter: (i.minimum_percent, i.time) for i in infos if i.minimum_percent is not None}

    def shift(self, by_s: int, now: Now) -> list[Effect[Change]]:
        """Shift all deadlines after the time was set by ``by_s``, so that durations stay the same.

        A state whose meter was sent an end time keeps that time: the meter has its own clock.
        """
        self._sent = {key: (sent + by_s, times) for key, (sent, times) in self._sent.items()}
        self._began = None if self._began is None else self._began + by_s
        self._disobeying.shift(by_s)
        for view in self.meters.values():
            view.shift(by_s)
        lasting = [desired for desired in self._desired.values() if desired.for_s]
        moved = [e for d in lasting for e in self._set(replace(d, until=max(0, (d.until or 0) + by_s)))]
        # A time that may be wrong is not stored: after a restart the end could not be corrected.
        return moved if now.trust >= Trust.HARDWARE else []

    # Sending and resending

    def resend(self, now: Now) -> list[Effect[Change]]:
        """Initialize meters that have not answered, or stop them; send unconfirmed commands again, until their end."""
        effects: list[Effect[Change]] = []
        commands = self.epochs.commands
        for meter, view in self.meters.items():
            if not commands or meter in self.epochs.fenced:
                continue
            if not view.answered and (view.asked is None or now - view.asked >= INITIALIZE_AGAIN_S):
                view.asked = now
                stops = meter in self.stopped
                brokers = self.orders.of(meter, self.epochs.brokers)
                effects.append(
                    self.command(meter, "stop") if stops else self.command(meter, "initialize", brokers=brokers)
                )
        for key, desired in self._desired.items():
            ended = desired.until is not None and desired.until <= now
            sent, times = self._sent.get(key, (0, 0))
            # A later end of sharing than any command sets comes from another clock: sharing is decided again.
            strange = key[1] is Kind.SHARING and desired.until is not None and desired.until - now > SHARE_FOR_S
            due = not desired.confirmed and not ended and not strange and now - sent >= resend_after_s(times)
            permits = key[0] in self.no_permit and desired.value == "off"
            waits = desired.value != LIFETIMES[key[1]].off and self._disobeying.waits(*key, now)
            if key[0] in self.meters and due and not permits and not waits:
                effects += self._send(desired, now)
        return effects

    def command(self, meter: MeterId, cmd: str, **fields: object) -> Publish:
        """Make a command that sets no state."""
        self._number += 1
        self.counts.commands[cmd] += 1
        command = Command.model_validate(
            {
                "id": f"{self._controller}-{cmd}-{self._number}",
                "cmd": cmd,
                "issuer": self._controller,
                "epoch": self.epochs.of(meter),
                **fields,
            }
        )
        return Publish(meter_down(self._microgrid, meter, COMMANDS), command.pack())

    def assign(self, orders: Mapping[MeterId, tuple[ControllerId, ...]]) -> list[Effect[Change]]:
        """Take the assigned orders of brokers; meters whose order changed are initialized again."""
        kept, changed = self.orders.set(orders)
        for meter in changed & self.meters.keys():
            self.meters[meter].answered, self.meters[meter].asked = False, None
        return kept

    def _set(self, desired: Desired) -> list[Effect[Change]]:
        self._desired[desired.meter, desired.kind] = desired
        return [Write(desired)]

    def _send(self, desired: Desired, now: Now) -> list[Effect[Change]]:
        if desired.value == UNKNOWN or self.epochs.is_fenced(desired.meter):
            return []
        key = (desired.meter, desired.kind)
        _, times = self._sent.get(key, (0, 0))
        self._sent[key] = (now, times + 1)
        fields: dict[str, object] = {"seq": desired.seq, "weight": desired.weight}
        if desired.until is not None and now.trust >= Trust.HARDWARE:
            fields["until"] = desired.until
            self._desired[key] = replace(desired, for_s=False)
        elif desired.until is not None:
            fields["for_s"] = desired.until - now  # the meter's clock may be right where this one is not
        cmd, keys = verb(desired.kind, desired.value)
        stated = {key: value for key, value in (fields | keys).items() if value is not None}
        return [self.command(desired.meter, cmd, **stated)]
