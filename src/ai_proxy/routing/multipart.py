"""Find the `model` field of a multipart form while the form arrives.

Reads up to the field, wherever it stands, and keeps what it read so that it can be sent on. Framing is stricter than
RFC 2046 (no preamble, no padding after a boundary, no folded header): what engines might read differently is refused.
"""

from enum import Enum, auto

from python_multipart.multipart import parse_options_header

from ai_proxy.errors import MalformedRequest

_MAX_HEADER_BYTES = 16 * 1024
_MAX_NAME_BYTES = 1024
_MAX_BOUNDARY_BYTES = 70


def boundary_of(content_type: bytes) -> bytes:
    """Read the boundary that a content type declares.

    Raises:
        MalformedRequest: There is none, or it is longer than RFC 2046 allows.

    Example:
        >>> boundary_of(b'multipart/form-data; boundary="a b"')
        b'a b'
    """
    boundary = parse_options_header(content_type)[1].get(b"boundary", b"")
    if not 0 < len(boundary) <= _MAX_BOUNDARY_BYTES:
        raise MalformedRequest("multipart without a usable boundary; let your client set the Content-Type itself")
    return boundary


class _Next(Enum):
    """What is read next."""

    OPENING = auto()
    BOUNDARY_END = auto()
    HEADERS = auto()
    CONTENT = auto()
    NOTHING = auto()


class MultipartFinder:
    """Finds the model in a form; satisfies `ModelFinder`.

    It may be fed on while the rest is relayed: a second `model`, which engines read in different ways, is then
    refused. What `take` handed over is not held any more.

    Args:
        boundary: As the content type declares it.
    """

    def __init__(self, boundary: bytes) -> None:
        self.name: str | None = None
        self._delimiter = b"\r\n--" + boundary
        # The form: what is held of it, how far it is read, where the name stands.
        self._held = bytearray()
        self._at = 0
        self._next = _Next.OPENING
        self._place: slice | None = None
        self._taken = False
        # The part being read.
        self._content_at = 0
        self._is_model = False

    def __repr__(self) -> str:
        return f"<MultipartFinder {self._next.name} at {self._at}, name={self.name!r}>"

    def feed(self, chunk: bytes) -> bool:
        """Read on; True once the field is complete or the form has ended.

        Raises:
            MalformedRequest: The form is broken, has two models, or one that is no plain short field.
        """
        self._held += chunk
        while self._advance():
            pass
        if self._taken:
            self._forget()
        return self._place is not None or self._next is _Next.NOTHING

    def finish(self) -> None:
        """Check that the form is complete.

        Raises:
            MalformedRequest: It lacks its closing boundary.
        """
        if self._next is not _Next.NOTHING:
            raise MalformedRequest("the form ends before its closing boundary; send it whole")

    def take(self, rename: str | None = None) -> bytes:
        """Hand over what is held, renamed if asked."""
        if rename is None or self._place is None:
            body = bytes(self._held)
        else:
            body = b"".join((self._held[: self._place.start], rename.encode(), self._held[self._place.stop :]))
        self._taken = True
        self._forget()
        return body

    def _forget(self) -> None:
        del self._held[: self._at]
        self._at = 0

    def _advance(self) -> bool:
        """Read one thing; False when more must arrive first."""
        match self._next:
            case _Next.OPENING:
                return self._opening()
            case _Next.BOUNDARY_END:
                return self._boundary_end()
            case _Next.HEADERS:
                return self._headers()
            case _Next.CONTENT:
                return self._content()
            case _Next.NOTHING:
                self._at = len(self._held)
                return False

    def _opening(self) -> bool:
        opening = self._delimiter[2:]
        if self._held[: len(opening)] != opening[: len(self._held)]:
            raise MalformedRequest("the form does not begin with the boundary that its Content-Type declares")
        return len(self._held) >= len(opening) and self._go(_Next.BOUNDARY_END, len(opening))

    def _boundary_end(self) -> bool:
        """After a boundary: a line break, which the headers' search wants to see too, or the end."""
        mark = self._held[self._at : self._at + 2]
        if mark == b"\r\n":
            return self._go(_Next.HEADERS, self._at)
        if mark == b"--":
            return self._go(_Next.NOTHING, self._at)
        if len(mark) == 2:
            raise MalformedRequest("a boundary of the form is followed by neither a line break nor --")
        return False

    def _headers(self) -> bool:
        end = self._held.find(b"\r\n\r\n", self._at)
        if (end if end >= 0 else len(self._held)) - self._at > _MAX_HEADER_BYTES:
            raise MalformedRequest(f"a part of the form has more than {_MAX_HEADER_BYTES} bytes of headers")
        if end < 0:
            return False
        self._is_model = _names_model(bytes(self._held[self._at + 2 : end]))
        if self._is_model and self._place is not None:
            raise MalformedRequest("the form has two `model` fields; send one", param="model")
        self._content_at = end + 4
        return self._go(_Next.CONTENT, end + 4)

    def _content(self) -> bool:
        end = self._held.find(self._delimiter, self._at)
        read_to = end if end >= 0 else max(self._at, len(self._held) - len(self._delimiter) + 1)
        if self._is_model and read_to - self._content_at > _MAX_NAME_BYTES:
            raise MalformedRequest(f"the form's `model` is longer than {_MAX_NAME_BYTES} bytes", param="model")
        if end < 0:
            self._at = read_to
            return False
        if self._is_model:
            self._place = slice(self._content_at, end)
            self.name = _text(bytes(self._held[self._place])) or None
        return self._go(_Next.BOUNDARY_END, end + len(self._delimiter))

    def _go(self, to: _Next, at: int) -> bool:
        self._next, self._at = to, at
        return True


def _names_model(block: bytes) -> bool:
    """Judge a part by its headers: is it the field `model`?"""
    dispositions = []
    for line in block.split(b"\r\n") if block else ():
        if line.translate(None, b"\r\n\0") != line:
            raise MalformedRequest("a part of the form has control characters in its headers")
        if line[:1] in {b" ", b"\t"}:
            raise MalformedRequest("a part of the form has a folded header line; write it on one line")
        name, colon, value = line.partition(b":")
        if not colon:
            raise MalformedRequest("a part of the form has a header line without a colon")
        if name.strip().lower() == b"content-disposition":
            dispositions.append(value.strip())
    if len(dispositions) > 1:
        raise MalformedRequest("a part of the form has two Content-Disposition headers")
    options = parse_options_header(dispositions[0])[1] if dispositions else {}
    if options.get(b"name") != b"model":
        return False
    if b"filename" in options:
        raise MalformedRequest("the form's `model` is a file; send it as a plain field", param="model")
    return True


def _text(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        raise MalformedRequest("the form's `model` is not UTF-8", param="model") from error
