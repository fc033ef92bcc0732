"""What a gateway tells of its present state: the heartbeat to the utility, and the status page as JSON."""

from collections.abc import Collection, Mapping
from dataclasses import asdict

from commonwatt.energy.strategies import BAND_PERMILLE
from commonwatt.model.effects import Publish
from commonwatt.model.time import Now
from commonwatt.model.units import MeterId, MicrogridId, MilliwattHours
from commonwatt.protocol.heartbeats import Heartbeat, Program
from commonwatt.protocol.topics import STATUS, gateway_up
from gateway.control.manager import Manager
from gateway.control.meter_states import batteries_view, meter_states, meters_view, sharing_codes, sharing_words
from gateway.control.sharing import BatteryState
from gateway.core import HostedMicrogrid
from gateway.line.line import LineCounter
from gateway.store.changes import MARK, RELAYED_SLOTS, mark_of


def heartbeat(
    core: HostedMicrogrid,
    line: LineCounter,
    now: Now,
    managed: Mapping[MicrogridId, HostedMicrogrid] | None,
    hosted: Mapping[MicrogridId, HostedMicrogrid],
    saves: Mapping[str, Collection[str]],
    program: Program | None,
) -> Publish:
    """Return the controller's heartbeat to the utility, of its own microgrid.

    Args:
        managed: The microgrids that it manages, of whose meters it tells; ``None``: it has no clique.
        hosted: The microgrids of which it has a store.
        saves: What the controller does by itself to save bytes, by reason.
        program: Its program, if it is to be told now.
    """
    backlog = zip(("backlog_parts", "backlog_events", "backlog_letters"), core.store.backlog(), strict=True)
    manages = None if managed is None else {name: each.manager.epochs.own for name, each in managed.items()}
    minima = {m: said for each in (core, *(managed or {}).values()) for m, said in each.manager.minima().items()}
    heartbeat = Heartbeat.model_validate(
        dict(backlog)
        | _energy(core, now)
        | {
            "time": now,
            "store": core.store.store_id,
            "backlog_age_s": core.backlog_age_s(now),
            "aggregation": core.relay.mode.name,
            "periods": core.utility_commands.periods,
            "tuned": _tuned(core, now),
            "saves": saves or None,
            "strategy": core.manager.strategy,
            "meters": core.modes.meters_mode.mode,
            "ends": _ends(core, now),
            "minima": minima,
            "trust": now.trust,
            "offset_s": int(core.time.offset_s),
            "manages": manages,
            "hosted": {name: _energy(each, now) for name, each in (managed or {}).items() if each is not core},
            "fenced": len(core.manager.epochs.fenced) if core.manager.epochs.commands else 0,
            "lte": line.month(now),
            "mark": mark_of(core.store.setting(MARK)),
            "program": program,
            "devices": core.devices_told.due(core.manager.foreign(), now),
            "refilling": {n: said for n, each in hosted.items() if (said := each.relay.refill.said(now)) is not None},
        }
    )
    return Publish(gateway_up(core.controller, STATUS), heartbeat.pack(), qos=0)


def _tuned(core: HostedMicrogrid, now: Now) -> list[str]:
    """Return the names of what the utility has set."""
    others = {
        "strategy": core.modes.is_strategy_tuned(now),
        "aggregation": core.relay.commanded.name != "none",
        "meters": core.modes.meters_mode.commanded is not None,
    }
    return [*sorted(core.utility_commands.tuned), *(name for name, is_tuned in others.items() if is_tuned)]


def _energy(core: HostedMicrogrid, now: Now) -> dict[str, object]:
    """Return what is said of a microgrid's batteries and power."""
    sharing, batteries = sharing_codes(core.manager, core.meters, now), core.manager.batteries(now)
    return {
        "sharing": sharing,
        "levels": [_permille(batteries.get(meter)) for meter in sharing],
        "stored": _stored(core.manager, batteries, now),
        "power": core.collector.last_minute.power(core.meters.values(), now),
        "band_permille": BAND_PERMILLE,
    }


def _permille(battery: BatteryState | None) -> int | None:
    """Return a battery's level in thousandths of its capacity."""
    return None if battery is None else max(0, min(1000, battery.level * 1000 // battery.capacity))


def _stored(manager: Manager, batteries: Mapping[MeterId, BatteryState], now: Now) -> tuple[MilliwattHours, int] | None:
    """Return the sum of the levels, and the age of the oldest, seconds."""
    if not batteries:
        return None
    oldest = min(manager.meters[meter].level_time for meter in batteries)
    return sum(battery.level for battery in batteries.values()), max(0, now - oldest)


def _ends(core: HostedMicrogrid, now: Now) -> dict[str, int]:
    """Return when what commands have set ends, of that in force."""
    states = core.modes.states
    ends = {"aggregation": core.relay.commanded.until, "reduce": states.reduce_until, "isolate": states.isolate_until}
    ends |= {"hold": states.hold_until}
    return {name: end for name, end in ends.items() if end is not None and end > now}


def view(core: HostedMicrogrid, line: LineCounter, now: Now) -> dict[str, object]:
    """Return a microgrid's present state for the status page, as JSON; of meters that are not replaced."""
    meters = {meter: registered for meter, registered in core.meters.items() if not registered.replaced}
    return {
        "microgrid": core.microgrid,
        "time": now,
        "trust": now.trust.name.lower(),
        "offset_s": int(core.time.offset_s),
        "time_contested": core.time.contested,
        "backlog": dict(zip(("parts", "events", "dead_letters"), core.store.backlog(), strict=True)),
        "backlog_age_s": core.backlog_age_s(now),
        "records": dict(core.collector.counts.records),
        "relayed_slots": int(core.store.setting(RELAYED_SLOTS) or "0"),
        "aggregation": core.relay.mode.name,
        "periods": core.utility_commands.periods,
        "tuned": _tuned(core, now),
        "saved": sorted(core.utility_commands.saved),
        "meters_mode": core.modes.meters_mode.mode,
        "lte": line.view(now),
        "batteries": (batteries := batteries_view(meters, core.manager, now)),
        "sharing_words": sharing_words(batteries, {str(meter): one.location for meter, one in meters.items()}),
        "power": None
        if (said := core.collector.last_minute.power(meters.values(), now)) is None
        else said.model_dump(),
        "sharing": core.manager.strategy,
        "modes": asdict(core.modes.view(now)),
        "mode_changes": [asdict(change) for change in core.modes.changes.changes],
        "lapses": core.manager.counts.lapses,
        "rates": core.utility_commands.rates.view(now),
        "donors": sorted(map(str, core.manager.decision.donors)),
        "receivers": sorted(map(str, core.manager.decision.receivers)),
        "last_commands": [{**asdict(note), "meter": str(note.meter)} for note in core.manager.notes],
        "meters": meters_view(meters, core.manager, now, core.utility_commands.periods["collect_s"]),
        "meter_states": meter_states(meters, core.manager, now),
    }
