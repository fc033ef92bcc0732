"""A household's people whose names, address and bank stand nowhere but where the office shows them."""

from harness.household import HOUSE
from harness.routes import Visitors

CANARY = {
    "name": "Canaria Vogel",
    "street": "Käfigweg 77",
    "postcode": "99988",
    "city": "Piepstadt",
    "country": "DE",
    "mail": "canary@piep.example",
    "iban": "DE02120300000000202051",
    "mandate": "PIEP-1",
    "mandate_day": "2026-11-03",
}
SIGNS = ("Canaria", "Vogel", "Käfigweg", "Piepstadt", "piep.example", "DE02120300000000202051", "PIEP-1")
PAGE = f"/console/accounts/{HOUSE}"  # the clerk's page of the household


def store_canary(visitors: Visitors) -> None:
    """Let a clerk put the people into the office's books, and into those of a move to come."""
    clerk = visitors.session("clerk")
    for fields in ({"kind": "people", "at": "2026-11-01"}, {"kind": "move", "at": "2027-02-01", "next": "new"}):
        for action in ("see", "do"):
            done = visitors.ask("POST", PAGE, clerk, data=fields | CANARY | {"action": action})
            assert done.status_code == (303 if action == "do" else 200), done.text


def found_in(content: bytes | str) -> list[str]:
    """Return the signs of the people that some content has."""
    raw = content.encode() if isinstance(content, str) else content
    return [sign for sign in SIGNS if sign.encode() in raw or sign.encode("utf-16-le") in raw]
