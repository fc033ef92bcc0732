"""What must hold in every world, always and at its end. A violation begins with the name of one, or of several."""

INVARIANTS: dict[str, str] = {
    "I1": "What a gateway acknowledged is in its store after any crash, or still at the meter.",
    "I2": "What the utility acknowledged is committed.",
    "I3": "Nothing is deleted, or told as relayed, before the next one has it.",
    "I5": "Each slot is exact, averaged or missing with a reason: no silent gap, no damaged value.",
    "I6": "After all faults everything arrives, within a bound: nothing lost, nothing doubled, nothing invented.",
    "I7": "A meter's epoch never goes back; a command is obeyed once, and never after its end.",
    "I8": "Of two managers, the commands of one take effect.",
    "I10": "Memory, queues, messages and stores stay under their bounds.",
    "E1": "Nothing flows to or from a feeder that is dead.",
    "E2": "The switch of a boundary opens when its feeder dies.",
    "E3": "A switch closes after stable voltage alone, and not onto a dead line.",
    "E4": "A microgrid becomes an island for a cause alone.",
    "E5": "No battery gives below its owner's minimum, and none shares without a command.",
    "E6": "The emergency services are not rationed.",
    "E7": "A quarter-hour's purchase is decided once, and bought to the milliwatt-hour.",
    "E8": "Imports stay under the limit in force, and the limit ends with the supply's.",
    "E9": "Nothing is ordered on a report of the boundary from before a start.",
    "core": "No core and no store fails.",
}
"""By name. I: of data and commands; E: of energy."""
