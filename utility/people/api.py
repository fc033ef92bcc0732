"""The API's people and tokens, with the rights of the console's pages (docs/console.md). Times are ISO 8601, UTC.

Nothing here invites, makes links, gives roles or removes second factors: the console does, and asks for the code again.
"""

from dataclasses import dataclass
from typing import Annotated

from fastapi import HTTPException, Path, Query, Request
from pydantic import BaseModel, Field

from utility.access.people import MAX_TOKEN_DAYS, NAME_PATTERN, Right, Role
from utility.access.store import access
from utility.people import store as people
from utility.people.store import Listed
from utility.webkit.actions import Act, Actions
from utility.webkit.columns import Time
from utility.webkit.requests import RequestBody, changing
from utility.webkit.rights import ManagesPeople, UsesConsole, gate_of
from utility.webkit.services import Api, RequestApi

MAX_SHOWN = 1000  # most people or tokens of one answer

_Name = Annotated[str, Path(pattern=NAME_PATTERN, description="A person's name at login.")]
_Number = Annotated[int, Path(ge=1, lt=2**31, description="A token's number.")]
_Limit = Annotated[int, Query(ge=1, le=MAX_SHOWN, description="How many at most.")]


class Me(BaseModel):
    """The actor of a request."""

    name: str = Field(description="The name at login.")
    roles: list[Role] = Field(description="The roles that count for this login or token.")
    csrf: str = Field(description="What changes with this session repeat as `X-CSRF`; empty with a token.")


@dataclass(frozen=True, kw_only=True)
class TokenAnswer(access.Token):
    """An API token, without its text."""

    made: Time
    until: Time
    used: Annotated[Time | None, Field(description="When it was used last, to five minutes.")]
    revoked: Time | None


class TokenAsked(RequestBody):
    """A token to be made."""

    label: str = Field(min_length=1, max_length=64, description="What it is for.")
    roles: list[Role] = Field(min_length=1, max_length=len(Role), description="Its scope, of the own roles.")
    days: int = Field(0, ge=0, le=MAX_TOKEN_DAYS, description="Days for which it is valid.")
    hours: int = Field(0, ge=0, le=24, description="Hours more.")


@dataclass(frozen=True, kw_only=True)
class TokenMade(TokenAnswer):
    """A new token."""

    token: Annotated[str, Field(description="Its text, which is not shown again.")]


@dataclass(frozen=True, kw_only=True)
class Revoked(TokenAnswer):
    """A token that is revoked."""

    words: str


class Revoking(RequestBody):
    """What becomes of what a token made."""

    made: bool = Field(False, description="Whether planned changes, silences and acknowledgements that it made end.")


_ALONE = Revoking()
# The key of the service's part that ends what a token made and returns how much: takes service, actor, number.
END_MADE = "end_made"
ACTIONS = Actions()
router = ACTIONS.json


@router.get("/me")
def me(actor: UsesConsole) -> Me:
    """Return who you are."""
    return Me(name=actor.name, roles=sorted(actor.roles), csrf=actor.csrf)


@router.get("/people")
def listed(
    api: RequestApi,
    request: Request,
    _: ManagesPeople,
    search: Annotated[str, Query(max_length=64, description="A name's beginning, or an account.")] = "",
    role: Role | None = None,
    after: Annotated[str, Query(max_length=32, description="Only names after this one.")] = "",
    limit: _Limit = MAX_SHOWN,
) -> dict[str, list[Listed]]:
    """Return people by name; for the next page set ``after`` to the last one's name."""
    found = api.database.read(people.list_people, search, role, after, limit, gate_of(request).now())
    return {"people": found}


@ACTIONS.add(
    "/people/{name}/disable",
    Right.MANAGE_PEOPLE,
    page="/console/users/{name}/disable",
    back="/console/users/{name}",
    said="{name} is disabled: no login, session or token works any more.",
)
def disable(act: Act, name: _Name) -> Listed:
    """Disable a person: no login works any more; sessions, tokens and links end."""
    with changing(act.api, act.request, act.actor) as by:
        people.disable(by, name)
    return _one(act.api, act.request, name)


@ACTIONS.add(
    "/people/{name}/end-sessions",
    Right.MANAGE_PEOPLE,
    page="/console/users/{name}/sessions",
    back="/console/users/{name}",
    said="The sessions of {name} ended.",
)
def end_sessions(act: Act, name: _Name) -> Listed:
    """End all sessions of another person."""
    with changing(act.api, act.request, act.actor) as by:
        people.end_sessions(by, name)
    return _one(act.api, act.request, name)


@router.get("/tokens")
def tokens(
    api: RequestApi,
    actor: UsesConsole,
    everybody: Annotated[bool, Query(alias="all", description="Those of all people, for administrators.")] = False,
    limit: _Limit = 100,
) -> dict[str, list[TokenAnswer]]:
    """Return the newest tokens, the own ones or all."""
    whose = None if everybody and actor.has(Role.ADMIN) else actor.name
    return {"tokens": [TokenAnswer(**vars(one)) for one in api.database.read(access.tokens, whose, limit)]}


@router.post("/tokens", status_code=201)
def make(api: RequestApi, request: Request, actor: UsesConsole, asked: TokenAsked) -> TokenMade:
    """Make a token of the person who is logged in; the answer has its text, once."""
    with changing(api, request, actor) as by:
        text, made = access.make_token(by, asked.label, frozenset(asked.roles), 24 * asked.days + asked.hours)
    return TokenMade(token=text, **vars(made))


@ACTIONS.add("/tokens/{number}/revoke", Right.USE_CONSOLE, back="/console/tokens", said="{words}", refused=422)
def revoke(act: Act, number: _Number, asked: Revoking = _ALONE) -> Revoked:
    """Revoke an own token, or as an administrator any; and if you want it, end what was made with it."""
    with changing(act.api, act.request, act.actor) as by:
        access.revoke_token(by, number, again=asked.made)
        (found,) = access.tokens(by.connection, None, 1, number)
    ended = f" {act.api.parts[END_MADE](act.api, act.actor, number)} things that it made ended." if asked.made else ""
    return Revoked(words=f"Token {number} is revoked.{ended}", **vars(found))


def _one(api: Api, request: Request, name: str) -> Listed:
    found = api.database.read(people.listed, name, gate_of(request).now())
    if found is None:
        raise HTTPException(404, f"there is no person called {name}")
    return found
