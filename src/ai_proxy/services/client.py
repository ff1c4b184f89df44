"""One HTTP exchange with a replica through httpx, over a pool of ours.

It bounds what is read, and says in two built-in exceptions what went wrong. In a module of its own, as httpx takes a
tenth of a second to import: `probe.py` brings it in with the first probe.
"""

from collections.abc import Mapping

import httpx

from ai_proxy.engines.profile import Call
from ai_proxy.routing.base_path import join_path
from ai_proxy.runtimes.base import Instance
from ai_proxy.transport.adapter import PooledTransport
from ai_proxy.transport.errors import CertificateRejected
from ai_proxy.transport.pool import Pool

MAX_BODY_BYTES = 4 * 1024 * 1024  # `/slots` shows the prompts of some llama-server versions


class Client:
    """Makes exchanges, each on a connection of its own.

    Args:
        pool: Makes the connections; its owner closes it.
    """

    def __init__(self, pool: Pool) -> None:
        self._http = httpx.AsyncClient(
            transport=PooledTransport(pool), headers={"connection": "close"}, trust_env=False
        )

    def __repr__(self) -> str:
        return f"<Client: {self._http!r}>"

    async def exchange(
        self, instance: Instance, call: Call, headers: Mapping[str, str], timeout_s: float
    ) -> tuple[int, bytes]:
        """Send a request and read its answer, whose body is cut where it is too long.

        Bounded in time by the caller: httpx's own timeouts begin anew at each byte.

        Returns:
            Status and body.

        Raises:
            TimeoutError: Nothing came for so long.
            ConnectionError: It can't be reached, or broke off; the message says why.
        """
        url, body = url_of(instance, call.path), bytearray()
        said = {**headers, "content-type": "application/json"} if call.body else dict(headers)
        extensions = {"tls": instance.tls, "is_alive": instance.is_alive}
        try:
            async with self._http.stream(
                call.method, url, headers=said, content=call.body or None, timeout=timeout_s, extensions=extensions
            ) as answer:
                async for piece in answer.aiter_bytes():
                    body += piece
                    if len(body) > MAX_BODY_BYTES:
                        break
        except httpx.TimeoutException as error:
            raise TimeoutError from error
        except httpx.HTTPError as error:
            cause = error.__cause__
            why = cause.fault if isinstance(cause, CertificateRejected) else type(error).__name__
            raise ConnectionError(why) from error
        return answer.status_code, bytes(body[:MAX_BODY_BYTES])

    async def aclose(self) -> None:
        """Close what httpx holds."""
        await self._http.aclose()


def url_of(instance: Instance, path: str) -> str:
    """The URL of a path on a replica.

    Example:
        >>> url_of(Instance("x", "chat", "::1", 8080, base_path="/api"), "/health")
        'http://[::1]:8080/api/health'
    """
    host = f"[{instance.host}]" if ":" in instance.host else instance.host
    target = join_path(instance.base_path.encode(), path.encode()).decode()
    return f"{instance.scheme}://{host}:{instance.port}{target}"
