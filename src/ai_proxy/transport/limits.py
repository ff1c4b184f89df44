"""The bounds of the transport: how long each wait may take and how much an upstream may send.

Plain values, no behaviour. Every wait of this library ends at one of `Timeouts`; every buffer that an
upstream fills is held by one of `Limits`.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Deadlines of one exchange, in seconds.

    Attributes:
        connect_s: Until a new connection stands, TLS included.
        pool_s: Until there is a turn under the origin's connection cap.
        first_byte_s: From the last byte of the request to the response's head.
        idle_s: Between two reads of the response while its reader waits, and for a stalled upload.
    """

    connect_s: float = 5.0
    pool_s: float = 30.0
    first_byte_s: float = 600.0
    idle_s: float = 300.0


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of a pool and of what it reads.

    Attributes:
        max_connections: To one origin, connecting ones included; further requests wait in line.
        idle_expiry_s: An idle connection is closed after this; keep it below the engines' own keep-alive.
        max_head_bytes: Of one response head; also of chunk extensions and trailers without body in between.
        max_headers: Header fields of one head, and fields of one trailer section.
        max_informational: 1xx heads before the final one.
        high_water_bytes: Unread response bytes at which the socket is no longer read.
    """

    max_connections: int = 1024
    idle_expiry_s: float = 4.0
    max_head_bytes: int = 64 * 1024
    max_headers: int = 256
    max_informational: int = 16
    high_water_bytes: int = 64 * 1024
