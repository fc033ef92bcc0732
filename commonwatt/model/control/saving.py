"""What a controller does by itself to save bytes: the measures, the reasons, and their words (docs/control.md)."""

from collections.abc import Mapping, Sequence
from enum import StrEnum


class Measure(StrEnum):
    """What saves bytes, in the order of the ladder's steps."""

    QUARTERS = "quarters"  # only whole quarter-hours are relayed
    METERS = "meters"  # the meters aggregate without loss
    PUTS = "puts"  # the meters that accept a period of puts put less often
    AVERAGES = "averages"  # averages are relayed


LINE, DISK, BACKLOG, UTILITY = "line", "disk", "backlog", "utility"
REASONS = {LINE: "the LTE line", DISK: "the disk", BACKLOG: "the backlog", UTILITY: "the utility"}
"""Each reason for people: what bytes are saved for."""

WORDS = {
    Measure.QUARTERS: "whole quarter-hours are relayed",
    Measure.METERS: "meters send identical readings as one",
    Measure.PUTS: "meters send less often",
    Measure.AVERAGES: "averages are relayed",
}
"""Each measure for people."""


def saving_words(saves: Mapping[str, Sequence[str]]) -> list[tuple[str, str]]:
    """Return for what bytes are saved, and how, in words; those of a later version as they are."""
    words: dict[str, str] = {str(measure): text for measure, text in WORDS.items()}
    return [(REASONS.get(name, name), ", ".join(words.get(one, one) for one in how)) for name, how in saves.items()]
