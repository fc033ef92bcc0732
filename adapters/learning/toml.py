"""What ``adapter learn`` prints: a line for each number that was found, and the meters as TOML."""

import json
from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal

from adapters.learning.learn import MAX_SERIES, Learner, Proposal


def toml_of(proposals: Iterable[Proposal]) -> str:
    """Return the meters as TOML, with the rules of those that no preset reads."""
    lines: list[str] = []
    for number, proposal in enumerate(proposals, 1):
        preset = proposal.preset or f"own-{number}"
        lines += [f"# {doubt}" for doubt in proposal.doubts]
        if proposal.preset is None:
            lines += _rule_toml(preset, proposal)
        lines += ["[[meter]]", f"id = {number}", f"preset = {_quoted(preset)}"]
        if proposal.source:
            lines.append(f"source = {_quoted(proposal.source)}")
        if proposal.channel != "0":
            lines.append(f"channel = {_quoted(proposal.channel)}")
        if proposal.direction != "incoming":
            lines.append(f'direction = "{proposal.direction}"')
        lines.append("")
    return "\n".join(lines)


def listing(learner: Learner, proposals: Iterable[Proposal]) -> Iterator[str]:
    """Yield a line for each number that looks like a register, a power or a level."""
    proposed: dict[int, Proposal] = {}
    same: dict[tuple[Decimal, Decimal, int], Proposal] = {}
    for one in proposals:
        same[one.series.first, one.series.last, one.series.rises] = one
        proposed |= {id(series): one for series in (one.series, *one.tariffs)}
    for series in learner.found():
        assert series.guess is not None
        kind, _, direction, _ = series.guess
        way = "" if kind == "level" else f", {direction}"
        proposal = proposed.get(id(series))
        # The same number on another topic has the same unit.
        like = proposal or (same.get((series.first, series.last, series.rises)) if series.rises else None)
        unit = learner.unit(series) if like is None else like.unit
        yield (
            _printable(f"{series.topic} {series.path}".rstrip())
            + f": {kind}{way}, {series.last:f} {unit}, rose {series.rises} times, fell {series.falls}"
            + (f"; preset {proposal.preset}" if proposal is not None and proposal.preset else "")
            + "".join(f"; {doubt}" for doubt in (proposal.doubts if proposal is not None else ()))
        )
    if learner.left_out:
        yield f"{learner.left_out:,} numbers left out: more than {MAX_SERIES:,}"


def _rule_toml(preset: str, proposal: Proposal) -> Iterator[str]:
    series = proposal.series
    assert series.guess is not None
    every = (series, *proposal.tariffs)
    topics, paths = sorted({one.topic for one in every}), sorted({one.path for one in every})
    yield from ("[[rule]]", f"preset = {_quoted(preset)}", f"topic = {_one_or_all(topics)}")
    if series.form != "json":
        yield f'format = "{series.form}"'
    if series.path:
        yield f"path = {_one_or_all(paths)}"
    if proposal.time:
        yield f"time = {_quoted(proposal.time)}"
    yield from (f'kind = "{series.guess.kind}"', f'unit = "{proposal.unit}"')
    if series.guess.kind == "power" and series.lowest < 0:
        yield f'sign = "{"positive" if proposal.direction == "incoming" else "negative"}"'
    yield ""


def _one_or_all(texts: Sequence[str]) -> str:
    return _quoted(texts[0]) if len(texts) == 1 else f"[{', '.join(map(_quoted, texts))}]"


def _printable(text: str) -> str:
    """Escape what would end a line or steer a terminal."""
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def _quoted(text: str) -> str:
    # A JSON text is a basic string of TOML, but for one character that JSON leaves as it is.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
