"""What a period of the relay does to an LTE line, and how late its data comes: figures from the measured line (pure).

``commonwatt.model.control`` has the formula. The line's present use is measured by its gateway
(``Heartbeat.lte``), and what of it are readings by the utility (``RelayedDays``). Only the difference between two
periods of relaying is computed.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from pydantic import BaseModel, Field, computed_field

from commonwatt.model.control import ENOUGH_S, MONTH_S, PUT_S, SETTLED_S, RelayedDays, Relaying, line_of
from commonwatt.model.units import QUARTER_S, SLOT_S, MicrogridId
from commonwatt.protocol.controller_commands import Action
from commonwatt.protocol.heartbeats import Heartbeat


class PreviewedEffect(BaseModel):
    """What a change does to one microgrid's line; bytes up and down in a month of 30 days at the measured rate."""

    microgrid: MicrogridId
    before_bytes: tuple[int, int] | None = None
    after_bytes: tuple[int, int] | None = None
    expected_bytes: int | None = Field(None, description="At the end of this month, in the fuller direction.")
    allowance_bytes: int | None = Field(None, description="The plan's bytes a month, each way.")
    delay_s: tuple[int, int] | None = Field(
        None, description="How late a reading comes at most, before and after; null: the change does not matter."
    )
    why: str = Field("", description="Why there are no bytes.")

    @computed_field  # type: ignore[prop-decorator]
    @property
    def breaks(self) -> bool:
        """Whether the line carries more than its plan allows by the change: in a whole month, or by the end of this."""
        if self.before_bytes is None or self.after_bytes is None or self.allowance_bytes is None:
            return False
        more = [new for old, new in zip(self.before_bytes, self.after_bytes, strict=True) if new > old]
        return bool(more) and max(*more, *more, self.expected_bytes or 0) > self.allowance_bytes


def effect_on(
    microgrid: MicrogridId,
    fields: Mapping[str, Any],
    heartbeat: Heartbeat | None,
    relayed: RelayedDays | None,
    month_left_s: int,
    file_relay_s: int | None = None,
) -> PreviewedEffect:
    """Return what another period of the relay does to a line and to the delay of data.

    Args:
        fields: The command's keys; its ``periods`` have ``relay_s``.
        heartbeat: The gateway's last heartbeat.
        relayed: What it relayed; ``None``: it was not counted.
        month_left_s: Seconds from the heartbeat to the end of the local month.
        file_relay_s: The relay period of the gateway's file, if a heartbeat without a tuned one has it.
    """
    if heartbeat is None:
        return PreviewedEffect(microgrid=microgrid, why="its gateway has not reported yet")
    periods = heartbeat.periods
    relay_s = fields["periods"]["relay_s"] or file_relay_s
    if relay_s is None:
        return PreviewedEffect(microgrid=microgrid, why="the gateway's own period is not known here")
    put_s = periods.get("put_s", PUT_S)
    now = Relaying(relay_s=periods.get("relay_s", 60), aggregation=heartbeat.aggregation, put_s=put_s)
    # What the gateway does by itself ends where a period is set.
    is_set = fields["periods"]["relay_s"] is not None
    aggregation = heartbeat.commanded_aggregation if is_set else now.aggregation
    new = replace(now, relay_s=relay_s, aggregation=aggregation)
    collect_s = periods.get("collect_s", 60)
    delay_s = longest_delay_s(now, collect_s), longest_delay_s(new, collect_s)
    month = heartbeat.lte
    if month is None or month.expected is None or month_left_s <= 0:
        return PreviewedEffect(microgrid=microgrid, delay_s=delay_s, why="its line was not counted for an hour yet")
    if relayed is None or relayed.seconds < ENOUGH_S or not relayed.slots:
        return PreviewedEffect(microgrid=microgrid, delay_s=delay_s, why="its batches were not counted for an hour yet")
    if now.aggregation == "lossy":
        return PreviewedEffect(
            microgrid=microgrid, delay_s=delay_s, why="it relays averages now: exact readings are not measured"
        )
    rate = [(end - used) / month_left_s for end, used in zip(month.expected, month.used, strict=True)]
    difference = [b - a for a, b in zip(line_of(relayed, now), line_of(relayed, new), strict=True)]
    changed = [max(0.0, one + more) for one, more in zip(rate, difference, strict=True)]
    return PreviewedEffect(
        microgrid=microgrid,
        before_bytes=_month(rate),
        after_bytes=_month(changed),
        expected_bytes=round(max(used + one * month_left_s for used, one in zip(month.used, changed, strict=True))),
        allowance_bytes=month.allowance,
        delay_s=delay_s,
    )


