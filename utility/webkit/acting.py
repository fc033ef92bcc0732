"""What routes that change people and tokens share: who acts when, refusals as answers, addresses of links."""

from collections.abc import Iterator
from contextlib import contextmanager

from fastapi import HTTPException, Request

from commonwatt.model.exceptions import ConfigError
from utility.access.actor import Actor
from utility.access.store.acting import By, Link
from utility.webkit.rights import gate_of
from utility.webkit.services import Api


@contextmanager
def changing(api: Api, request: Request, actor: Actor) -> Iterator[By]:
    """Open the transaction of a change; a refusal of it becomes an answer, and nothing is changed.

    Raises:
        HTTPException: The change is refused, with the reason.
    """
    machine_s = gate_of(request).now()
    try:
        with api.database.writes.begin() as connection:
            yield By(connection=connection, actor=actor, now=int(api.clock.now()), machine_s=machine_s)
    except ConfigError as error:
        raise HTTPException(422, str(error)) from error


def address_of_link(request: Request, link: Link) -> str:
    """Return the whole address of a link, at the host by which the request came."""
    return f"{request.url.scheme}://{request.url.netloc}{link.path}"
