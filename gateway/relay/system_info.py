"""What ``system_info`` lists: the controller's microgrids, and what is outstanding there (A4)."""

from collections.abc import Iterable, Mapping
from itertools import product

from commonwatt.model.time.now import Now
from commonwatt.model.units import EpochSeconds, MicrogridId
from commonwatt.protocol.commands import Kind
from commonwatt.protocol.controller_commands import MOST_LISTED, Action, Assigned, ControllerOutcome, Outstanding
from gateway.control.epochs import Epochs, GrantedEpochs, NoEpochs
from gateway.control.lifetimes import UNKNOWN
from gateway.control.manager import Manager
from gateway.control.microgrid_states import MicrogridStates
from gateway.relay.relay import Relay


def assigned(hosted: Mapping[MicrogridId, Epochs | GrantedEpochs | NoEpochs]) -> list[Assigned]:
    """Return the microgrids of which a controller has a store, those with the highest epochs first."""
    found = [
        Assigned(microgrid=name, manages=each.commands, epoch=each.own if each.commands else each.deposed_by)
        for name, each in hosted.items()
    ]
    return sorted(found, key=lambda one: (one.manages, one.epoch or (0, 0)), reverse=True)[:MOST_LISTED]


def outstanding(
    manager: Manager, states: MicrogridStates, relay: Relay, outcomes: Iterable[ControllerOutcome], now: Now
) -> list[Outstanding]:
    """Return what a microgrid's utility has set, and what meters have not confirmed, the newest first."""
    times = {str(outcome.cmd): outcome.time for outcome in outcomes if outcome.result == "done"}
    found = [*_in_force(states, relay, times, now), *_unconfirmed(manager, now)]
    if relay.wanted:
        found.append(Outstanding(what=f"get: {len(relay.wanted)} blocks to send", time=now))
    return sorted(found, key=lambda one: one.time or 0, reverse=True)[:MOST_LISTED]


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
        one = manager.desired(meter, kind)
        if one is None or one.confirmed or one.value == UNKNOWN or (one.until is not None and one.until <= now):
            continue
        what = f"{kind} {one.value}"
        yield Outstanding(what=what, meter=meter, time=manager.sent(meter, kind), until=one.until)
    for meter in manager.stopped:
        view = manager.meters.get(meter)
        if view is not None and not view.answered:
            yield Outstanding(what="stop", meter=meter, time=view.asked)
