"""What a gateway tells of its present state: the heartbeat to the utility, and the status page as JSON."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Protocol

from commonwatt.model.effects import Publish
from commonwatt.model.ids import MeterId
from commonwatt.model.now import Now
from commonwatt.model.units import MicrogridId, MilliwattHours
from commonwatt.protocol.heartbeats import Heartbeat
from commonwatt.protocol.topics import STATUS, gateway_up
from commonwatt.town.registry import RegisteredMeter
from gateway.changes import RELAYED_SLOTS
from gateway.collect.collector import Collector
from gateway.control.manager import Manager
from gateway.control.meter_states import batteries_view, meter_states, meters_view
from gateway.control.modes import Modes
from gateway.control.sharing import BatteryState
from gateway.control.sharing_reasons import sharing_codes
from gateway.lte_line import Line
from gateway.relay.relay import Relay
from gateway.relay.utility_commands import UtilityCommands
from gateway.stored import Stored
from gateway.timekeeper import Timekeeper


class Parts(Protocol):
    """The parts of a gateway that its state is told from."""

    microgrid: MicrogridId  # the microgrid
    meters: dict[MeterId, RegisteredMeter]  # its registered meters, by id
    store: Stored  # its store
    time: Timekeeper  # its time
    collector: Collector  # accepts the meters' messages
    manager: Manager  # keeps the meters in their desired states
    modes: Modes  # the modes of the microgrid
    relay: Relay  # relays data to the utility
    line: Line  # counts the bytes on the LTE line
    utility_commands: UtilityCommands  # carries out the utility's commands

    def backlog_age_s(self, now: Now) -> int:
        """Return the seconds since the end of the oldest quarter with unacknowledged parts; 0: there is none."""


def heartbeat(core: Parts, now: Now) -> Publish:
    """Return the heartbeat to the utility."""
    sharing, batteries = sharing_codes(core.manager, core.meters, now), core.manager.batteries(now)
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
            "sharing": sharing,
            "levels": [_permille(batteries.get(meter)) for meter in sharing],
            "stored": _stored(core.manager, batteries, now),
            "power": core.collector.last_minute.power(core.meters.values(), now),
            "band_permille": core.manager.band_permille,
            "trust": now.trust,
            "offset_s": int(core.time.offset_s),
            "fenced": len(core.manager.epochs.fenced),
            "lte": core.line.month(now),
        }
    )
    return Publish(gateway_up(core.microgrid, STATUS), heartbeat.pack(), qos=0)


def _permille(battery: BatteryState | None) -> int | None:
    """Return a battery's level in thousandths of its capacity."""
    return None if battery is None else max(0, min(1000, battery.level * 1000 // battery.capacity))


def _stored(manager: Manager, batteries: Mapping[MeterId, BatteryState], now: Now) -> tuple[MilliwattHours, int] | None:
    """Return the sum of the levels, and the age of the oldest, seconds."""
    if not batteries:
        return None
    oldest = min(manager.meters[meter].level_time for meter in batteries)
    return sum(battery.level for battery in batteries.values()), max(0, now - oldest)


def _ends(core: Parts, now: Now) -> dict[str, int]:
    """Return when what commands have set ends, of that in force."""
    states = core.modes.states
    ends = {"aggregation": core.relay.mode.until, "reduce": states.reduce_until, "isolate": states.isolate_until}
    ends |= {"hold": states.hold_until}
    return {name: end for name, end in ends.items() if end is not None and end > now}


def view(core: Parts, now: Now) -> dict[str, object]:
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
