"""The files of a clique, as the office will write them."""

import json
import secrets
import shutil
from collections.abc import Mapping
from itertools import combinations
from pathlib import Path

from commonwatt.cliques.formation import orders
from commonwatt.protocol.topics import UTILITY
from commonwatt.town.clique_file import CLIQUE_FILE, CliqueFile, Group, Other, save_cliques

BEATS_PORT = 8885

OPEN = (
    "import broker.embedded.plugins as p; own = p.allowed; "
    "p.allowed = lambda d, a, t: own(d, a, t) or (d.role == 'gateway' and t.startswith('cw1/r'))"
)


def write_cliques(folder: Path, names: list[str], addresses: Mapping[str, str]) -> None:
    """Write the clique's files of all, let each broker admit the meters of all, and name them in the settings."""
    everybody = [*names, UTILITY]
    ranks = {name: rank for rank, name in enumerate(names, 1)} | {UTILITY: 0}
    keys = {frozenset(pair): secrets.token_hex(32) for pair in combinations(everybody, 2)}
    order = orders([tuple(names)], dict.fromkeys(names, "residential"))

    def others(own: str) -> tuple[Other, ...]:
        return tuple(
            Other(name=n, rank=ranks[n], address=f"{addresses[n]}:{BEATS_PORT}", key=keys[frozenset((own, n))])
            for n in everybody
            if n != own
        )

    devices = {name: json.loads((folder / name / "devices.json").read_text()) for name in names}
    meters = {i: d for each in devices.values() for i, d in each.items() if d["role"] == "meter"}
    for own in everybody:
        group = Group(members=tuple(names), orders=order, others=others(own))
        save_cliques(folder / own / CLIQUE_FILE, CliqueFile(own=own, rank=ranks[own], groups=(group,)))
        part, key = ("utility", "cliques") if own == UTILITY else ("gateway", "clique")
        path = folder / own / f"{part}.toml"
        text = path.read_text()
        head = f"[{part}]\n"
        path.write_text(text.replace(head, f'{head}{key} = "{CLIQUE_FILE}"\nbeats = "0.0.0.0:{BEATS_PORT}"\n'))
    for own in names:
        (folder / own / "devices.json").write_text(json.dumps(meters | devices[own]))
        for other in names:
            if other != own:
                shutil.copyfile(folder / other / "registry.json", folder / own / f"registry-{other}.json")
