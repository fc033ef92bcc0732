"""What docs/scenarios.md says of the demonstration: the keys of its report, and its tour."""

from commonwatt.demo.tour import STEPS

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


def tour() -> str:
    """Return the tour of the demonstration as a part of a page."""
    lines = []
    for number, step in enumerate(STEPS, start=1):
        lines.append(f"{number}. **{step.title}.**")
        lines += [f"   - `{does.replace('DATA', 'data').replace('CONSOLE', '')}`" for does in step.do]
        lines.append(f"   - {step.page}: {step.look}".replace("DATA", "data").replace("CONSOLE", ""))
    return "\n".join(lines) + "\n"
