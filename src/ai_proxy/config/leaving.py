"""What a client's leaving means to a service: the words that its config may use."""

from enum import StrEnum


class OnDisconnect(StrEnum):
    """What becomes of an exchange whose client has left."""

    CANCEL = "cancel"
    DRAIN = "drain"


class HalfClose(StrEnum):
    """What it means that a client sends no more."""

    END = "end"
    KEEP = "keep"
