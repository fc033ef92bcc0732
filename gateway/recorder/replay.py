"""``commonwatt replay``: gives a recording's events to this program's core, and says where it does something else."""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from pprint import pformat
from typing import Annotated

import typer

from commonwatt.model.exceptions import CommonwattError
from commonwatt.model.words import moment
from gateway.recorder.recorder import chained, told
from gateway.recorder.recording import Entry, Recording, read_recording
from gateway.recorder.tape import DiffersError


@dataclass(frozen=True)
class Replayed:
    """An event that the core handled again."""

    number: int  # its number in the recording, from 1
    entry: Entry  # the event as it was recorded
    effects: tuple[str, ...]  # what the core did
    differs: str  # what is not as it was recorded; empty: nothing


def replay(recording: Recording) -> Iterator[Replayed]:
    """Let the core handle the events, in turn, up to the first one at which it differs."""
    before = recording.hash
    for number, entry in enumerate(recording.entries, 1):
        recording.player.reads = entry.reads
        effects: tuple[str, ...] = ()
        differs = ""
        try:
            done = recording.controller.handle(entry.microgrid, entry.event, entry.raw)
            effects, before = tuple(map(told, done)), chained(before, done)
        except DiffersError as error:
            differs = "" if recording.about["blanked"] else str(error)
        except Exception as error:  # The core failed when it was recorded, too, if the hashes agree.
            effects, before = (f"failed: {type(error).__name__}: {error}",), chained(before, error)
        if not differs and not recording.about["blanked"]:
            if entry.reads:
                differs = f"{len(entry.reads)} reads of the store less than when it was recorded"
            elif before != entry.hash:
                differs = "the effects are not those that were recorded"
        yield Replayed(number, entry, effects, differs)
        if differs:
            return


def replay_file(
    file: Annotated[Path, typer.Argument(help="The recording: a file `*.cwr` that a gateway wrote beside its store.")],
    until: Annotated[int | None, typer.Option(min=1, help="Stop after this event.")] = None,
    state: Annotated[bool, typer.Option("--state", help="Show the state of the core at the end.")] = False,
) -> None:
    """Let the core of this program handle the events of a gateway's recording, and show what it does at each.

    No store and no settings are needed, and nothing is sent. At the end stands the hash of all effects. If this
    program does anything else than the gateway did, the first such event is shown, and the exit code is 1. Of a
    recording whose readings are blanked no hashes are compared.
    """
    recording = read_recording(file)
    about = recording.about
    print(f"{about['controller']}, release {about['release']}, written {moment(about['time'])}: {about['reason']}")
    if about["release"] != (own := version("commonwatt")):
        print(f"replayed by another release: {own}", file=sys.stderr)
    last = None
    for last in replay(recording):
        print(f"{last.number} {moment(last.entry.raw)} {last.entry.microgrid} {last.entry.event!r}"[:1000])
        for effect in last.effects:
            print(f"    {effect[:1000]}")
        if last.number == until:
            break
    if state:
        for name, core in recording.controller.hosted.items():
            parts = {key: getattr(part, "__dict__", part) for key, part in vars(core).items()}
            print(f"{name}:\n{pformat(parts)}")
    if last is None:
        print("no events are recorded")
    elif last.differs:
        raise CommonwattError(f"event {last.number} differs: {last.differs}")
    elif about["blanked"]:
        print(f"{last.number} events; its readings are blanked: no hash is compared")
    else:
        print(f"{last.number} events, the same hash: {last.entry.hash.hex()}")
