"""The methods of corrections, by number and name."""

from enum import IntEnum

INTERPOLATED_SLOTS = 480  # a gap of as many slots (2 h) or more is never interpolated (§ 55 of Austria's ElWG)


class Method(IntEnum):
    """How a value was made; the number is stored."""

    BALANCE = 1  # the boundary's energy minus all other places'
    INTERPOLATION = 2  # a line between the readings before and after; below 2 h
    LIKE_DAYS = 3  # the mean of the same hours of like days
    EDIT = 4  # a person entered it
    REGISTER = 5  # the difference of the meter's register, evenly: nothing else is known

    @property
    def words(self) -> str:
        """The name in commands: ``like-days``."""
        return self.name.lower().replace("_", "-")
