"""The operating modes of one microgrid and their changes: load reduced, connected, or an island (C5, A5, A8).

The modes follow from what the utility has set, from the boundary sensor, and from what the meters hold. The phase is
stored before it is acted upon. After a start the boundary is unknown until it reports: the meters then keep the states
that they hold, and the stored phase says how batteries share.

Whether a microgrid decides alone, since the utility does not answer (P2, A5, docs/control.md).
A pong is anything that the utility sends: an acknowledgement or a command. A gateway decides about its microgrid by
itself at all times; without the utility it also prepares for a long silence, each strategy in its own way. Nothing here
concerns the boundary switch: a silent utility is no reason for an island.
"""

import json
from collections import deque
from collections.abc import Mapping, Sequence, Set
from dataclasses import asdict, dataclass

from commonwatt.config.settings import GatewaySettings
from commonwatt.model.control import STABLE_S, SupplyState, return_delay_s
from commonwatt.model.effects import Effect, Write
from commonwatt.model.records import State
from commonwatt.model.text import moment
from commonwatt.model.time import Now, Trust
from commonwatt.model.units import EpochSeconds, MeterId, MicrogridId
from commonwatt.protocol.commands import Kind
from commonwatt.protocol.controller_commands import ControllerCommand
from commonwatt.town.registry import RegisteredMeter
from commonwatt.town.town import Direction, Function
from gateway.control.islanding import (
    ISLAND,
    PHASE,
    REPORT_GOOD_FOR_S,
    KeptPhase,
    ObservedBoundary,
    Phase,
    Sensor,
    SwitchWish,
    contradiction,
    disagreement,
    kept_phase,
    together,
    wish,
)
from gateway.control.manager import Manager
from gateway.control.microgrid_states import kept_states
from gateway.control.requests import KeptMetersMode, MeterRequests
from gateway.control.rotation import Rotation, RotationTurn
from gateway.store.changes import Change, KeptSettings, Setting

NO_ANSWER_S = 180  # least seconds without an answer of the utility after which a microgrid decides alone
# The same in periods of relaying, each of which the utility answers: a demonstration's clock runs faster.
MISSED_RELAYS = 3
# The same, however seldom the gateway relays: a quiet connection is tested more often than that.
NO_ANSWER_AT_MOST_S = 3600


@dataclass(frozen=True, kw_only=True)
class UtilityContact:
    """When the utility last answered."""

    heard: EpochSeconds  # the time of its last message; at first, of the gateway's start

    def is_lost(self, now: EpochSeconds, relay_s: int) -> bool:
        """Return whether the utility has not answered for too long.

        Args:
            relay_s: Seconds between two relays to the utility.
        """
        return now - self.heard > max(NO_ANSWER_S, min(MISSED_RELAYS * relay_s, NO_ANSWER_AT_MOST_S))

    def words(self, now: EpochSeconds, relay_s: int) -> str | None:
        """Return in words that the microgrid decides alone; ``None``: it does not."""
        if not self.is_lost(now, relay_s):
            return None
        return f"the utility has not answered for {(now - self.heard) // 60} min: the microgrid decides alone"


MODE_CHANGES = "mode_changes"  # setting that keeps the changes
MOST = 50  # most changes that are kept; the oldest are forgotten first


@dataclass(frozen=True, kw_only=True)
class ModeChange:
    """A change of a mode."""

    time: EpochSeconds  # when the gateway changed it
    mode: str  # the mode: ``phase``, ``places off``, ``reducing`` or ``import limit``
    value: str  # its value from then on, in words
    why: str  # the facts that changed it, in words

    def __str__(self) -> str:
        return f"{self.mode}: {self.value}" + (f" ({self.why})" if self.why else "")


_AT_FIRST = {"phase": "connected", "places off": "0", "reducing": "off", "import limit": "none"}


class ModeChanges:
    """The last changes, also of earlier runs of the gateway."""

    def __init__(self, kept: str | None) -> None:
        """Take what the setting keeps; ``None``: nothing."""
        # The changes, oldest first.
        self.changes = deque((ModeChange(**one) for one in json.loads(kept or "[]")), maxlen=MOST)
        self._values = _AT_FIRST | {change.mode: change.value for change in self.changes}
        self._unlogged: list[ModeChange] = []

    def note(self, modes: Mapping[str, tuple[str, str]], now: Now) -> list[Effect[Change]]:
        """Keep the modes (value and reason by name) whose values are others than before."""
        changed = [
            ModeChange(time=now, mode=mode, value=value, why=why)
            for mode, (value, why) in modes.items()
            if self._values.get(mode) != value
        ]
        if not changed:
            return []
        self._values |= {change.mode: change.value for change in changed}
        self.changes.extend(changed)
        self._unlogged = [*self._unlogged, *changed][-MOST:]
        return [Write(Setting(MODE_CHANGES, json.dumps([asdict(change) for change in self.changes])))]

    def take_unlogged(self) -> list[ModeChange]:
        """Return the changes since the last call, for the log."""
        unlogged, self._unlogged = self._unlogged, []
        return unlogged


