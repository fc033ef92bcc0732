"""What the town's plant sends."""

from collections.abc import Iterable

from commonwatt.model.effects import Write
from commonwatt.model.exceptions import ProtocolError
from commonwatt.model.time.now import Now, Trust
from commonwatt.model.units import MADE, QUARTER_S, EpochSeconds
from commonwatt.protocol.json_messages import unpack_json
from commonwatt.protocol.plant_messages import MAX_QUARTERS, PlantOutcome, PlantQuarter, PlantReport
from commonwatt.protocol.topics import OUTCOMES, STATUS
from utility.outbox.changes import ClosePurchase, KeepPlantQuarters, SawPlant, Step

KEPT_QUARTERS = 5 * 366 * 96  # finished quarters that are kept: five years


def is_confirmed(now: Now) -> bool:
    """Return whether the utility's time is confirmed; a clock before the release date is wrong, trusted or not."""
    return now.trust >= Trust.HARDWARE and now >= MADE


def from_plant(leaf: str, payload: bytes, now: Now, latest: EpochSeconds) -> Step:
    """Store the plant's report, or the outcome of a purchase; an unreadable message is counted only.

    Args:
        leaf: The end of the topic.
        latest: Latest possible present time.
    """
    try:
        if leaf == STATUS:
            report = unpack_json(PlantReport, payload)
            return Step("plant", (Write(SawPlant(time=now, report=report)), Write(_keep(report.quarters, now, latest))))
        if leaf != OUTCOMES:
            return Step("malformed")
        outcome = unpack_json(PlantOutcome, payload)
    except ProtocolError:
        return Step("malformed")
    state = "done" if outcome.result in ("done", "repeated") else "refused"
    keep = _keep(outcome.quarters, now, latest)
    # The quarters are stored as rows of their own; the last one of a full message shows that there may be more.
    left = keep.quarters[-1:] if len(outcome.quarters) == MAX_QUARTERS else ()
    told = outcome.model_copy(update={"quarters": left}).pack().decode()
    closing = ClosePurchase(id=outcome.id, state=state, outcome=told)
    return Step("outcome", (Write(closing), Write(keep)))


def _keep(quarters: Iterable[PlantQuarter], now: Now, latest: EpochSeconds) -> KeepPlantQuarters:
    """Keep the quarters that can be over, and delete old ones by the utility's clock: the plant's may be wrong."""
    is_trusted = is_confirmed(now)
    end = (now if is_trusted else latest) // QUARTER_S
    over = tuple(row for row in quarters if row.quarter < end)
    return KeepPlantQuarters(over, oldest=end - KEPT_QUARTERS if is_trusted else 0)
