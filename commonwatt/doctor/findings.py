"""Findings of an examination: what was checked, what was found, and what to do about it."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

from commonwatt.model.exceptions import CommonwattError


class Level(StrEnum):
    """Severity of a finding."""

    GOOD = "good"
    WARNING = "warning"
    BAD = "bad"


SEVERITY = {Level.GOOD: 0, Level.WARNING: 1, Level.BAD: 2}  # order of the levels


@dataclass(frozen=True, kw_only=True)
class Finding:
    """The result of one check."""

    check: str  # what was checked, such as ``clock`` or ``head_end``
    level: Level  # its severity
    found: str  # what was found, in words
    remedy: str = ""  # what to do; empty for a good finding. FILE in it stands for the service's file.


def with_file(finding: Finding, config: Path) -> Finding:
    """Return a finding whose remedy names the service's file."""
    return replace(finding, remedy=finding.remedy.replace("--config FILE", f"--config {config}"))


def good(check: str, found: str) -> Finding:
    """Return a finding that needs nothing."""
    return Finding(check=check, level=Level.GOOD, found=found)


def warning(check: str, found: str, remedy: str) -> Finding:
    """Return a finding that should be looked at; the service works."""
    return Finding(check=check, level=Level.WARNING, found=found, remedy=remedy)


def bad(check: str, found: str, remedy: str) -> Finding:
    """Return a finding that must be corrected."""
    return Finding(check=check, level=Level.BAD, found=found, remedy=remedy)


class Check(NamedTuple):
    """A named check; ``find`` may raise our own errors and ``OSError``."""

    name: str
    find: Callable[[], Iterable[Finding]]


def run_check(check: Check) -> Iterable[Finding]:
    """Yield the findings of a check as they come; its error becomes a bad finding."""
    try:
        yield from check.find()
    except (CommonwattError, OSError) as error:
        yield bad(check.name, str(error), "correct what this line names; then run this command again")


def worst(findings: Iterable[Finding]) -> Finding | None:
    """Return the first of the most severe findings; ``None``: all are good."""
    found = max(findings, key=lambda finding: SEVERITY[finding.level], default=None)
    return None if found is None or found.level is Level.GOOD else found