_SPARED = "spared"  # setting that keeps the meters of the places that must not be cut
_EMERGENCY = (Function.HOSPITAL, Function.POLICE, Function.FIRE)


SENSE_S = 15
"""Seconds between two requests for the boundary's state while the microgrid is not connected: the wait for a stable
voltage needs reports without a gap. A connected boundary reports a change by itself."""


@dataclass(frozen=True, kw_only=True)
class View:
    """The modes, for people."""

    phase: Phase | None  # the phase of the connection to the town; ``None``: the boundary sensor has not reported
    reason: str  # why the boundary switch is as it is wanted
    unknown_s: int  # seconds since the start without a report of the boundary; 0: it reported, or there is none
    disagreement: str | None  # what the boundary meters report, if they differ; ``None``: they agree
    contradiction: str | None  # how the utility's notice contradicts the sensor; ``None``: it does not
    # How much the microgrid takes from the town at most, and until when; ``None``: there is no limit.
    limited: str | None
    reducing: str | None  # why the load is reduced; ``None``: it is not
    autonomous: str | None  # why the microgrid decides alone; ``None``: the utility answers
    shedding: str | None  # which part of an island, or of a limited microgrid, is off in turn, and why; ``None``: none
    # That batteries hold their energy for an announced storm, and until when; ``None``: they do not.
    holding: str | None


