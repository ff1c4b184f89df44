"""The one way in which a command fails for a reason that its user can act on."""

CONFIG_FAULT = 2
"""The exit status where the config file is missing or at fault."""


class Failure(Exception):
    """A command can't do what it was asked; the message says why and what to do.

    Args:
        message: What the user reads.
        status: The exit status.
    """

    def __init__(self, message: str, status: int = 1) -> None:
        super().__init__(message)
        self.status = status
