"""What a gateway tells of its present state: the heartbeat to the utility, and the status page as JSON."""

from dataclasses import asdict
from typing import TYPE_CHECKING

from commonwatt.model.effects import Publish
from commonwatt.model.now import Now
from commonwatt.protocol.heartbeats import Heartbeat
from commonwatt.protocol.topics import STATUS, gateway_up
from gateway.changes import RELAYED_SLOTS
from gateway.control.meter_states import batteries_view, meter_states, meters_view
from gateway.control.sharing_reasons import sharing_codes

if TYPE_CHECKING:
    from gateway.core import Gateway


def heartbeat(core: "Gateway", now: Now) -> Publish:
    """Return the heartbeat to the utility."""
    backlog = zip(("backlog_parts", "backlog_events", "backlog_letters"), core.store.backlog(), strict=True)
    heartbeat = Heartbeat.model_validate(
        dict(backlog)
        | {
            "time": now,
            "store": core.store.store_id,
            "backlog_age_s": core.backlog_age_s(now),
            "aggregation": core.relay.mode.name,
            "periods": core.utility_commands.periods,
            "tuned": [
                *sorted(core.utility_commands.tuned),
                *(["strategy"] if core.modes.is_strategy_tuned(now) else []),
            ],
            "strategy": core.manager.strategy,
            "meters": core.modes.meters_mode.mode,
            "ends": _ends(core, now),
            "lasts_until": core.modes.last_hour.lasts_until,
            "minima": core.manager.minima(),
            "sharing": sharing_codes(core.manager, core.meters, now),
            "band_permille": core.manager.band_permille,
            "trust": now.trust,
            "offset_s": int(core.time.offset_s),
            "fenced": len(core.manager.epochs.fenced),
            "lte": core.line.month(now),
        }
    )
    return Publish(gateway_up(core.microgrid, STATUS), heartbeat.pack(), qos=0)


def _ends(core: "Gateway", now: Now) -> dict[str, int]:
    """Return when what commands have set ends, of that in force."""
    states = core.modes.states
    ends = {"aggregation": core.relay.mode.until, "reduce": states.reduce_until, "isolate": states.isolate_until}
    ends |= {"hold": states.hold_until}
    return {name: end for name, end in ends.items() if end is not None and end > now}


def view(core: "Gateway", now: Now) -> dict[str, object]:
    """Return the gateway's present state for the status page, as JSON; of meters that are not replaced."""
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
        "tuned": sorted(core.utility_commands.tuned),
        "lte": core.line.view(now),
        "batteries": batteries_view(meters, core.manager, now),
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
