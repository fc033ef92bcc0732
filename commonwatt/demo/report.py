"""The demonstration's JSON report; its keys are documented in docs/scenarios.md."""

from commonwatt.audit import Audit
from commonwatt.demo.layout import Layout

KEYS: dict[str, str] = {
    "town": "Name of the town.",
    "speed": "Town seconds in one real second.",
    "simulated_from": "Town time at which this run began, epoch seconds.",
    "simulated_to": "Latest end of a meter's last record in this run, town time in epoch seconds.",
    "meters": "Meters in the town, with the boundary meters of the microgrids.",
    "records_made": "History records made by meters since the first run: one for each slot and record type.",
    "records_acknowledged": "Of these, records that a gateway acknowledged and the meter deleted.",
    "records_stored": "Of these, records that the utility stores (exactly, or within an average).",
    "records_averaged": "Of these, records stored within an average.",
    "slots_missing": "Slots with a record that the utility does not store.",
    "slots_held": "Of these, slots still in the log of a meter or gateway; 0 if the run ended drained.",
    "slots_conflicting": "Slots for which the utility stores more than one value.",
    "slots_unmade": "Slots that the utility stores without a record in the truth log.",
    "energy_difference_mwh": "Sum of the differences between exactly stored slots and the truth log, milliwatt-hours.",
    "averaged_beyond_bound": "Groups of averaged slots off by more than half a milliwatt-hour a slot.",
    "events_made": "State events made by meters.",
    "events_stored": "Of these, events stored at the utility.",
    "events_missing": "Of these, events found nowhere.",
    "sharing_events": "Times a battery began to share, from the utility's stored state events.",
    "control_lapses": "States of meters that ended before their gateway renewed them, over all starts of the gateways.",
    "good": "Whether nothing is lost and nothing counted twice.",
}
"""The meaning of each key of the report."""


def make_report(layout: Layout, ended_at: int, audit: Audit, lapses: int) -> dict[str, object]:
    """Make the report of a run that has ended, in which the gateways counted so many lapses of control."""
    made = audit.total("made")
    stored = audit.total("stored_exact") + audit.total("stored_averaged")
    clock = layout.clock
    return {
        "town": layout.town.table.name,
        "speed": clock.speed,
        "simulated_from": int(clock.origin),
        "simulated_to": ended_at if clock.meters_stop_at is None else min(ended_at, clock.meters_stop_at),
        "meters": len(layout.town.meters),
        "records_made": made,
        "records_acknowledged": made - audit.total("at_meter"),
        "records_stored": stored,
        "records_averaged": audit.total("stored_averaged"),
        "slots_missing": made - stored,
        "slots_held": audit.total("held"),
        "slots_conflicting": audit.total("conflicting"),
        "slots_unmade": audit.total("unmade"),
        "energy_difference_mwh": audit.total("difference"),
        "averaged_beyond_bound": audit.total("beyond_bound"),
        "events_made": audit.events_made,
        "events_stored": audit.events_stored,
        "events_missing": audit.events_missing,
        "sharing_events": audit.sharing_events,
        "control_lapses": lapses,
        "good": audit.good,
    }
