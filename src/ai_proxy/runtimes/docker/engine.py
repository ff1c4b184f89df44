"""The connection to a Docker engine: every call has a deadline, every failure one of two names.

Owns the aiodocker clients. A plain call shares one client; a stream has a client of its own, because leaving one
early would otherwise cost the shared pool a connection for ever. Knows nothing of services or of what is called.
"""

import asyncio
import errno
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, closing, contextmanager
from dataclasses import dataclass

import aiodocker
import aiohttp

from ai_proxy.errors import RuntimeUnavailable

_NO_CONNECTION = 900
"""The status that aiodocker gives an engine which it can't connect to."""
_RETRY_AFTER_S = 5


@dataclass(frozen=True, slots=True)
class Deadlines:
    """How long the engine may take, in seconds.

    Attributes:
        call_s: For an answer to a question: inspect, list, remove, the head of a stream.
        create_s: For a container to be created.
        start_s: For a container to be started, hooks for devices and mounts included.
        stop_s: For a stop to be confirmed, beyond the container's own grace.
        stall_s: For a pull to show progress.
    """

    call_s: float = 10
    create_s: float = 60
    start_s: float = 120
    stop_s: float = 15
    stall_s: float = 120


class EngineRefused(RuntimeUnavailable):
    """The engine answered, with an error.

    Args:
        status: Its HTTP status; 0 where the error stood in the middle of a stream.
        reason: Its words.
    """

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(f"the Docker engine refused ({status}): {reason}")
        self.engine_status = status
        self.reason = reason


class Engine:
    """A Docker engine, found lazily and asked under deadlines.

    Args:
        host: Its address (`unix:///run/docker.sock`); None for what Docker's own tools would use.
        deadlines: How long it may take.
    """

    def __init__(self, host: str | None = None, deadlines: Deadlines | None = None) -> None:
        # Given for life
        self._host = host
        self.deadlines = deadlines or Deadlines()
        # From the first call to close()
        self._client: aiodocker.Docker | None = None
        self.is_closed = False

    def __repr__(self) -> str:
        return f"Engine({self._host or 'default'!r}, connected={self._client is not None})"

    async def close(self) -> None:
        """Close the shared client. Streams close with whoever reads them."""
        self.is_closed = True
        client, self._client = self._client, None
        if client is not None:
            await client.close()

    @asynccontextmanager
    async def call(self, deadline_s: float | None = None) -> AsyncIterator[aiodocker.Docker]:
        """Lend the shared client for a call or two that must be over within the deadline.

        Raises:
            EngineRefused: The engine answered with an error.
            RuntimeUnavailable: It did not answer in time, or not at all.
        """
        with self._mapped():
            if self._client is None:
                self._client = self._connect()
            async with asyncio.timeout(deadline_s or self.deadlines.call_s):
                yield self._client

    @asynccontextmanager
    async def stream(
        self,
        method: str,
        path: str,
        params: Mapping[str, str],
        *,
        headers: Mapping[str, str] | None = None,
        head_s: float | None = None,
    ) -> AsyncIterator[aiohttp.StreamReader]:
        """Open an endless answer on a connection of its own; the deadline `head_s` covers its head only.

        Raises:
            EngineRefused: As for `call`, also from reading.
            RuntimeUnavailable: As for `call`, also from reading.
        """
        with self._mapped():
            client = self._connect()
            try:
                # aiodocker's public streams hide a cut from a clean end and may not be left early.
                query = client._query(path, method, params=params, headers=headers)  # noqa: SLF001
                async with asyncio.timeout(head_s or self.deadlines.call_s):
                    response = await query.__aenter__()
                with closing(response):
                    yield response.content
            finally:
                await client.close()

    def is_local_socket(self) -> bool:
        """Whether the engine is reached over a Unix socket."""
        # Exactly this class: the connector for ssh:// is a subclass of it.
        return self._client is not None and type(self._client.connector) is aiohttp.UnixConnector

    def _connect(self) -> aiodocker.Docker:
        if self.is_closed:
            raise RuntimeUnavailable("the Docker runtime is closed")
        try:
            return aiodocker.Docker(self._host)
        except (AssertionError, ValueError, OSError, aiodocker.DockerError) as error:
            words = "no Docker engine found: start Docker or set DOCKER_HOST"
            raise RuntimeUnavailable(words, retry_after_s=_RETRY_AFTER_S) from error

    @contextmanager
    def _mapped(self) -> Iterator[None]:
        """Give every failure of the library one of our two names."""
        try:
            yield
        except aiodocker.DockerError as error:
            if error.status != _NO_CONNECTION:
                raise EngineRefused(error.status, error.message) from error
            raise _unavailable(f"can't be reached: {_reason_of(error)}") from error
        except TimeoutError as error:
            raise _unavailable("did not answer in time") from error
        except (aiohttp.ClientError, OSError) as error:
            raise _unavailable("broke the connection") from error
        except (ValueError, KeyError, TypeError) as error:
            raise _unavailable("gave an answer that is not Docker's") from error


def _unavailable(what: str) -> RuntimeUnavailable:
    return RuntimeUnavailable(f"the Docker engine {what}", retry_after_s=_RETRY_AFTER_S)


def _reason_of(error: aiodocker.DockerError) -> str:
    """Why there is no connection; aiodocker's own words name the socket, which is nobody's business."""
    match error.__context__:
        case OSError(errno=errno.EACCES):
            return "permission denied; may this user use Docker (group docker)?"
        case OSError(strerror=str() as words):
            return words
        case _:
            return "no connection"
