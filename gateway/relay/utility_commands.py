"""The utility's commands to a gateway: data, aggregation, periods, system_info (C1, C6; docs/protocol.md)."""

import json
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from itertools import product

import numpy as np

from commonwatt.model.blocks import flags_of, mask_of
from commonwatt.model.effects import Effect, Publish, Write
from commonwatt.model.time import Now, Trust
from commonwatt.model.units import SLOTS, ControllerId, EpochSeconds, MeterId, MicrogridId
from commonwatt.protocol.commands import Kind
from commonwatt.protocol.controller_commands import (
    ACTIONS,
    HOSTED,
    MOST_LISTED,
    Action,
    Assigned,
    BlockMask,
    ControllerCommand,
    ControllerOutcome,
    Outstanding,
)
from commonwatt.protocol.topics import OUTCOMES, gateway_up
from gateway.control.epochs import Epochs, GrantedEpochs, NoEpochs
from gateway.control.manager import Manager
from gateway.control.meter_view import UNKNOWN
from gateway.control.microgrid_states import KeptRates, MicrogridStates
from gateway.control.modes import Modes
from gateway.events import UpgradeEnded, WantedRelease
from gateway.relay.outbox import load
from gateway.relay.relay import MAX_WANTED, Relay
from gateway.store.changes import Change, KeptSettings, Setting, Stored


def assigned(hosted: Mapping[MicrogridId, Epochs | GrantedEpochs | NoEpochs]) -> list[Assigned]:
    """Return the microgrids of which a controller has a store, those with the highest epochs first."""
    listed = [
        Assigned(microgrid=name, manages=epochs.commands, epoch=epochs.own if epochs.commands else epochs.deposed_by)
        for name, epochs in hosted.items()
    ]
    return sorted(listed, key=lambda entry: (entry.manages, entry.epoch or (0, 0)), reverse=True)[:MOST_LISTED]


def outstanding(
    manager: Manager, states: MicrogridStates, relay: Relay, outcomes: Iterable[ControllerOutcome], now: Now
) -> list[Outstanding]:
    """Return what a microgrid's utility has set, and what meters have not confirmed, the newest first."""
    times = {str(outcome.cmd): outcome.time for outcome in outcomes if outcome.result == "done"}
    listed = [*_in_force(states, relay, times, now), *_unconfirmed(manager, now)]
    if relay.wanted:
        listed.append(Outstanding(what=f"get: {len(relay.wanted)} blocks to send", time=now))
    return sorted(listed, key=lambda item: item.time or 0, reverse=True)[:MOST_LISTED]


def _in_force(
    states: MicrogridStates, relay: Relay, times: Mapping[str, EpochSeconds], now: Now
) -> Iterable[Outstanding]:
    ends = {
        Action.REDUCE: ("reduce", states.reduce_until),
        Action.ISOLATE: ("isolate", states.isolate_until),
        Action.HOLD: ("hold", states.hold_until),
        Action.SUPPLY: (f"supply {states.supply}", states.supply_until),
        Action.NOTICE: (f"notice: power {'lost' if states.power_lost else 'back'}", states.notice_until),
    }
    for cmd, (what, until) in ends.items():
        if until > now:
            yield Outstanding(what=what, time=times.get(cmd), until=until)
    if relay.mode.name != "none":
        what = f"aggregate {relay.mode.name}"
        yield Outstanding(what=what, time=times.get(Action.AGGREGATE), until=relay.mode.until)


def _unconfirmed(manager: Manager, now: Now) -> Iterable[Outstanding]:
    for meter, kind in product(manager.meters, Kind):
        desired = manager.desired(meter, kind)
        if (
            desired is None
            or desired.confirmed
            or desired.value == UNKNOWN
            or (desired.until is not None and desired.until <= now)
        ):
            continue
        what = f"{kind} {desired.value}"
        yield Outstanding(what=what, meter=meter, time=manager.sent(meter, kind), until=desired.until)
    for meter in manager.stopped:
        view = manager.meters.get(meter)
        if view is not None and not view.answered:
            yield Outstanding(what="stop", meter=meter, time=view.asked)


KEPT_OUTCOMES = 100  # outcomes stored, also across restarts, so that a repeated command is not carried out again


