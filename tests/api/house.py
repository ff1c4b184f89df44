"""The management application over a programmable fleet, as a client sees it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx

from ai_proxy.api.app import create_api
from ai_proxy.api.dependencies import Context
from ai_proxy.devices import Device
from tests.fakes.fleet import Fleet

TWO = "services: {a: {image: x, models: [chat]}, b: {command: serve}}"


async def _metrics() -> bytes:
    return b"up 1.0\n"


class House:
    """A booted fleet, its management application and a client of it."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet
        self.closing = asyncio.Event()
        clock = asyncio.get_running_loop().time
        self.api = create_api(Context(fleet.plane, clock, _metrics, self.closing))
        transport = httpx.ASGITransport(self.api, raise_app_exceptions=False)
        self.http = httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000")

    async def get(self, path: str, **params: str | int | bool) -> httpx.Response:
        """GET a path under the API's prefix."""
        return await self.http.get(f"/api/v1{path}", params=params)

    async def post(self, path: str, **params: str | float | bool) -> httpx.Response:
        """POST nothing to a path under the API's prefix."""
        return await self.http.post(f"/api/v1{path}", params=params)

    async def send(self, verb: str, path: str, body: object = None) -> httpx.Response:
        """Send JSON to a path under the API's prefix; nothing by default."""
        return await self.http.request(verb, f"/api/v1{path}", json=body)


@asynccontextmanager
async def house_of(config: str = TWO, *, gpus: tuple[Device, ...] = ()) -> AsyncIterator[House]:
    """Boot a fleet and open its management application."""
    async with Fleet(config, gpus=gpus) as fleet:
        fleet.plane.boot()
        house = House(fleet)
        async with house.http:
            yield house
