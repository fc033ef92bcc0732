"""The town's plant at the head-end: its command, the outcome, and its report; JSON (T5, docs/protocol.md, "The plant").

The plant has the topics of a controller named ``plant``. A purchase is a desired state for one quarter-hour, and its
quarter is its sequence number: the plant makes a purchase durable before it answers, and carries out no other purchase
for that quarter or an earlier one.
"""

from enum import StrEnum
from typing import Annotated, NamedTuple, Self

from pydantic import Field, model_validator

from commonwatt.model.control import SupplyState
from commonwatt.protocol.commands import Answer
from commonwatt.protocol.json_messages import Message, Moment, Natural

Quarter32 = Annotated[int, Field(ge=0, lt=2**32)]  # a quarter-hour: epoch seconds // 900

Signed = Annotated[int, Field(ge=-(2**53), le=2**53)]

MAX_QUARTERS = 150  # most finished quarters in one message


class PlantAction(StrEnum):
    """A command to the plant; any other word is answered ``unsupported``."""

    PURCHASE = "purchase"


class PlantQuarter(NamedTuple):
    """What the plant measured in a finished quarter-hour, milliwatt-hours; in JSON a list."""

    quarter: Quarter32  # the quarter-hour
    # Slots of it that were counted, at most 60; fewer if the plant was off for a time.
    slots: Annotated[int, Field(ge=0, le=60)]
    ordered: Natural  # energy bought by order
    needed: Natural  # energy bought because the town had no other
    sold: Natural  # energy that the regional grid took
    net: Signed  # what the town took from the plant, less what it gave; what went short is not in it
    level: Signed  # level of the battery at the end


class PlantCommand(Message):
    """A command of the utility to the plant."""

    id: Annotated[str, Field(max_length=64)]  # the utility's id for it; the same id again is the same command
    # What to do, a ``PlantAction``; any other word is answered ``unsupported``.
    cmd: Annotated[str, Field(max_length=32)]
    until: Moment  # when the command is no longer wanted
    quarter: Quarter32 | None = None  # the quarter-hour of the purchase, which is also its sequence number
    # Energy to buy from the regional grid in that quarter-hour, milliwatt-hours, evenly over what is left of it. Less
    # is bought where line and battery can't take it.
    energy_mwh: Natural | None = None
    # Level of the battery that is kept for the public microgrid, from now on; absent: as it is.
    keep_mwh: Natural | None = None
    first_quarter: Quarter32 | None = None  # the outcome has the finished quarters from this one on; absent: none

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.cmd == PlantAction.PURCHASE:
            for key in ("quarter", "energy_mwh"):
                if getattr(self, key) is None:
                    raise ValueError(f"purchase needs {key}")
        return self


class PlantOutcome(Answer):
    """The plant's answer to a command."""

    # Id of the newest purchase that the plant has carried out or is going to.
    held: Annotated[str, Field(max_length=64)] | None = None
    # The finished quarters asked for, oldest first, at most ``MAX_QUARTERS``.
    quarters: Annotated[tuple[PlantQuarter, ...], Field(max_length=MAX_QUARTERS)] = ()


class PlantReport(Message):
    """The plant's state, once a minute and at a change of the supply; QoS 0, the next one replaces it."""

    time: Moment  # the plant's time, the end of the last measured slot
    level_mwh: Signed  # level of its battery, milliwatt-hours
    capacity_mwh: Natural  # the battery's capacity
    battery_limit_w: Natural  # the most power that charges or discharges it
    loss_permille: Annotated[int, Field(ge=0, lt=1000)] = 0  # the part of charged energy that is lost, thousandths
    battery_w: Signed = 0  # power into the battery in the last slot; negative: out of it
    bought_w: Signed = 0  # power from the regional grid in the last slot; negative: sold
    line_w: Natural  # the line's limit in the present state of the supply; 0 without voltage
    supply: SupplyState  # what the regional grid reports of its supply
    voltage: bool = True  # whether the regional line has voltage
    # (from when, price), by time: the price in force and the announced ones, thousandths of the price outside peak
    # hours.
    prices: Annotated[tuple[tuple[Moment, Natural], ...], Field(min_length=1, max_length=200)]
    prices_until: Moment  # until when prices are announced
    keep_mwh: Natural = 0  # level that is kept for the public microgrid
    # The last finished quarters, oldest first.
    quarters: Annotated[tuple[PlantQuarter, ...], Field(max_length=MAX_QUARTERS)] = ()

    @model_validator(mode="after")
    def _prices_in_order(self) -> Self:
        times = [time for time, _ in self.prices]
        if times != sorted(set(times)) or times[0] > self.time or times[-1] >= self.prices_until:
            raise ValueError("prices must ascend by time, from the present one on, to before prices_until")
        return self
