"""What a controller can do in one microgrid at present."""

from dataclasses import dataclass


@dataclass
class Means:
    """What the controller can do at present; its shell keeps it."""

    able: bool = True  # whether it hears two thirds of the microgrid's meters
    commits: bool = True  # whether its store takes commits
    connected: int = 0  # how many of the microgrid's meters are connected to it

    def __bool__(self) -> bool:
        return self.able and self.commits
