"""What the town's plant sends."""

from commonwatt.model.effects import Write
from commonwatt.model.exceptions import ProtocolError
from commonwatt.model.now import Now
from commonwatt.protocol.json_messages import unpack_json
from commonwatt.protocol.plant_messages import MAX_QUARTERS, PlantOutcome, PlantReport
from commonwatt.protocol.topics import OUTCOMES, STATUS
from utility.changes import ClosePurchase, KeepPlantQuarters, SawPlant
from utility.steps import Step


def from_plant(leaf: str, payload: bytes, now: Now) -> Step:
    """Store the plant's report, or the outcome of a purchase; an unreadable message is counted only."""
    try:
        if leaf == STATUS:
            report = unpack_json(PlantReport, payload)
            return Step("plant", (Write(SawPlant(time=now, report=report)), Write(KeepPlantQuarters(report.quarters))))
        if leaf != OUTCOMES:
            return Step("malformed")
        outcome = unpack_json(PlantOutcome, payload)
    except ProtocolError:
        return Step("malformed")
    state = "done" if outcome.result in ("done", "repeated") else "refused"
    # The quarters are stored as rows of their own; the last one of a full message shows that there may be more.
    left = outcome.quarters[-1:] if len(outcome.quarters) == MAX_QUARTERS else ()
    told = outcome.model_copy(update={"quarters": left}).pack().decode()
    closing = ClosePurchase(id=outcome.id, state=state, outcome=told)
    return Step("outcome", (Write(closing), Write(KeepPlantQuarters(outcome.quarters))))
