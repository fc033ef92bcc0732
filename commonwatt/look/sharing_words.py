"""Why a battery shares, receives or rests: the reasons as codes in heartbeats, and in words for people."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal, Self

from commonwatt.look.writing import DOLLARS, Writing
from commonwatt.model.text import counted

Role = Literal["gives", "receives", "rests", "out"]

ORDER: dict[Role, int] = {"receives": 0, "gives": 1, "out": 2, "rests": 3}  # roles in the order of interest
UNCONFIRMED = "?"  # follows the code of a battery whose meter has not confirmed the command to share yet

UNSEEN = "~"  # follows the code of a battery that can't show whether it obeys

_SUFFIXES = {
    UNCONFIRMED: "Its meter has not confirmed the command yet; it is sent again.",
    UNSEEN: "It can't show whether it obeys (unconfirmed).",
}


_READY = "the utility does not answer, or help began less than 5 minutes ago"


class RoleReason(StrEnum):
    """The reason for a battery's role; the code is part of the protocol."""

    role: Role
    words: str  # the reason, a sentence about the battery

    def __new__(cls, code: str, role: Role = "out", words: str = "") -> Self:
        """Make a reason of its code, the role, and the words."""
        why = str.__new__(cls, code)
        why._value_, why.role, why.words = code, role, words
        return why

    HELPS = "helps", "gives", "Above its minimum, and another battery needs help."
    READY = "ready", "gives", f"Above its minimum, and ready to share: {_READY}."
    LOW = "low", "receives", "Below its minimum."
    NEARLY_EMPTY = "empty", "receives", "Nearly empty, in an island or before a storm."
    NO_HELPER = "alone", "receives", "Below its minimum, but no other battery can share."
    WAITS_ACES = "waits-aces", "rests", "Below its minimum; help starts when a battery is empty."
    WAITS_ISLAND = (
        "waits-island",
        "rests",
        "Less than an hour of average use is left; help starts when it is nearly empty.",
    )
    WAITS_BAND = "waits-band", "rests", "Less than {band} % of its capacity below its minimum: help starts there."
    WAITS_BOUNDARY = (
        "waits-boundary",
        "rests",
        "No boundary meter says whether the microgrid is an island: until one reports, sharing stays as it is.",
    )
    LOW_IN_ISLAND = (
        "low-island",
        "rests",
        "Below its minimum; in an island and before a storm help starts when a battery is nearly empty.",
    )
    ONLY_RECEIVES_AT = "receiver-at", "rests", "At its minimum; it can only receive."
    ONLY_RECEIVES = "receiver", "rests", "Above its minimum; it can only receive."
    NO_NEED_AT = "no-need-at", "rests", "At its minimum; no battery needs help."
    NO_NEED = "no-need", "rests", "Above its minimum; no battery needs help."
    LARGER_FIRST = (
        "larger-first",
        "rests",
        "Above its minimum; batteries that already share give first, then larger surpluses.",
    )
    NOTHING_ABOVE = "at-minimum", "rests", "At its minimum: it has nothing to share."
    TOO_CLOSE = "too-close", "rests", "Less than {band} % of its capacity above its minimum: too close to share."
    CANT = "cant", "out", "It can't take part now."
    IMPOSSIBLE = "impossible", "out", "Its meter reports a level that its battery can't have."
    TOO_FAST = "too-fast", "out", "Its level changed faster than a battery can be charged or discharged."
    CONTRADICTING = (
        "contradicting",
        "out",
        "Its level is higher than the energy that its place's meters counted allows.",
    )
    FROZEN = (
        "frozen",
        "out",
        "Its level has stayed the same, although its place's meters count energy or two hours have passed.",
    )
    DISOBEYS = "disobeys", "out", "It was told to share three times and did not; it is told again later."
    ISOLATED = "isolated", "out", "Isolated by command."
    SHUT_DOWN = "shut-down", "out", "Its meter is shut down."
    OLD_LEVEL = "old-level", "out", "Its level is too old."
    FENCED = "fenced", "out", "Another manager commands its meter."
    NO_ANSWER = "no-answer", "out", "Its meter has not answered since the gateway started."
    NO_LEVEL = "no-level", "out", "Its meter has not reported a level yet."
    NO_MINIMUM = "no-minimum", "out", "Its minimum is not known."


