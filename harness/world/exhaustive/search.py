"""Visit every state of a small world, each once; what led to a broken invariant is told step by step."""

import argparse
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterator
from dataclasses import fields
from typing import Any, Generic, Self, TypeVar

S = TypeVar("S", bound=Hashable)


class BrokenError(AssertionError):
    """A broken invariant; the text is the sequence of steps that led to it."""


class Explorer(ABC, Generic[S]):
    """Visits and checks every state of a world; afterwards, what it saw."""

    def __init__(self) -> None:
        self.transitions = 0  # steps between states
        self.ends = 0  # different states without a further step
        self.seconds = 0.0  # duration
        self._parents: dict[S, tuple[S | None, str]] = {}

    @property
    def states(self) -> int:
        """The number of different states."""
        return len(self._parents)

    @abstractmethod
    def first(self) -> S:
        """Return the state before all steps."""

    @abstractmethod
    def successors(self, state: S) -> Iterator[tuple[str, S]]:
        """Yield all possible next steps, each with its name."""

    def check(self, before: S, after: S) -> None:
        """Check the invariants of a new state and of the step to it."""

    @abstractmethod
    def end(self, state: S) -> None:
        """End all faults in a state without a further step; check what must hold then."""

    def explore(self, progress: bool = False) -> Self:
        """Visit every state.

        Raises:
            BrokenError: With the sequence of steps that led to it.
        """
        began = time.perf_counter()
        level = [self.first()]
        self._parents[level[0]] = None, ""
        while level:
            level = [after for state in level for after in self._visit(state)]
            if progress:
                print(f"{self.states:>10,} states, {len(level):>9,} not yet visited", file=sys.stderr)
        self.seconds = time.perf_counter() - began
        return self

    def _visit(self, state: S) -> list[S]:
        """Visit all states that follow one; return the new ones."""
        before, new, text = self.transitions, [], "all faults end"
        try:
            for text, after in self.successors(state):
                self.transitions += 1
                if after not in self._parents:
                    self.check(state, after)
                    self._parents[after] = state, text
                    new.append(after)
            if self.transitions == before:
                self.ends += 1
                self.end(state)
        except BrokenError as broken:
            raise BrokenError("\n  ".join([str(broken), *self.story(state), f"then {text}"])) from None
        return new

    def story(self, state: S | None) -> list[str]:
        """Return the steps that led to a state, one line each."""
        lines = []
        while state is not None:
            state, text = self._parents[state]
            lines.append(text)
        return lines[-2::-1]


def must(holds: bool, what: str) -> None:
    """Check an invariant."""
    if not holds:
        raise BrokenError(what)


def main(explorer: Callable[[Any], Explorer[Any]], bounds: type) -> None:
    """Explore within the given bounds, and print what was seen."""
    parser = argparse.ArgumentParser(description=explorer.__doc__)
    for bound in fields(bounds):
        parser.add_argument(f"--{bound.name}", type=int, default=bound.default, help="at most (default: %(default)s)")
    try:
        seen = explorer(bounds(**vars(parser.parse_args()))).explore(progress=True)
    except BrokenError as broken:
        sys.exit(f"BROKEN: {broken}")
    print(f"{seen.states:,} states, {seen.transitions:,} transitions, {seen.ends:,} ends in {seen.seconds:.0f} s")
