"""The end of an asyncio server of the tests that clients of the same loop may still be connecting to."""

import asyncio


async def stop_listening(server: asyncio.Server) -> None:
    """Close the server, but lose no connection that it is just accepting.

    A transport takes asyncio two turns of the loop from the accept. A server that closes between them leaves its
    transport unowned: never closed, it warns in whichever test the collector finds it (python/cpython#109564).
    """
    loop = asyncio.get_running_loop()
    for listener in server.sockets:
        loop.remove_reader(listener.fileno())
    for _ in range(2):
        await asyncio.sleep(0)
    server.close()
