"""What each way of making quarter-hours coarser buys, and what it costs."""

from collections.abc import Sequence
from dataclasses import dataclass
from zoneinfo import ZoneInfo

from utility.research.attacks.success import Success
from utility.research.coarsening import Coarsening, coarsened, sampled, whole_days
from utility.research.figures import Errors, attacks_on_pseudonyms, errors_of
from utility.research.homes import HALF_HOUR_S, Homes
from utility.research.secret import random_of

OPTIONS = (
    Coarsening(),
    Coarsening(unit_wh=10),
    Coarsening(unit_wh=100),
    Coarsening(step_s=3600),
    Coarsening(step_s=3600, unit_wh=100),
    Coarsening(noise_wh=20),
    Coarsening(noise_wh=100),
    Coarsening(shuffled=True),
    Coarsening(step_s=3600, shuffled=True, unit_wh=100),
    Coarsening(sample_percent=10),
)
"""What the table of options compares."""


@dataclass(frozen=True, kw_only=True)
class Compared:
    """What an option of coarsening buys, and what it costs."""

    option: Coarsening
    attacks: tuple[Success, ...]
    errors: Errors


def compare(
    homes: Homes, zone: ZoneInfo, secret: bytes, options: Sequence[Coarsening] = OPTIONS, trials: int = 400
) -> list[Compared]:
    """Return for each option the success of the attacks, and the errors of usual figures.

    Options that shuffle days are left out unless the period is of whole days (UTC).

    Args:
        homes: Homes in quarter-hours, over at least a whole day.
        zone: The town's time zone.
        secret: Decides the random numbers.
        trials: How many homes each attack is tried on.
    """
    truth = homes.in_steps(HALF_HOUR_S)
    possible = [option for option in options if not option.shuffled or whole_days(homes.start, homes.end)]
    return [_compared(homes, truth, zone, option, secret, trials) for option in possible]


def _compared(homes: Homes, truth: Homes, zone: ZoneInfo, option: Coarsening, secret: bytes, trials: int) -> Compared:
    random = random_of(secret, "compare", option.words)
    released = coarsened(sampled(homes, option, random), option, random)
    return Compared(
        option=option,
        attacks=attacks_on_pseudonyms(truth, released, option, zone, random, trials),
        errors=errors_of(homes, released),
    )