@dataclass(frozen=True)
class SharingReason:
    """The role of a battery, and the reason."""

    role: Role  # whether it gives, receives, rests, or can't take part (``out``)
    why: str  # the reason, a sentence about the battery


def reason_of_code(code: str, band_permille: int, writing: Writing = DOLLARS) -> SharingReason:
    """Return the reason that a heartbeat has for a battery; a later version may have others.

    Args:
        band_permille: Thousandths of the capacity by which the start of help is delayed.
        writing: How the reason is written.
    """
    known = code.rstrip("".join(_SUFFIXES))
    if known not in set(RoleReason):
        unknown = "Its gateway has a reason that this version of the utility does not know."
        return SharingReason("out", writing.say(unknown))
    why = RoleReason(known)
    words = writing.say(why.words, band=writing.number(f"{band_permille / 10:g}"))
    suffix = _SUFFIXES.get(code.removeprefix(known))
    return SharingReason(why.role, f"{words} {writing.say(suffix)}" if suffix else words)


@dataclass(frozen=True, kw_only=True)
class BatteryWords:
    """A battery with its role."""

    meter: str  # its meter's id
    place: str  # its place
    role: Role  # whether it gives, receives, rests, or can't take part (``out``)
    why: str  # the reason, a sentence about the battery
    level: int | None = None  # its level, milliwatt-hours; ``None``: not known
    minimum: int | None = None  # its sharing minimum, milliwatt-hours; ``None``: not known
    capacity: int | None = None  # its capacity, milliwatt-hours; ``None``: not known


def summary_of(found: Sequence[BatteryWords]) -> str:
    """Return in a sentence or two which batteries of a microgrid share, and why."""
    return " ".join(_sentences(found)) if found else "This microgrid has no battery."


def _sentences(found: Sequence[BatteryWords]) -> Iterator[str]:
    givers, receivers, out = (
        [battery for battery in found if battery.role == role] for role in ("gives", "receives", "out")
    )
    if givers and receivers:
        verb = "shares" if len(givers) == 1 else "share"
        need = "is below its minimum" if len(receivers) == 1 else "are below their minimum"
        yield f"{_named(receivers)} {need}, so {_named(givers)} {verb}."
    elif receivers:
        verb = "is" if len(receivers) == 1 else "are"
        others = [battery for battery in found if battery.role == "rests"]
        above = "is far enough above to share"
        may = "may share yet: they can only receive" if all("can only" in each.why for each in others) else above
        yield f"{_named(receivers)} {verb} below the minimum, but no other battery {may if others else above}."
    elif givers:
        verb = "is" if len(givers) == 1 else "are"
        yield f"{_named(givers)} {verb} ready to share: {_READY}."
    elif len(out) == len(found):
        yield "No battery shares, since the level or the minimum of each battery is not known or too old."
    elif low := [each for each in found if each.role == "rests" and (each.level or 0) < (each.minimum or 0)]:
        verb = "is" if len(low) == 1 else "are"
        yield f"No battery shares yet, though {_named(low)} {verb} below the minimum. {low[0].why}"
    else:
        yield "No battery shares: none is below its minimum."
    if out and len(out) < len(found):
        yield f"{counted(len(out), 'battery').replace('batterys', 'batteries')} can't take part."


def _named(found: Sequence[BatteryWords]) -> str:
    names = [battery.place for battery in found]
    if len(names) > 3:
        return f"{names[0]}, {names[1]} and {len(names) - 2} other batteries"
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
