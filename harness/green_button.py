"""What the schema of Green Button allows in our feed: elements, their order and number, types, codes.

The facts, in our own words: elements and codes of NAESB REQ.21 ESPI 4.0 (``espi.xsd``, version 4.0.20231213); links of
the Green Button Alliance's schema of Atom; ids and relations of its published tests of feeds (FB_01, FB_04); author
and type of a content of RFC 4287.

They are narrower than the schema in three ways. Elements that our feed does not use are faults. Every element but
``ReadingQuality``, ``tou``, ``currency`` and ``measurement`` is required: the schema requires
``ServiceCategory/kind``, ``ReadingQuality/quality``, the four of ``LocalTimeParameters``, ``duration`` and ``start``
alone. And a code must be listed: the schema lists codes, and then lets every number of the code's base type pass.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import NamedTuple
from uuid import UUID
from xml.etree.ElementTree import Element

ATOM, ESPI = "{http://www.w3.org/2005/Atom}", "{http://naesb.org/espi}"
MANY = 10**9


class Part(NamedTuple):
    """A child of an element; its type is a key of ``SHAPES``, ``RANGES``, ``CODES`` or ``FORMS``."""

    name: str
    type: str
    least: int = 1
    most: int = 1


SHAPES: dict[str, tuple[Part, ...]] = {
    "UsagePoint": (Part("ServiceCategory", "ServiceCategory"), Part("status", "UInt8")),
    "ServiceCategory": (Part("kind", "ServiceKind"),),
    "LocalTimeParameters": (
        Part("dstEndRule", "DstRuleType"),
        Part("dstOffset", "TimeType"),
        Part("dstStartRule", "DstRuleType"),
        Part("tzOffset", "TimeType"),
    ),
    "MeterReading": (),
    "ReadingType": (
        Part("accumulationBehaviour", "AccumulationKind"),
        Part("commodity", "CommodityKind"),
        Part("dataQualifier", "DataQualifierKind"),
        Part("defaultQuality", "QualityOfReading"),
        Part("flowDirection", "FlowDirectionKind"),
        Part("intervalLength", "UInt32"),
        Part("kind", "MeasurementKind"),
        Part("phase", "PhaseCodeKind"),
        Part("powerOfTenMultiplier", "UnitMultiplierKind"),
        Part("timeAttribute", "TimePeriodOfInterest"),
        Part("uom", "UnitSymbolKind"),
    ),
    "IntervalBlock": (Part("interval", "DateTimeInterval"), Part("IntervalReading", "IntervalReading", most=MANY)),
    "IntervalReading": (
        Part("ReadingQuality", "ReadingQuality", least=0, most=MANY),
        Part("timePeriod", "DateTimeInterval"),
        Part("value", "Int48"),
        Part("tou", "UInt8", least=0),
    ),
    "UsageSummary": (
        Part("billingPeriod", "DateTimeInterval"),
        Part("billLastPeriod", "Int48"),
        Part("costAdditionalDetailLastPeriod", "LineItem", most=MANY),
        Part("currency", "Currency", least=0),
        Part("statusTimeStamp", "TimeType"),
        Part("commodity", "CommodityKind"),
        Part("tariffProfile", "String256"),
    ),
    "LineItem": (
        Part("amount", "Int48"),
        Part("dateTime", "TimeType"),
        Part("note", "String256"),
        Part("measurement", "SummaryMeasurement", least=0),
        Part("itemKind", "ItemKind"),
    ),
    "SummaryMeasurement": (
        Part("powerOfTenMultiplier", "UnitMultiplierKind"),
        Part("uom", "UnitSymbolKind"),
        Part("value", "Int48"),
    ),
    "ReadingQuality": (Part("quality", "QualityOfReading"),),
    "DateTimeInterval": (Part("duration", "UInt32"), Part("start", "TimeType")),
}
"""The children of an element in their order."""

RESOURCES = ("UsagePoint", "UsageSummary", "LocalTimeParameters", "MeterReading", "ReadingType", "IntervalBlock")
"""What the content of an entry can be."""

RANGES = {
    "UInt8": range(2**8),
    "UInt32": range(2**32),
    "Int48": range(-(2**47), 2**47 + 1),
    "TimeType": range(-(2**63), 2**63),
}


def _codes(text: str) -> frozenset[int]:
    """Return the numbers of a list of numbers and ranges, such as ``0 7-19``."""
    pairs = (part.partition("-")[::2] for part in text.split())
    return frozenset(code for first, last in pairs for code in range(int(first), int(last or first) + 1))


CODES = {
    "ServiceKind": _codes("0-9"),
    "AccumulationKind": _codes("0-4 6 9 10 12-14"),
    "CommodityKind": _codes("0-26"),
    "DataQualifierKind": _codes("0 2 4 5 7-9 11 12 16 17 23-26"),
    "QualityOfReading": _codes("0 7-19"),
    "FlowDirectionKind": _codes("0-5 7-21"),
    "MeasurementKind": _codes("0 2-28 31-38 40-60 64 81 90-155"),
    "PhaseCodeKind": _codes(
        "0 16 17 32 33 40 41 64-66 72 96 97 128 129 132 136 193 224 225 256 272 512 528 768 769 784"
    ),
    "UnitMultiplierKind": frozenset((-12, -9, -6, *range(-3, 4), 6, 9, 12)),
    "TimePeriodOfInterest": _codes("0 8 11 13 22 24 32"),
    "ItemKind": _codes("1-10"),
    "Currency": _codes("0 36 124 203 208 348 356 484 554 578 710 752 756 826 840 978 985"),
    "UnitSymbolKind": _codes("0 2-11 21-25 27-39 41-51 53 54 61 63 65-82 100-109 111 113-120 123 125-134 137-169"),
}


def _is_moment(text: str) -> bool:
    try:
        return datetime.fromisoformat(text).tzinfo is not None and "T" in text
    except ValueError:
        return False


def _is_id(text: str) -> bool:
    """Whether the text is a UUID of the versions that are made from names, in small letters."""
    form = r"urn:uuid:[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"
    return re.fullmatch(form, text) is not None and UUID(text).version in (3, 5)


FORMS: dict[str, Callable[[str], bool]] = {
    "DstRuleType": lambda text: re.fullmatch(r"([0-9A-Fa-f]{2}){4}", text) is not None,
    "id": _is_id,
    "title": lambda text: bool(text.strip()),
    "name": lambda text: bool(text.strip()),
    "String256": lambda text: 0 < len(text) <= 256,
    "dateTime": _is_moment,
}

ATOM_SHAPES: dict[str, tuple[Part, ...]] = {
    "feed": (
        Part("id", "id"),
        Part("title", "title"),
        Part("updated", "dateTime"),
        Part("author", "author", most=MANY),
        Part("entry", "entry", most=MANY),
    ),
    "author": (Part("name", "name"),),
    "entry": (
        Part("id", "id"),
        Part("link", "link", least=2, most=MANY),
        Part("title", "title"),
        Part("content", "content"),
        Part("published", "dateTime"),
        Part("updated", "dateTime"),
    ),
}
"""The children of Atom's elements, in any order."""


