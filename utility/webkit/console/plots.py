"""Plots of long series: few points that keep every peak, every gap and every doubt about a value."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from commonwatt.model.units import EpochSeconds

MOST_POINTS = 1_000  # points of a plot: about as many as a screen has columns
MOST_MARKS = 400  # marked spans of a plot; beyond, the rest is one span
SOME_MISSING = "some readings missing"  # the word of a step that lacks a value

_LACKING = -1

Values = NDArray[np.int64]
Words = Mapping[int, str]  # a word by quality; a quality without a word is not marked


@dataclass(frozen=True, kw_only=True, eq=False)
class Series:
    """A series in steps of one length, without a hole: a missing value has quality 0."""

    start: EpochSeconds  # the first second of the first step
    step_s: int  # seconds of a step
    low: Values  # the least value in each step, (n)
    high: Values  # the greatest value in each step, (n); the same array if a step has one value
    quality: NDArray[np.uint8]  # (n); 0: missing, and the higher the better
    lacking: NDArray[np.bool_]  # whether a step with a value lacks another one, (n)

    def __len__(self) -> int:
        """Return the number of steps."""
        return len(self.quality)


def single(start: EpochSeconds, step_s: int, values: Values, quality: NDArray[Any]) -> Series:
    """Return a series with one value in each step; ``quality`` may be whether there is one."""
    lacking = np.zeros(len(values), np.bool_)
    return Series(
        start=start, step_s=step_s, low=values, high=values, quality=quality.astype(np.uint8), lacking=lacking
    )


def thinned(series: Series, most: int = MOST_POINTS) -> Series:
    """Return a series of at most ``most`` longer steps, each with its least and greatest value.

    A step without any value is a gap. A step's quality is the worst of the values that are there.
    """
    many = -(-len(series) // most)
    if many <= 1:
        return series
    there = _in_rows(series.quality > 0, many, fill=False)
    low = _in_rows(series.low, many, fill=0)
    high = _in_rows(series.high, many, fill=0)
    quality = np.where(there, _in_rows(series.quality, many, fill=0), np.uint8(255)).min(axis=1)
    limits = np.iinfo(np.int64)
    some = there.any(axis=1)
    return Series(
        start=series.start,
        step_s=series.step_s * many,
        low=np.where(some, np.where(there, low, limits.max).min(axis=1), 0),
        high=np.where(some, np.where(there, high, limits.min).max(axis=1), 0),
        quality=np.where(some, quality, 0).astype(np.uint8),
        lacking=np.asarray(some & ~_in_rows((series.quality > 0) & ~series.lacking, many, fill=True).all(axis=1)),
    )


def plotted(series: Series, scale: float, words: Words) -> dict[str, Any]:
    """Return the points of a series as JSON: ``low`` is absent if each step has one value.

    Args:
        scale: What a value is multiplied with.
        words: The qualities to be marked, in words.
    """
    there = series.quality > 0
    times = (series.start + series.step_s * np.arange(len(series))).tolist()
    found: dict[str, Any] = {"x": times, "step_s": series.step_s, "high": _numbers(series.high, there, scale)}
    if not np.array_equal(series.low, series.high):
        found["low"] = _numbers(series.low, there, scale)
    return found | {"marks": marks(series, words), "missing": int((~there).sum())}


def line(label: str, unit: str, x: Sequence[EpochSeconds], step_s: int, high: Sequence[float | None]) -> dict[str, Any]:
    """Return a plot's series without marks, of values in steps of one length that begin at ``x``."""
    missing = sum(value is None for value in high)
    return {"label": label, "unit": unit, "x": x, "step_s": step_s, "high": high, "marks": [], "missing": missing}


def marks(series: Series, words: Words) -> list[tuple[EpochSeconds, EpochSeconds, str]]:
    """Return the spans of time with a quality that is marked: (begin, end, word), oldest first."""
    if not len(series):
        return []
    kind = np.where(series.lacking, _LACKING, series.quality.astype(np.int64))
    names = {**words, _LACKING: SOME_MISSING}
    changes = np.flatnonzero(np.diff(kind)) + 1
    begins = [0, *changes.tolist()]
    spans = zip(begins, [*begins[1:], len(series)], strict=True)
    found = [
        (series.start + first * series.step_s, series.start + end * series.step_s, word)
        for first, end in spans
        if (word := names.get(int(kind[first])))
    ]
    if len(found) <= MOST_MARKS:
        return found
    rest = found[MOST_MARKS - 1 :]
    return [*found[: MOST_MARKS - 1], (rest[0][0], rest[-1][1], "of several qualities")]


def _in_rows(values: NDArray[Any], many: int, fill: object) -> NDArray[Any]:
    padded = np.full(-(-len(values) // many) * many, fill, values.dtype)
    padded[: len(values)] = values
    return padded.reshape(-1, many)


def _numbers(values: Values, there: NDArray[np.bool_], scale: float) -> list[float | None]:
    scaled = np.round(values * scale, 4).tolist()
    return [value if known else None for value, known in zip(scaled, there.tolist(), strict=True)]
