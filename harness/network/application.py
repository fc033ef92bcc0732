import asyncio
from typing import Any

import httpx
from fastapi import FastAPI


class Client:
    """Asks an application without a network."""

    def __init__(self, app: FastAPI) -> None:
        self._transport = httpx.ASGITransport(app=app)

    def get(self, path: str, params: dict[str, Any] | None = None) -> httpx.Response:
        async def ask() -> httpx.Response:
            async with httpx.AsyncClient(transport=self._transport, base_url="http://utility") as client:
                return await client.get(path, params=params)

        return asyncio.run(ask())
