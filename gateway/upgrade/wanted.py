"""The release that the utility wants at a controller, and how its upgrade ended (pure)."""

from dataclasses import dataclass

from commonwatt.config.settings import Settings
from commonwatt.protocol.commands import Result


class Wanted(Settings):
    """The release that the utility wants here."""

    id: str  # the command's id
    release: str  # its version
    sha256: str  # the checksums of its packages, one for each processor, with commas between


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How a command ``upgrade`` ended."""

    id: str  # the command's id
    result: Result  # ``done``, or ``refused``: the installed release stayed, or came back
    why: str = ""  # why, if it was not done
