"""The states of a controller in one microgrid (docs/controllers.md has the picture of how one follows another)."""

from enum import StrEnum


class State(StrEnum):
    """A state."""

    DOUBTS = "doubts"  # has an epoch, and asks whether it is still the highest
    MANAGES = "manages"  # commands the meters
    STANDS_BY = "stands by"  # knows another manager, or none
    CLAIMS = "claims"  # asks whether the manager is lost
    YIELDS = "yields"  # gave the microgrid up, and repeats that until the receiver answers
