import asyncio
from typing import Any

import httpx
from fastapi import FastAPI

from utility.webkit.rights import Gate


def local_headers(app: FastAPI) -> dict[str, str]:
    """Return the header of a program that can read the utility's token file."""
    gate: Gate = app.state.gate
    return {"Authorization": f"Bearer {gate.local_key}"}


class Client:
    """Asks an application without a network, as a program on the utility's machine."""

    def __init__(self, app: FastAPI) -> None:
        self._transport = httpx.ASGITransport(app=app)
        self._headers = local_headers(app)

    def get(self, path: str, params: dict[str, Any] | None = None) -> httpx.Response:
        async def ask() -> httpx.Response:
            options: dict[str, Any] = {"transport": self._transport, "headers": self._headers}
            async with httpx.AsyncClient(base_url="http://utility", **options) as client:
                return await client.get(path, params=params)

        return asyncio.run(ask())
