"""What one client connection may cost us: sizes and deadlines, as plain values."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """Bounds of one client connection.

    Attributes:
        target_bytes: Longest request target; above it 414.
        head_bytes: Header names and values of one request, trailers included; above it 431.
        headers: Header fields of one request; above it 431.
        buffer_bytes: Body held for an app that does not ask for it; above it the socket is not read.
        head_s: From the first byte of a request (or the connection) to the end of its head.
        body_idle_s: Between two reads of a body while the app waits for it.
        keep_alive_s: Between two requests.
        last_call_s: The same once the server ends: a client that is about to send is answered, and told to go.
        stall_s: Without the client taking a byte of a response that waits for it.
        linger_s: For the rest of a request that was answered early, and for the client to take a last answer.
        linger_bytes: Of such a rest.
    """

    target_bytes: int = 16 * 1024
    head_bytes: int = 64 * 1024
    headers: int = 100
    buffer_bytes: int = 64 * 1024
    head_s: float = 15.0
    body_idle_s: float = 60.0
    keep_alive_s: float = 75.0
    last_call_s: float = 1.0
    stall_s: float = 600.0
    linger_s: float = 5.0
    linger_bytes: int = 1024 * 1024
