"""The preview of a tariff: who would pay less, who more, and by how much."""

from decimal import Decimal
from typing import Annotated, Any, Literal

from fastapi import FastAPI, HTTPException, Query, Request
from fastapi.responses import HTMLResponse

from utility.billing.preview import Change, histogram
from utility.statistics.preview.api import Preview
from utility.webkit.console.answers import ROWS, Skip, address
from utility.webkit.console.console import Console
from utility.webkit.rights import ClerksOrApprovers

_PLACE = "/console/rates/preview"


def add_preview(app: FastAPI, console: Console) -> None:
    """Add the page."""

    @app.get(f"{_PLACE}/{{work_id}}", include_in_schema=False)
    def preview(
        request: Request,
        actor: ClerksOrApprovers,
        work_id: str,
        order: Annotated[Literal["less", "more"], Query()] = "less",
        skip: Skip = 0,
    ) -> HTMLResponse:
        """Show who would pay less and who more."""
        work = console.api.works.find(work_id)
        if work is None or not isinstance(work.result, Preview):
            raise HTTPException(404, "this preview is not there any more; make it again from the tariff's page")
        made, path = work.result, f"{_PLACE}/{work_id}"
        ranked = made.changes if order == "less" else made.changes[::-1]
        content = {
            "preview": made,
            "work": work,
            "sums": _sums(made.changes),
            "bars": histogram(made.changes),
            "rows": ranked[skip : skip + ROWS],
            "order": order,
            "earlier": address(path, order=order, skip=max(0, skip - ROWS)) if skip else "",
            "later": address(path, order=order, skip=skip + ROWS) if len(ranked) > skip + ROWS else "",
        }
        return console.page(request, actor, "rates_preview.html", content)


def _sums(changes: list[Change]) -> dict[str, Any]:
    less, more = (sum(sign * change.difference > 0 for change in changes) for sign in (-1, 1))
    return {
        "less": less,
        "more": more,
        "same": len(changes) - less - more,
        "before": sum((change.before or Decimal(0) for change in changes), Decimal(0)),
        "after": sum((change.after for change in changes), Decimal(0)),
    }
