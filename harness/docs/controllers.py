"""The part of ``docs/controllers.md`` that is made from the states of a controller."""

from harness.docs.marked import filled
from harness.world.clique.states import MEANINGS, TRANSITIONS


def controllers_page() -> str:
    """Return ``docs/controllers.md``."""
    names = {state: state.value.replace(" ", "_") for state in MEANINGS}
    picture = ["```mermaid", "stateDiagram-v2", f"    [*] --> {names[next(iter(MEANINGS))]}"]
    picture += [f'    state "{state.value}" as {name}' for state, name in names.items() if name != state.value]
    picture += [f"    {names[before]} --> {names[after]}" for before, after in TRANSITIONS]
    rows = ["| state | what a controller does |", "|---|---|"]
    rows += [f"| {state} | {meaning} |" for state, meaning in MEANINGS.items()]
    changes = ["| from | to | when |", "|---|---|---|"]
    changes += [f"| {before} | {after} | {why} |" for (before, after), why in TRANSITIONS.items()]
    made = "\n".join([*picture, "```", "", *rows, "", *changes])
    return filled("controllers.md", "states", made)
