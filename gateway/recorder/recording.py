"""A recording as a file: a line of JSON that says of what it is, then pickled frames."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from commonwatt.model.units import EpochSeconds, MicrogridId
from commonwatt.runtime.files import replace_file
from gateway.controller import Controller
from gateway.events import Event
from gateway.recorder.pickled import RecordingError, dumps, loads, unframed
from gateway.recorder.tape import Player, Read

MAGIC = b"CWR1"
ABOUT = {"release", "controller", "time", "reason", "blanked"}  # what the line of JSON says
MOST_FILE_BYTES = 16 * 1024 * 1024  # most bytes of a recording's file


@dataclass(frozen=True)
class Entry:
    """An event as it was recorded."""

    raw: EpochSeconds  # when, by the raw clock
    microgrid: MicrogridId  # the microgrid that handled it
    event: Event  # the event
    reads: list[Read]  # what the core read
    hash: bytes  # the hash of all effects up to its own


@dataclass(frozen=True)
class Recording:
    """A recording that is replayed."""

    about: Mapping[str, Any]  # its release, controller, time, reason, and whether it is blanked
    controller: Controller  # the core, in the state in which the recording begins
    hash: bytes  # the hash of the effects until then
    player: Player  # returns what the core read
    entries: Iterator[Entry]  # its events, in order


def write_recording(path: Path, about: Mapping[str, object], frames: Sequence[bytes]) -> None:
    """Write a recording durably, in place of the one before."""
    replace_file(path, b"\n".join([MAGIC, json.dumps(about).encode(), dumps(list(frames))]))


def read_recording(path: Path) -> Recording:
    """Read a recording.

    Raises:
        RecordingError: It is no recording, or damaged.
        OSError: It can't be read.
    """
    if path.stat().st_size > MOST_FILE_BYTES:
        raise RecordingError(f"{path}: is larger than any recording")
    magic, head, body = (*path.read_bytes().split(b"\n", 2), b"", b"")[:3]
    try:
        about: Any = json.loads(head) if magic == MAGIC else None
        if not isinstance(about, dict) or not about.keys() >= ABOUT:
            raise RecordingError("it is not a recording of a gateway")
        frames, player = loads(body), Player()
        found = loads(unframed(frames[0])[0], player) if frames else None
        if not isinstance(found, tuple) or len(found) != 2 or not isinstance(found[0], Controller):
            raise RecordingError("it does not begin with the state of a core")
    except (ValueError, TypeError, LookupError, RecordingError) as error:
        raise RecordingError(f"{path}: {error}") from error
    return Recording(about, *found, player, _read(frames[1:], player))


def _read(frames: Sequence[bytes], player: Player) -> Iterator[Entry]:
    for frame in frames:
        for entry in unframed(frame):
            yield Entry(*loads(entry, player))
