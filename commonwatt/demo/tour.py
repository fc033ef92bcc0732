"""Eight things to try in the demonstration, from ``tour.toml``: what to do, and what to look at; the docs have them."""

import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Step:
    """Something to try."""

    title: str  # what it is
    do: Sequence[str]  # commands for a second terminal, or pages with the role that opens them
    look: str  # what to look at, and what it shows


STEPS: Sequence[Step] = tuple(
    Step(**step) for step in tomllib.loads(Path(__file__).with_name("tour.toml").read_text(encoding="utf-8"))["step"]
)
"""The tour. DATA is the demonstration's folder, CONSOLE the address of its console."""


def told(data: str, console: str) -> Iterator[str]:
    """Yield the tour's lines for a terminal, with the folder and the address of a demonstration."""
    for number, step in enumerate(STEPS, start=1):
        yield f"{number}. {step.title}"
        for line in (*step.do, f"→ {step.look}"):
            yield "   " + line.replace("DATA", data).replace("CONSOLE", console)
