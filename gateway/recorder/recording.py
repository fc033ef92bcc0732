"""A recording as a file: a line of JSON that says of what it is, then frames."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from commonwatt.model.units import EpochSeconds, MicrogridId
from commonwatt.runtime.files import replace_file
from gateway.controller import Controller
from gateway.events import Event
from gateway.recorder.pickled import RecordingError, loads, unframed
from gateway.recorder.tape import Player

MAGIC = b"CWR1"
MOST_FILE_BYTES = 16 * 1024 * 1024  # most bytes of a recording's file


@dataclass(frozen=True)
class Entry:
    """An event as it was recorded."""

    raw: EpochSeconds  # when, by the raw clock
    microgrid: MicrogridId  # the microgrid that handled it
    event: Event  # the event
    reads: list[bytes]  # what the core read
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
    head = json.dumps({**about, "frames": [len(frame) for frame in frames]}).encode()
    replace_file(path, b"\n".join([MAGIC, head, b"".join(frames)]))


def read_recording(path: Path) -> Recording:
    """Read a recording.

    Raises:
        RecordingError: It is no recording, or damaged.
        OSError: It can't be read.
    """
    if path.stat().st_size > MOST_FILE_BYTES:
        raise RecordingError(f"{path}: is larger than any recording")
    magic, _, rest = path.read_bytes().partition(b"\n")
    head, _, body = rest.partition(b"\n")
    try:
        about: dict[str, Any] = json.loads(head) if magic == MAGIC else {}
        ends = [sum(about["frames"][: at + 1]) for at in range(len(about["frames"]))]
    except (ValueError, KeyError, TypeError) as error:
        raise RecordingError(f"{path}: is not a recording of a gateway") from error
    frames = [body[begin:end] for begin, end in zip([0, *ends], ends, strict=False)]
    if not ends or ends[-1] != len(body):
        raise RecordingError(f"{path}: is cut off, or empty")
    player = Player()
    found = loads(unframed(frames[0])[0], player)
    if not isinstance(found, tuple) or len(found) != 2 or not isinstance(found[0], Controller):
        raise RecordingError(f"{path}: does not begin with the state of a core")
    return Recording(about, *found, player, _read(frames[1:], player))


def _read(frames: Sequence[bytes], player: Player) -> Iterator[Entry]:
    for frame in frames:
        for entry in unframed(frame):
            yield Entry(*loads(entry, player))
