"""The command ``commonwatt gateway``."""

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Annotated

import typer

from commonwatt.cli.options import Commands, JsonOption, LimitOption, show
from commonwatt.codec.dumps import block_lines, event_lines
from commonwatt.config.files import load_settings
from commonwatt.config.settings import GatewaySettings, HostSettings
from commonwatt.identity.passwords import save_password, weakness
from commonwatt.look.dead_letter_words import counts_of, row_of, wanted
from commonwatt.model.calendar import FORMS
from commonwatt.model.exceptions import ConfigError
from commonwatt.runtime.clock import load_clock
from commonwatt.runtime.service import only_one, run_service, wait_if_often
from gateway.clique.shell import hosted_stores
from gateway.host.host import hosted, run_host
from gateway.line.line import KEPT_DAYS, LineDay, in_words, line_of
from gateway.relay.outbox import load
from gateway.shell import run_gateway
from gateway.store import downgrade as way_back
from gateway.store import released
from gateway.store.store import reading

DAY_COLUMNS = ("day", "side", "up", "down", "hours_counted")

app = Commands(no_args_is_help=True, help="A microgrid's gateway: collects, keeps sharing fair, relays to the utility.")

Config = Annotated[Path, typer.Option("--config", "-c", help="The TOML file; see: commonwatt config example gateway")]
AdapterOption = Annotated[
    Path | None,
    typer.Option("--adapter", help="The settings file of the controller's adapter, whose store is released too."),
]


@app.command()
def run(config: Config) -> None:
    """Run the gateway until SIGTERM. It starts without broker and network, and waits for both."""
    wait_if_often(config)
    settings = load_settings(config, "gateway", GatewaySettings)
    with only_one(settings.store, "another gateway"):
        run_service(lambda stop, watchdog: run_gateway(settings, stop, watchdog))


@app.command()
def host(config: Annotated[Path, typer.Option("--config", "-c", help="See: commonwatt config example host")]) -> None:
    """Run the gateways of several controllers in one process until SIGTERM: a cooperative's, a demonstration's.

    Each controller keeps its own settings file, store, identity, broker and connection to the utility. The file that
    `commonwatt gateway run` takes serves here too, and both refuse to run on one store. A controller whose disk is
    full, whose store is damaged, or whose writes hang is stopped alone, and tried again; the others go on. GET /status
    at the host's `http` has a line for each: its state, its lag, its last commit and why it is stopped.

    Up to 200 controllers share a process; each needs 3 open files and one for each microgrid that it hosts.
    """
    wait_if_often(config)
    settings = load_settings(config, "host", HostSettings)
    files = hosted(config, settings)
    with only_one(config, "another host"):
        run_service(lambda stop, watchdog: run_host(settings, files, stop, watchdog))


@app.command()
def dump(
    config: Annotated[list[Path], typer.Option("--config", "-c", help="A gateway's TOML file; may be given again.")],
    unacknowledged: Annotated[
        bool, typer.Option("--unacknowledged", help="Only data that the utility has not, or only as averages.")
    ] = False,
) -> None:
    """Print the gateway's store as JSON lines: blocks, then events; then those of microgrids that it may take over.

    Works while the gateway runs.
    """
    for one in config:
        settings = load_settings(one, "gateway", GatewaySettings)
        for path in (settings.store, *hosted_stores(settings)):
            _dump(path, unsent_only=unacknowledged)


@app.command()
def dead_letters(
    config: Config,
    meter: Annotated[str | None, typer.Option("--meter", help="Only dead letters of this meter.")] = None,
    reason: Annotated[
        str | None, typer.Option("--reason", help="Only this reason, by name or number, such as `implausible`.")
    ] = None,
    since: Annotated[
        str | None, typer.Option("--since", help=f"Only what came since then: an age (90m, 24h, 7d), {FORMS}.")
    ] = None,
    counts: Annotated[bool, typer.Option("--counts", help="Only the number of dead letters, by reason.")] = False,
    limit: LimitOption = 50,
    as_json: JsonOption = False,
) -> None:
    """Show the gateway's newest dead letters: rejected records and messages, with meter, source and reason.

    Records are kept whole; of a message that can't be read, the first kilobyte is kept, at most 100 a sender and day.
    All are relayed to the utility, where a person decides on the implausible readings. Works while the gateway
    runs.

    Examples: `dead-letters --since 24h --counts`, `dead-letters --meter 10001`, `dead-letters --reason implausible
        --json`.
    """
    settings = load_settings(config, "gateway", GatewaySettings)
    asked = wanted(meter, reason, since, int(load_clock(settings.clock).now()))
    with reading(settings.store) as store:
        rows = counts_of(store.dead_letter_counts(asked)) if counts else []
        letters = [] if counts else [row_of(one) for one in store.kept_dead_letters(asked, limit)]
    if as_json:
        print(json.dumps(rows if counts else letters, indent=1))
    elif counts:
        show("dead letters by reason", rows, ("reason", "dead_letters"))
    else:
        letters = [letter | {"reason": letter["reason_text"]} for letter in letters]
        show("dead letters", letters, ("no", "time", "meter", "source", "reason", "told"))


