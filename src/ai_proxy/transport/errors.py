"""What can go wrong between us and an upstream, as one tree.

    TransportError
    ├── ConnectFailed          refused, unreachable, unresolvable, bad TLS
    │   ├── CertificateRejected
    │   └── OriginEnded
    ├── PoolClosed             the pool was shut, or the origin was dropped while waiting for a turn
    ├── DeadlineExceeded
    │   ├── ConnectTimeout     no connection in time
    │   ├── PoolTimeout        no turn under the origin's connection cap in time
    │   ├── FirstByteTimeout   no response head in time
    │   ├── IdleTimeout        the response stalled
    │   └── WriteTimeout       the upstream took no bytes of the request
    ├── UpstreamClosed         the connection ended too early (`stale`, `started` say when)
    ├── ProtocolError          framing or syntax that we refuse, or a limit was passed
    ├── WriteError             the request's body does not fit its own head
    └── ExchangeClosed         our side closed the exchange while someone was still reading

The tree says what happened and to whom; which status a client gets for it is not decided here.
"""

from ai_proxy.transport.tls import CertificateFault


class TransportError(Exception):
    """Base of all errors that this library raises on its own account."""


class ConnectFailed(TransportError):
    """No connection could be made: refused, unreachable, unresolvable, or TLS failed. Nothing was sent."""


class CertificateRejected(ConnectFailed):
    """The upstream's certificate is not accepted. Nothing was sent.

    Attributes:
        fault: Why.
    """

    def __init__(self, message: str, fault: CertificateFault) -> None:
        super().__init__(message)
        self.fault = fault


class OriginEnded(ConnectFailed):
    """Something takes connections there, but what the origin stands for has ended. Nothing was sent."""


class PoolClosed(TransportError):
    """The pool was closed, or the origin was dropped, before the request had a connection."""


class DeadlineExceeded(TransportError):
    """Base of all deadlines that passed."""


class ConnectTimeout(DeadlineExceeded):
    """The connection was not made in time. Nothing was sent."""


class PoolTimeout(DeadlineExceeded):
    """All connections that the origin may have stayed busy for too long. Nothing was sent."""


class FirstByteTimeout(DeadlineExceeded):
    """The whole request went out, but no response head came in time."""


class IdleTimeout(DeadlineExceeded):
    """The response began, then no byte came for too long."""


class WriteTimeout(DeadlineExceeded):
    """The upstream stopped taking the request's body."""


class UpstreamClosed(TransportError):
    """The upstream ended the connection before the response was complete.

    Attributes:
        started: A byte of the response had come.
        stale: Not one had, on a connection that served an exchange before: the usual race of keep-alive,
            so an idempotent request may be sent once more on a new connection.
    """

    def __init__(self, message: str, *, started: bool, stale: bool = False) -> None:
        super().__init__(message)
        self.started = started
        self.stale = stale


class ProtocolError(TransportError):
    """The response is not one that can be relayed safely: bad syntax, ambiguous framing, over a limit."""


class WriteError(TransportError):
    """The request's body is longer or shorter than its head declares, or the head declares no framing."""


class ExchangeClosed(TransportError):
    """The exchange was closed by its owner; there is nothing more to read."""
