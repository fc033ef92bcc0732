"""How well the hours that homes last were foretold when feeders were cut in emulated years (``harness.lasting``)."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Proof:
    """What came of the cuts."""

    cuts: int  # how many there were
    median_error_percent: float  # half of them were off by at most this
    held_percent: float  # how many of them the band of 80 % held


# A placeholder: to be replaced by what ``harness.lasting`` finds.
PROOF = Proof(cuts=200, median_error_percent=9.0, held_percent=80.0)
