"""Makes the picture of the demonstration's live view anew, from a real run: ``python -m harness.docs.picture``.

The run ends by itself at the first look at which a scene was played and batteries share.
"""

import io
import os
import signal
import tempfile
from pathlib import Path
from typing import Any
from unittest.mock import patch

from rich.console import Console, Group

from commonwatt.demo import cli
from commonwatt.demo.layout import Layout
from commonwatt.demo.players import Players
from commonwatt.demo.supervisor import Supervisor
from commonwatt.demo.view import Observer, draw
from harness.docs.marked import DOCS

COLUMNS = 150  # width of the picture


def main() -> None:
    """Run the demonstration, and write the picture."""
    said: list[str] = []
    recorded = Console(record=True, width=COLUMNS, file=io.StringIO())

    def drawn(layout: Layout, observer: Observer, supervisor: Supervisor, width: int, speed: float) -> Group:
        made = draw(layout, observer, supervisor, COLUMNS, speed)
        shares = any(one.donors for one in observer.on_stage().values())
        if (
            len(said) > 2
            and shares
            and observer.stored
            and not observer.silent
            and not recorded.export_text(clear=False)
        ):
            recorded.print(*said[-3:], sep="\n")
            recorded.print(made)
            recorded.save_svg(str(DOCS / "live-view.svg"), title="commonwatt demo", clear=False)
            os.kill(os.getpid(), signal.SIGINT)
        return made

    def keep(players: Players, say: Any, now: int) -> None:
        told(players, say, now)
        said.append(f"[bold]{say.what}[/bold] {say.does}")

    told = Players._say
    with tempfile.TemporaryDirectory() as folder, patch.object(cli, "draw", drawn), patch.object(Players, "_say", keep):
        cli.demo(data=Path(folder) / "data")


if __name__ == "__main__":
    main()
