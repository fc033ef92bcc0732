"""How often an attack succeeds, beside guessing, and how sure that is."""

from dataclasses import dataclass
from math import sqrt

import numpy as np
from numpy.typing import NDArray

_Z = 1.96  # standard deviations of an interval of 95 %


@dataclass(frozen=True, kw_only=True)
class Success:
    """The success of an attack."""

    name: str  # the attack's name
    words: str  # what the attacker knows and wants, in a line
    trials: int  # how often it was tried
    rate: float  # the part of trials that succeeded, 0 to 1
    guess: float  # the part that guessing gets without the release
    # The interval of 95 % of the rate; where each trial has its own guess, that of their difference.
    interval: tuple[float, float]

    @property
    def at_most_over_guessing(self) -> float:
        """The upper end of the interval less the rate of guessing: what a limit is compared with."""
        return self.interval[1] - self.guess


def of_hits(name: str, words: str, trials: int, hits: float, guess: float) -> Success:
    """Return the success of independent trials, with Wilson's interval.

    Args:
        name: The attack's name.
        words: What the attacker knows and wants.
        trials: How often it was tried.
        hits: How often it succeeded; of several equally likely answers each counts in part.
        guess: The rate of guessing.
    """
    n, p = trials, hits / trials if trials else 0.0
    low, high = 0.0, 1.0
    if n:
        middle, spread = p + _Z**2 / (2 * n), _Z * sqrt(p * (1 - p) / n + _Z**2 / (4 * n * n))
        low, high = (max(0.0, (middle - spread) / (1 + _Z**2 / n)), min(1.0, (middle + spread) / (1 + _Z**2 / n)))
    return Success(name=name, words=words, trials=n, rate=p, guess=guess, interval=(low, high))


def of_pairs(name: str, words: str, rates: NDArray[np.float64], guesses: NDArray[np.float64]) -> Success:
    """Return the success of trials, each with its own rate of guessing.

    Args:
        name: The attack's name.
        words: What the attacker knows and wants.
        rates: The success of each trial, 0 to 1.
        guesses: The same of guessing.
    """
    n = len(rates)
    if n < 2:
        return of_hits(name, words, n, float(rates.sum()), float(guesses.sum()))
    rate, error = float(rates.mean()), _Z * float((rates - guesses).std(ddof=1)) / sqrt(n)
    interval = (max(0.0, rate - error), min(1.0, rate + error))
    return Success(name=name, words=words, trials=n, rate=rate, guess=float(guesses.mean()), interval=interval)
