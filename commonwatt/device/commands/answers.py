"""A meter's answers to commands: outcomes, also for a command that can't be read."""

import json
from typing import TYPE_CHECKING, TypedDict, Unpack, get_args

from commonwatt.device.changes import MeterState
from commonwatt.device.commands.desired_states import DONE, Verdict
from commonwatt.device.records.delivery import Delivery
from commonwatt.device.records.log import MeterLog
from commonwatt.model.units import EpochSeconds
from commonwatt.protocol.commands import Kind, LogIds, Name, Outcome
from commonwatt.protocol.meter_messages import Level

if TYPE_CHECKING:
    from commonwatt.device.meter import Meter


class Found(TypedDict, total=False):
    """What only some outcomes have."""

    sent: dict[str, int]  # records put for ``get``, by type
    acknowledged: bool | None  # whether the gateway asked about acknowledged; ``None``: not known


def outcome(meter: "Meter", name: str, cmd: str, verdict: Verdict, now: float, **found: Unpack[Found]) -> bytes:
    """Return the outcome of the command with id ``name``, with the meter's present state at its time ``now``."""
    battery = meter.description.battery
    return Outcome(
        id=name,
        cmd=cmd,
        result=verdict.result,
        reason=verdict.reason,
        time=int(now),
        bits=meter.state.bits,
        held=meter.desired_states.held,
        epoch=meter.desired_states.epoch,
        push=meter.description.push,
        minimum_percent=battery.minimum_percent if battery else None,
        capacity_mwh=battery.capacity if battery else None,
        put_s=meter.desired_states.put_s if Kind.PUT_PERIOD in meter.description.commandable else None,
        history=_ids(meter.history),
        events=_ids(meter.events),
        **found,
    ).pack()


def collected(delivery: Delivery) -> tuple[Verdict, dict[str, int]]:
    """Return the verdict on a ``get`` of records, and the records that were put by type."""
    put = delivery.log.batch()
    if put is None:
        return DONE, {}
    verdict = Verdict("partial", "more follows") if put.last_id < delivery.wanted else DONE
    return verdict, {str(int(kind)): count for kind, count in put.counts().items()}


def level(state: MeterState, at: EpochSeconds | None) -> bytes:
    """Return the live level of a meter's battery, measured at ``at``; ``None``: in its last slot."""
    assert state.level is not None
    return Level(state=state.bits, time=at or state.last_slot, level=state.level).pack()


def unread(payload: bytes, why: str) -> tuple[str, str, Verdict] | None:
    """Return id, name and verdict of a command that can't be read; ``None``: no answer is possible."""
    named = _name_of(payload)
    if named is None:
        return None
    is_known = not named[1] or named[1] in get_args(Name)
    return *named, Verdict("refused" if is_known else "unsupported", why[:256])


def _name_of(payload: bytes) -> tuple[str, str] | None:
    try:
        content = json.loads(payload)
    except (ValueError, RecursionError):
        return None
    name = content.get("id") if isinstance(content, dict) else None
    # A lone surrogate is valid JSON, but can't be encoded in an answer.
    if not isinstance(name, str) or len(name) > 64 or not name.isascii():
        return None
    cmd = content.get("cmd")
    return name, cmd[:32] if isinstance(cmd, str) and cmd.isascii() else ""


def _ids(log: MeterLog) -> LogIds:
    # 64-bit ids are text in JSON, and so in the model that checks it.
    return LogIds.model_validate({"generation": log.generation, "first": str(log.first_id), "next": str(log.next_id)})