class Modes:
    """Keeps a microgrid in its operating modes."""

    def __init__(
        self,
        settings: GatewaySettings,
        microgrid: MicrogridId,
        store: KeptSettings,
        manager: Manager,
        requests: MeterRequests,
        registry: Mapping[MeterId, RegisteredMeter],
    ) -> None:
        self.states = kept_states(store.setting)  # what the utility has set
        self.manager = manager  # keeps the meters in their desired states
        self._requests = requests
        self._microgrid = microgrid
        # Whether the boundary is another controller's: no switch and no limit is commanded, and sharing is decided as
        # connected, since the minima are floors (docs/controllers.md, R12).
        self._is_hosted = microgrid != settings.microgrid
        # The id of a request to the boundary ends with its time, so that its answer, too, says how old it may be.
        self._request = f"{settings.controller}-boundary-"
        self.strategy_of_file = manager.strategy
        self.relay_s = settings.relay_s  # seconds between two relays to the utility
        self._contact: UtilityContact | None = None
        self._boundaries: dict[MeterId, ObservedBoundary] = {}
        self._kept = kept_phase(store.setting(PHASE))
        self._unknown_since: EpochSeconds | None = None
        # Ends that were set by an untrusted clock since the start; any other end is a date.
        self._undated: Set[str] = frozenset()
        self._asked: EpochSeconds = 0
        self._unsure: frozenset[MeterId] = frozenset()
        # Whether the switch was commanded to close since it was last commanded to open.
        self._released = False
        self.meters_mode = KeptMetersMode(settings.meters, store, manager)  # how all meters aggregate
        self.changes = ModeChanges(store.setting(MODE_CHANGES))  # the last changes of the modes, with their reasons
        self._rotation = Rotation(microgrid, manager)
        self._rotation.spare(json.loads(store.setting(_SPARED) or "[]"))
        self.register(registry)
        self._let_share(None)

    def register(self, registry: Mapping[MeterId, RegisteredMeter]) -> None:
        """Replace the registry by a changed one."""
        # Whether it has an emergency service.
        self.is_public = any(meter.function in _EMERGENCY for meter in registry.values())
        self._sensors = frozenset(i for i, meter in registry.items() if meter.function is Function.BOUNDARY)
        # A meter that was replaced reports no more: closing does not wait for it.
        installed = sorted(meter for meter in self._sensors if not registry[meter].replaced)
        self._boundaries = {meter: self._boundaries.get(meter, ObservedBoundary()) for meter in installed}
        self._unsure = self._unsure.intersection(self._boundaries)
        self._intake = frozenset(i for i in self._sensors if registry[i].direction is Direction.INCOMING)
        self._reducible = tuple(registry.keys() - self._sensors)
        self._rotation.register(registry)

    @property
    def spared(self) -> frozenset[MeterId]:
        """The meters of the places that must not be cut."""
        return self._rotation.spared

    def spare(self, meters: Sequence[MeterId]) -> list[Effect[Change]]:
        """Cut the places of these meters no more, whatever is short."""
        self._rotation.spare(meters)
        return [Write(Setting(_SPARED, json.dumps(sorted(meters))))]

    def set(self, command: ControllerCommand, now: Now) -> list[Effect[Change]]:
        """Set a state of the microgrid by a command of the utility."""
        before, self.states = self.states, self.states.set(command, now)
        new = {name for name, _ in self.states.ends() - before.ends()}
        self._undated = self._undated | new if now.trust < Trust.HARDWARE else self._undated - new
        return [*self.states.kept(), *self.keep(now)]

    def answered(self, now: Now) -> None:
        """Take a message of the utility, whatever it says."""
        self._contact = UtilityContact(heard=now)

    def sensed(
        self, meter: MeterId, time: EpochSeconds, now: Now, answered: str = "", *, good: bool = True
    ) -> list[Effect[Change]]:
        """Take a report of a boundary meter, whose state bits the manager has; other meters change nothing.

        A report that was made (``time``, by the meter's clock) before the last one changes nothing either. An event may
        have waited in the meter's log, an answer in the network, and a meter's clock may be wrong: a report that is
        neither surely recent nor the answer to a request of the last minute says nothing about the present, and the
        boundary is asked.

        Args:
            time: When it made the report, by its clock.
            answered: The id of the command that the report answers; empty: it is an event.
            good: Whether the reported voltage and frequency allow to close the switch; true without such figures.
        """
        if self._is_hosted or meter not in self._boundaries or time < self.manager.meters[meter].bits_time:
            return []
        if not self._is_of_the_present(time, now, answered):
            self._unsure |= {meter}
            return self.ask(now)
        self._unsure -= {meter}
        bits = self.manager.meters[meter].bits
        voltage, is_open = not bits & State.DEAD_FEEDER, bool(bits & State.SWITCH_OPEN)
        sensor = Sensor(voltage=voltage, is_open=is_open, heard=now, good=good)
        self._boundaries[meter] = self._boundaries[meter].observe(sensor)
        return self.keep(now)

    def keep(self, now: Now) -> list[Effect[Change]]:
        """Command and renew what the modes need, and end what they need no more."""
        sharing = self.states.sharing_at(now)
        of_utility = None if sharing is None else sharing.strategy
        self.manager.strategy = of_utility or self.strategy_of_file
        self.manager.weights = self.states.weights_at(now)
        self._contact = self._contact or UtilityContact(heard=now)
        wanted = self.wish(now)
        effects = self._store(wanted, now)
        self.manager.alone = self._is_alone(now)
        self._let_share(wanted.phase)
        # Before an announced storm nothing leaves a battery for others but what an island gives.
        self.manager.island = self.manager.island or now < self.states.hold_until
        if self._is_unknown(wanted):
            return effects + self._renew(now) + self.meters_mode.keep(now)
        self._released = wanted.phase is Phase.RESYNCHRONISING and (self._released or wanted.is_open is False)
        effects += self._limit(now)
        for meter in sorted(self._sensors):
            if wanted.is_open is not None:
                closes = not wanted.is_open and wanted.phase is Phase.RESYNCHRONISING
                effects += self.manager.keep(meter, Kind.ISOLATED, wanted.is_open, now, explicit=closes)
        reduced = self._why_reduced(now)
        for meter in sorted(self._reducible):
            effects += self.manager.keep(meter, Kind.REDUCING, reduced is not None, now)
        turn = self._turn(now)
        for meter in self._rotation.meters:
            effects += self.manager.keep(meter, Kind.ISOLATED, meter in turn.off, now)
        return effects + self.meters_mode.keep(now) + self._note(wanted, reduced, turn, now)

    def _note(self, wanted: SwitchWish, reduced: str | None, turn: RotationTurn, now: Now) -> list[Effect[Change]]:
        """Keep what has changed of the modes."""
        limit = self.states.import_limit_w_at(now)
        modes = {
            "places off": (str(len(turn.off)), turn.reason or ""),
            "reducing": ("off", "") if reduced is None else ("on", reduced),
            "import limit": ("none", "") if limit is None else (f"{limit} W", self.states.limit_words(now) or ""),
        }
        known = {} if wanted.phase is None else {"phase": (str(wanted.phase), wanted.reason)}
        return self.changes.note(known | modes, now)

    def _store(self, wanted: SwitchWish, now: Now) -> list[Effect[Change]]:
        """Store a changed phase, in the transaction of what follows from it."""
        phase, closed = wanted.phase, wanted.phase is Phase.RESYNCHRONISING and wanted.is_open is None
        if phase is None:
            self._unknown_since = now if self._unknown_since is None else self._unknown_since
            return []
        self._unknown_since = None
        before = self._before
        is_same = before is not None and before.phase is phase
        if before is not None and is_same and before.closed is closed:
            return []
        since = before.since if before is not None and is_same else int(now) if now.trust >= Trust.HARDWARE else None
        self._kept = KeptPhase(phase=phase, since=since, epoch=self.manager.epochs.own, closed=closed)
        return [Write(self._kept.kept())]

    def _renew(self, now: Now) -> list[Effect[Change]]:
        """Renew what the meters hold while the boundary is unknown; begin and end nothing but the utility's limit."""
        if now.trust is Trust.NONE:
            return []  # By a clock that nothing confirms, a state that has ended may seem to be in force.
        held = [(meter, Kind.REDUCING) for meter in sorted(self._reducible)]
        # A switch that closed against the command stays closed, also over a restart.
        was_closed = self._before is not None and self._before.closed
        switches = () if self._is_hosted or was_closed else sorted(self._sensors)
        held += [(meter, Kind.ISOLATED) for meter in (*switches, *self._rotation.meters)]
        in_force = [(meter, kind) for meter, kind in held if self.manager.holds(meter, kind, now)]
        renewed = [effect for meter, kind in in_force for effect in self.manager.keep(meter, kind, True, now)]
        return renewed + self._limit(now)

    def _limit(self, now: Now) -> list[Effect[Change]]:
        """Keep the import limit at the boundary meter that measures the import (A2, A8)."""
        if self._is_hosted:
            return []
        limit = self.states.import_limit_w_at(now)
        on = False if limit is None else str(limit)
        return [e for meter in sorted(self._intake) for e in self.manager.keep(meter, Kind.IMPORT_LIMIT, on, now)]

    def ask(self, now: Now) -> list[Effect[Change]]:
        """Request the state of the boundary while the microgrid is not connected, or its state is not sure."""
        if self._is_hosted or (not self._unsure and self.wish(now).phase in (None, Phase.CONNECTED)):
            return []
        if 0 <= now - self._asked < SENSE_S:
            return []
        self._asked = int(now)
        return self._requests.states(sorted(self._sensors), f"{self._request}{self._asked}")

    def _is_of_the_present(self, time: EpochSeconds, now: Now, answered: str) -> bool:
        """Return whether a report is surely recent: by its own time, or by the time in the answered request's id."""
        if now.trust > Trust.NONE and abs(now - time) <= REPORT_GOOD_FOR_S:
            return True
        asked = answered.removeprefix(self._request)
        return asked != answered and asked.isdecimal() and 0 <= now - int(asked) <= REPORT_GOOD_FOR_S

    def is_strategy_tuned(self, now: Now) -> bool:
        """Return whether the strategy in force is one that the utility set."""
        sharing = self.states.sharing_at(now)
        return sharing is not None and sharing.strategy is not None

    def wish(self, now: Now) -> SwitchWish:
        """Return what is wanted of the boundary switch."""
        # A clock that nothing confirms yet may bring a command back that has ended.
        knows = now.trust > Trust.NONE or "isolate_until" in self._undated
        commanded = knows and now < self.states.isolate_until
        boundary = together(self._boundaries.values())
        return wish(
            boundary,
            now,
            commanded=commanded,
            isolated=any(self.manager.holds(meter, Kind.ISOLATED, now) for meter in self._sensors),
            released=self._released,
            stable_s=STABLE_S,
            delay_s=return_delay_s(self._microgrid, boundary.stable_since or 0, is_public=self.is_public),
        )

    def view(self, now: Now) -> View:
        """Return the modes, for people."""
        wanted = self.wish(now)
        return View(
            phase=wanted.phase,
            reason=self._reason(wanted),
            unknown_s=self.unknown_s(now),
            disagreement=disagreement(self._boundaries),
            contradiction=contradiction(together(self._boundaries.values()), self.states.notice_at(now)),
            limited=self.states.limit_words(now),
            reducing=self._why_reduced(now),
            autonomous=None if self._contact is None else self._contact.words(now, self.relay_s),
            shedding=self._turn(now).reason,
            holding=self.states.hold_words(now),
        )

    def unknown_s(self, now: Now) -> int:
        """Return the seconds since the start without a report of the boundary; 0: it reported, or there is none."""
        if self._unknown_since is None or not self._boundaries or self._is_hosted:
            return 0
        return max(0, now - self._unknown_since)

    @property
    def disagree(self) -> bool:
        """Whether the boundary meters report different states."""
        return disagreement(self._boundaries) is not None

    def _reason(self, wanted: SwitchWish) -> str:
        """Return why the switch is as it is wanted, with the phase that is in force while the boundary is unknown."""
        if not self._is_unknown(wanted):
            return wanted.reason
        before = self._before
        if before is None:
            return f"{wanted.reason}: no state is begun or ended"
        since = "" if before.since is None else f" since {moment(before.since)}"
        return f"{wanted.reason}: {before.phase}{since}, as before the start; no state is begun or ended"

    def _is_unknown(self, wanted: SwitchWish) -> bool:
        """Return whether no boundary meter has reported; without one in the registry nothing is waited for."""
        return wanted.phase is None and bool(self._boundaries)

    @property
    def _before(self) -> KeptPhase | None:
        """The stored phase; ``None``: there is none, or another controller may have managed the microgrid since."""
        is_own = self._kept is not None and self._kept.epoch == self.manager.epochs.own
        return self._kept if is_own and self._boundaries else None

    def _in_force(self, phase: Phase | None) -> Phase | None:
        """Return a phase, or the stored one while the boundary is unknown; ``None``: neither is known."""
        return self._before.phase if phase is None and self._before is not None else phase

    def _let_share(self, phase: Phase | None) -> None:
        """Have batteries share as in the phase that is in force, while none is known as they do; permit no close."""
        in_force = self._in_force(phase)
        self.manager.island = in_force in ISLAND
        self.manager.waits = in_force is None and bool(self._boundaries) and not self._is_hosted
        self.manager.no_permit = frozenset(self._boundaries if phase is None else ())

    def is_island(self, now: Now) -> bool | None:
        """Return whether the microgrid is an island; ``None``: it has not reported, and none is stored."""
        phase = self._in_force(self.wish(now).phase)
        return None if phase is None and self._boundaries else phase in ISLAND

    def _turn(self, now: Now) -> RotationTurn:
        if self._is_unknown(self.wish(now)) or self.manager.awaits_levels(now):
            return self._rotation.standing(now)
        limit = 0 if self.is_island(now) else self.states.import_limit_w_at(now)
        return RotationTurn() if limit is None else self._rotation.turn(now, limit)

    def _is_alone(self, now: Now) -> bool:
        return self._contact is not None and self._contact.is_lost(now, self.relay_s)

    def _why_reduced(self, now: Now) -> str | None:
        if self.is_island(now) and (why := self._why_island_reduces(now)) is not None:
            return why
        if now < self.states.reduce_until:
            return "the utility asks for less load"
        supply = self.states.supply_at(now)
        if supply is not SupplyState.NORMAL:
            return f"the regional supply is {supply}"
        if self.states.import_limit_w_at(now) is not None:
            return "the import from the town is limited"
        # A5: under ``aces`` all reduce while the utility is offline.
        return "the utility does not answer" if self.manager.strategy == "aces" and self._is_alone(now) else None

    def _why_island_reduces(self, now: Now) -> str | None:
        held = any(self.manager.holds(meter, Kind.REDUCING, now) for meter in self._reducible)
        if self.manager.strategy == "aces":
            return "the microgrid is an island"
        if self.manager.awaits_levels(now):
            return "the island's levels are not known yet" if held else None
        return self._rotation.why_reduced(now, reducing=held)

    def shift(self, by_s: int, now: Now) -> list[Effect[Change]]:
        """Shift ends after the time was set by ``by_s``: of states set by an untrusted clock the durations count."""
        self.states = self.states.shift(by_s, self._undated)
        self._boundaries = {meter: each.shift(by_s) for meter, each in self._boundaries.items()}
        self._unknown_since = None if self._unknown_since is None else self._unknown_since + by_s
        self._contact = None if self._contact is None else UtilityContact(heard=self._contact.heard + by_s)
        # A time that may be wrong is not stored.
        return self.states.kept() if now.trust >= Trust.HARDWARE else []
