"""Accounts for clerks: found by name and address; who had one when; the forms of people and moves, with previews."""

import re
from collections import defaultdict
from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response

from commonwatt.model.exceptions import ConfigError
from commonwatt.model.units import AccountNumber
from utility.customers.contact import Contact
from utility.customers.people import CELLS, COLUMNS, cells_of, contact_of, quarter_of_cell
from utility.customers.store.contacts import histories, office_key
from utility.moves.decisions import decide, delete, take_over
from utility.moves.move import Kind, Move
from utility.registry.store.accounts import load_registry_around
from utility.webkit.console.answers import Faults, Number, faults_of, plain, refusing
from utility.webkit.console.console import Console, RequestConsole
from utility.webkit.rights import Clerks
from utility.webkit.services import RequestApi


async def _form(request: Request) -> dict[str, str]:
    return defaultdict(str, {n: v.strip() for n, v in (await request.form()).items() if isinstance(v, str)})


Form = Annotated[dict[str, str], Depends(_form)]


router = APIRouter(include_in_schema=False)


@router.get("/console/accounts")
@router.post("/console/accounts")
def find(api: RequestApi, console: RequestConsole, request: Request, actor: Clerks, form: Form) -> Response:
    """Show the accounts whose people have or had all words of a text, or what a table changes; or store it."""
    words, faults, changes = form["text"].lower().split(), "", None
    try:
        if form["table"]:
            changes = take_over(api, actor, form["table"], store=form["action"] == "do")
            if form["action"] == "do":
                return console.see_other(actor, "/console/accounts", f"{len(changes)} changes are stored.")
    except ConfigError as error:
        faults = plain(error)
    with refusing(503), api.database.reads.begin() as connection:
        known = histories(connection, office_key(connection, api.settings.office)) if words else {}
    rows = [(number, cells_of(who)) for number, history in known.items() for _, who in history]
    found = [row for row in rows if all(word in " ".join(row[1].values()).lower() for word in words)]
    content = {"form": form, "found": found, "changes": changes, "faults": faults}
    return console.page(request, actor, "accounts.html", content | {"columns": COLUMNS})


@router.get("/console/accounts/{account}")
@router.post("/console/accounts/{account}")
def account(
    api: RequestApi, console: RequestConsole, request: Request, actor: Clerks, account: Number, form: Form
) -> Response:
    """Show who had an account when, and what a form would do; or do it."""
    faults, seen, action = Faults(), None, form.get("action")
    try:
        if action == "delete":
            delete(api, actor, account, quarter_of_cell(form["until"], console.zone()))
        elif form:
            move, who, faults = _asked(form, account, console)
            seen = decide(api, actor, move, who, store=action == "do" and not faults)
        if action in ("do", "delete") and not faults:
            return console.see_other(actor, f"/console/accounts/{account}", "It is done.")
    except ConfigError as error:
        faults = faults_of(error, ("at", "next"))
    with refusing(503), api.database.reads.begin() as connection:
        people = histories(connection, office_key(connection, api.settings.office), account).get(account, [])
        meters = load_registry_around(connection, account).meters.values()
    homes = [(meter, held) for meter in meters for held in meter.holdings if held.account == account]
    content = {"account": account, "people": people[::-1], "homes": homes, "faults": faults, "seen": seen}
    content |= {"form": form, "cells": CELLS, "newest": cells_of(people[-1][1] if people else None)}
    return console.page(request, actor, "account_people.html", content)


def _asked(form: dict[str, str], account: AccountNumber, console: Console) -> tuple[Move, Contact | None, Faults]:
    """Return what a form asks for, who comes, and what is wrong with them."""
    kind, text, at = form["kind"], form["next"], quarter_of_cell(form["at"], console.zone())
    if kind not in set(Kind) or not at:
        raise ConfigError("at: is no local day or quarter-hour that exists once, such as 2026-11-03 14:15")
    if not re.fullmatch("|new|[0-9]{1,5}", text):
        raise ConfigError("next: is no account's number")
    number = None if not text or kind == Kind.EMPTY else int(text.replace("new", "0"))
    move = Move(kind=Kind(kind), account=account, at=at, next=number)
    if kind != Kind.PEOPLE and not any(form.get(name) for name in CELLS):
        return move, None, Faults()
    who, wrong = contact_of(form, console.zone())
    return move, who, Faults(wrong)
