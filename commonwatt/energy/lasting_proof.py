"""How good the projection of hours is, as ``python -m harness.lasting`` measured it: it fails if this is not true."""

CUTS = 200  # feeders of emulated towns that were cut at random moments of a year
MEDIAN_ERROR_PERCENT = 5  # the median error, as a percentage of the hours that came
HELD_PERCENT = 79  # how often the band of 80 % held
NEAR_H = 0.25  # hours by which an end of a band may be missed, as the band is rounded
WORDS = (
    f"In {CUTS} test cuts at random moments of a year half of the figures were off by less than "
    f"{MEDIAN_ERROR_PERCENT} %, and the range held {HELD_PERCENT} % of the time."
)
