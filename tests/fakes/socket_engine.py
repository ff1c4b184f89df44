"""An engine that speaks WebSocket: `/health` is ready at once, anywhere else each message is said again.

Run it as a subprocess: `argv("--port", "0")`. Of the message `leave` it makes a close frame, 4000.
"""

import argparse
import asyncio
import sys
from http import HTTPStatus
from pathlib import Path

from websockets.asyncio.server import ServerConnection, serve
from websockets.http11 import Request, Response


def argv(*flags: str) -> tuple[str, ...]:
    """The command line that runs this engine with these flags."""
    return (sys.executable, str(Path(__file__).resolve()), *flags)


def health(socket: ServerConnection, request: Request) -> Response | None:
    return socket.respond(HTTPStatus.OK, "ready") if request.path == "/health" else None


async def echo(socket: ServerConnection) -> None:
    async for message in socket:
        if message == "leave":
            await socket.close(4000, "as asked")
        else:
            await socket.send(message)


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    port = parser.parse_args().port
    async with serve(echo, "127.0.0.1", port, process_request=health, max_size=None) as server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
