"""A transport without a socket, for driving an asyncio protocol by hand."""

import asyncio
from collections.abc import Iterable


class FakeTransport(asyncio.Transport):
    """Keeps what was written and what was asked of it.

    Attributes:
        written: Each write, in order.
        unsent: What `get_write_buffer_size` says.
        reading: Whether the protocol wants bytes.
        aborted: Whether the protocol aborted it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.unsent = 0
        self.reading = True
        self.aborted = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written.append(bytes(data))

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        self.written.extend(bytes(data) for data in list_of_data)

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def is_closing(self) -> bool:
        return self.aborted

    def abort(self) -> None:
        self.aborted = True
