"""An authenticator app: shows the codes of a secret."""

from utility.access.one_time import STEP_S, code_of


def shown(seed: str, now: float) -> str:
    """Return the code that the app shows at a time, epoch seconds."""
    return code_of(seed, int(now) // STEP_S)


def wrong(seed: str, now: float) -> str:
    """Return a code that is not accepted at a time."""
    right = {code_of(seed, int(now) // STEP_S + step) for step in range(-3, 4)}
    return next(code for code in map("{:06}".format, range(10)) if code not in right)
