"""A claim: what a controller asks before it takes over by itself, and what it heard (docs/controllers.md, R8)."""

from dataclasses import dataclass, field

from commonwatt.model.ids import MeterId
from commonwatt.model.units import ControllerId
from commonwatt.protocol.commands import Epoch

ASKED_METERS = 4  # meters that are asked at once
METER_ANSWER_S = 3.0  # seconds within which a meter answers
GIVEN_UP_S = 15.0  # seconds after which a claim without a result begins anew


@dataclass
class Claim:
    """A claim that goes on."""

    lost: ControllerId  # the controller believed lost
    nonce: int  # its number, which the vote repeats
    began: float  # when it began
    asked: ControllerId | None  # the member that was asked; ``None``: there is none
    vote: str | None = None  # what that member saw; ``None``: no answer so far
    epochs: list[Epoch] = field(default_factory=list)  # the highest epochs that others named
    meters_asked: float = -1e9  # when meters were asked last
    acknowledged: dict[MeterId, bool] = field(default_factory=dict)  # what the meters saw

    def is_granted(self, needed: int) -> bool:
        """Return whether the member, or enough meters, saw the loss."""
        return self.vote == "lost" or len(self.acknowledged) >= needed

    @property
    def refused(self) -> bool:
        """Whether somebody saw life."""
        return self.vote == "alive" or any(self.acknowledged.values())