def longest_delay_s(relaying: Relaying, collect_s: int) -> int:
    """Return the seconds from a reading's begin until the utility has it, at most, on a line that works."""
    waits = SLOT_S if relaying.aggregation == "none" else QUARTER_S + SETTLED_S
    return waits + max(collect_s, relaying.put_s) + relaying.relay_s


def _month(rate: list[float]) -> tuple[int, int]:
    up, down = (round(one * MONTH_S) for one in rate)
    return up, down


def in_words(fields: Mapping[str, Any]) -> list[str]:
    """Return what a command does, a sentence each, besides its figures."""
    match fields["cmd"]:
        case Action.SCHEDULE:
            periods = [_PERIODS[name] for name in fields.get("periods") or {}]
            return periods + ([_METERS[fields["meters"]]] if fields.get("meters") else [])
        case Action.SHARING:
            return [_STRATEGIES[fields["strategy"]]]
        case Action.AGGREGATE if fields.get("at") == "meters":
            return [_AT_METERS[fields.get("mode", "lossless")]]
        case Action.AGGREGATE:
            return [_AT_GATEWAY[fields.get("mode", "lossless")]]
        case Action.DEAGGREGATE:
            return ["Readings are relayed as they come, exact." if fields.get("at") != "meters" else _METERS["none"]]
        case Action.REDUCE | Action.ISOLATE | Action.HOLD as cmd:
            return [_STATES[f"{cmd} {fields['state']}"]]
        case Action.STOP:
            return [
                "The meter measures nothing until it is started." if fields["state"] == "on" else "The meter measures."
            ]
    return []


_PERIODS = {
    "collect_s": "Meters that do not send by themselves are asked for their records this often. All other meters send "
    "once a minute as before.",
    "levels_s": "Each battery's level is asked for this often if no record has brought it. A battery without a level "
    "for two periods does not share. Near a minimum levels are asked for every 15 s as before.",
    "relay_s": "Readings are relayed to the utility this often.",
    "put_s": "Meters that accept a period send their readings this often, all others once a minute, as all events are.",
    "compact_s": "The gateway joins stored parts this often. Nothing changes on the line.",
}
_METERS = {
    "lossless": "All meters send identical consecutive records as one. Nothing is lost. At a house about half of the "
    "bytes come over the line.",
    "none": "The meters send each record by itself.",
}
_STRATEGIES = {
    "spec": "Help starts when a battery is below its minimum; all batteries above theirs give, by their weights.",
    "aces": "Help starts when a battery is empty; all batteries above their minimum give, by their weights.",
    "rangers": "Help starts when a battery is below its minimum; the largest surpluses give first, without weights.",
    "file": "The batteries share as the gateway's own settings say.",
}
_AT_GATEWAY = {
    "lossless": "Only whole quarter-hours are relayed. Nothing is lost.",
    "lossy": "Averages of ten readings are relayed. The gateway keeps the exact ones for its backup time.",
}
_AT_METERS = {
    "lossless": "The meters send identical consecutive records as one. Nothing is lost.",
    "lossy": "The meters send averages of ten readings. The detail is lost for good.",
}
_STATES = {
    "reduce on": "All places reduce their load until the end.",
    "reduce off": "Places use what they want again, unless the supply is short or the import is limited.",
    "isolate on": "The boundary switch opens: the microgrid is an island until the end, and reduces its load when "
    "little energy is left.",
    "hold on": "Until the end batteries give to others only what a nearly empty one needs, as in an island. Sun fills "
    "them first; places use their own.",
    "hold off": "Batteries share as before.",
    "isolate off": "The boundary switch closes when the voltage is stable and the microgrid's turn has come.",
}