_UPGRADE = "upgrade"  # setting that keeps the release that is wanted
_STOPPED = "stopped_meters"  # setting that keeps them
_REPORT = "report"  # setting that keeps the last report with the id of its command: a repetition is answered by it
MOST_REPORTS = 10  # most reports that are asked for and not made yet; others are made when they are asked for again
REPORT_AGAIN_S = 60  # seconds until a report is sent again, if its command is repeated: a slow line carries it once
# Commands that concern no meter's state.
_WITHOUT_MANAGING = (
    *(Action.GET, Action.SYSTEM_INFO, Action.RATES, Action.REPORT, Action.DISCOVER, Action.UPGRADE, Action.UNPACK),
    Action.WITNESS,
)


class StoppedMeters:
    """Keeps which meters a person has stopped (M5), also over a restart.

    Their manager sends each ``stop``, in place of ``initialize``, until it answers.
    """

    def __init__(self, store: KeptSettings, manager: Manager) -> None:
        manager.stopped = frozenset(json.loads(store.setting(_STOPPED) or "[]"))
        self._manager = manager

    def set(self, meter: MeterId, *, stopped: bool) -> list[Effect[Change]]:
        """Stop a meter, or start it again; one of another microgrid is left alone."""
        if (view := self._manager.meters.get(meter)) is None:
            return []
        others = self._manager.stopped - {meter}
        self._manager.stopped = others | {meter} if stopped else others
        view.answered, view.asked = False, None
        return [Write(Setting(_STOPPED, json.dumps(sorted(self._manager.stopped))))]


