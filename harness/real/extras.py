"""The installed distributions that an extra needs."""

from importlib.metadata import requires

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


def brought_by(*extras: str) -> set[str]:
    """Return the distributions that ``pip install commonwatt[extras]`` installs."""
    found, waiting = set[str](), [("commonwatt", frozenset(extras))]
    while waiting:
        name, wanted = waiting.pop()
        found.add(name)
        for text in requires(name) or ():
            one = Requirement(text)
            if one.marker is None or any(one.marker.evaluate({"extra": extra}) for extra in (wanted or {""})):
                next_name = canonicalize_name(one.name)
                if next_name not in found or one.extras:
                    waiting.append((next_name, frozenset(one.extras)))
                    found.add(next_name)
    return found