def faults(feed: Element) -> list[str]:
    """Return what is wrong with a feed, each with its place; nothing if it is right."""
    if feed.tag != f"{ATOM}feed":
        return [f"the root is {feed.tag}"]
    return [*_atom(feed, "feed", "feed"), *_identities(feed), *_relations(feed)]


def _atom(element: Element, kind: str, place: str) -> Iterator[str]:
    parts = {part.name: part for part in ATOM_SHAPES[kind]}
    yield from _numbers(element, tuple(parts.values()), ATOM, place)
    for child in element:
        name = child.tag.removeprefix(ATOM)
        if name in parts:
            yield from _atom_child(child, parts[name].type, f"{place}/{name}")


def _atom_child(child: Element, kind: str, place: str) -> Iterator[str]:
    if kind in ATOM_SHAPES:
        yield from _atom(child, kind, place)
    elif kind == "link":
        yield from _link(child, place)
    elif kind == "content":
        yield from _content(child, place)
    else:
        yield from _value(child, kind, place)


def _link(link: Element, place: str) -> Iterator[str]:
    if set(link.keys()) != {"rel", "type", "href"} or link.get("rel") not in ("self", "up", "related"):
        yield f"{place} has the attributes {link.attrib}"
    if not re.fullmatch(rf"espi-(entry|feed)/({'|'.join(RESOURCES)})", link.get("type", "")):
        yield f"{place} has the type {link.get('type')}"


