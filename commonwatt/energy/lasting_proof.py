"""How good the projection of hours is, as 200 cuts measured it; ``tests/world/test_lasting_cuts.py`` makes some."""

CUTS = 200  # feeders of emulated towns that were cut at random moments of a year
MEDIAN_ERROR_PERCENT = 5  # the median error, as a percentage of the hours that came
HELD_PERCENT = 79  # how often the band of 80 % held
NEAR_H = 0.25  # hours by which an end of a band may be missed, as the band is rounded
# By how much the use of a day ahead is more or less at the ends of the band: in nine of ten microgrids of the test cuts
# by less, as a part of what is expected. A microgrid with more is none like those of the test cuts.
MOST_USE_ERROR = 0.1
GUESTS_CUTS, GUESTS_HELD_PERCENT = 100, 87  # the same cuts with guests at random, and how often the band held
WORDS = (
    f"In {CUTS} test cuts at random moments of a year half of the figures were off by less than "
    f"{MEDIAN_ERROR_PERCENT} %, and the range held {HELD_PERCENT} % of the time."
)


def words(use_error: float | None) -> str:
    """Return how good the projection is, for people, where use is so far from what is expected (``use_error``)."""
    if use_error is None:
        return "How far use here is from what is expected is not known yet, so the range may be too narrow."
    if use_error <= MOST_USE_ERROR:
        return WORDS
    return (
        f"Use here was up to {100 * use_error:.0f} % more or less in a day than expected, so the range is wide. In "
        f"{GUESTS_CUTS} test cuts with guests at random the range held {GUESTS_HELD_PERCENT} % of the time."
    )
