"""Accounts by the API: their meters and terms now, and what people changed of the registry."""

from typing import Annotated

from fastapi import APIRouter, Query

from commonwatt.model.units import Quarter, quarter_of
from utility.registry.accounts import DatedRegistry, Installed, value_at
from utility.registry.columns import Account, Changed
from utility.registry.store.accounts import changes_of, load_dated_registry
from utility.webkit.requests import LOCAL_TIMES, Limit, LongLimit, MicrogridName
from utility.webkit.rights import READS_TOWN
from utility.webkit.services import RequestApi

router = APIRouter(dependencies=[READS_TOWN, LOCAL_TIMES])


@router.get("/accounts")
def accounts(
    api: RequestApi,
    microgrid: MicrogridName | None = None,
    account: Annotated[int | None, Query(ge=1, description="Only this one.")] = None,
    limit: LongLimit = 10_000,
) -> dict[str, list[Account]]:
    """Return the accounts with the meters that they have now, and their present terms."""
    found = _now(api.database.read(load_dated_registry), quarter_of(int(api.clock.now())))
    places = None if microgrid is None else f"{microgrid} "
    wanted = [
        one
        for one in found
        if account in (None, one.account) and (places is None or any(place.startswith(places) for place in one.places))
    ]
    return {"accounts": wanted[:limit]}


@router.get("/accounts/changes")
def changes(
    api: RequestApi,
    subject: Annotated[
        list[str] | None, Query(max_length=64, description="Only of these, such as `account 17`, `meter 10001`.")
    ] = None,
    limit: Limit = 100,
) -> dict[str, list[Changed]]:
    """Return what people changed of meters' and accounts' dates and terms, newest first."""
    return {"changes": [Changed(**row) for row in api.database.read(changes_of, subject or [], limit)]}


def _now(registry: DatedRegistry, now: Quarter) -> list[Account]:
    held: dict[int, list[Installed]] = {}
    for _, meter in sorted(registry.meters.items()):
        if (account := meter.account_at(now)) is not None:
            held.setdefault(account, []).append(meter)
    return [
        Account(
            account=number,
            places=sorted({f"{meter.microgrid} {meter.place}" for meter in held.get(number, ())}),
            meters=[str(meter.id) for meter in held.get(number, ())],
            terms={what: str(value) for what, of in account.terms if (value := value_at(of, now)) is not None},
        )
        for number, account in sorted(registry.accounts.items())
    ]