@app.command()
def lte(
    config: Config,
    days: Annotated[int, typer.Option(min=0, max=KEPT_DAYS, help="Also show this many of the last days.")] = 7,
    as_json: JsonOption = False,
) -> None:
    """Show the byte count of the controller's LTE line this month, and whether its allowance suffices.

    IP bytes are counted, with headers: the meters' connections by the broker, the utility's by the gateway, or all
    by the network interface, with `lte_interface`. Expected by the month's end are the bytes used so far, and for the
    time left the rate of the last seven days. Works while the gateway runs.
    """
    settings = load_settings(config, "gateway", GatewaySettings)
    now = int(load_clock(settings.clock).now())
    with reading(settings.store) as store:
        line = line_of(settings, store)
    if as_json:
        typer.echo(json.dumps(line.view(now), indent=1))
        return
    typer.echo("\n".join([f"{line.view(now)['level']}".replace("_", " "), *in_words(line.month(now))]))
    rows = [_line_row(row) for row in line.days()]
    show("days", rows[len(rows) - days * len({row["side"] for row in rows}) :] if days else [], DAY_COLUMNS)


@app.command()
def password(config: Config) -> None:
    """Set the password of the controller's page, in the file that `http_password` names. Asks for it twice.

    The running gateway takes the new password at once, and not the old one. Only a hash is kept, readable by one user:
    the owner of the folder, if root types this.
    """
    settings = load_settings(config, "gateway", GatewaySettings)
    path = settings.http_password
    if path is None:
        raise ConfigError(f'{config}: names no file for it; add: http_password = "page-password.json"')
    typed = typer.prompt("Password", hide_input=True, confirmation_prompt="The same again", err=True)
    if why := weakness(typed, (settings.controller,)):
        raise ConfigError(f"the password is {why}; nothing was changed")
    folder = path.parent.stat()
    save_password(path, typed, (folder.st_uid, folder.st_gid) if os.geteuid() == 0 else None)
    print(f"{path}: written; the page at http = {settings.http} takes this password now")


@app.command()
def release(
    config: Config,
    copy: Annotated[
        Path | None, typer.Option("--copy", help="Also copy the store into this folder, for the new controller.")
    ] = None,
    undo: Annotated[bool, typer.Option("--undo", help="Use this controller again: no new one started.")] = False,
    adapter: AdapterOption = None,
) -> None:
    """Release the store of a stopped gateway whose controller is replaced: no gateway runs on it afterwards.

    So no record is acknowledged that the new controller does not get. If data in it waits for the utility, the new
    controller needs the copy: put it into its folder before it joins. Typed again, it copies again.
    """
    settings = load_settings(config, "gateway", GatewaySettings)
    with only_one(settings.store, "a running gateway"), _locked(adapter) as theirs:
        now = int(load_clock(settings.clock).now())
        if undo:
            released.undo(settings.store, now, theirs)
            print(f"{settings.store}: in use again. Keep the new controller off, and delete the copy")
            return
        waiting = released.release(settings.store, now, theirs)
        if copy is not None:
            released.copy(settings.store, copy, now, theirs)
    print(f"{settings.store}: released; parts, events and dead letters in it that wait for the utility: {waiting:,}")


@app.command()
def downgrade(config: Config) -> None:
    """Before the way back to version 0.3: bring the store of a stopped gateway into its form.

    Version 0.3 goes on with all readings, also those that the utility does not have yet, events, dead letters and
    desired states, and with an epoch under which the meters obey it. Typed again, it changes nothing. The present
    version can go on with the store as well.
    """
    settings = load_settings(config, "gateway", GatewaySettings)
    with only_one(settings.store, "a running gateway"):
        now = int(load_clock(settings.clock).now())
        done = way_back.downgrade(settings.store, settings.microgrid, hosted_stores(settings), now)
    state = "is now" if done.changed else "was already"
    print(f"{settings.store}: {state} in the form of version 0.3, which commands with epoch {list(done.epoch)}")
    if settings.clique is not None:
        print(f"{config}: remove the lines clique and beats, which version 0.3 does not know")


@contextmanager
def _locked(adapter: Path | None) -> Iterator[Path | None]:
    """Lock the store of the adapter of a file, and yield it."""
    if adapter is None:
        yield None
        return
    # Not at the top: its models would take memory in a running gateway.
    from commonwatt.config.adapter import AdapterSettings

    store = load_settings(adapter, "adapter", AdapterSettings).store
    with only_one(store, "a running adapter"):
        yield store


def _line_row(row: LineDay) -> dict[str, object]:
    day = date.fromordinal(row.day).isoformat()
    hours = f"{row.seconds / 3600:.1f}"
    return {"day": day, "side": row.side, "up": f"{row.sent:,}", "down": f"{row.received:,}", "hours_counted": hours}


def _dump(path: Path, *, unsent_only: bool) -> None:
    with reading(path) as store:
        # Read all before printing: during a read SQLite can't shorten the running gateway's log.
        parts = list(store.all_parts(unsent_only=unsent_only))
        events = list(store.all_events(unsent_only=unsent_only))
    for line in block_lines(load(parts)):
        sys.stdout.write(line + "\n")
    for line in event_lines(events):
        sys.stdout.write(line + "\n")
    if store.damaged:
        print(f"{len(store.damaged)} damaged rows left out; the running gateway removes them", file=sys.stderr)