def _content(content: Element, place: str) -> Iterator[str]:
    """Yield the faults of a content, which is one resource; without a type Atom takes it for text without elements."""
    names = [child.tag.removeprefix(ESPI) for child in content]
    if content.attrib != {"type": "application/xml"}:
        yield f"{place} has the attributes {content.attrib}"
    if len(names) != 1 or names[0] not in RESOURCES:
        yield f"{place} is {names}"
        return
    yield from _espi(content[0], names[0], f"{place}/{names[0]}")


def _espi(element: Element, kind: str, place: str) -> Iterator[str]:
    parts = SHAPES[kind]
    if element.attrib:
        yield f"{place} has the attributes {element.attrib}"
    yield from _numbers(element, parts, ESPI, place)
    order = {part.name: (number, part) for number, part in enumerate(parts)}
    found = [order[name] for child in element if (name := child.tag.removeprefix(ESPI)) in order]
    if sorted(number for number, _ in found) != [number for number, _ in found]:
        yield f"{place} has the order {[part.name for _, part in found]}"
    for child in element:
        if (name := child.tag.removeprefix(ESPI)) in order:
            below = order[name][1].type
            yield from (_espi if below in SHAPES else _value)(child, below, f"{place}/{name}")


def _numbers(element: Element, parts: tuple[Part, ...], namespace: str, place: str) -> Iterator[str]:
    """Yield the faults of an element's children: unknown ones, too few, too many, and text between them."""
    counts = Counter(child.tag for child in element)
    yield from (
        f"{place} has the unknown {tag}" for tag in counts if tag not in {namespace + part.name for part in parts}
    )
    for part in parts:
        count = counts[namespace + part.name]
        if not part.least <= count <= part.most:
            yield f"{place} has {count} of {part.name}"
    if "".join([element.text or "", *(child.tail or "" for child in element)]).strip():
        yield f"{place} has text between its elements"


def _value(element: Element, kind: str, place: str) -> Iterator[str]:
    text = element.text or ""
    if len(element) or element.attrib:
        yield f"{place} has elements or attributes"
    if kind in FORMS:
        right = FORMS[kind](text)
    else:
        right = re.fullmatch(r"-?[0-9]+", text) is not None and int(text) in (CODES.get(kind) or RANGES[kind])
    if not right:
        yield f"{place} is {text!r}, no {kind}"


def _identities(feed: Element) -> Iterator[str]:
    """Yield ids and addresses that two things have."""
    ids = [one.text for one in feed.iter(f"{ATOM}id")]
    selves = [link.get("href") for link in feed.iter(f"{ATOM}link") if link.get("rel") == "self"]
    yield from (f"{count} things are {name}" for name, count in Counter(ids + selves).items() if count > 1)


def _relations(feed: Element) -> Iterator[str]:
    """Yield wrong links: an entry is in the list above it, and links to single entries lead to entries of the feed."""
    selves = {link.get("href") for link in feed.iter(f"{ATOM}link") if link.get("rel") == "self"}
    for entry in feed.iter(f"{ATOM}entry"):
        links = [(link.get("rel"), link.get("type", ""), link.get("href", "")) for link in entry.iter(f"{ATOM}link")]
        name = next((child.tag.removeprefix(ESPI) for child in entry.iterfind(f"{ATOM}content/*")), "")
        here = [href for relation, _, href in links if relation == "self"]
        above = [href for relation, _, href in links if relation == "up"]
        if [href.rpartition("/")[0] for href in here] != above or len(above) != 1:
            yield f"the entry at {here} is in {above}"
        if not {("self", f"espi-entry/{name}"), ("up", f"espi-feed/{name}")} <= {link[:2] for link in links}:
            yield f"the entry at {here} with {name} has the links {links}"
        single = [href for relation, kind, href in links if relation == "related" and kind.startswith("espi-entry/")]
        yield from (f"the entry at {here} is related to the absent {href}" for href in single if href not in selves)
