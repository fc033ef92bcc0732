"""Accounts for clerks: found by name and address; who had one when; the forms of people and moves, with previews."""

import re
from collections import defaultdict
from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response

from commonwatt.model.exceptions import ConfigError
from commonwatt.model.units import AccountNumber, quarter_of
from utility.customers.people import CELLS, COLUMNS, Contact, cells_of, contact_of, quarter_of_cell
from utility.customers.store import histories, office_key
from utility.moves.decisions import decide, delete, take_back, take_over
from utility.moves.move import ADDRESS, Move, MoveKind, next_move
from utility.registry.store.accounts import load_registry_around
from utility.webkit.console.answers import FormFaults, Number, faults_of, plain, refusing
from utility.webkit.console.console import Console, RequestConsole
from utility.webkit.rights import KeepsAccounts
from utility.webkit.services import RequestApi

_FORWARD = {f"to_{cell}": cell for cell in ADDRESS}  # fields of who leaves


async def _form(request: Request) -> dict[str, str]:
    async with request.form() as form:
        return defaultdict(str, {n: v.strip() for n, v in form.items() if isinstance(v, str)})


Form = Annotated[dict[str, str], Depends(_form)]


router = APIRouter(include_in_schema=False)


@router.get("/console/accounts")
@router.post("/console/accounts")
def find(api: RequestApi, console: RequestConsole, request: Request, actor: KeepsAccounts, form: Form) -> Response:
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
    return console.page(request, actor, "accounts.html", content | {"columns": COLUMNS}, 422 if faults else 200)


@router.get("/console/accounts/{account}")
@router.post("/console/accounts/{account}")
def account(
    api: RequestApi, console: RequestConsole, request: Request, actor: KeepsAccounts, account: Number, form: Form
) -> Response:
    """Show who had an account when, and what a form would do; or do it."""
    faults, seen, action = FormFaults(), None, form.get("action")
    try:
        if form.get("kind") == MoveKind.BACK:
            action = "do"
            take_back(api, actor, account)
        elif action == "delete":
            delete(api, actor, account, quarter_of_cell(form["until"], console.zone()))
        elif form:
            move, who, forward, faults = _asked(form, account, console)
            seen = None if faults else decide(api, actor, move, who, forward, store=action == "do")
        if action in ("do", "delete") and not faults:
            return console.see_other(actor, f"/console/accounts/{account}", "It is done.")
    except ConfigError as error:
        faults = faults_of(error, ("at", "next", "mandate_day", *_FORWARD))
    with refusing(503), api.database.reads.begin() as connection:
        people = histories(connection, office_key(connection, api.settings.office), account).get(account, [])
        registry = load_registry_around(connection, account)
    homes = [(m, held) for m in registry.meters.values() for held in m.holdings if held.account == account]
    content = {"account": account, "people": people[::-1], "homes": homes, "faults": faults, "seen": seen}
    content |= {"form": form, "cells": CELLS, "newest": cells_of(people[-1][1] if people else None)}
    content["to_come"] = next_move(registry, account, quarter_of(console.now()))
    return console.page(request, actor, "account_people.html", content, 422 if faults else 200)


def _asked(
    form: dict[str, str], account: AccountNumber, console: Console
) -> tuple[Move, Contact | None, Contact | None, FormFaults]:
    """Return what a form asks for, who comes, the address of who leaves, and what is wrong with them."""
    kind, text, at = form["kind"], form["next"], quarter_of_cell(form["at"], console.zone())
    if kind not in set(MoveKind) or not at:
        raise ConfigError("at: is no local day or quarter-hour that exists once, such as 2026-11-03 14:15")
    if not re.fullmatch("|new|[0-9]{1,5}", text):
        raise ConfigError("next: is no account's number")
    number = None if not text or kind == MoveKind.EMPTY else int(text.replace("new", "0"))
    move = Move(kind=MoveKind(kind), account=account, at=at, next=number)
    wrong, cells = FormFaults(), {cell: form[name] for name, cell in _FORWARD.items()}
    forward = None
    if kind in (MoveKind.MOVE, MoveKind.EMPTY) and any(cells.values()):
        # The name stays: any one makes the address a whole contact.
        forward, faults = contact_of(cells | {"name": "-"}, console.zone())
        wrong.update({f"to_{cell}": fault for cell, fault in faults.items()})
    if kind != MoveKind.PEOPLE and not any(form.get(name) for name in CELLS):
        return move, None, forward, wrong
    who, own = contact_of(form, console.zone())
    return move, who, forward, FormFaults(wrong | own)