class UtilityCommands:
    """Carries out each of the utility's commands once, and answers each repetition."""

    def __init__(
        self,
        controller: ControllerId,
        microgrid: MicrogridId,
        store: Stored,
        relay: Relay,
        modes: Modes,
        periods: dict[str, int],
    ) -> None:
        # The periods that the utility set, seconds, by the name of their setting.
        self.tuned: dict[str, int] = json.loads(store.setting("periods") or "{}")
        self.saved: dict[str, int] = {}  # the same of the periods that the gateway sets by itself, to save bytes
        # The epochs of the microgrids that its controller hosts.
        self.epochs: Mapping[MicrogridId, Epochs | GrantedEpochs | NoEpochs] = {}
        self.reports: dict[str, ControllerCommand] = {}  # what the shell is to make or take, by the command's id
        self._report_sent: EpochSeconds = 0  # when a report was sent last
        kept_upgrade = store.setting(_UPGRADE)
        # The release that the utility wants here; ``None``: none is being fetched or installed.
        self.upgrade = WantedRelease.model_validate_json(kept_upgrade) if kept_upgrade else None
        self.rates = KeptRates(store)  # the rates that the utility has sent
        self._stopped = StoppedMeters(store, modes.manager)
        self._of_file = periods
        self._controller = controller
        self._microgrid = microgrid
        self._store = store
        self._relay = relay
        self._modes = modes
        kept = json.loads(store.setting("outcomes") or "{}")
        self._outcomes = OrderedDict(
            (name, ControllerOutcome.model_validate(outcome)) for name, outcome in kept.items()
        )

    @property
    def periods(self) -> dict[str, int]:
        """The periods in force, seconds, by the name of their setting."""
        return self._of_file | self.saved | self.tuned

    def limit_bytes(self, put_s: int | None) -> None:
        """Set how often meters put, to save bytes, and how often levels are asked for to match; ``None``: neither."""
        longest = {"put_s": put_s, "levels_s": put_s} if put_s else {}
        self.saved = {name: max(seconds, self._of_file.get(name, 0)) for name, seconds in longest.items()}

    def do(self, command: ControllerCommand, now: Now) -> list[Effect[Change]]:
        """Carry out a command, unless it was done before or has expired, and answer it."""
        if command.id in self._outcomes:
            return self._again(self._outcomes[command.id], now)
        # Without a trusted clock no command expires: a late command of the utility does no harm.
        if command.until <= now and now.trust >= Trust.HARDWARE:
            return [self._publish(_outcome(command, "expired", now))]
        if command.cmd == HOSTED and command.command is not None:
            return self._hosted(command, command.command, now)
        epochs = self._modes.manager.epochs
        if not epochs.commands and command.cmd not in _WITHOUT_MANAGING:
            # Until it is known that another controller manages the microgrid, the utility waits.
            by = epochs.deposed_by
            return [] if by is None else [self._refused(command, f"deposed by {list(by)}", now)]
        if command.cmd == Action.GET:
            # A repeated get is harmless and may find data that has come since: its outcome is not stored.
            return self._get(command, now)
        if command.cmd == Action.SYSTEM_INFO:
            modes, outcomes = self._modes, self._outcomes.values()
            listed = outstanding(modes.manager, modes.states, self._relay, outcomes, now)
            info = {"info": self._info(now), "assignments": assigned(self.epochs), "outstanding": listed}
            return [self._publish(_outcome(command, "done", now, **info))]
        if command.cmd in (Action.REPORT, Action.DISCOVER, Action.UNPACK, Action.WITNESS):
            if len(self.reports) < MOST_REPORTS:
                self.reports.setdefault(command.id, command)
            return []  # Its outcome is what the shell makes; ``reported`` sends it.
        if command.cmd == Action.UPGRADE:
            return self._upgrade(command, now)
        if command.cmd in ACTIONS:
            effects, outcome = self._set(command, now), _outcome(command, "done", now)
        else:
            reason = f"this version has no command {command.cmd}"
            effects, outcome = [], _outcome(command, "unsupported", now, reason=reason)
        return [*effects, self._remember(outcome), self._publish(outcome)]

    def reported(self, command: ControllerCommand, details: Mapping[str, str], now: Now) -> list[Effect[Change]]:
        """Answer by what was made or taken; the store keeps the last report alone, and no discovery."""
        self.reports.pop(command.id, None)
        made = {"id": command.id, "cmd": command.cmd, "result": "done", "time": now, **details}
        outcome = ControllerOutcome.model_validate(made)
        if command.cmd == Action.DISCOVER:
            return [self._publish(outcome)]  # Asked again it looks again.
        whole, outcome = outcome, outcome.model_copy(update={"report": None})
        kept: list[Effect[Change]] = []
        if whole.report is not None:
            self._report_sent = now
            kept = [Write(Setting(_REPORT, json.dumps({"id": command.id, "report": whole.report})))]
        return [*kept, self._remember(outcome), self._publish(whole)]

    def _again(self, outcome: ControllerOutcome, now: Now) -> list[Effect[Change]]:
        """Answer a repeated command, by its report if it asked for one."""
        if outcome.cmd != Action.REPORT:
            return [self._publish(outcome)]
        if 0 <= now - self._report_sent < REPORT_AGAIN_S:
            return []
        self._report_sent = now
        kept = json.loads(self._store.setting(_REPORT) or "{}")
        answer = (
            {"report": kept["report"]} if kept.get("id") == outcome.id else {"reason": "a later report replaced it"}
        )
        return [self._publish(outcome.model_copy(update=answer))]

    def _upgrade(self, command: ControllerCommand, now: Now) -> list[Effect[Change]]:
        """Want a release, in place of an earlier one; its outcome follows (``upgraded``)."""
        before = self.upgrade
        why = f"{command.release} is wanted"
        effects = [] if before is None else self.upgraded(UpgradeEnded(id=before.id, result="superseded", why=why), now)
        self.upgrade = wanted = WantedRelease(id=command.id, release=command.release or "", sha256=command.sha256 or "")
        outcome = _outcome(command, "partial", now, reason="it is being fetched")
        kept = Write[Change](Setting(_UPGRADE, wanted.model_dump_json()))
        return [*effects, kept, self._remember(outcome), self._publish(outcome)]

    def upgraded(self, ended: UpgradeEnded, now: Now) -> list[Effect[Change]]:
        """Tell the utility how an upgrade ended, unless another one is wanted now."""
        if self.upgrade is None or self.upgrade.id != ended.id:
            return []
        self.upgrade = None
        fields = {
            "id": ended.id,
            "cmd": Action.UPGRADE,
            "result": ended.result,
            "time": now,
            "reason": ended.why or None,
        }
        outcome = ControllerOutcome.model_validate(fields)
        return [Write(Setting(_UPGRADE, "")), self._remember(outcome), self._publish(outcome)]

    def _hosted(self, command: ControllerCommand, wrapped: ControllerCommand, now: Now) -> list[Effect[Change]]:
        """Carry out a command for a microgrid that this controller manages for another one, under the named epoch."""
        epochs = self._modes.manager.epochs
        if command.microgrid != self._microgrid:
            return [self._refused(command, f"{command.microgrid} is not managed here", now)]
        if epochs.commands and command.epoch != epochs.own:
            return [self._refused(command, f"the epoch is {list(epochs.own)}", now)]
        return [] if wrapped.cmd == HOSTED else self.do(wrapped, now)

    def _refused(self, command: ControllerCommand, reason: str, now: Now) -> Publish:
        return self._publish(_outcome(command, "refused", now, reason=reason))

    def _info(self, now: Now) -> dict[str, str | int]:
        manager, view = self._modes.manager, self._modes.view(now)
        return {
            "version": version("commonwatt"),
            "microgrid": self._microgrid,
            "meters": len(manager.meters),
            "batteries": len(manager.minima()),
            "phase": view.phase or "unknown",
            "supply": self._modes.states.supply_at(now),
            "reducing": view.reducing or "no",
        }

    def _set(self, command: ControllerCommand, now: Now) -> list[Effect[Change]]:
        if command.cmd == Action.RATES:
            return self.rates.set(command)
        if command.cmd == Action.ASSIGN:
            return self._modes.manager.assign({meter: names for names, some in command.orders or () for meter in some})
        if command.cmd == Action.SPARE:
            return [*self._modes.spare(command.spared or []), *self._modes.keep(now)]
        if command.cmd == Action.STOP and command.meter is not None:
            return self._stopped.set(command.meter, stopped=command.state == "on")
        if command.cmd == Action.HOLD and command.for_s and now.trust >= Trust.HARDWARE:
            # A storm ends at its date, however late a gateway hears of it.
            command = command.model_copy(update={"for_s": min(command.for_s, command.until - now)})
        if command.cmd not in (Action.SCHEDULE, Action.AGGREGATE, Action.DEAGGREGATE):
            return self._modes.set(command, now)
        if command.cmd == Action.SCHEDULE:
            tuned = self.tuned | (command.periods or {})
            self.tuned = {str(name): seconds for name, seconds in tuned.items() if seconds is not None}
            meters = [] if command.meters is None else self._modes.meters_mode.set(command.meters, now)
            return [Write(Setting("periods", json.dumps(self.tuned))), *meters]
        mode = "none" if command.cmd == Action.DEAGGREGATE else command.mode
        until = None if mode == "none" or command.for_s is None else now + command.for_s
        if command.at == "gateway":
            return self._relay.aggregate(mode, until)
        manager = self._modes.manager
        return [e for meter in manager.meters for e in manager.order(meter, Kind.AGGREGATION, mode, until, now)]

    def _get(self, command: ControllerCommand, now: Now) -> list[Effect[Change]]:
        """Relay the requested blocks; report the slots that are not in the store."""
        absent: list[BlockMask] = []
        if command.blocks is not None:
            asked = {(meter, kind, quarter): int(mask, 16) for meter, kind, quarter, mask in command.blocks}
            blocks = load(self._store.block_parts(asked))
            have = {key: blocks.quality[row] > 0 for row, key in enumerate(blocks.keys())}
            for key, mask in asked.items():
                lacking = mask_of(flags_of(mask) & ~have.get(key, np.zeros(SLOTS, np.bool_)))
                if lacking:
                    absent.append((*key, f"{lacking:x}"))
            keys = list(have)
        else:
            last = 2**32 - 1 if command.last_quarter is None else command.last_quarter
            keys = self._store.keys_between(command.first_quarter or 0, last, MAX_WANTED + 1)
        taken = keys[: max(0, MAX_WANTED - len(self._relay.wanted))]
        self._relay.wanted.update(dict.fromkeys(taken))
        result = "done" if len(taken) == len(keys) else "partial"
        return [self._publish(_outcome(command, result, now, sent=len(taken), absent=absent))]

    def _remember(self, outcome: ControllerOutcome) -> Write[Change]:
        self._outcomes[outcome.id] = outcome
        while len(self._outcomes) > KEPT_OUTCOMES:
            self._outcomes.popitem(last=False)
        kept = {name: outcome.model_dump(mode="json") for name, outcome in self._outcomes.items()}
        return Write(Setting("outcomes", json.dumps(kept)))

    def _publish(self, outcome: ControllerOutcome) -> Publish:
        return Publish(gateway_up(self._controller, OUTCOMES), outcome.pack())


def _outcome(command: ControllerCommand, result: str, now: Now, **details: object) -> ControllerOutcome:
    return ControllerOutcome.model_validate(
        {"id": command.id, "cmd": command.cmd, "result": result, "time": now, **details}
    )
