"""Where a connection leads: the key of the pool, and all that the data plane knows of a replica.

Pure data: no I/O, no event loop; modules that must stay pure may import it.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from ssl import SSLContext
from typing import NamedTuple


class Tls(NamedTuple):
    """How an origin is reached by https.

    Attributes:
        context: Whose certificates are believed, and what is shown; made elsewhere, once.
        server_name: The name that the origin's has to bear; None for its host.
    """

    context: SSLContext
    server_name: str | None = None


@dataclass(frozen=True, slots=True)
class Origin:
    """One upstream endpoint in one of its lives.

    Attributes:
        scheme: `http` or `https`.
        host: Host name or address, without brackets.
        port: TCP port.
        generation: Counts restarts: a restarted replica never sees a connection of its former life.
        uds: Path of a Unix socket to use in place of host and port.
        tls: For `https`: whom to believe to be it; None leaves that to the pool.
        is_alive: Tells at once whether what answers there still lives; None where nobody can. Asked of each new
            connection, never of one that is used again.

    Example:
        >>> Origin("http", "127.0.0.1", 8080) == Origin("http", "127.0.0.1", 8080, generation=1)
        False
        >>> print(Origin("http", "::1", 8080, generation=2))
        http://[::1]:8080#2
    """

    scheme: str
    host: str
    port: int
    generation: int = 0
    uds: str | None = None
    tls: Tls | None = field(default=None, repr=False)
    is_alive: Callable[[], bool] | None = field(default=None, repr=False)
    _hash: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        # Every send looks the origin up; hashing seven fields each time would cost more than the look-up.
        key = (self.scheme, self.host, self.port, self.generation, self.uds, self.tls, self.is_alive)
        object.__setattr__(self, "_hash", hash(key))

    def __hash__(self) -> int:
        return self._hash

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        address = f"unix:{self.uds}" if self.uds else f"{host}:{self.port}"
        return f"{self.scheme}://{address}#{self.generation}"
