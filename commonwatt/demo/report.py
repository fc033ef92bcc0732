"""The demonstration's JSON report; its keys are documented in docs/report.md."""

from commonwatt.audit import Audit
from commonwatt.demo.layout import Layout

KEYS: dict[str, str] = {
    "town": "Name of the town.",
    "speed": "Town seconds in one real second.",
    "simulated_from": "Town time this run began at, epoch seconds.",
    "simulated_to": "Town time the meters' last record of this run may end at, epoch seconds.",
    "meters": "Meters in the town, those of the microgrids' boundaries included.",
    "records_made": "History records meters made since the data folder was begun: one for each slot and record type.",
    "records_acknowledged": "Of these, those a meter has handed over: acknowledged by its gateway and deleted.",
    "records_stored": "Of these, those the utility stores (exactly, or within an average).",
    "records_averaged": "Of these, those stored within an average.",
    "slots_missing": "Slots a record was made for that the utility does not store.",
    "slots_held": "Of these, those still held by a meter or gateway; 0 after a drained end.",
    "slots_conflicting": "Slots the utility stores more than one value of.",
    "slots_unmade": "Slots the utility stores though no record was made.",
    "energy_difference_mwh": "What exactly stored slots differ by from what was made, milliwatt-hours.",
    "averaged_beyond_bound": "Groups of averaged slots off by more than half a milliwatt-hour a slot.",
    "events_made": "State events meters made.",
    "events_stored": "Of these, stored at the utility.",
    "events_missing": "Of these, nowhere.",
    "sharing_events": "Times a battery began to share, as the utility's stored state events tell.",
    "good": "Whether nothing is lost and nothing counted twice.",
}
"""What each key of the report means."""


def make_report(layout: Layout, ended_at: int, audit: Audit) -> dict[str, object]:
    """Make the report of a run that has ended."""
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
        "good": audit.good,
    }
