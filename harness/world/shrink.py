"""Cut a failing world's faults down to a shortest list with which it still fails, and print that as a test.

By delta debugging (Zeller, Hildebrandt: Simplifying and Isolating Failure-Inducing Input, 2002): leave out ever smaller
parts of the list, as long as the same invariant is violated.
"""

from collections.abc import Sequence
from dataclasses import replace

from harness.world.run import attempt
from harness.world.story import Violation
from harness.world.world import Options

MOST_TRIES = 400  # worlds that are run for one that failed


def shortest(found: Violation, options: Options) -> tuple[Violation, int]:
    """Return the violation by the fewest faults that was found, and the number of worlds that were run.

    No fault of its list can be left out, unless ``MOST_TRIES`` were not enough.
    """
    tries, parts = 0, 2
    while found.struck and tries < MOST_TRIES:
        size = -(-len(found.struck) // parts)
        for begin in range(0, len(found.struck), size):
            less = _still(found, found.struck[:begin] + found.struck[begin + size :], options)
            tries += 1
            if less is not None:
                found, parts = less, max(2, parts - 1)
                break
        else:
            if size == 1:
                break
            parts = min(len(found.struck), 2 * parts)
    return found, tries


def _still(found: Violation, only: Sequence[str], options: Options) -> Violation | None:
    result = attempt(found.seed, replace(options, only=tuple(only)))
    return result if isinstance(result, Violation) and result.invariant == found.invariant else None


def as_test(found: Violation, options: Options) -> str:
    """Return the text of a test that fails as long as the violation is there."""
    only = replace(options, only=found.struck)
    name = "".join(c if c.isalnum() else "_" for c in found.invariant.lower())
    return (
        f"def test_world_{found.seed}_keeps_{name}() -> None:\n"
        f'    """It violated: {found.what.splitlines()[0]}."""\n'
        f"    assert isinstance(attempt({found.seed}, {only!r}), Run)\n"
    )
