"""How good the projection of hours is, as ``python -m harness.lasting`` measured it: it fails if this is not true."""

from dataclasses import dataclass

NEAR_H = 0.25  # hours by which an end of a band may be missed, as the band is rounded


@dataclass(frozen=True, kw_only=True)
class Proof:
    """What was measured when feeders of emulated towns were cut at random moments of a year."""

    cuts: int  # how many were cut
    median_error_percent: float  # the median error, as a percentage of the hours that came
    held_percent: float  # how often the band of 80 % held

    @property
    def words(self) -> str:
        """It for people."""
        return (
            f"In {self.cuts} test cuts at random moments of a year half of the figures were off by less than "
            f"{self.median_error_percent:g} %, and the range held {self.held_percent:g} % of the time."
        )


PROOF = Proof(cuts=200, median_error_percent=5, held_percent=80)
