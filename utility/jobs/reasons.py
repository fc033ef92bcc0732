"""Why a version of a settled day was made."""

from enum import IntEnum


class Why(IntEnum):
    """The reason of a version, as stored; of several, the highest stands."""

    FIRST = 1  # the day was settled for the first time
    LATE = 2  # readings came late
    REGISTRY = 3  # the registry was changed: an exchange, a meter's place
    CORRECTION = 4  # a correction was approved, edited or withdrawn
    PERSON = 5  # a person had the day settled again

    @property
    def words(self) -> str:
        """The reason, for people."""
        return _WORDS[self]


_WORDS = {
    Why.FIRST: "first settlement",
    Why.LATE: "late readings",
    Why.REGISTRY: "registry changed",
    Why.CORRECTION: "correction",
    Why.PERSON: "settled again by a person",
}
