"""Services that run elsewhere: a URL, and nothing that we could start or stop.

A replica of this runtime is an address. Whether something answers there is seen by the same health checks as
everywhere; what a path becomes below the URL's base is `routing.base_path`'s business.
"""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace
from urllib.parse import urlsplit

from ai_proxy.config.certificates import BadFile, client_context
from ai_proxy.config.models import ServiceConfig
from ai_proxy.errors import StartFailed
from ai_proxy.runtimes.base import Exit, Instance, InstanceSpec, Progress
from ai_proxy.transport.origin import Tls

_DEFAULT_PORTS = {"http": 80, "https": 443}


class ExternalRuntime:
    """Hands out the addresses of services that somebody else runs."""

    def __init__(self) -> None:
        # Set once we have nothing to do with it any more.
        self._left: dict[Instance, asyncio.Event] = {}
        # For services that say nothing of TLS
        self._usual: Tls | None = None

    def __repr__(self) -> str:
        return f"ExternalRuntime(in_use={[it.id for it, left in self._left.items() if not left.is_set()]})"

    async def prepare(self, config: ServiceConfig, progress: Progress) -> None:
        """Prepare nothing: it runs already."""

    async def start(self, spec: InstanceSpec, progress: Progress) -> Instance:
        """Start nothing; return the address in the service's `url`.

        Raises:
            StartFailed: The service has no `url`, or a file of its `tls` can't be used.
        """
        if spec.config.url is None:
            raise StartFailed("an external service needs a url", service=spec.service)
        progress("runs elsewhere, nothing to start")
        instance = instance_of(spec, spec.config.url)
        if instance.scheme == "https":
            instance = replace(instance, tls=await self._tls(spec))
        self._left[instance] = asyncio.Event()
        return instance

    async def _tls(self, spec: InstanceSpec) -> Tls:
        """Whom to believe to be a service; reading the system's CAs takes long enough to do it once."""
        tls = spec.config.tls
        if tls is None:
            if self._usual is None:
                self._usual = Tls(await asyncio.to_thread(client_context))
            return self._usual
        try:
            return Tls(await asyncio.to_thread(client_context, tls), tls.server_name)
        except BadFile as bad:
            raise StartFailed(f"tls.{bad.key} of service {spec.service!r} can't be used", service=spec.service) from bad

    async def stop(self, instance: Instance, grace_s: float) -> None:  # noqa: ARG002 - nothing is waited for
        """Stop nothing: the service runs on, we only leave it."""
        if (left := self._left.get(instance)) is not None:
            left.set()

    async def wait(self, instance: Instance) -> Exit:
        """Wait until `stop`: an external service's own end is seen by its health checks only."""
        if (left := self._left.get(instance)) is not None:
            await left.wait()
        return Exit()

    async def adopt(self) -> Sequence[Instance]:
        """Nothing is ours, so nothing is left over."""
        return ()

    async def logs(self, instance: Instance, *, follow: bool) -> AsyncGenerator[str, None]:  # noqa: ARG002 - there are none
        """Say where the output is."""
        yield f"{instance.service} runs elsewhere ({instance.id}); its output is there"

    async def aclose(self) -> None:
        """Leave all services."""
        for left in self._left.values():
            left.set()


def instance_of(spec: InstanceSpec, url: str) -> Instance:
    """Read the address out of a URL.

    Example:
        >>> from ai_proxy.config.models import ServiceConfig
        >>> from ai_proxy.devices import Placement
        >>> spec = InstanceSpec("cloud", ServiceConfig(url="https://llm.example.com/v1/"), Placement(), "")
        >>> there = instance_of(spec, "https://llm.example.com/v1/")
        >>> there.scheme, there.host, there.port, there.base_path
        ('https', 'llm.example.com', 443, '/v1')
    """
    parts = urlsplit(url)
    return Instance(
        id=url,
        service=spec.service,
        host=parts.hostname or "",
        port=parts.port or _DEFAULT_PORTS[parts.scheme],
        spec_hash=spec.spec_hash,
        replica=spec.replica,
        scheme=parts.scheme,
        base_path=parts.path.rstrip("/"),
    )
